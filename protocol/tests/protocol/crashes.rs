//! A process killed after each of its outputs in turn, then restarted from what it had made durable.

use std::cell::RefCell;
use std::rc::Rc;

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::{CoordinatorEvent, StoreRecord};
use blindsum_protocol::message::Open;
use blindsum_protocol::silo::SiloEvent;
use blindsum_protocol::{AttemptId, CoordinatorMessage, SiloMessage, codec};
use blindsum_testkit::cluster::{Cluster, Crash};
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

fn cluster(n: u16, privacy: &str) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(1, privacy, "held-out")))
}

#[test]
fn sa07_a_silo_restarted_at_any_point_never_contradicts_itself_and_the_job_finishes() {
    for privacy in [NONE, DP] {
        let outputs = {
            let mut dry = cluster(4, privacy);
            dry.finish();
            dry.silos[1].executed
        };
        for after in 1..=outputs {
            let mut cluster = cluster(4, privacy);
            cluster.silos[1].crash = Some(Crash { after, restart_ms: Some(30) });
            cluster.finish();
            checks::check(&cluster);
            assert_eq!(cluster.reports.len(), 2, "killed after output {after}");
            let rounds: Vec<u32> = cluster.silos[1].adopted.iter().map(|a| a.at.round).collect();
            assert_eq!(rounds, [1, 2], "killed after output {after}: it missed a result");
            assert!(cluster.reports.iter().all(|r| r.attempt == 1), "one lost silo of four costs no attempt");
        }
    }
}

#[test]
fn a_silo_that_lost_its_adapter_file_fetches_every_result_again() {
    let mut cluster = cluster(4, NONE);
    cluster.silos[1].crash = Some(Crash { after: 24, restart_ms: Some(30) });
    cluster.silos[1].forgets_adapter = true;
    cluster.finish();
    checks::check(&cluster);
}

#[test]
fn sa13_a_silo_that_lost_its_adapter_file_joins_no_round_that_it_adopted() {
    let silo = SiloId(1);
    let mut cluster = cluster(4, NONE);
    let opened: Rc<RefCell<Option<Open>>> = Rc::default();
    let open = Rc::clone(&opened);
    cluster.down = Box::new(move |_, envelope| {
        if let CoordinatorMessage::Open(o) = &envelope.message {
            open.borrow_mut().get_or_insert_with(|| o.clone());
        }
        vec![envelope]
    });
    while cluster.silos[silo.index()].adopted.is_empty() {
        let next = cluster.now + 1;
        cluster.run(next);
    }
    cluster.kill(silo);
    cluster.silos[silo.index()].held = None;
    cluster.start(silo);
    let mut open = opened.borrow().clone().unwrap();
    open.context.attempt = 2;
    cluster.inject(silo, CoordinatorMessage::Open(open));
    let joined = |e: &&SiloEvent| matches!(e, SiloEvent::Joined(at) if at.round == 1);
    assert_eq!(cluster.silos[silo.index()].events.iter().filter(joined).count(), 1);
    cluster.finish();
    checks::check(&cluster);
}

#[test]
fn a_silo_restarted_after_the_last_round_is_done_without_a_coordinator() {
    let mut cluster = cluster(4, NONE);
    cluster.finish();
    cluster.kill_coordinator();
    cluster.kill(SiloId(1));
    cluster.silos[1].finished = false;
    cluster.start(SiloId(1));
    assert!(cluster.silos[1].finished);
}

#[test]
fn a_coordinator_restarted_at_any_point_finishes_every_round() {
    for privacy in [NONE, DP] {
        let outputs = {
            let mut dry = cluster(4, privacy);
            dry.finish();
            dry.coordinator_executed
        };
        for after in 1..outputs {
            let mut cluster = cluster(4, privacy);
            cluster.coordinator_crash = Some(Crash { after, restart_ms: Some(200) });
            cluster.finish();
            checks::check(&cluster);
            let mut rounds: Vec<u32> = cluster.reports.iter().map(|r| r.round).collect();
            rounds.dedup();
            assert_eq!(rounds, [1, 2], "killed after output {after}");
            for process in &cluster.silos {
                assert!(process.trainings.values().all(|&runs| runs == 1), "killed after {after}: trained in vain");
            }
        }
    }
}

#[test]
fn a_coordinator_restarted_past_the_commit_gives_every_silo_two_phases_to_come_back() {
    let mut cluster = cluster(4, NONE);
    cluster.up = Box::new(|_, e| if matches!(e.message, SiloMessage::Reveal { .. }) { vec![] } else { vec![e] });
    while !cluster.store.iter().any(|r| matches!(decode(r), StoreRecord::Certificate { .. })) {
        let next = cluster.now + 1;
        cluster.run(next);
    }
    cluster.kill_coordinator();
    let silos: Vec<SiloId> = cluster.setup.roster.ids().collect();
    for silo in silos {
        cluster.kill(silo);
    }
    cluster.start_coordinator();
    let restarted = cluster.now;
    cluster.run(restarted + 3_900);
    let waits = |c: &Cluster| c.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Waiting(_)));
    assert!(!waits(&cluster), "a phase takes 2 s: {:?}", cluster.last_events());
    cluster.run(restarted + 4_100);
    assert!(waits(&cluster), "{:?}", cluster.last_events());
}

