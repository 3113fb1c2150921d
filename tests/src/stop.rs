//! Names for the outputs of a silo's machine, and the points at which a test stops a silo with SIGKILL.
//!
//! ```text
//! journal:committed:2   send:commit:2   adopt:2   train:1   work:mask:1      the machine's output, and its round
//! before:…              its execution has not begun
//! after:…               it is executed: fsynced, or handed to the connection; whether a message leaves is left to chance
//! arrived:…             executed, and the process lives until the harness has seen the message at the coordinator
//! ```
//! Contract: the list of points comes from a run without a stop, so that a change of the protocol changes the list.

use blindsum_protocol::message::SiloMessage;
use blindsum_protocol::silo::{JournalEntry, SiloOutput};

/// An output of the machine: kind, name and round (`journal:joined:1`). For `send:hello:…` the number is that of results
/// held; entries without a round have that of the attempt joined last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// journal, send, adopt, train, work or finished
    pub kind: String,
    /// The entry's, message's or work's name.
    pub name: String,
    /// Its round.
    pub round: u32,
}

impl Label {
    /// A label.
    pub fn new(kind: &str, name: &str, round: u32) -> Self {
        Self { kind: kind.into(), name: name.into(), round }
    }

    /// Names an output; `round` is that of the attempt joined last, kept up here. Events have no name.
    pub fn of(output: &SiloOutput, round: &mut u32) -> Option<Self> {
        Some(match output {
            SiloOutput::Journal(entry) => {
                let (name, at) = journaled(entry);
                if let JournalEntry::Joined { at } = entry {
                    *round = at.round;
                }
                Self::new("journal", name, at.unwrap_or(*round))
            }
            SiloOutput::Send(envelope) => {
                let of = match &envelope.message {
                    SiloMessage::Hello(hello) => hello.results_held,
                    message => message.at().map_or(0, |at| at.round),
                };
                Self::new("send", envelope.message.name(), of)
            }
            SiloOutput::Adopt(adoption) => Self::new("adopt", "adapter", adoption.at.round),
            SiloOutput::Train(request) => Self::new("train", "update", request.at.round),
            SiloOutput::Work(work) => Self::new("work", work.name(), *round),
            SiloOutput::Finished => Self::new("finished", "job", *round),
            SiloOutput::Event(_) | SiloOutput::Disconnect(_) => return None,
        })
    }

    /// Whether it is a journal entry.
    pub fn is_journal(&self) -> bool {
        self.kind == "journal"
    }

    /// Whether it is a message.
    pub fn is_send(&self) -> bool {
        self.kind == "send"
    }

    /// As a file's name.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}", self.kind, self.name, self.round)
    }
}

/// Name and round of a journal entry.
fn journaled(entry: &JournalEntry) -> (&'static str, Option<u32>) {
    match entry {
        JournalEntry::Begin { .. } => ("begin", Some(0)),
        JournalEntry::Joined { at } => ("joined", Some(at.round)),
        JournalEntry::Peers { .. } => ("peers", None),
        JournalEntry::Masked { at } => ("masked", Some(at.round)),
        JournalEntry::Committed { at, .. } => ("committed", Some(at.round)),
        JournalEntry::Abandoned { at, .. } => ("abandoned", Some(at.round)),
        JournalEntry::Result { at, .. } => ("result", Some(at.round)),
        JournalEntry::Adopted { at, .. } => ("adopted", Some(at.round)),
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.round)
    }
}

impl std::str::FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no KIND:NAME:ROUND");
        let parts: Vec<&str> = text.split(':').collect();
        let [kind, name, round] = parts[..] else { return Err(wrong()) };
        Ok(Self::new(kind, name, round.parse().map_err(|_| wrong())?))
    }
}

/// Where in the execution of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum When {
    /// Not begun.
    Before,
    /// Done.
    After,
    /// Done, and the harness says when.
    Arrived,
}

/// A point at which a silo is killed, once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stop {
    /// Where.
    pub when: When,
    /// At which output, the first time that it comes.
    pub label: Label,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = match self.when {
            When::Before => "before",
            When::After => "after",
            When::Arrived => "arrived",
        };
        write!(f, "{when}:{}", self.label)
    }
}

impl std::str::FromStr for Stop {
    type Err = String;

    /// `after:journal:committed:1`
    fn from_str(text: &str) -> Result<Self, String> {
        let (when, label) = text.split_once(':').ok_or("use WHEN:KIND:NAME:ROUND")?;
        let when = match when {
            "before" => When::Before,
            "after" => When::After,
            "arrived" => When::Arrived,
            other => return Err(format!("{other} is none of before, after, arrived")),
        };
        Ok(Self { when, label: label.parse()? })
    }
}
