//! Scenarios of the protocol's page, part 1: what a network and dying processes can do, message by message.
//!
//! Contract: each scenario asserts the global invariants (`testkit/src/judge.rs`) after every run, and what it says by name.

use blindsum_crypto::SiloId;
use blindsum_protocol::AttemptId;
use blindsum_protocol::coordinator::CoordinatorEvent;
use blindsum_testkit::ops::{Kind, Op, Phase};
use blindsum_testkit::simulate::{checked, scenario};

const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

/// Every message of a run without faults: phase, direction, its place among the phase's names.
fn messages() -> Vec<(Phase, bool, usize)> {
    let mut all = Vec::new();
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Abandon) {
        for up in [true, false] {
            let names = phase.names(up);
            let rare = |name: &str| matches!(name, "decline" | "complaint" | "finished");
            let firsts = (0..names.len()).filter(|&i| !rare(names[i]) && names[..i].iter().all(|n| *n != names[i]));
            all.extend(firsts.map(|i| (phase, up, i)));
        }
    }
    all
}

/// The smallest variant that means a phase's `place`th message and what `fits` says ([`Op::pick`]).
fn variant(place: usize, fits: impl Fn(u32) -> bool) -> u32 {
    (0..1 << 16).map(|v| v | (place as u32) << 16).find(|v| fits(*v)).unwrap()
}

/// One op on each message in turn, in ways that `fits` tells apart by number; the round must end in a sum all the same,
/// since n = 4 bears one loss.
fn on_each_message(kind: Kind, ways: u32, fits: impl Fn(u32, u32) -> bool) {
    let mut happened = 0;
    for (phase, up, place) in messages() {
        for way in 0..ways {
            let variant = variant(place, |v| fits(way, v));
            for private in [false, true] {
                let schedule = scenario(4, private, vec![Op::at(phase, kind, 1, up, variant)]);
                let (cluster, outcome) = checked(&schedule);
                happened += usize::from(outcome.fired[0]);
                let said = cluster.last_events();
                assert!(outcome.summed, "{phase:?} up {up} {kind:?} variant {variant} private {private}: {said:?}");
            }
        }
    }
    assert!(happened >= 2 * messages().len() - 4, "{happened}");
}

#[test]
fn scenario_each_message_dropped_once() {
    on_each_message(Kind::Drop, 1, |_, _| true);
}

#[test]
fn scenario_each_message_delivered_twice() {
    // at once, and 700 ms later
    on_each_message(Kind::Duplicate, 2, |way, v| (v >> 3) % 4 == 3 * way);
}

#[test]
fn scenario_each_message_overtaken_by_the_next() {
    on_each_message(Kind::Reorder, 1, |_, _| true);
}

#[test]
fn scenario_each_message_delayed_a_little_and_past_its_phase() {
    // 50 ms, 2.5 s, 13 s: the later two lie past a phase and past the training deadline
    on_each_message(Kind::Delay, 3, |way, v| (v >> 3) % 6 == [0, 3, 5][way as usize]);
}

#[test]
fn scenario_each_message_replayed_from_phase_attempt_round_job_and_federation() {
    // an earlier phase, another silo's, an earlier attempt as it was and relabelled, another job, another federation
    on_each_message(Kind::Replay, 6, |way, v| (v >> 3) % 6 == way);
}

#[test]
fn scenario_each_message_flipped_truncated_and_extended() {
    for kind in [Kind::Tamper, Kind::Truncate, Kind::Extend] {
        // encoded bytes, payload, fields; at different places
        on_each_message(kind, 6, |way, v| (v >> 4) % 4 == way % 4 && (v >> 6) % 6 == way);
    }
}

#[test]
fn scenario_the_connection_cut_before_and_after_each_message() {
    on_each_message(Kind::Cut, 2, |way, v| (v >> 2) & 1 == way);
}

#[test]
fn scenario_a_silo_lost_for_good_before_and_after_each_message() {
    on_each_message(Kind::KillSilo, 2, |way, v| (v >> 2) & 1 == way && (v >> 3) % 5 == 4);
}

#[test]
fn scenario_a_silo_restarted_before_and_after_each_message() {
    on_each_message(Kind::KillSilo, 8, |way, v| (v >> 2) & 1 == way % 2 && (v >> 3) % 5 == way / 2);
}

