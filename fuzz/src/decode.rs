//! The decoders of what travels and of what is kept: nothing panics, and what is accepted encodes to the same bytes.

use std::fmt::Debug;
use std::sync::Arc;

use blindsum_crypto::{IdentityKey, Roster, SiloId, packing};
use blindsum_protocol::coordinator::{CoordinatorMachine, CoordinatorSetup, StoreRecord, StoreState};
use blindsum_protocol::limits::Wire;
use blindsum_protocol::silo::{JournalEntry, JournalState, SiloMachine, SiloSetup};
use blindsum_protocol::{CoordinatorMessage, Envelope, Job, JobFile, Plan, RoundKind, SiloMessage, codec};
use serde::{Serialize, de::DeserializeOwned};

use crate::input::Input;
use crate::world::World;

/// A control message of a silo.
pub fn silo_message(bytes: &[u8]) {
    if let Some(message) = message::<SiloMessage>(bytes) {
        assert_eq!(message.at().is_none(), message.name() == "hello");
    }
}

/// A control message of the coordinator.
pub fn coordinator_message(bytes: &[u8]) {
    message::<CoordinatorMessage>(bytes);
}

fn message<M: Wire + PartialEq + Debug + Clone>(bytes: &[u8]) -> Option<M> {
    let limits = &World::get(false).limits;
    let message = match M::decode(bytes, limits) {
        Ok(message) => message,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            return None;
        }
    };
    assert!(bytes.len() <= M::max_len(limits), "SA-12: longer than any message of this job");
    canonical(&message, bytes);
    match message.payload_len(limits) {
        Ok(Some(length)) => {
            assert!(length <= M::max_payload(limits));
            let with = |length| Envelope::with(message.clone(), Arc::new(vec![0; length])).check_payload(limits);
            assert!(with(length).is_ok() && with(length + 1).is_err() && with(length - 1).is_err());
        }
        Ok(None) => Envelope::bare(message.clone()).check_payload(limits).expect("nothing is expected, nothing came"),
        Err(e) => assert_eq!(Envelope::bare(message.clone()).check_payload(limits), Err(e)),
    }
    Some(message)
}

/// Decoded and encoded again: the same bytes, and as many as were announced.
fn canonical<T: Serialize>(value: &T, bytes: &[u8]) {
    assert_eq!(codec::encode(value).unwrap(), bytes, "two encodings of one value");
    assert_eq!(codec::encoded_len(value), bytes.len() as u64);
}

fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value = codec::decode(bytes, 1 << 20).ok()?;
    canonical(&value, bytes);
    Some(value)
}

/// A silo's journal: entries in pieces, replayed, and a machine made from what they add up to.
pub fn journal(bytes: &[u8]) {
    let mut input = Input(bytes);
    let head = input.byte();
    let (world, me) = (World::get(head & 1 != 0), SiloId(u16::from(head >> 1 & 3)));
    let mut entries = Vec::new();
    while !input.is_empty() {
        let Some(entry) = decode::<JournalEntry>(input.piece()) else { return };
        entries.push(entry);
    }
    let Ok(journal) = JournalState::replay(&entries) else { return };
    assert_eq!((journal.len(), journal.is_empty()), (entries.len() as u64, entries.is_empty()));
    let config = SiloSetup {
        me,
        identity: IdentityKey::from_bytes(&world.setup.seeds[me.index()]),
        roster: Arc::clone(&world.setup.roster),
        plan: Arc::clone(world.plan()),
        journal,
        held: None,
    };
    let Ok(mut machine) = SiloMachine::new(config, blindsum_testkit::boxed_rng(1), 0) else { return };
    machine.handle_connected(1);
    machine.handle_timeout(u64::MAX / 2);
    assert!(machine.poll_timeout().is_none_or(|at| at > u64::MAX / 2), "a silo's timer does not move on");
    let mut outputs = 0;
    while machine.poll_output().is_some() {
        outputs += 1;
    }
    assert!(outputs <= 16, "{outputs} outputs from a silo that nobody has spoken to");
}

