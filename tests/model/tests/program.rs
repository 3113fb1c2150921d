//! The program's command line: what it refuses, what it explains, and when it ends well.
#![allow(clippy::unwrap_used)]

use blindsum_model::report::Tally;
use std::process::{Command, Output};

const CAMPAIGNS: [&str; 6] = ["lists", "retries", "attack", "disks", "teeth", "grains"];

fn program(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blindsum-model")).args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn unknown_words_and_bad_numbers_run_nothing_and_list_the_known_ones() {
    for words in [&["anything"][..], &["lists", "retires"], &["lists", "2"], &["lists", "6"], &[""]] {
        let output = program(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?} ran something");
        let told = text(&output.stderr);
        assert!(CAMPAIGNS.iter().all(|name| told.contains(name)), "{words:?}: {told}");
        assert!(told.contains("3, 4, 5"), "{words:?}: {told}");
    }
    let output = program(&["lists", "3", "4"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("one number bounds n"));
}

#[test]
fn help_says_of_each_campaign_what_it_runs_and_how_long_it_takes() {
    let output = program(&["--help"]);
    let help = text(&output.stdout);
    for name in CAMPAIGNS {
        let line = help.lines().find(|line| line.contains(&format!("- {name}:"))).expect(name);
        assert!(line.contains(" s)") || line.contains(" min)"), "how long does it take? {line}");
    }
}

#[test]
fn a_campaign_that_is_named_runs_alone_within_its_bound() {
    let output = program(&["lists", "3"]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("== lists") && !told.contains("== retries") && !told.contains("n = 4"), "{told}");
    assert!(told.ends_with("1 campaign, 54 configurations: every verdict is as expected\n"), "{told}");
}

#[test]
fn running_nothing_and_an_unexpected_verdict_are_no_success() {
    let good = Tally { runs: 2, states: 9, attacked: 1, odd: 0 };
    assert!(good.is_good());
    assert!(!Tally::default().is_good(), "nothing was run");
    assert!(!Tally { odd: 1, ..good }.is_good());
    assert!(!Tally::are_good(&[good, Tally::default()]) && !Tally::are_good(&[]) && Tally::are_good(&[good]));
}
