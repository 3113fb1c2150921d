//! SA-13: when an update may be sent again, and what happens when it may not.

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::CoordinatorEvent;
use blindsum_protocol::message::DeclineReason;
use blindsum_protocol::silo::SiloEvent;
use blindsum_protocol::{AttemptId, CoordinatorMessage, SiloMessage};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

fn cluster(n: u16, privacy: &str) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(1, privacy, "held-out")))
}

/// In attempt 1, the masked inputs of all but `arriving` silos are lost.
fn lose_masked_inputs(cluster: &mut Cluster, arriving: u16, lose_abandons: bool) {
    cluster.up = Box::new(move |silo, envelope| match &envelope.message {
        SiloMessage::MaskedInput { at, .. } if *at == FIRST && silo.0 >= arriving => vec![],
        SiloMessage::Abandon { .. } if lose_abandons => vec![],
        _ => vec![envelope],
    });
}

#[test]
fn sa13_with_q_abandons_the_same_update_is_sent_again() {
    for (n, m) in [(3, 3), (4, 3), (5, 4), (8, 6)] {
        for privacy in [NONE, DP] {
            let mut cluster = cluster(n, privacy);
            lose_masked_inputs(&mut cluster, m - 1, false);
            cluster.finish();
            checks::check(&cluster);
            assert_eq!((cluster.reports[0].round, cluster.reports[0].attempt), (1, 2), "m − 1 survivors are too few");
            assert_eq!(cluster.reports[0].survivors.len(), usize::from(n));
            for silo in cluster.setup.roster.ids() {
                assert_eq!(cluster.silos[silo.index()].trainings[&1], 1, "trained again without need");
                let (first, second) = (&cluster.inputs[&(silo, FIRST)], &cluster.inputs[&(silo, second())]);
                assert_eq!(first, second);
            }
        }
    }
}

#[test]
fn a_job_whose_silos_cannot_train_again_ends_instead_of_trying_for_ever() {
    let mut cluster = cluster(4, DP);
    cluster.budget = Some(1);
    lose_masked_inputs(&mut cluster, 2, true);
    cluster.run(60_000);
    checks::check(&cluster);
    let stuck = cluster.coordinator_events.iter().filter(|e| matches!(e, CoordinatorEvent::Stuck(_)));
    assert_eq!(stuck.clone().count(), 1, "{:?}", cluster.last_events());
    assert!(stuck.into_iter().all(|e| e.to_string().contains("spare_rounds")));
}

#[test]
fn exactly_m_survivors_are_enough() {
    for (n, m) in [(4, 3), (5, 4), (8, 6)] {
        let mut cluster = cluster(n, NONE);
        lose_masked_inputs(&mut cluster, m, false);
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(cluster.reports[0].attempt, 1);
        assert_eq!(cluster.reports[0].survivors.len(), usize::from(m));
        assert_eq!(cluster.reports[0].dropped.len(), usize::from(n - m));
    }
}

#[test]
fn sa13_without_q_abandons_a_private_silo_trains_afresh() {
    let mut cluster = cluster(4, DP);
    lose_masked_inputs(&mut cluster, 2, true);
    cluster.finish();
    checks::check(&cluster);
    assert_eq!(cluster.reports[0].attempt, 2);
    for silo in cluster.setup.roster.ids() {
        assert_eq!(cluster.silos[silo.index()].trainings[&1], 2, "the ledger is charged again");
        assert_ne!(cluster.inputs[&(silo, FIRST)], cluster.inputs[&(silo, second())]);
    }
    assert_eq!(cluster.reports[0].held_out, None, "exact counts under two attempts would give their difference");
    assert!(cluster.reports[1].held_out.is_some());
}

#[test]
fn sa13_without_q_abandons_and_without_dp_no_silo_sends_a_second_masked_input() {
    let mut cluster = cluster(4, NONE);
    lose_masked_inputs(&mut cluster, 2, true);
    cluster.run(120_000);
    checks::check(&cluster);
    assert!(cluster.reports.is_empty());
    for (index, process) in cluster.silos.iter().enumerate() {
        let sent = |e: &&blindsum_protocol::Envelope<SiloMessage>| matches!(e.message, SiloMessage::MaskedInput { .. });
        assert_eq!(process.sent.iter().filter(sent).count(), 1, "silo {index}");
        let waits = |e: &SiloEvent| matches!(e, SiloEvent::Declined(_, DeclineReason::AwaitsResult, _));
        assert!(process.events.iter().any(waits), "silo {index} does not say why it stays out");
    }
}