/// The coordinator's store: records in pieces, replayed, and a machine made from what they add up to.
pub fn store(bytes: &[u8]) {
    let mut input = Input(bytes);
    let world = World::get(input.byte() & 1 != 0);
    let mut records = Vec::new();
    while !input.is_empty() {
        let Some(record) = decode::<StoreRecord>(input.piece()) else { return };
        records.push(record);
    }
    let Ok(store) = StoreState::replay(records) else { return };
    let (roster, plan) = (Arc::clone(&world.setup.roster), Arc::clone(world.plan()));
    let Ok(mut machine) = CoordinatorMachine::new(CoordinatorSetup { roster, plan, store }, 0) else { return };
    machine.handle_timeout(1 << 40);
    assert!(machine.poll_timeout().is_none_or(|at| at > 1 << 40), "the coordinator's timer does not move on");
    let mut outputs = 0;
    while machine.poll_output().is_some() {
        outputs += 1;
    }
    assert!(outputs <= 32, "{outputs} outputs from a coordinator that nobody has spoken to");
}

/// A packed vector under parameters of its own: what is accepted packs to the same bytes.
pub fn packed(bytes: &[u8]) {
    use blindsum_crypto::{Params, Quorum, Segment, SegmentKind};
    let mut input = Input(bytes);
    let count = input.byte() % 4;
    let segment = |i: u8, input: &mut Input<'_>| Segment {
        name: format!("s{i}"),
        length: u32::from(input.word() % 1024),
        ring_bits: input.byte(),
        kind: SegmentKind::Counts { max_value: 0 },
    };
    let params = Params {
        segments: (0..count).map(|i| segment(i, &mut input)).collect(),
        quorum: Quorum::derive(3, None, None).unwrap(),
        noise: false,
        verify_sum: blindsum_crypto::VerifySum::Off,
        training_deadline_ms: 1,
        phase_deadline_ms: 1,
    };
    let sound = params.segments.iter().all(|s| s.length > 0 && (1..=32).contains(&s.ring_bits));
    assert!(sound || params.check().is_err(), "parameters that no packed vector can have");
    if !sound {
        return;
    }
    let bytes = input.rest();
    let mut acc: Vec<u32> = (0..params.lanes() as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let before = acc.clone();
    match packing::unpack(&params, bytes) {
        Ok(lanes) => {
            assert_eq!(packing::pack(&params, &lanes).unwrap(), bytes);
            packing::add_packed(&params, bytes, &mut acc).unwrap();
            let sum: Vec<u32> = before.iter().zip(&lanes).map(|(a, b)| a.wrapping_add(*b)).collect();
            assert_eq!(acc, sum);
        }
        Err(e) => {
            assert_eq!(packing::check(&params, bytes), Err(e));
            assert_eq!(packing::add_packed(&params, bytes, &mut acc), Err(e));
            assert_eq!(acc, before, "a refused vector was added in part");
        }
    }
}

/// The files that people write: roster and job, and the plan that they lead to.
pub fn texts(bytes: &[u8]) {
    let mut input = Input(bytes);
    let what = input.byte();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    if what & 1 == 0 {
        let Ok(roster) = toml::from_str::<Roster>(text) else { return };
        assert!((3..=1000).contains(&roster.len()));
        let again: Roster = toml::from_str(&toml::to_string(&roster).unwrap()).unwrap();
        assert_eq!((again.hash(), &again), (roster.hash(), &roster));
        let encoded = codec::encode(&roster).unwrap();
        assert_eq!(decode::<Roster>(&encoded).unwrap(), roster);
        return;
    }
    let Ok(job) = toml::from_str::<Job>(text) else { return };
    let file = JobFile::from(job.clone());
    let again: Job = toml::from_str(&toml::to_string(&file).unwrap()).unwrap();
    assert_eq!((again.digest(), &again), (job.digest(), &job));
    let shape = crate::adapter::shape();
    let Ok(layout) = blindsum_adapter::AdapterLayout::new(shape, &job.lora, job.model.task()) else { return };
    let world = World::get(false);
    if layout.len() > 1 << 16 {
        return;
    }
    let Ok(plan) = Plan::derive(&job, &world.setup.roster, &layout) else { return };
    for round in [0, 1, job.rounds, job.rounds + 1, u32::MAX] {
        let params = plan.params(plan.kind(round).unwrap_or(RoundKind::Evaluate));
        params.check().expect("a plan's parameters are sound (SA-10)");
    }
}
