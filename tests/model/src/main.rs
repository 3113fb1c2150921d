//! `blindsum-model`: runs the campaigns and prints their verdicts (`make model` runs them all).
//!
//! Exit codes: 0 every verdict is as expected, 1 one is not or nothing was run, 2 wrong usage.

use blindsum_model::report::{self, Tally};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

/// The protocol under a model checker: what a lying coordinator reaches in phases P1 to P5, with up to five silos.
///
/// Each campaign explores many configurations (n silos, c of them colluding, t shares, q votes, lists of m) and holds
/// the checker's answer against the expected one. Verdicts go to standard output, progress to standard error. The model
/// and its figures are described in docs/formal-model.md. Memory and times below are those of two cores.
#[derive(Debug, Parser)]
#[command(
    name = "blindsum-model",
    version,
    after_help = "Exit codes: 0 every verdict is as expected, 1 one is not or nothing was run, 2 wrong usage."
)]
struct Cli {
    /// Campaigns to run, and at most one number to bound n; every campaign up to n = 5 where nothing is said.
    #[arg(value_enum, value_name = "CAMPAIGN|N")]
    words: Vec<Word>,
}

/// A word of the command line. Memory and times are those of two cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    /// One attempt, different transcripts and lists: every n, c, t, q, m (1 s).
    Lists,
    /// Two attempts with retry and restarts: every n, c, t, q, at most four honest silos (6 GB, 1 min; with 4, 15 s).
    Retries,
    /// The product's numbers: one silo's held-out counts, with the rule on them and without (2 s).
    Attack,
    /// The product's numbers, with restored disks, at most three honest silos (1 GB, 20 s).
    Disks,
    /// The product's numbers, with one rule removed at a time (7 GB, 2 min).
    Teeth,
    /// Merged moves against single ones, three silos (2 s).
    Grains,
    /// Federations of three silos only; `teeth` and `grains` have sizes of their own.
    #[value(name = "3")]
    UpTo3,
    /// Federations of three and four silos.
    #[value(name = "4")]
    UpTo4,
    /// Federations of three to five silos, the default.
    #[value(name = "5")]
    UpTo5,
}

impl Word {
    const CAMPAIGNS: [Word; 6] = [Word::Lists, Word::Retries, Word::Attack, Word::Disks, Word::Teeth, Word::Grains];

    /// The bound on n that this word is; none for a campaign.
    fn bound(self) -> Option<u8> {
        match self {
            Word::UpTo3 => Some(3),
            Word::UpTo4 => Some(4),
            Word::UpTo5 => Some(5),
            _ => None,
        }
    }

    fn run(self, most: u8, out: &mut dyn Write) -> io::Result<Tally> {
        match self {
            Word::Lists => report::lists(most, out),
            Word::Retries => report::retries(most, out),
            Word::Attack => report::attack(most, out),
            Word::Disks => report::disks(most, out),
            Word::Teeth => report::teeth(out),
            Word::Grains => report::grains(out),
            Word::UpTo3 | Word::UpTo4 | Word::UpTo5 => Ok(Tally::default()),
        }
    }
}

fn main() -> ExitCode {
    let words = Cli::parse().words;
    let bounds: Vec<u8> = words.iter().filter_map(|word| word.bound()).collect();
    if bounds.len() > 1 {
        Cli::command().error(ErrorKind::TooManyValues, "one number bounds n: give 3, 4 or 5 once").exit();
    }
    let most = bounds.first().copied().unwrap_or(5);
    let all = words.len() == bounds.len();
    let chosen = Word::CAMPAIGNS.into_iter().filter(|campaign| all || words.contains(campaign));
    match run(chosen, most, &mut io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("blindsum-model: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the campaigns; whether all is as expected.
fn run(campaigns: impl Iterator<Item = Word>, most: u8, out: &mut dyn Write) -> io::Result<bool> {
    let mut tallies = Vec::new();
    for campaign in campaigns {
        let value = campaign.to_possible_value().unwrap_or_default();
        let title = value.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "== {}: {title}", value.get_name())?;
        let start = Instant::now();
        tallies.push(campaign.run(most, out)?);
        writeln!(out, "   {:.1} s\n", start.elapsed().as_secs_f64())?;
    }
    let runs: usize = tallies.iter().map(|tally| tally.runs).sum();
    let good = Tally::are_good(&tallies);
    let verdict = match runs {
        0 => "NOTHING WAS RUN",
        _ if good => "every verdict is as expected",
        _ => "A VERDICT IS NOT AS EXPECTED",
    };
    let plural = if tallies.len() == 1 { "" } else { "s" };
    writeln!(out, "{} campaign{plural}, {runs} configurations: {verdict}", tallies.len())?;
    Ok(good)
}
