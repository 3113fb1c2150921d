//! Scenarios of the protocol's page, part 1: what a network and dying processes can do, message by message.
//!
//! Contract: each scenario asserts the global invariants (`common/judge.rs`) after every run, and what it says by name.
#![allow(clippy::unwrap_used)]

mod common;

use blindsum_crypto::SiloId;
use blindsum_protocol::AttemptId;
use blindsum_protocol::coordinator::CoordinatorEvent;
use common::ops::{Kind, Op, Phase};
use common::simulate::{checked, scenario};

const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

/// Every message of a run without faults: phase, direction, and the variant that names it.
fn messages() -> Vec<(Phase, bool, u32)> {
    let mut all = Vec::new();
    for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::Abandon) {
        for up in [true, false] {
            let names = phase.names(up);
            let rare = |name: &str| matches!(name, "decline" | "complaint" | "finished");
            let firsts = (0..names.len()).filter(|&i| !rare(names[i]) && names[..i].iter().all(|n| *n != names[i]));
            // a variant that is `i` modulo the number of names and leaves the other choices at 0
            all.extend(firsts.map(|i| {
                let step = u32::try_from(names.len()).unwrap();
                let variant = (0..).map(|k| k * 64).find(|v| v % step == u32::try_from(i).unwrap());
                (phase, up, variant.unwrap_or(0))
            }));
        }
    }
    all
}

/// One op on each message in turn, in variants; the round must end in a sum all the same, since n = 4 bears one loss.
fn on_each_message(kind: Kind, variants: impl Fn(u32) -> Vec<u32>) {
    let mut happened = 0;
    for (phase, up, base) in messages() {
        for private in [false, true] {
            for variant in variants(base) {
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
    on_each_message(Kind::Drop, |base| vec![base]);
}

#[test]
fn scenario_each_message_delivered_twice() {
    on_each_message(Kind::Duplicate, |base| vec![base, base + (3 << 3) * 64]);
}

#[test]
fn scenario_each_message_overtaken_by_the_next() {
    on_each_message(Kind::Reorder, |base| vec![base]);
}

#[test]
fn scenario_each_message_delayed_a_little_and_past_its_phase() {
    // 50 ms, 2.5 s, 13 s: the later two lie past a phase and past the training deadline
    for delay in [0, 3, 5] {
        on_each_message(Kind::Delay, |base| {
            (0..).map(|k| base + k * 960).filter(|v| (v >> 3) % 6 == delay).take(1).collect()
        });
    }
}

#[test]
fn scenario_each_message_replayed_from_phase_attempt_round_job_and_federation() {
    // pick(3, 6) = 0..6: earlier phase, another silo's, earlier attempt as it was and relabelled, other job, other federation
    for source in 0..6 {
        on_each_message(Kind::Replay, |base| {
            (0..).map(|k| base + k * 320).filter(|v| (v >> 3) % 6 == source).take(1).collect()
        });
    }
}

#[test]
fn scenario_each_message_flipped_truncated_and_extended() {
    for kind in [Kind::Tamper, Kind::Truncate, Kind::Extend] {
        on_each_message(kind, |base| (0..6).map(|k| base + k * 7 * 320 + (k % 4 << 4) * 20).collect());
    }
}

#[test]
fn scenario_the_connection_cut_before_and_after_each_message() {
    on_each_message(Kind::Cut, |base| before_and_after(base).to_vec());
}

/// Bit 2 chooses between before and after; multiples of 20 keep the message's name.
fn before_and_after(base: u32) -> [u32; 2] {
    let with = |bit: u32| (0..).map(|k| base + k * 20).find(|v| v >> 2 & 1 == bit).unwrap();
    [with(0), with(1)]
}

#[test]
fn scenario_a_silo_lost_for_good_before_and_after_each_message() {
    lost(Kind::KillSilo, 4);
}

#[test]
fn scenario_a_silo_restarted_before_and_after_each_message() {
    (0..4).for_each(|delay| lost(Kind::KillSilo, delay));
}

#[test]
fn scenario_a_coordinator_restarted_before_and_after_each_message() {
    (0..4).for_each(|delay| lost(Kind::KillCoordinator, delay));
}

#[test]
fn scenario_a_silo_restored_from_an_old_disk_before_and_after_each_message() {
    lost(Kind::Restore, 1);
}

/// pick(3, 5) chooses how long until the restart; 4 is never.
fn lost(kind: Kind, delay: u32) {
    on_each_message(kind, |base| {
        let with = |bit: u32| {
            let mut fitting = (0..).map(move |k| base + k * 20).filter(move |v| v >> 2 & 1 == bit);
            fitting.find(|v| (v >> 3) % 5 == delay).unwrap()
        };
        vec![with(0), with(1)]
    });
}

#[test]
fn scenario_a_coordinator_lost_for_good_leaves_nobody_waiting() {
    for (phase, up, base) in messages() {
        let variant = (0..).map(|k| base + k * 20).find(|v| (v >> 3) % 5 == 4).unwrap();
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
    let variant = (0..64).find(|v| (v >> 3) % 6 == 3).unwrap();
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
        let variant = (0..).map(|k| k * 4).find(|v| v >> 2 & 1 == 1 && (v >> 3) % 5 == delay).unwrap();
        let kill = Op::at(Phase::Reveal, Kind::KillSilo, 1, true, variant);
        let again = Op::at(Phase::Reveal, Kind::Repeat, 1, false, 1 << 4).always();
        let (cluster, _) = checked(&scenario(4, false, vec![kill, again]));
        let reveals: Vec<_> = cluster.silos[1]
            .sent
            .iter()
            .filter(|e| e.message.name() == "reveal" && e.message.at() == Some(FIRST))
            .collect();
        assert!(reveals.len() >= 2, "it was not asked twice");
        assert!(reveals.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
