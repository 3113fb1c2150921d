//! What a silo promised, over all the lives of its process: what the coordinator received, held against the journal.
//!
//! Contract: every function returns what is broken, in words, so that a test can also ask that something is. SA-06, SA-07,
//! SA-13 and SA-15 are looked at from outside: nothing here trusts the machine that it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blindsum_crypto::SiloId;
use blindsum_protocol::codec;
use blindsum_protocol::message::{AttemptId, SiloMessage};
use blindsum_protocol::silo::{JournalEntry, JournalState};
use blindsum_silo::journal::{JournalFile, MAX_BODY};

use crate::tap::Received;

/// Bytes of a record of the journal besides its body: length, check, chain.
const FRAME: u64 = 4 + 8 + 32;

/// A journal as it lies on the disk; the file itself stays as it is.
///
/// # Panics
/// If it is damaged beyond a torn tail.
pub fn journal(state: &Path) -> Vec<JournalEntry> {
    let beside = tempfile::tempdir().unwrap();
    let copy = beside.path().join("journal");
    // a process that was killed before it made one left none
    let Ok(_) = std::fs::copy(state.join("journal"), &copy) else { return Vec::new() };
    let opened = JournalFile::open(&copy).unwrap();
    opened.bodies.iter().map(|body| codec::decode(body, MAX_BODY).unwrap()).collect()
}

/// What nobody may see of any silo, whatever crashed: two different adverts, dealings, masked inputs, votes, reveals or
/// sketches in one attempt, two results of one round (SA-07); both shares of one peer (SA-06); a key twice (SA-15).
pub fn contradictions(received: &[Received]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut once: BTreeMap<(SiloId, &str, u32, u32), BTreeSet<Vec<u8>>> = BTreeMap::new();
    let mut keys: BTreeMap<[u8; 32], BTreeSet<(SiloId, AttemptId)>> = BTreeMap::new();
    let mut kinds: BTreeMap<(SiloId, AttemptId, SiloId), BTreeSet<String>> = BTreeMap::new();
    for Received { silo, message, payload, .. } in received {
        let Some(at) = message.at() else { continue };
        let what = match message {
            SiloMessage::Commit { .. } | SiloMessage::Abandon { .. } => "vote",
            SiloMessage::Sketch { sketch: None, .. } | SiloMessage::Decline { .. } | SiloMessage::Complaint { .. } => {
                continue;
            }
            SiloMessage::ResultVote { .. } => "result vote",
            message => message.name(),
        };
        let attempt = if what == "result vote" { 0 } else { at.attempt };
        let mut bytes = codec::encode(message).unwrap();
        bytes.extend(payload.iter().flatten());
        once.entry((*silo, what, at.round, attempt)).or_default().insert(bytes);
        if let SiloMessage::Advert { advert, .. } = message {
            for key in [advert.channel_key, advert.mask_key] {
                keys.entry(key).or_default().insert((*silo, at));
            }
        }
        if let SiloMessage::Reveal { reveal, .. } = message {
            for share in &reveal.shares {
                kinds.entry((*silo, at, share.peer())).or_default().insert(format!("{:?}", share.kind()));
            }
        }
    }
    for ((silo, what, round, attempt), different) in once {
        if different.len() > 1 {
            let count = different.len();
            broken
                .push(format!("SA-07: silo {silo} sent {count} different {what}s in round {round} attempt {attempt}"));
        }
    }
    for who in keys.values().filter(|who| who.len() > 1) {
        broken.push(format!("SA-15: a key was advertised more than once: {who:?}"));
    }
    for ((silo, at, peer), kinds) in kinds.iter().filter(|(_, kinds)| kinds.len() > 1) {
        broken.push(format!("SA-06: silo {silo} revealed both shares of silo {peer} in {at}: {kinds:?}"));
    }
    broken
}

