//! What the harness does at the seams of the silo's agent: records updates and adapters in clear, and pauses.
//!
//! Contract: a record is whole once it has its name (written beside and renamed). A pause blocks the agent's output loop
//! before the named output is executed: what came before has been handed to the connection, nothing after.

use std::path::{Path, PathBuf};

use blindsum_protocol::message::AttemptId;
use blindsum_protocol::silo::{LocalUpdate, SiloOutput, TrainRequest};
use blindsum_silo::agent::Seams;

/// A step before which a silo pauses, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The message about to be sent, as [`blindsum_protocol::SiloMessage::name`] calls it.
    pub before: String,
    /// In this round.
    pub round: u32,
}

impl Pause {
    /// Before the message `before` of round `round`.
    pub fn new(before: &str, round: u32) -> Self {
        Self { before: before.into(), round }
    }
}

impl std::str::FromStr for Pause {
    type Err = String;

    /// `masked-input:1`
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(before, round)| Some((before, round.parse().ok()?)));
        parts.map(|(before, round)| Self::new(before, round)).ok_or_else(|| "use MESSAGE:ROUND".into())
    }
}

/// What a silo tells its harness, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Milestone {
    /// Trained (or measured) in this round; the update is on record.
    Trained(u32),
    /// About to send this message of this round, and pausing.
    Paused(String, u32),
    /// Adopted the result of this round; the adapter is on record.
    Adopted(u32),
}

impl std::fmt::Display for Milestone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Milestone::Trained(round) => write!(f, "trained {round}"),
            Milestone::Paused(before, round) => write!(f, "paused {before} {round}"),
            Milestone::Adopted(round) => write!(f, "adopted {round}"),
        }
    }
}

/// The harness's seams. `tell` gets each milestone and returns when the silo may go on.
pub struct HarnessSeams {
    record: PathBuf,
    pauses: Vec<Pause>,
    tell: Box<dyn FnMut(Milestone) + Send>,
}

impl HarnessSeams {
    /// Records into `record`.
    pub fn new(record: &Path, pauses: Vec<Pause>, tell: impl FnMut(Milestone) + Send + 'static) -> Self {
        Self { record: record.to_owned(), pauses, tell: Box::new(tell) }
    }

    fn pause(&mut self, name: &str, at: AttemptId) {
        if let Some(found) = self.pauses.iter().position(|p| p.before == name && p.round == at.round) {
            let pause = self.pauses.remove(found);
            (self.tell)(Milestone::Paused(pause.before, pause.round));
        }
    }
}

impl Seams for HarnessSeams {
    fn before(&mut self, output: &SiloOutput) {
        match output {
            SiloOutput::Send(envelope) => {
                if let Some(at) = envelope.message.at() {
                    self.pause(envelope.message.name(), at);
                }
            }
            SiloOutput::Adopt(adoption) => {
                write(&self.record, &adopted(adoption.at.round), &adoption.global);
                (self.tell)(Milestone::Adopted(adoption.at.round));
            }
            _ => {}
        }
    }

    fn local_update(&mut self, request: &TrainRequest, update: &mut LocalUpdate) {
        write(&self.record, &updated(request.at.round), &update.update);
        (self.tell)(Milestone::Trained(request.at.round));
    }
}

/// Name of the record of a round's update.
pub fn updated(round: u32) -> String {
    format!("update-{round}.f32")
}

/// Name of the record of the adapter after a round.
pub fn adopted(round: u32) -> String {
    format!("adopted-{round}.f32")
}

fn write(dir: &Path, name: &str, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let beside = dir.join(format!("{name}.partial"));
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(&beside, dir.join(name)).unwrap();
}

/// Reads a record; `None` where there is none.
pub fn read(dir: &Path, name: &str) -> Option<Vec<f32>> {
    let bytes = std::fs::read(dir.join(name)).ok()?;
    Some(bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
}
