//! What fuzzing found, as it would happen: each test failed before its bug was mended.
//!
//! The targets, and how inputs turn into operations, are in `fuzz/`.

use blindsum_crypto::SiloId;
use blindsum_protocol::SiloMessage;
use blindsum_protocol::coordinator::{CoordinatorEvent, Phase};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{NONE, Setup, job_text};

/// Runs until a phase begins, kills silos, and goes on for a minute; the cluster asserts that timers move on. How often the
/// coordinator said that it waits.
fn waits(withheld: fn(SiloId, &SiloMessage) -> bool, phase: Phase, killed: &[u16]) -> usize {
    let mut cluster = Cluster::new(Setup::new(4, &job_text(1, NONE, "held-out")));
    cluster.up =
        Box::new(move |silo, envelope| if withheld(silo, &envelope.message) { Vec::new() } else { vec![envelope] });
    let began = |cluster: &Cluster| {
        let is = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Phase { phase: p, .. } if *p == phase);
        cluster.coordinator_events.iter().any(is)
    };
    while !began(&cluster) {
        let next = cluster.now + 20;
        assert!(next < 60_000, "{:?}", cluster.last_events());
        cluster.run(next);
    }
    cluster.run(cluster.now + 100);
    for silo in killed {
        cluster.kill(SiloId(*silo));
    }
    cluster.run(cluster.now + 60_000);
    cluster.coordinator_events.iter().filter(|e| matches!(e, CoordinatorEvent::Waiting(_))).count()
}

/// A coordinator that waits for the COMMIT votes of silos that are gone looks for them once per deadline. It had asked to
/// be woken at once, over and over.
#[test]
fn waiting_for_lost_commit_votes_does_not_spin() {
    let withheld = |silo: SiloId, m: &SiloMessage| silo.0 >= 2 && matches!(m, SiloMessage::Commit { .. });
    assert!((5..100).contains(&waits(withheld, Phase::Commit, &[2, 3])));
}

/// The same where a sum waits for silos that vouch for it.
#[test]
fn waiting_for_lost_sketches_does_not_spin() {
    let withheld = |_, m: &SiloMessage| matches!(m, SiloMessage::Sketch { .. });
    assert!((5..100).contains(&waits(withheld, Phase::Prove, &[1, 2, 3])));
}
