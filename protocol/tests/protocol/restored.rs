//! A silo that starts from an old copy of its journal, or from none: who notices it, and what then.
//!
//! Three are there to notice: the silo itself, by its own signature on what its journal does not hold; the coordinator,
//! which keeps how long each journal must be by now; and the peers, which keep that too, but know less. What a copy has not
//! forgotten cannot be contradicted, and is no fault.

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::CoordinatorEvent;
use blindsum_protocol::silo::{JournalEntry, SiloEvent};
use blindsum_protocol::{CoordinatorMessage, SiloMessage, codec};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{NONE, Setup, checks, job_text};

const SILO: SiloId = SiloId(1);

fn cluster(rounds: u32) -> Cluster {
    Cluster::new(Setup::new(4, &job_text(rounds, NONE, "held-out")))
}

fn run_while(cluster: &mut Cluster, more: impl Fn(&Cluster) -> bool) {
    while more(cluster) {
        let next = cluster.now + 1;
        cluster.run(next);
    }
}

/// Kills the silo, puts back the first `keep` entries of its journal without an adapter, and starts it.
fn restore(cluster: &mut Cluster, keep: usize) {
    cluster.kill(SILO);
    cluster.silos[SILO.index()].journal.truncate(keep);
    cluster.silos[SILO.index()].held = None;
    cluster.start(SILO);
}

fn masked(m: &SiloMessage) -> bool {
    matches!(m, SiloMessage::MaskedInput { .. })
}

fn dropped(cluster: &Cluster) -> bool {
    let backwards = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Dropped(_, silo, why) if *silo == SILO && why.contains("went backwards"));
    cluster.coordinator_events.iter().any(backwards)
}

#[test]
fn sa07_a_copy_that_forgot_its_masked_input_or_vote_is_found_out_and_any_other_goes_on() {
    let journal = |c: &Cluster| c.silos[SILO.index()].journal.clone();
    let adopted = |c: &Cluster| !c.silos[SILO.index()].adopted.is_empty();
    let mut dry = cluster(1);
    run_while(&mut dry, |c| !adopted(c));
    for keep in 0..=journal(&dry).len() {
        let mut cluster = cluster(1);
        run_while(&mut cluster, |c| !adopted(c));
        let before = cluster.silos[SILO.index()].sent.len();
        let entries: Vec<JournalEntry> =
            journal(&cluster)[..keep].iter().map(|bytes| codec::decode(bytes, 1 << 20).unwrap()).collect();
        let holds_mask = entries.iter().any(|e| matches!(e, JournalEntry::Masked { .. }));
        let holds_vote = entries.iter().any(|e| matches!(e, JournalEntry::Committed { .. }));
        restore(&mut cluster, keep);
        cluster.finish();
        checks::check(&cluster);
        let process = &cluster.silos[SILO.index()];
        let itself = process.events.iter().any(|e| matches!(e, SiloEvent::Restored(..)));
        let promised = process.sent[before..].iter().any(|e| masked(&e.message));
        let found = itself || dropped(&cluster);
        assert_eq!(found, !holds_vote, "restored to {keep} entries: {:?}", cluster.last_events());
        assert!(itself || holds_mask, "restored to {keep} entries: a masked input is in the sum itself");
        assert_eq!(promised, holds_vote, "restored to {keep} entries: only what forgot nothing takes part");
    }
}

/// The silo's masked inputs never arrive, so that its signature is in no sum and it cannot find out by itself.
fn in_no_sum(cluster: &mut Cluster) {
    cluster.up = Box::new(|silo, e| if silo == SILO && masked(&e.message) { vec![] } else { vec![e] });
}

#[test]
fn sa07_a_silo_whose_journal_went_backwards_stays_out_however_long_its_journal_grows() {
    // a third entry makes up for the masked input that the coordinator never saw: nothing came of it
    for keep in 0..=2 {
        let mut cluster = cluster(6);
        in_no_sum(&mut cluster);
        run_while(&mut cluster, |c| c.silos[SILO.index()].adopted.is_empty());
        restore(&mut cluster, keep);
        cluster.finish();
        checks::check(&cluster);
        assert!(dropped(&cluster), "restored to {keep} entries: {:?}", cluster.last_events());
        assert!(cluster.reports[1..].iter().all(|r| !r.cohort.contains(&SILO)), "restored to {keep} entries");
        assert_eq!(cluster.reports.len(), 7, "three of four are enough");
    }
}

#[test]
fn sa07_it_stays_out_across_a_restart_of_the_coordinator() {
    let mut cluster = cluster(3);
    in_no_sum(&mut cluster);
    run_while(&mut cluster, |c| c.silos[SILO.index()].adopted.is_empty());
    restore(&mut cluster, 1);
    run_while(&mut cluster, |c| !dropped(c));
    cluster.kill_coordinator();
    cluster.start_coordinator();
    cluster.finish();
    checks::check(&cluster);
    assert!(cluster.reports.iter().all(|r| r.round == 1 || !r.cohort.contains(&SILO)));
}

#[test]
fn sa07_where_only_peers_remember_they_take_part_in_nothing_with_a_silo_that_was_restored() {
    let mut cluster = cluster(1);
    // nobody gets as far as a masked input
    cluster.down =
        Box::new(|_, e| if matches!(e.message, CoordinatorMessage::Shares { .. }) { vec![] } else { vec![e] });
    let dealt = |c: &Cluster| {
        let dealt = |e: &blindsum_testkit::cluster::Up| matches!(e.message, SiloMessage::Shares { .. });
        c.silos.iter().all(|process| process.sent.iter().any(dealt))
    };
    run_while(&mut cluster, |c| !dealt(c));
    cluster.down = Box::new(|_, e| vec![e]);
    // the coordinator has lost its store, and the silo is one that never ran
    cluster.kill_coordinator();
    cluster.store.clear();
    restore(&mut cluster, 0);
    cluster.start_coordinator();
    let until = cluster.now + 120_000;
    cluster.run(until);
    assert!(cluster.reports.is_empty(), "a sum with a restored silo");
    assert!(!cluster.silos.iter().any(|process| process.sent.iter().any(|e| masked(&e.message))));
    for peer in [0, 2, 3] {
        let names_it = |e: &&SiloEvent| matches!(e, SiloEvent::Misbehaviour(why) if why.contains("silo 1: its journal went backwards"));
        let refusals = cluster.silos[peer].events.iter().filter(names_it).count();
        assert!(
            refusals >= 3,
            "its journal grows with every attempt, and peer {peer} refused it {refusals} times only"
        );
    }
    // its operator stops it
    cluster.kill(SILO);
    cluster.finish();
    checks::check(&cluster);
    assert!(cluster.reports.iter().all(|r| !r.cohort.contains(&SILO)));
}
