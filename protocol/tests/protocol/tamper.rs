//! Messages flipped, cut, repeated and replayed on the way: nothing panics, nobody contradicts itself, sums stay exact, and
//! one silo's bad line costs the others nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use blindsum_crypto::{Context, SiloId};
use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::message::Open;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, RoundKind, SiloMessage, codec};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

const VICTIM: SiloId = SiloId(1);

fn cluster(n: u16, rounds: u32, privacy: &str) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(rounds, privacy, "held-out")))
}

/// Flips one bit of the message's encoding; nothing if the result is no message (the transport then closes).
fn flip<M: Wire>(envelope: &Envelope<M>, share: f64, limits: &Limits) -> Vec<Envelope<M>> {
    let mut bytes = codec::encode(&envelope.message).unwrap();
    let place = ((bytes.len() - 1) as f64 * share) as usize;
    bytes[place] ^= 1 << (place % 8);
    match M::decode(&bytes, limits) {
        Ok(message) => vec![Envelope { message, payload: envelope.payload.clone() }],
        Err(_) => vec![],
    }
}

fn places() -> impl Iterator<Item = f64> {
    (0..=20).map(|i| f64::from(i) / 20.0)
}

#[test]
fn a_silos_messages_with_one_bit_flipped_cost_nobody_else_the_round() {
    let names = ["hello", "advert", "shares", "masked-input", "commit", "reveal", "result-vote"];
    for name in names {
        for place in places() {
            let mut cluster = cluster(4, 1, DP);
            let limits = cluster.limits.clone();
            let mut done = false;
            cluster.up = Box::new(move |silo, envelope| {
                if silo == VICTIM && envelope.message.name() == name && !done {
                    done = true;
                    return flip(&envelope, place, &limits);
                }
                vec![envelope]
            });
            cluster.run(300_000);
            checks::check(&cluster);
            assert_eq!(cluster.reports.len(), 2, "{name} flipped at {place}: {:?}", cluster.last_events());
            assert_eq!(cluster.reports[0].attempt, 1, "{name} flipped at {place} cost the others an attempt");
        }
    }
}

#[test]
fn the_coordinators_messages_to_one_silo_with_one_bit_flipped_cost_nobody_else_the_round() {
    let names = ["open", "adverts", "shares", "commit-request", "reveal-request", "result", "certified"];
    for name in names {
        for place in places() {
            let mut cluster = cluster(4, 1, DP);
            let limits = cluster.limits.clone();
            let mut done = false;
            cluster.down = Box::new(move |silo, envelope| {
                if silo == VICTIM && envelope.message.name() == name && !done {
                    done = true;
                    return flip(&envelope, place, &limits);
                }
                vec![envelope]
            });
            cluster.run(300_000);
            checks::check(&cluster);
            assert_eq!(cluster.reports.len(), 2, "{name} flipped at {place}: {:?}", cluster.last_events());
        }
    }
}

#[test]
fn sa04_a_masked_input_flipped_cut_or_lengthened_is_left_out() {
    for change in 0..4 {
        let mut cluster = cluster(4, 1, NONE);
        cluster.up = Box::new(move |silo, mut envelope| {
            if let (VICTIM, Some(payload)) = (silo, &envelope.payload) {
                let mut y = payload.to_vec();
                match change {
                    0 => y[5] ^= 4,
                    1 => y.truncate(y.len() - 1),
                    2 => y.push(0),
                    _ => y.clear(),
                }
                envelope.payload = Some(Arc::new(y));
            }
            vec![envelope]
        });
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(cluster.reports[0].dropped, [VICTIM]);
    }
}

#[test]
fn every_message_delivered_twice_changes_nothing() {
    let mut cluster = cluster(5, 2, NONE);
    cluster.up = Box::new(|_, envelope| vec![envelope.clone(), envelope]);
    cluster.down = Box::new(|_, envelope| vec![envelope.clone(), envelope]);
    cluster.finish();
    checks::check(&cluster);
    assert!(cluster.reports.iter().all(|r| r.attempt == 1 && r.survivors.len() == 5));
}

#[test]
fn messages_replayed_from_earlier_phases_and_rounds_change_nothing() {
    let mut cluster = cluster(4, 3, NONE);
    let old_up: RefCell<Vec<(SiloId, Envelope<SiloMessage>)>> = RefCell::default();
    let old_down: RefCell<Vec<(SiloId, Envelope<CoordinatorMessage>)>> = RefCell::default();
    let mut count = 0usize;
    cluster.up = Box::new(move |silo, envelope| {
        count += 1;
        let mut old = old_up.borrow_mut();
        old.push((silo, envelope.clone()));
        // an older message of the same silo goes ahead of each new one
        let own: Vec<_> = old.iter().filter(|(s, e)| *s == silo && !is_hello(&e.message)).collect();
        let replay = own.get(count * 7 % own.len().max(1)).map(|(_, e)| e.clone());
        let newest = envelope.message.at();
        replay.into_iter().filter(|e| e.message.at() < newest).chain([envelope]).collect()
    });
    cluster.down = Box::new(move |silo, envelope| {
        let mut old = old_down.borrow_mut();
        old.push((silo, envelope.clone()));
        let own: Vec<_> = old.iter().filter(|(s, _)| *s == silo).collect();
        let replay = own[(own.len() * 5) % own.len().max(1)].1.clone();
        vec![replay, envelope]
    });
    cluster.finish();
    checks::check(&cluster);
    assert_eq!(cluster.reports.len(), 4);
}

#[test]
fn a_message_in_another_silos_name_is_blamed_on_its_sender() {
    for name in ["advert", "shares", "masked-input", "commit", "reveal", "result-vote"] {
        let mut cluster = cluster(4, 1, DP);
        let stolen: Rc<RefCell<Option<Envelope<SiloMessage>>>> = Rc::default();
        let keep = Rc::clone(&stolen);
        cluster.up = Box::new(move |silo, envelope| {
            if envelope.message.name() != name {
                return vec![envelope];
            }
            if silo == SiloId(0) {
                keep.borrow_mut().get_or_insert(envelope.clone());
            }
            match (silo, keep.borrow_mut().take_if(|_| silo == VICTIM)) {
                (VICTIM, Some(other)) => vec![other],
                _ => vec![envelope],
            }
        });
        cluster.run(300_000);
        checks::check(&cluster);
        assert_eq!(cluster.reports.len(), 2, "{name}: {:?}", cluster.last_events());
        let blamed: BTreeSet<SiloId> = cluster
            .coordinator_events
            .iter()
            .filter_map(|e| match e {
                blindsum_protocol::coordinator::CoordinatorEvent::Misbehaviour(silo, _) => Some(*silo),
                _ => None,
            })
            .collect();
        assert_eq!(blamed, BTreeSet::from([VICTIM]), "{name}");
    }
}

#[test]
fn sa12_a_federation_id_longer_than_a_name_is_no_message() {
    let context = |length: usize| {
        let setup = Setup::new(4, &job_text(1, NONE, "held-out"));
        let (at, digest) = (AttemptId { round: 1, attempt: 1 }, setup.plan.job_digest());
        let context = setup.plan.context(at, RoundKind::TrainB, digest, digest);
        let context = Context { federation_id: "f".repeat(length), ..context };
        let open = CoordinatorMessage::Open(Open { context, abandoned: Vec::new() });
        CoordinatorMessage::decode(&codec::encode(&open).unwrap(), &Limits::new(&setup.plan))
    };
    assert!(context(63).is_ok());
    assert!(context(64).is_err());
}

fn is_hello(message: &SiloMessage) -> bool {
    matches!(message, SiloMessage::Hello(_))
}