fn decode(record: &[u8]) -> StoreRecord {
    codec::decode(record, 1 << 24).unwrap()
}

#[test]
fn sa07_a_restarted_coordinator_still_notices_a_journal_that_went_backwards() {
    let (silo, round_3) = (SiloId(1), AttemptId { round: 3, attempt: 1 });
    let mut cluster = Cluster::new(Setup::new(4, &job_text(2, NONE, "held-out")));
    // it is in no sum, else its own signature there would tell it
    let masked = |m: &SiloMessage| matches!(m, SiloMessage::MaskedInput { .. });
    cluster.up = Box::new(move |from, e| if from == silo && masked(&e.message) { vec![] } else { vec![e] });
    while cluster.reports.len() < 2 {
        let next = cluster.now + 1;
        cluster.run(next);
    }
    cluster.kill_coordinator();
    // what the service keeps once a round is certified
    cluster.store.retain(|r| {
        use StoreRecord::{Certified, Guilty, Marks, Result};
        matches!(decode(r), Result(_) | Certified { .. } | Guilty { .. } | Marks { .. })
    });
    cluster.kill(silo);
    // an old copy of the state directory: journal and adapter from before the job
    cluster.silos[silo.index()].journal.truncate(1);
    cluster.silos[silo.index()].held = None;
    cluster.start_coordinator();
    cluster.start(silo);
    cluster.finish();
    let dropped = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Dropped(at, s, why) if *at == round_3 && *s == silo && why.contains("went backwards"));
    assert!(cluster.coordinator_events.iter().any(dropped), "{:?}", cluster.last_events());
}

#[test]
fn two_silos_restarted_together_cost_an_attempt_at_most() {
    // n = 8, c = 2, q = 6: two lost silos are within what a session bears
    for after in (1..60).step_by(3) {
        let mut cluster = cluster(8, DP);
        for silo in [SiloId(2), SiloId(5)] {
            cluster.silos[silo.index()].crash = Some(Crash { after, restart_ms: Some(100) });
        }
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(cluster.reports.len(), 2, "killed after output {after}");
    }
}

#[test]
fn sa07_a_whole_federation_restarted_after_its_votes_finishes_with_the_journaled_replies() {
    for when in [
        (|m: &SiloMessage| matches!(m, SiloMessage::Commit { .. })) as fn(&SiloMessage) -> bool,
        |m| matches!(m, SiloMessage::Reveal { .. }),
        |m| matches!(m, SiloMessage::ResultVote { .. }),
    ] {
        for privacy in [NONE, DP] {
            let mut cluster = cluster(4, privacy);
            cluster.restart_when = Some(when);
            cluster.finish();
            checks::check(&cluster);
            assert_eq!(cluster.reports[0].attempt, 1);
            assert_eq!(cluster.reports[0].survivors.len(), 4);
        }
    }
}

#[test]
fn sa13_a_whole_federation_restarted_after_its_masked_inputs_sends_no_second_one_without_dp() {
    let masked = |m: &SiloMessage| matches!(m, SiloMessage::MaskedInput { .. });
    for (privacy, most) in [(NONE, 1), (DP, 2)] {
        let mut cluster = cluster(4, privacy);
        // the restart is early enough that no masked input arrives
        cluster.restart_when = Some(masked);
        cluster.run(60_000);
        checks::check(&cluster);
        for process in &cluster.silos {
            let round_1 = process.sent.iter().filter(|e| masked(&e.message) && e.message.at().unwrap().round == 1);
            assert_eq!(round_1.count(), most);
        }
        assert_eq!(cluster.reports.is_empty(), privacy == NONE, "with fresh noise it goes on, else nobody may");
    }
}

#[test]
fn sa07_after_a_restart_from_an_old_copy_of_the_journal_nothing_new_is_signed() {
    let silo = SiloId(1);
    let at = AttemptId { round: 1, attempt: 1 };
    let committed =
        |c: &Cluster| c.silos[silo.index()].sent.iter().any(|e| matches!(e.message, SiloMessage::Commit { .. }));
    let mut cluster = cluster(4, NONE);
    // no COMMIT arrives, so that the attempt stays open
    cluster.up = Box::new(|_, e| if matches!(e.message, SiloMessage::Commit { .. }) { vec![] } else { vec![e] });
    while !committed(&cluster) {
        let next = cluster.now + 1;
        cluster.run(next);
    }
    cluster.kill(silo);
    let journal = &mut cluster.silos[silo.index()].journal;
    journal.truncate(journal.len() - 1);
    cluster.start(silo);
    cluster.inject(silo, CoordinatorMessage::AbandonRequest { at });
    cluster.run(cluster.now + 100);
    let abandoned = |m: &SiloMessage| matches!(m, SiloMessage::Abandon { .. });
    assert!(!cluster.silos[silo.index()].sent.iter().any(|e| abandoned(&e.message)), "it forgot its COMMIT");
    checks::no_silo_contradicts_itself(&cluster);
}
