//! What the coordinator received, message by message, written down as it arrives: what really left the silos.
//!
//! ```text
//! per message: length u32 LE | bincode of (silo, number of the connection, message, payload)
//! ```
//! Contract: a record is written with one call before the coordinator acts on the message, so that whoever sees the effect
//! of a message finds its record too.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use blindsum_coordinator::Tap;
use blindsum_crypto::SiloId;
use blindsum_protocol::codec;
use blindsum_protocol::message::{Envelope, SiloMessage};
use serde::{Deserialize, Serialize};

/// The longest record that is read.
const MAX: usize = 16 << 20;

/// A message as received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// Who sent it, by its certificate.
    pub silo: SiloId,
    /// Number of its connection: higher for a later one.
    pub link: u64,
    /// The message.
    pub message: SiloMessage,
    /// A masked input.
    pub payload: Option<Vec<u8>>,
}

/// A tap that appends to the file `path`.
pub fn write_to(path: &Path) -> Tap {
    let file = Mutex::new(OpenOptions::new().append(true).create(true).open(path).unwrap());
    Arc::new(move |silo, link, envelope: &Envelope<SiloMessage>| {
        let payload = envelope.payload.as_ref().map(|payload| payload.to_vec());
        let received = Received { silo, link, message: envelope.message.clone(), payload };
        let body = codec::encode(&received).unwrap();
        let mut record = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        record.extend(body);
        file.lock().unwrap().write_all(&record).unwrap();
    })
}

/// What is in the file so far; nothing where there is none yet.
pub fn read(path: &Path) -> Vec<Received> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        // the last record may be on its way
        let Some((body, tail)) = tail.split_at_checked(length) else { break };
        all.push(codec::decode(body, MAX).unwrap());
        rest = tail;
    }
    all
}
