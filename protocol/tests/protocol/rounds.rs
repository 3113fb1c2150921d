//! Rounds without faults, and with one silo lost in each phase.

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::{CoordinatorEvent, Phase};
use blindsum_protocol::message::DeclineReason;
use blindsum_protocol::{AttemptId, Envelope, RoundKind, SiloMessage};
use blindsum_testkit::cluster::{Cluster, KillWhen};
use blindsum_testkit::{NONE, Setup, checks, job_text};

fn cluster(n: u16, rounds: u32, privacy: &str) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(rounds, privacy, "held-out")))
}

#[test]
fn without_faults_every_sum_is_exact_and_every_silo_adopts_it() {
    for n in [3, 4, 5, 8] {
        let mut cluster = cluster(n, 3, NONE);
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(cluster.reports.len(), 4, "three training rounds and the closing one");
        for (report, round) in cluster.reports.iter().zip(1..) {
            assert_eq!((report.round, report.attempt), (round, 1));
            assert_eq!(report.survivors.len(), usize::from(n));
            assert!(report.dropped.is_empty());
            let held_out = report.held_out.unwrap();
            assert_eq!(held_out.examples, (0..u64::from(n)).map(|i| 100 + i).sum::<u64>());
            assert!(report.bytes.control_up > 0 && report.bytes.payload_up > 0);
        }
        assert_eq!(cluster.reports[3].kind, RoundKind::Evaluate);
        assert!(cluster.now < 5_000, "no deadline was waited for, but it took until {}", cluster.now);
        for process in &cluster.silos {
            assert_eq!(process.adopted.len(), 4);
            assert!(process.trainings.values().all(|&runs| runs == 1));
        }
    }
}

#[test]
fn the_server_step_is_the_mean_of_the_survivors_updates() {
    let mut cluster = cluster(4, 1, NONE);
    cluster.finish();
    let plan = cluster.setup.plan.clone();
    let before = plan.initial_global();
    for (i, &after) in cluster.reports[0].global.iter().enumerate() {
        let sum: f64 = (0..4).map(|s| f64::from(cluster.setup.update(SiloId(s), 1, 1).0[i])).sum();
        assert_eq!(after, (f64::from(before[i]) + sum / 4.0) as f32);
    }
}

#[test]
fn with_metrics_off_nothing_but_the_canary_is_counted() {
    let mut cluster = Cluster::new(Setup::new(3, &job_text(2, NONE, "off")));
    cluster.finish();
    assert_eq!(cluster.reports.len(), 2, "no closing round");
    assert!(cluster.reports.iter().all(|r| r.held_out.is_none()));
}

#[test]
fn a_silo_that_misbehaves_without_having_been_asked_is_not_counted_as_lost() {
    let mut cluster = cluster(4, 1, NONE);
    let stranger = SiloId(3);
    cluster.run(1_005);
    cluster.kill(stranger);
    let asked = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Phase { phase: Phase::Advertise, .. });
    while !cluster.coordinator_events.iter().any(asked) {
        let next = cluster.now + 1;
        cluster.run(next);
        assert!(cluster.now < 20_000, "no attempt opened without silo 3");
    }
    let (at, reason) = (AttemptId { round: 1, attempt: 1 }, DeclineReason::Mismatch);
    cluster.up = Box::new(move |silo, envelope| match envelope.message {
        SiloMessage::Hello(_) if silo == stranger => vec![Envelope::bare(SiloMessage::Decline { at, reason })],
        _ => vec![envelope],
    });
    cluster.start(stranger);
    cluster.run(cluster.now + 500);
    cluster.up = Box::new(|_, envelope| vec![envelope]);
    cluster.finish();
    checks::check(&cluster);
    let counts = cluster.coordinator_events.iter().filter_map(|e| match e {
        CoordinatorEvent::Progress { phase: Phase::Advertise, done, expected } => Some((*done, *expected)),
        _ => None,
    });
    assert!(counts.clone().all(|(done, expected)| (done..=4).contains(&expected)), "{:?}", counts.collect::<Vec<_>>());
}

#[test]
fn a_silo_without_held_out_rows_does_not_lower_the_mean() {
    let mut cluster = cluster(4, 1, NONE);
    cluster.holds_none_out = Some(SiloId(2));
    cluster.finish();
    checks::check(&cluster);
    let held_out = cluster.reports[0].held_out.unwrap();
    let each = [0u32, 1, 3].map(|s| f64::from(41 + s) / f64::from(100 + s));
    assert!((held_out.mean_accuracy - each.iter().sum::<f64>() / 3.0).abs() < 2e-6, "{held_out:?}");
    assert_eq!(held_out.examples, 100 + 101 + 103);
}

/// Kills silo 1 for good when it sends the first message that `when` names.
fn lose_one(n: u16, when: fn(&SiloMessage) -> bool, delivered: bool) -> Cluster {
    let mut cluster = cluster(n, 2, NONE);
    cluster.kill_when = Some(KillWhen { silo: SiloId(1), when, delivered });
    cluster.finish();
    checks::check(&cluster);
    assert!(cluster.kill_when.is_none(), "silo 1 was never killed");
    cluster
}

#[test]
fn a_silo_lost_around_its_advert_is_not_waited_for() {
    let advert = |m: &SiloMessage| matches!(m, SiloMessage::Advert { .. });
    let before = lose_one(4, advert, false);
    assert_eq!(before.reports[0].cohort, [SiloId(0), SiloId(2), SiloId(3)]);
    let after = lose_one(4, advert, true);
    assert_eq!(after.reports[0].cohort.len(), 4);
    for cluster in [before, after] {
        assert_eq!(cluster.reports[0].attempt, 1);
        assert_eq!(cluster.reports[0].survivors, [SiloId(0), SiloId(2), SiloId(3)]);
        assert!(cluster.now < 8_000, "the training deadline was waited for: {}", cluster.now);
    }
}

#[test]
fn a_silo_lost_after_its_shares_is_recovered_from_them() {
    for (n, delivered) in [(4, true), (4, false), (5, true), (8, true)] {
        let masked = |m: &SiloMessage| matches!(m, SiloMessage::MaskedInput { .. });
        let cluster = lose_one(n, masked, delivered);
        let first = &cluster.reports[0];
        assert_eq!((first.round, first.attempt), (1, 1));
        assert_eq!(first.cohort.len(), usize::from(n));
        let dropped = if delivered { vec![] } else { vec![SiloId(1)] };
        assert_eq!(first.dropped, dropped);
        assert_eq!(cluster.reports.len(), 3);
    }
}

#[test]
fn a_silo_lost_between_masked_input_and_reveal_stays_in_the_sum() {
    for (n, delivered) in [(4, false), (4, true), (8, false)] {
        for when in [
            (|m: &SiloMessage| matches!(m, SiloMessage::Commit { .. })) as fn(&SiloMessage) -> bool,
            |m| matches!(m, SiloMessage::Reveal { .. }),
            |m| matches!(m, SiloMessage::ResultVote { .. }),
        ] {
            let cluster = lose_one(n, when, delivered);
            assert_eq!(cluster.reports[0].attempt, 1);
            assert_eq!(cluster.reports[0].survivors.len(), usize::from(n), "its masked input was accepted");
            assert_eq!(cluster.reports[1].survivors.len(), usize::from(n) - 1);
        }
    }
}
