//! A silo's process started from an old copy of its state directory, or without any: who finds out, how its process ends,
//! and what its log tells the operator. The same for machines in one process, entry by entry:
//! protocol/tests/protocol/restored.rs.

use std::path::Path;

use blindsum_protocol::message::SiloMessage;
use blindsum_tests::federation::{Federation, Programs, Start};
use blindsum_tests::seams::{self, Milestone, Pause};
use blindsum_tests::site::{SILOS, Terms};
use blindsum_tests::stop::{Label, Stop, When};
use blindsum_tests::{expect, promises};

use crate::{COORDINATOR, SILO};

const PROGRAMS: Programs = Programs { silo: SILO, coordinator: COORDINATOR };
/// The one that is restored.
const SOUTH: usize = 2;
const PEERS: [usize; 3] = [0, 1, 3];
/// Holds up round 2 until south is back; and the vote that would make south's own superfluous.
const SLOW: usize = 0;

fn terms() -> Terms {
    Terms { rounds: 1, local_steps: 1, phase_seconds: 6, linger_seconds: 2, ..Terms::default() }
}

fn stop(when: When, kind: &str, name: &str) -> Option<Stop> {
    Some(Stop { when, label: Label::new(kind, name, 1) })
}

/// Puts the copy made after the journal entry `label` in the place of the state directory; [`None`]: leaves nothing.
fn put_back(federation: &Federation, label: Option<&str>) {
    let state = federation.site.state(SILOS[SOUTH]);
    std::fs::remove_dir_all(&state).unwrap();
    if let Some(label) = label {
        seams::copy(&federation.copies(SOUTH).join(label), &state);
        private(&state);
    }
}

fn private(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// What south sent on its last connection.
fn sent_since_restart(federation: &Federation) -> Vec<String> {
    let received = federation.received();
    let south = || received.iter().filter(|r| r.silo.index() == SOUTH);
    let last = south().map(|r| r.link).max().unwrap();
    south().filter(|r| r.link == last).map(|r| r.message.name().to_owned()).collect()
}

/// Runs round 1 to its end with all four, kills south, puts a copy back, and starts it. South's COMMIT vote counts unless
/// `late_vote`.
fn restored_after_round_1(label: Option<&str>, late_vote: bool) -> Federation {
    let mut federation = Federation::new(PROGRAMS, terms());
    let vote = Pause::new("commit", 1);
    let pauses = if late_vote { vec![vote.clone()] } else { Vec::new() };
    federation.start(SOUTH, Start { pauses, stop: stop_at_adoption(), copies: true, ..Start::default() });
    federation.silo(SOUTH).line(|line| line == "done send:hello:0");
    for i in PEERS {
        let pauses = match i {
            SLOW if late_vote => vec![Pause::new("advert", 1), Pause::new("advert", 2)],
            SLOW => vec![Pause::new("advert", 1), vote.clone(), Pause::new("advert", 2)],
            _ => Vec::new(),
        };
        federation.start(i, Start { pauses, ..Start::default() });
    }
    all_joined(&mut federation);
    let voted = "done send:commit:1";
    if late_vote {
        // three others are a quorum without it
        PEERS.into_iter().for_each(|i| drop(federation.silo(i).line(|line| line == "done send:reveal:1")));
        federation.silo(SOUTH).resume();
    } else {
        [1, 3, SOUTH].into_iter().for_each(|i| drop(federation.silo(i).line(|line| line == voted)));
        let commit = |r: &blindsum_tests::tap::Received| matches!(r.message, SiloMessage::Commit { .. });
        while federation.received().iter().filter(|r| commit(r)).count() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        federation.silo(SLOW).resume();
    }
    let south = federation.take(SOUTH);
    assert!(south.killed().is_some(), "south adopts round 1");
    PEERS.into_iter().for_each(|i| federation.silo(i).reached(&Milestone::Adopted(1)));
    put_back(&federation, label);
    federation.start(SOUTH, Start::default());
    federation
}

/// The job ends, with these in its closing round.
fn finish(federation: &mut Federation, survivors: &[&str]) {
    federation.finish();
    let rounds = expect::check(&federation.site);
    assert_eq!(rounds.last().unwrap(), survivors, "the closing round");
    let broken = promises::contradictions(&federation.received());
    assert!(broken.is_empty(), "{broken:#?}");
}

const WITHOUT_SOUTH: [&str; 3] = ["east", "north", "west"];

/// Its own signature is in the sum of round 1, which it fetches; so its journal must hold that masked input.
#[test]
fn sa07_a_silo_restored_to_before_its_masked_input_or_its_vote_or_to_nothing_finds_out_itself_and_ends() {
    let copies =
        [None, Some("journal-begin-0"), Some("journal-joined-1"), Some("journal-peers-1"), Some("journal-masked-1")];
    for label in copies {
        let mut federation = restored_after_round_1(label, false);
        let (code, said) = federation.take(SOUTH).end();
        let forgotten = if label == Some("journal-masked-1") { "a COMMIT vote" } else { "a masked input" };
        assert_eq!(code, 7, "{label:?}: {said}");
        for told in
            [forgotten, "bears this silo's signature", "as it was when this silo last ran", "stop this silo for good"]
        {
            assert!(said.contains(told), "{label:?}: {told}: {said}");
        }
        assert_eq!(sent_since_restart(&federation), ["hello"], "{label:?}");
        federation.silo(SLOW).resume();
        finish(&mut federation, &WITHOUT_SOUTH);
    }
}

/// Its masked input was journaled and never sent, so that its signature is in no sum. From its dealing the coordinator knows
/// that the journal must be longer.
#[test]
fn sa07_a_silo_whose_input_is_in_no_sum_is_refused_by_the_coordinator_for_the_rest_of_the_job() {
    let mut federation = Federation::new(PROGRAMS, terms());
    let stop = stop(When::After, "journal", "masked");
    federation.start(SOUTH, Start { stop, copies: true, ..Start::default() });
    federation.silo(SOUTH).line(|line| line == "done send:hello:0");
    for i in PEERS {
        let pauses = if i == SLOW { vec![Pause::new("advert", 1), Pause::new("advert", 2)] } else { Vec::new() };
        federation.start(i, Start { pauses, ..Start::default() });
    }
    all_joined(&mut federation);
    assert!(federation.take(SOUTH).killed().is_some(), "south dies");
    // back at once, so that nobody waits for its connection to time out
    federation.start(SOUTH, Start { stop: stop_at_adoption(), ..Start::default() });
    assert!(federation.take(SOUTH).killed().is_some(), "south learns the result of the round");
    put_back(&federation, Some("journal-joined-1"));
    federation.start(SOUTH, Start::default());
    federation.silo(SOUTH).line(|line| line == "done send:advert:2");
    federation.silo(SLOW).resume();
    let (code, said) = federation.take(SOUTH).end();
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("its journal went backwards: its state directory was restored or removed"), "{said}");
    assert_eq!(sent_since_restart(&federation), ["hello", "hello", "advert"], "nothing that binds");
    let dropped = |line: &str| line.contains("\"event\":\"dropped\"") && line.contains("its journal went backwards");
    federation.coordinator().as_mut().unwrap().line(dropped);
    finish(&mut federation, &WITHOUT_SOUTH);
}