/// What `silo` sent, but its journal does not hold: journal first, then send.
pub fn not_journaled<'a>(
    silo: SiloId,
    received: impl IntoIterator<Item = &'a Received>,
    journal: &[JournalEntry],
) -> Vec<String> {
    let mut broken = Vec::new();
    for Received { message, .. } in received.into_iter().filter(|r| r.silo == silo) {
        let held = match message {
            SiloMessage::Hello(_) | SiloMessage::Decline { .. } => true,
            SiloMessage::Advert { at, advert } => {
                // the mark that it shows is that of its journal with this attempt joined
                let upto = usize::try_from(advert.journal().length).unwrap();
                let prefix = journal.get(..upto).and_then(|entries| JournalState::replay(entries).ok());
                prefix.is_some_and(|state| state.head() == advert.journal().head)
                    && matches!(journal[upto - 1], JournalEntry::Joined { at: joined } if joined == *at)
            }
            SiloMessage::Shares { at, .. } | SiloMessage::Complaint { at, .. } => {
                let joined = journal.iter().position(|e| matches!(e, JournalEntry::Joined { at: a } if a == at));
                joined.is_some_and(|i| journal[i..].iter().any(|e| matches!(e, JournalEntry::Peers { .. })))
            }
            SiloMessage::MaskedInput { at, .. } => {
                journal.iter().any(|e| matches!(e, JournalEntry::Masked { at: a } if a == at))
            }
            SiloMessage::Commit { at, vote } => journal
                .iter()
                .any(|e| matches!(e, JournalEntry::Committed { at: a, vote: v, .. } if a == at && v == vote)),
            // the reply is the last field of what the journal keeps
            SiloMessage::Reveal { at, reveal } => {
                let reveal = codec::encode(reveal).unwrap();
                let holds = |e: &JournalEntry| match e {
                    JournalEntry::Committed { at: a, reply, .. } => {
                        a == at && codec::encode(reply).unwrap().ends_with(&reveal)
                    }
                    _ => false,
                };
                journal.iter().any(holds)
            }
            // says nothing that the masked input does not say
            SiloMessage::Sketch { at, .. } => {
                matches!(message, SiloMessage::Sketch { sketch: None, .. })
                    || journal.iter().any(|e| matches!(e, JournalEntry::Committed { at: a, .. } if a == at))
            }
            SiloMessage::Abandon { at, vote } => {
                journal.iter().any(|e| matches!(e, JournalEntry::Abandoned { at: a, vote: v } if a == at && v == vote))
            }
            SiloMessage::ResultVote { at, vote } => {
                journal.iter().any(|e| matches!(e, JournalEntry::Result { at: a, vote: v, .. } if a == at && v == vote))
            }
        };
        if !held {
            let (name, at) = (message.name(), message.at().map_or_else(String::new, |at| at.to_string()));
            broken.push(format!("SA-07: silo {silo} sent a {name} of {at} that its journal does not hold"));
        }
    }
    broken
}

/// What a restarted silo did in an attempt of an earlier life besides repeating what its journal held at the crash.
/// `later` is what it sent since.
pub fn not_repeated(at_crash: &[JournalEntry], later: &[&Received]) -> Vec<String> {
    let mut joined: BTreeSet<AttemptId> = BTreeSet::new();
    let mut committed: BTreeSet<AttemptId> = BTreeSet::new();
    let mut abandoned: BTreeSet<AttemptId> = BTreeSet::new();
    for entry in at_crash {
        match entry {
            JournalEntry::Joined { at } => drop(joined.insert(*at)),
            JournalEntry::Committed { at, .. } => drop(committed.insert(*at)),
            JournalEntry::Abandoned { at, .. } => drop(abandoned.insert(*at)),
            _ => {}
        }
    }
    let mut broken = Vec::new();
    for Received { silo, message, .. } in later {
        let Some(at) = message.at().filter(|at| joined.contains(at)) else { continue };
        let fair = match message {
            SiloMessage::Hello(_)
            | SiloMessage::Decline { .. }
            | SiloMessage::Sketch { sketch: None, .. }
            | SiloMessage::ResultVote { .. } => true,
            SiloMessage::Commit { .. } | SiloMessage::Reveal { .. } | SiloMessage::Sketch { .. } => {
                committed.contains(&at)
            }
            SiloMessage::Abandon { .. } => abandoned.contains(&at),
            SiloMessage::Advert { .. }
            | SiloMessage::Shares { .. }
            | SiloMessage::Complaint { .. }
            | SiloMessage::MaskedInput { .. } => false,
        };
        if !fair {
            let name = message.name();
            broken
                .push(format!("SA-07: silo {silo} was restarted and still sent a {name} in {at} of its earlier life"));
        }
    }
    broken
}

/// Bytes of the last record of a journal.
///
/// # Panics
/// If it holds none.
pub fn last_record(state: &Path) -> u64 {
    let record = |entry: &JournalEntry| FRAME + codec::encode(entry).unwrap().len() as u64;
    journal(state).last().map(record).unwrap()
}
