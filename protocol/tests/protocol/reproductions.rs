//! What generated schedules found, kept by name.
//!
//! Contract: each test holds the smallest schedule or run that showed a fault. One that fails names a fault that is still
//! there; `testkit/src/simulate.rs` has a constant per such fault by which the schedules go on past it.

use std::cell::RefCell;
use std::rc::Rc;

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::{CoordinatorEvent, Phase};
use blindsum_protocol::{AttemptId, CoordinatorMessage, SiloMessage};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::ops::Schedule;
use blindsum_testkit::{NONE, Setup, job_text, simulate};

const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

fn schedule(text: &str) -> Schedule {
    serde_json::from_str(text).unwrap()
}

/// A coordinator that has said that it waits for silos without connection wants to be called again at a time that lies in
/// the past: a driver that sleeps until then does not sleep at all.
fn spins(when: fn(&SiloMessage) -> bool, silos: &[u16]) -> Option<Phase> {
    let mut cluster = Cluster::new(Setup::new(4, &job_text(1, NONE, "off")));
    cluster.tolerates_spinning = true;
    let gone: Rc<RefCell<bool>> = Rc::default();
    let seen = Rc::clone(&gone);
    cluster.up = Box::new(move |_, envelope| {
        *seen.borrow_mut() |= when(&envelope.message);
        if when(&envelope.message) { vec![] } else { vec![envelope] }
    });
    while !*gone.borrow() {
        let next = cluster.now + 1;
        cluster.run(next);
        assert!(cluster.now < 10_000);
    }
    silos.iter().for_each(|&silo| cluster.kill(SiloId(silo)));
    cluster.run(cluster.now + 20_000);
    let waits = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Waiting(_));
    assert!(cluster.coordinator_events.iter().any(waits), "{:?}", cluster.last_events());
    cluster.spins_in
}

#[test]
fn a_coordinator_that_lacks_commits_of_silos_that_are_gone_does_not_call_its_timer_without_pause() {
    // two of four votes came and the other two silos are gone: neither a quorum for it nor one against it
    assert_eq!(spins(|m| matches!(m, SiloMessage::Commit { vote, .. } if vote.silo.0 >= 2), &[2, 3]), None);
}

#[test]
fn a_coordinator_that_lacks_sketches_of_silos_that_are_gone_does_not_call_its_timer_without_pause() {
    assert_eq!(spins(|m| matches!(m, SiloMessage::Sketch { .. }), &[2, 3]), None);
}

#[test]
fn the_schedule_that_found_the_timer_that_does_not_move_on() {
    let found = schedule(
        r#"{"n":4,"private":false,"metrics":false,"verify":1,"adversaries":0,"seed":0,"ops":[
        {"phase":"Masked","kind":"KillSilo","who":2,"up":false,"attempt":null,"every":false,"variant":839573064},
        {"phase":"Masked","kind":"Delay","who":223,"up":true,"attempt":1,"every":false,"variant":2316914002}]}"#,
    );
    let (cluster, _) = simulate::checked(&found);
    assert_eq!(cluster.spins_in, None);
}

/// Not a fault that a silo can mend: from a disk older than the attempt, it cannot know that it voted in it. Such a silo
/// counts among the c, as the judge of the schedules does.
#[test]
fn sa07_a_silo_from_a_disk_older_than_the_attempt_votes_once_more_and_counts_among_the_colluders() {
    let silo = SiloId(1);
    let mut cluster = Cluster::new(Setup::new(4, &job_text(1, NONE, "off")));
    let opened: Rc<RefCell<Option<CoordinatorMessage>>> = Rc::default();
    let keep = Rc::clone(&opened);
    cluster.down = Box::new(move |_, envelope| {
        if let CoordinatorMessage::Open(_) = &envelope.message {
            keep.borrow_mut().get_or_insert_with(|| envelope.message.clone());
        }
        vec![envelope]
    });
    cluster.up = Box::new(|_, e| if matches!(e.message, SiloMessage::Commit { .. }) { vec![] } else { vec![e] });
    let sent = |cluster: &Cluster, name: &str| {
        let of_first = cluster.silos[1].sent.iter().filter(|e| e.message.at() == Some(FIRST));
        of_first.filter(|e| e.message.name() == name).count()
    };
    while sent(&cluster, "commit") == 0 {
        let next = cluster.now + 1;
        cluster.run(next);
    }
    cluster.kill(silo);
    cluster.silos[1].journal.truncate(1);
    cluster.silos[1].restored = true;
    cluster.start(silo);
    let open = opened.borrow().clone().unwrap();
    cluster.inject(silo, open);
    cluster.inject(silo, CoordinatorMessage::AbandonRequest { at: FIRST });
    assert_eq!((sent(&cluster, "commit"), sent(&cluster, "abandon")), (1, 1));
    // but it has no shares of the attempt and gets none: nobody deals twice
    assert_eq!(sent(&cluster, "reveal"), 0);
}

/// A survivor whose sketches are false, while another is gone: the coordinator once asked the liar for its sketch again as
/// soon as it had found it false, about fifty times in a second, and would have gone on for ever.
#[test]
fn a_silo_with_false_sketches_is_not_asked_again_and_again() {
    let found = schedule(
        r#"{"n":4,"private":true,"metrics":false,"verify":1,"adversaries":58,"seed":6600030010444815195,"ops":[
        {"phase":"Result","kind":"Extend","who":255,"up":true,"attempt":1,"every":true,"variant":4250334887},
        {"phase":"Sum","kind":"Garbage","who":255,"up":false,"attempt":null,"every":true,"variant":2723110230},
        {"phase":"Open","kind":"Omit","who":18,"up":false,"attempt":null,"every":false,"variant":1763216834},
        {"phase":"Result","kind":"Garbage","who":4,"up":false,"attempt":null,"every":false,"variant":3799915326},
        {"phase":"Commit","kind":"Extend","who":130,"up":false,"attempt":null,"every":false,"variant":614882038},
        {"phase":"Advertise","kind":"KillCoordinator","who":108,"up":true,"attempt":null,"every":false,"variant":252265024}]}"#,
    );
    let (cluster, _) = simulate::checked(&found);
    let sketches = cluster.silos.iter().flat_map(|s| &s.sent).filter(|e| e.message.name() == "sketch").count();
    assert!((3..200).contains(&sketches), "{sketches} sketches in {} ms", cluster.now);
}