fn stop_at_adoption() -> Option<Stop> {
    stop(When::After, "adopt", "adapter")
}

/// Waits until all four have joined round 1, for which the slow one holds its advert back.
fn all_joined(federation: &mut Federation) {
    (0..4).for_each(|i| drop(federation.silo(i).line(|line| line == "done journal:joined:1")));
    federation.silo(SLOW).resume();
}

/// Nothing that it could still contradict is missing: it goes on like any silo that was killed there. Where the round is
/// adopted, that is so for a vote which is in no certificate, too.
#[test]
fn sa07_a_silo_restored_to_a_copy_that_holds_all_that_counts_goes_on() {
    let late = ("journal-masked-1", true);
    for (label, late_vote) in
        [("journal-committed-1", false), ("journal-result-1", false), ("journal-adopted-1", false), late]
    {
        let mut federation = restored_after_round_1(Some(label), late_vote);
        federation.silo(SOUTH).line(|line| line == "done send:advert:2");
        federation.silo(SLOW).resume();
        finish(&mut federation, &SILOS);
    }
}

/// South has advertised; then every process dies, before (`peers_know` false) or after the peers have noted its mark.
fn restored_in_the_first_attempt(peers_know: bool) -> Federation {
    let mut federation = Federation::new(PROGRAMS, terms());
    federation.start(SOUTH, Start { stop: stop(When::After, "send", "shares"), copies: true, ..Start::default() });
    federation.silo(SOUTH).line(|line| line == "done send:hello:0");
    let when = if peers_know { When::After } else { When::Before };
    for i in PEERS {
        let pauses = if i == SLOW { vec![Pause::new("advert", 1)] } else { Vec::new() };
        federation.start(i, Start { pauses, stop: stop(when, "journal", "peers"), ..Start::default() });
    }
    all_joined(&mut federation);
    for i in [0, 1, SOUTH, 3] {
        assert!(federation.take(i).killed().is_some(), "{} dies in the first attempt", SILOS[i]);
    }
    put_back(&federation, Some("journal-begin-0"));
    federation
}

#[test]
fn sa07_where_no_peer_remembers_the_coordinator_does() {
    let mut federation = restored_in_the_first_attempt(false);
    (0..4).for_each(|i| federation.start(i, Start::default()));
    let (code, said) = federation.take(SOUTH).end();
    assert_eq!(code, 6, "{said}");
    assert!(said.contains("its journal went backwards"), "{said}");
    federation.finish();
    let rounds = expect::check(&federation.site);
    assert_eq!(rounds, [WITHOUT_SOUTH, WITHOUT_SOUTH]);
    let broken = promises::contradictions(&federation.received());
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The coordinator cannot know, and begins one attempt after the other; the peers take part in none, and say whose fault
/// it is. Once its operator has stopped the silo, the others go on.
#[test]
fn sa07_where_the_coordinators_store_is_new_the_peers_remember() {
    let mut federation = restored_in_the_first_attempt(true);
    *federation.coordinator() = None;
    std::fs::remove_dir_all(federation.site.path("state-coordinator")).unwrap();
    federation.start_coordinator();
    (0..4).for_each(|i| federation.start(i, Start::default()));
    for i in PEERS {
        for attempt in [2, 3, 4] {
            let attempt = format!("\"round 1 attempt {attempt}: ");
            let named = "silo 2: its journal went backwards";
            federation.silo(i).line(|line| {
                line.contains("\"event\":\"misbehaviour\"") && line.contains(&attempt) && line.contains(named)
            });
        }
    }
    assert!(!federation.received().iter().any(|r| matches!(r.message, SiloMessage::MaskedInput { .. })));
    federation.take(SOUTH).kill();
    federation.finish();
    let rounds = expect::check(&federation.site);
    assert_eq!(rounds, [WITHOUT_SOUTH, WITHOUT_SOUTH]);
}