#[test]
fn scenario_a_coordinator_restarted_before_and_after_each_message() {
    on_each_message(Kind::KillCoordinator, 8, |way, v| (v >> 2) & 1 == way % 2 && (v >> 3) % 5 == way / 2);
}

#[test]
fn scenario_a_silo_restored_from_an_old_disk_before_and_after_each_message() {
    // as old as can be, and half as old
    on_each_message(Kind::Restore, 4, |way, v| {
        (v >> 2) & 1 == way % 2 && (v >> 3) % 5 == 1 && (v >> 6) % 10 == way / 2 * 5
    });
}

#[test]
fn scenario_a_coordinator_lost_for_good_leaves_nobody_waiting() {
    for (phase, up, place) in messages() {
        let variant = variant(place, |v| (v >> 3) % 5 == 4);
        checked(&scenario(4, false, vec![Op::at(phase, Kind::KillCoordinator, 1, up, variant)]));
    }
}

#[test]
fn scenario_exactly_q_and_q_minus_one_at_commit() {
    for (n, q) in [(3, 2), (4, 3), (5, 4), (8, 6)] {
        let losing = |votes: u16| Op::at(Phase::Commit, Kind::Drop, 0, true, 0).of(votes..n).always();
        let (cluster, outcome) = checked(&scenario(n, false, vec![losing(q)]));
        assert!(outcome.summed, "q of {n}");
        assert_eq!((cluster.reports[0].attempt, cluster.reports[0].survivors.len()), (1, usize::from(n)));
        let (cluster, outcome) = checked(&scenario(n, false, vec![losing(q - 1)]));
        assert!(!outcome.summed, "q − 1 of {n}");
        let revealed = cluster.silos.iter().flat_map(|s| &s.sent).filter(|e| e.message.name() == "reveal").count();
        assert_eq!(revealed, 0, "shares were released without a quorum");
    }
}

#[test]
fn scenario_exactly_t_and_t_minus_one_at_reveal() {
    for (n, t) in [(3, 2), (4, 3), (5, 3), (8, 5)] {
        let losing = |replies: u16| Op::at(Phase::Reveal, Kind::Drop, 0, true, 0).of(replies..n).always();
        let (cluster, outcome) = checked(&scenario(n, false, vec![losing(t)]));
        assert!(outcome.summed, "t of {n}");
        assert_eq!(cluster.reports[0].attempt, 1);
        let (cluster, outcome) = checked(&scenario(n, false, vec![losing(t - 1)]));
        assert!(!outcome.summed, "t − 1 of {n}");
        let waits = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Waiting(why) if why.contains("shares"));
        assert!(cluster.coordinator_events.iter().any(waits), "it does not say what it waits for");
    }
}

#[test]
fn scenario_a_masked_input_that_comes_after_the_list_stays_out() {
    // 2.5 s: the phase takes 2
    let variant = variant(0, |v| (v >> 3) % 6 == 3);
    for n in [4, 5, 8] {
        let (cluster, outcome) =
            checked(&scenario(n, false, vec![Op::at(Phase::Masked, Kind::Delay, 1, true, variant)]));
        assert!(outcome.summed && outcome.fired[0]);
        assert_eq!((cluster.reports[0].attempt, &cluster.reports[0].dropped[..]), (1, &[SiloId(1)][..]));
    }
}

#[test]
fn scenario_a_second_reveal_after_a_kill_is_the_first_one_byte_for_byte() {
    // killed after the reveal went out, started again, asked again by a quorum of other votes
    for delay in 0..4 {
        let variant = variant(0, |v| (v >> 2) & 1 == 1 && (v >> 3) % 5 == delay);
        let kill = Op::at(Phase::Reveal, Kind::KillSilo, 1, true, variant);
        let again = Op::at(Phase::Reveal, Kind::Repeat, 1, false, 1 << 4).always();
        // with two replies lost, two of the three needed are there, and the coordinator goes on asking
        let lost = Op::at(Phase::Reveal, Kind::Drop, 0, true, 0).of([2, 3]).always();
        let (cluster, _) = checked(&scenario(4, false, vec![kill, again, lost]));
        let reveals: Vec<_> = cluster.silos[1]
            .sent
            .iter()
            .filter(|e| e.message.name() == "reveal" && e.message.at() == Some(FIRST))
            .collect();
        assert!(reveals.len() >= 2, "it was not asked twice");
        assert!(reveals.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
