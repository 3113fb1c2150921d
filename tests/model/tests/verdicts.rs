//! The campaigns at n ≤ 4, small enough for every test run. `make model` runs them to n = 5.

use blindsum_model::campaign::{self, JOBS, ONE_ATTEMPT, TEETH, TWO_ATTEMPTS};
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

#[test]
fn sa13_retries_and_restarts_break_nothing_at_the_products_numbers_and_something_below() {
    for (n, c) in campaign::federations(4).into_iter().filter(|(n, c)| n - c <= 3) {
        for updates in JOBS {
            let bounds = Bounds { restarts: 1, ..TWO_ATTEMPTS };
            let own = Numbers::derived(n, c);
            let verdict = World::new(own, updates, Rules::kept(), bounds).check();
            assert_eq!(verdict.harms & Harm::CORE, 0, "{own:?} {updates:?}: {:?}", verdict.list());
            if own.honest() > 2 {
                let below = Numbers { q: own.q - 1, t: (own.t - 1).max(c + 1), ..own };
                let verdict = World::new(below, Updates::Fresh, Rules::kept(), bounds).search_any(Harm::CORE);
                assert_ne!(verdict.harms & Harm::CORE, 0, "{below:?}");
            }
        }
    }
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