#[test]
fn sa13_a_proof_for_another_attempt_or_with_too_few_votes_is_none() {
    for short in [true, false] {
        let mut cluster = cluster(4, NONE);
        lose_masked_inputs(&mut cluster, 2, false);
        cluster.down = Box::new(move |_, mut envelope| {
            if let CoordinatorMessage::Open(open) = &mut envelope.message {
                for proof in &mut open.abandoned {
                    if short {
                        proof.certificate.0.truncate(2);
                    } else {
                        proof.attempt += 1;
                    }
                }
            }
            vec![envelope]
        });
        cluster.run(60_000);
        checks::check(&cluster);
        assert!(cluster.reports.is_empty(), "a round finished on a false proof");
    }
}

#[test]
fn an_abandon_lost_with_its_connection_is_asked_for_again() {
    let mut cluster = cluster(4, NONE);
    lose_masked_inputs(&mut cluster, 2, true);
    cluster.run(20_000);
    assert!(cluster.reports.is_empty());
    cluster.up = Box::new(|_, envelope| vec![envelope]);
    for silo in cluster.setup.roster.ids() {
        cluster.cut(silo);
    }
    cluster.finish();
    checks::check(&cluster);
    assert!(cluster.reports[0].attempt > 1);
    assert!(cluster.silos.iter().all(|s| s.trainings[&1] == 1));
}

#[test]
fn commit_votes_that_come_late_still_finish_the_attempt_where_it_cannot_be_abandoned() {
    // without DP, two of four have committed: neither q COMMITs nor q ABANDONs, so the coordinator waits
    let mut cluster = cluster(4, NONE);
    cluster.up = Box::new(|silo, envelope| match &envelope.message {
        SiloMessage::Commit { .. } if silo.0 >= 2 => vec![],
        _ => vec![envelope],
    });
    cluster.run(30_000);
    assert!(cluster.reports.is_empty());
    assert!(cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Waiting(_))));
    assert!(
        !cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Stuck(_))),
        "the service would end"
    );
    cluster.up = Box::new(|_, envelope| vec![envelope]);
    cluster.cut(SiloId(3));
    cluster.finish();
    checks::check(&cluster);
    assert_eq!(cluster.reports[0].attempt, 1);
}

#[test]
fn the_closing_round_of_a_private_job_waits_for_commit_votes_too() {
    // its counts carry no noise: given up, no silo would send them again, and the job would never end
    let mut cluster = cluster(4, DP);
    cluster.up = Box::new(|silo, envelope| match &envelope.message {
        SiloMessage::Commit { at, .. } if at.round == 2 && silo.0 >= 2 => vec![],
        _ => vec![envelope],
    });
    cluster.run(30_000);
    assert_eq!(cluster.reports.len(), 1);
    cluster.up = Box::new(|_, envelope| vec![envelope]);
    cluster.cut(SiloId(3));
    cluster.finish();
    checks::check(&cluster);
    assert_eq!((cluster.reports[1].round, cluster.reports[1].attempt), (2, 1));
}

#[test]
fn fewer_than_q_commits_end_the_attempt_where_it_can_be_abandoned() {
    // one COMMIT arrives; the lists of the others are lost, so that they vote ABANDON
    let mut cluster = cluster(4, NONE);
    cluster.down = Box::new(|silo, envelope| match &envelope.message {
        CoordinatorMessage::CommitRequest { at, .. } if *at == FIRST && silo.0 >= 1 => vec![],
        _ => vec![envelope],
    });
    cluster.finish();
    checks::check(&cluster);
    assert_eq!(cluster.reports[0].attempt, 2);
    assert_eq!(cluster.reports[0].survivors.len(), 4, "q ABANDONs free even the silo that committed");
}

#[test]
fn nobody_waits_past_the_deadline_for_a_coordinator_that_is_gone() {
    for kill_at in (1_000..1_400).step_by(10) {
        let mut cluster = cluster(4, NONE);
        cluster.run(kill_at);
        cluster.kill_coordinator();
        cluster.run(40_000);
        checks::check(&cluster);
        for silo in cluster.setup.roster.ids() {
            assert_eq!(cluster.silo_timeout(silo), None, "killed at {kill_at}: silo {silo} still waits");
        }
    }
}

fn second() -> AttemptId {
    AttemptId { round: 1, attempt: 2 }
}
