//! The campaigns at n ≤ 4, small enough for every test run, and the figures of docs/formal-model.md. `make model` runs
//! them all to n = 5.
#![allow(clippy::unwrap_used)]

use blindsum_model::campaign::{self, ONE_ATTEMPT, TEETH, TWO_ATTEMPTS};
use blindsum_model::report::{self, Tally};
use blindsum_model::rules::{Bounds, Numbers, Rules, Snapshot, Switch, Updates};
use blindsum_model::safety::Harm;
use blindsum_model::words::tell;
use blindsum_model::world::World;

const MENDED: [Switch; 1] = [Switch::JoinedIsMasked];

#[test]
fn sa06_sa08_one_attempt_breaks_below_the_bounds_and_nowhere_else() {
    let runs = campaign::lists(4);
    assert_eq!(runs.len(), 2 * 27 + 3 * 64);
    for run in &runs {
        assert!(run.is_as_expected(), "{:?}: {:?}", run.world.own.numbers, run.verdict.list());
    }
    let broken = runs.iter().filter(|run| run.verdict.harms & Harm::CORE != 0).count();
    assert!(broken > 50 && broken < runs.len() - 50, "{broken} of {} broken: the frontier is not in sight", runs.len());
}

/// Configurations, states and attacks of the row of docs/formal-model.md that starts with these words.
fn documented(words: &str) -> Tally {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formal-model.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = page.lines().find(|line| line.starts_with(&format!("| `{words}`"))).expect("a row of the table");
    let cells: Vec<String> = row.split('|').map(|cell| cell.trim().replace(',', "")).collect();
    let [_, _, runs, states, attacked, expected, _] = &cells[..] else { panic!("another number of cells: {row}") };
    assert_eq!(expected, "all", "{row}");
    let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{cell} in {row}"));
    Tally { runs: number(runs), states: number(states), attacked: number(attacked), odd: 0 }
}

#[test]
fn sa13_two_attempts_break_where_paper_says_and_nowhere_else() {
    let runs = campaign::retries(4);
    for run in &runs {
        assert!(run.is_as_expected(), "{:?} {:?}: {:?}", run.world.own, run.expected, run.verdict.list());
        let Numbers { n, c, .. } = run.world.own.numbers;
        assert!(run.world.own.numbers != Numbers::derived(n, c) || run.verdict.harms == 0, "{:?}", run.world.own);
    }
    // counted by hand: pairs of t and q that are attacked, times two kinds of job; with n = 3 and c = 0 every list is
    // whole, and only a fresh update beside the old one can make two sums over it
    let by_hand = [((3, 0), 2), ((3, 1), 2 * 7), ((4, 0), 2 * 8), ((4, 1), 2 * 10), ((4, 2), 2 * 14)];
    let attacked = |&(n, c): &(u8, u8), wanted: u16| {
        let here = runs.iter().filter(|run| (run.world.own.numbers.n, run.world.own.numbers.c) == (n, c));
        here.filter(|run| run.verdict.harms & wanted != 0).count()
    };
    for (federation, count) in &by_hand {
        assert_eq!(attacked(federation, Harm::CORE), *count, "{federation:?}");
    }
    let tally = Tally::of(&runs);
    assert_eq!((tally.runs, tally.attacked), (132, by_hand.iter().map(|(_, count)| count).sum()));
    assert_eq!(tally, documented("retries 4"));
    // nothing but a fork in 21 of them
    let beside = by_hand.iter().map(|(federation, _)| attacked(federation, Harm::CORE & !Harm::Fork.bit()));
    assert_eq!(beside.sum::<usize>(), tally.attacked - 21);
}

#[test]
fn the_page_has_the_figures_of_the_other_short_campaigns() {
    let mut out = Vec::new();
    assert_eq!(report::lists(5, &mut out).unwrap(), documented("lists"));
    assert_eq!(report::attack(5, &mut out).unwrap(), documented("attack"));
    assert_eq!(report::grains(&mut out).unwrap(), documented("grains"));
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains("as coded: one silo's held-out counts in 0 of 8 federations"), "{told}");
    assert!(told.contains("counts not agreed: one silo's held-out counts in 8 of 8 federations"), "{told}");
}

#[test]
fn sa13_held_out_counts_of_one_silo_are_reached_unless_the_session_agrees_on_sending_them() {
    let check = |rules| World::new(Numbers::derived(4, 1), Updates::Fresh, rules, TWO_ATTEMPTS);
    assert_eq!(check(Rules::kept()).check().harms, 0);
    let world = check(Rules::with(&[Switch::CountsAgreed]));
    assert!(world.check().has(Harm::LoneCounts));
    let path = world.shortest(Harm::LoneCounts).expect("it was just reached");
    assert_eq!(tell(&world, &path, Harm::LoneCounts).len(), 7);
}

#[test]
fn sa07_a_restored_disk_counts_as_a_colluder_and_is_harmless_within_the_attempt_once_mended() {
    let young = Bounds { restores: 1, snapshot: Snapshot::OfThisAttempt, t3s: 1, ..TWO_ATTEMPTS };
    for (world, verdict) in campaign::disks(4, young, Rules::with(&MENDED)) {
        assert_eq!(verdict.harms, 0, "{:?} {:?}", world.own, verdict.list());
    }
    let kept = campaign::disks(4, young, Rules::kept());
    assert!(kept.iter().all(|(_, verdict)| verdict.harms & Harm::CORE == 0));
    assert!(kept.iter().any(|(_, verdict)| verdict.has(Harm::OwnFault)));
    let any = Bounds { snapshot: Snapshot::Any, ..young };
    let reaches = |n, c| {
        let own = Numbers::derived(n, c);
        let world = World::new(own, Updates::Same, Rules::with(&MENDED), any);
        world.search_any(Harm::CORE).harms & Harm::CORE != 0
    };
    // 2q = n + c + 1 and n + c + 2
    assert!(reaches(4, 1) && !reaches(3, 1));
}

#[test]
fn sa07_sa08_sa13_a_removed_rule_is_missed() {
    for tooth in &TEETH {
        let bite = campaign::bite(tooth, tooth.shown);
        assert_eq!((bite.kept, bite.removed), tooth.expected(), "{}: {:?}", tooth.words, tooth.harm);
    }
}

#[test]
fn merged_moves_lose_no_harm() {
    for c in 0..=1 {
        for (t, q) in [(1, 1), (2, 1), (2, 2), (3, 2), (2, 3)] {
            let numbers = Numbers { n: 3, c, t, q, m: 1 };
            let (fine, coarse) = campaign::grains(numbers, Updates::Same, ONE_ATTEMPT);
            let bare = |harms: u16| harms & Harm::BARE != 0;
            assert_eq!(bare(fine.harms), bare(coarse.harms), "{numbers:?} {:?} {:?}", fine.list(), coarse.list());
            assert!(bare(fine.harms) || fine.harms == coarse.harms, "{numbers:?} {:?}", fine.list());
            assert!(fine.states > coarse.states);
        }
    }
}
