//! What the harness does at the seams of the silo's agent: records updates and adapters in clear, pauses, and stops.
//!
//! Contract: a record is whole once it has its name (written beside and renamed). A pause blocks the agent's output loop
//! before the named output is executed: what came before has been handed to the connection, nothing after. A stop is
//! SIGKILL, or a pause for one, at one output of the machine ([`crate::stop`]).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use blindsum_protocol::message::AttemptId;
use blindsum_protocol::silo::{MeasuredUpdate, SiloOutput, TrainRequest};
use blindsum_silo::agent::Seams;
use blindsum_silo::journal::{JournalError, JournalFile};
use rustix::process::{Signal, getpid, kill_process};

use crate::stop::{Label, Stop, When};

/// Name of the record of outputs.
const OUTPUTS: &str = "outputs";

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
    /// Has executed this output; told where [`HarnessSeams::trace`] asks for it.
    Done(Label),
    /// Has executed this output, and waits for SIGKILL.
    Stopped(Label),
}

impl std::fmt::Display for Milestone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Milestone::Trained(round) => write!(f, "trained {round}"),
            Milestone::Paused(before, round) => write!(f, "paused {before} {round}"),
            Milestone::Adopted(round) => write!(f, "adopted {round}"),
            Milestone::Done(label) => write!(f, "done {label}"),
            Milestone::Stopped(label) => write!(f, "stopped {label}"),
        }
    }
}

/// The harness's seams. `tell` gets each milestone and returns when the silo may go on.
pub struct HarnessSeams {
    record: PathBuf,
    pauses: Vec<Pause>,
    tell: Box<dyn FnMut(Milestone) + Send>,
    trace: bool,
    stop: Option<Stop>,
    late: bool,
    /// Entries that a late journal holds back.
    held: Vec<Vec<u8>>,
    /// The state directory, and where to put a copy of it after each journal entry.
    copies: Option<(PathBuf, PathBuf)>,
    /// The output that is being executed.
    current: Option<Label>,
    /// Round of the attempt joined last.
    round: u32,
}

impl HarnessSeams {
    /// Records into `record`.
    pub fn new(record: &Path, pauses: Vec<Pause>, tell: impl FnMut(Milestone) + Send + 'static) -> Self {
        Self {
            record: record.to_owned(),
            pauses,
            tell: Box::new(tell),
            trace: false,
            stop: None,
            late: false,
            held: Vec::new(),
            copies: None,
            current: None,
            round: 0,
        }
    }

    /// Tells every output, and writes them to the record, one a line.
    #[must_use]
    pub fn trace(mut self, trace: bool) -> Self {
        self.trace = trace;
        self
    }

    /// Stops there.
    #[must_use]
    pub fn stop(mut self, stop: Option<Stop>) -> Self {
        self.stop = stop;
        self
    }

    /// Writes each journal entry only when the next one comes: what no silo may do. It shows that the tests notice.
    #[must_use]
    pub fn late_journal(mut self, late: bool) -> Self {
        self.late = late;
        self
    }

    /// Copies the state directory `state` to `<into>/<label>` after each journal entry.
    #[must_use]
    pub fn copies(mut self, state: PathBuf, into: PathBuf) -> Self {
        self.copies = Some((state, into));
        self
    }

    fn at(&self, when: When, label: &Label) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.when == when && stop.label == *label)
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
        self.current = Label::of(output, &mut self.round);
        if let Some(label) = self.current.clone() {
            if self.trace {
                note(&self.record, &label);
            }
            if self.at(When::Before, &label) {
                die();
            }
        }
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

    fn executed(&mut self) {
        let Some(label) = self.current.take() else { return };
        if let (Some((state, into)), true) = (&self.copies, label.is_journal()) {
            copy(state, &into.join(label.file_name()));
        }
        if self.at(When::After, &label) {
            die();
        }
        if self.at(When::Arrived, &label) {
            (self.tell)(Milestone::Stopped(label.clone()));
        }
        if self.trace {
            (self.tell)(Milestone::Done(label));
        }
    }

    fn append(&mut self, journal: &mut JournalFile, body: &[u8]) -> Result<(), JournalError> {
        if !self.late {
            return journal.append(body);
        }
        let before = std::mem::replace(&mut self.held, vec![body.to_owned()]);
        before.iter().try_for_each(|body| journal.append(body))
    }

    fn local_update(&mut self, request: &TrainRequest, update: &mut MeasuredUpdate) {
        write(&self.record, &updated(request.at.round), &update.update);
        (self.tell)(Milestone::Trained(request.at.round));
    }
}

/// SIGKILL to this very process: nothing unwinds, nothing is flushed.
fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

/// Adds a line to the record of outputs.
fn note(record: &Path, label: &Label) {
    let mut file = OpenOptions::new().append(true).create(true).open(record.join(OUTPUTS)).unwrap();
    writeln!(file, "{label}").unwrap();
}

/// The outputs on record, in order; none where there is no record.
pub fn outputs(record: &Path) -> Vec<Label> {
    let text = std::fs::read_to_string(record.join(OUTPUTS)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Copies a folder of files, which a running process may be renaming some of: what is gone when its turn comes has another
/// name by then, and the folder is read again.
pub fn copy(from: &Path, to: &Path) {
    let once = || -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let path = entry?.path();
            std::fs::copy(&path, to.join(path.file_name().unwrap()))?;
        }
        Ok(())
    };
    while let Err(e) = once() {
        assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", from.display());
        assert!(from.is_dir(), "{} is gone", from.display());
        std::fs::remove_dir_all(to).unwrap();
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
