//! What two real jobs send and keep: one in which all goes well, one in which a silo is lost after its shares and another
//! attempt is abandoned.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::StoreRecord;
use blindsum_protocol::{CoordinatorMessage, SiloMessage, codec};
use blindsum_testkit::cluster::{Cluster, KillWhen};
use blindsum_testkit::{DP, NONE, Setup, job_text};

use super::Seed;
use crate::input::piece;
use crate::{verify, world::SILOS};

/// Everything that these targets start from.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, private) in [("honest", false), ("lossy", true)] {
        let mut cluster = Cluster::new(Setup::new(SILOS, &job_text(1, if private { DP } else { NONE }, "held-out")));
        let up: Rc<RefCell<BTreeMap<String, SiloMessage>>> = Rc::default();
        let down: Rc<RefCell<BTreeMap<String, CoordinatorMessage>>> = Rc::default();
        let (up_seen, down_seen) = (Rc::clone(&up), Rc::clone(&down));
        cluster.up = Box::new(move |silo, envelope| {
            // one COMMIT is held back once, so that the first attempt is abandoned
            let first =
                up_seen.borrow_mut().insert(envelope.message.name().to_owned(), envelope.message.clone()).is_none();
            let lost = private && first && silo == SiloId(0) && envelope.message.name() == "masked-input";
            if lost { Vec::new() } else { vec![envelope] }
        });
        cluster.down = Box::new(move |_, envelope| {
            let certified = matches!(&envelope.message, CoordinatorMessage::Result(r) if r.certificate.is_some());
            let proven = matches!(&envelope.message, CoordinatorMessage::Open(o) if !o.abandoned.is_empty());
            let kind = if certified || proven { "-certified" } else { "" };
            down_seen.borrow_mut().insert(format!("{}{kind}", envelope.message.name()), envelope.message.clone());
            vec![envelope]
        });
        if private {
            let when = |message: &SiloMessage| matches!(message, SiloMessage::Shares { .. });
            cluster.kill_when = Some(KillWhen { silo: SiloId(3), when, delivered: true });
        }
        cluster.run(600_000);
        for (kind, message) in up.borrow().iter() {
            seeds.push(("silo_message", format!("{name}-{kind}"), codec::encode(message).unwrap()));
        }
        for (kind, message) in down.borrow().iter() {
            seeds.push(("coordinator_message", format!("{name}-{kind}"), codec::encode(message).unwrap()));
        }
        for silo in [0u8, 3] {
            let head = u8::from(private) | silo << 1;
            let entries = &cluster.silos[usize::from(silo)].journal;
            seeds.push(("journal", format!("{name}-{silo}"), pieces(head, entries)));
            seeds.push(("journal", format!("{name}-{silo}-half"), pieces(head, &entries[..entries.len() / 2])));
        }
        seeds.extend(stores(name, u8::from(private), &cluster.store));
    }
    for (i, evidence) in crate::evidence::genuine().iter().enumerate() {
        seeds.push(("evidence", format!("raw-{i}"), [vec![0], codec::encode(evidence).unwrap()].concat()));
        seeds.push(("evidence", format!("altered-{i}"), vec![1, i as u8, 3, i as u8 * 5, 1]));
    }
    for check in 0..verify::CHECKS {
        for (whose, tamper) in [(0, [0, 0, 0]), (2, [3, 1, 5]), (1, [1, 0, 2])] {
            let bytes = [&[check][..], &tamper, &[whose, 1]].concat();
            seeds.push(("verify", format!("check-{check:02}-{whose}"), bytes));
        }
    }
    seeds
}

fn pieces(head: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![head];
    records.iter().for_each(|record| bytes.extend(piece(record)));
    bytes
}

/// The store as it was after each kind of record.
fn stores(name: &str, head: u8, records: &[Vec<u8>]) -> Vec<Seed> {
    let mut seen = BTreeSet::new();
    let mut seeds = Vec::new();
    for (i, record) in records.iter().enumerate() {
        let record: StoreRecord = codec::decode(record, 1 << 24).unwrap();
        let kind =
            format!("{record:?}").chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
        if seen.insert(kind.clone()) {
            seeds.push(("store", format!("{name}-{kind}"), pieces(head, &records[..=i])));
        }
    }
    seeds.push(("store", format!("{name}-end"), pieces(head, records)));
    seeds
}
