//! What people take away: the adapter in PEFT's format after every round, and one line of history per round.
//!
//! ```text
//! output_dir/last/          the adapter after the newest round, label names and tokenizer files beside it
//! output_dir/best/          the one with the best held-out accuracy so far
//! output_dir/history.jsonl  one line per finished round
//! output_dir/job.json       whose folder it is: no other job writes here
//! ```
//! A round measures the adapter that it *starts* from, so round k decides whether `last/` (the adapter after round k−1)
//! is the best so far, before it is replaced.
//!
//! # Contract
//! Files are replaced one at a time as whole files; between rounds only the weights differ, so a reader never sees a
//! mixture (a job that draws A anew changes `adapter_config.json` too, then; a reader who meets that moment finds files
//! that do not fit). The history is fsynced line by line and a half-written last line is removed at the next start. A round that
//! is reported again after a restart has one line; after a crash at any point, reporting it again makes up for the rest.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use blindsum_adapter::peft::{self, PeftMeta};
use blindsum_adapter::provenance::{self, Provenance};
use blindsum_crypto::{Roster, SiloId};
use blindsum_files::FileError;
use blindsum_protocol::coordinator::RoundReport;
use blindsum_protocol::plan::{Plan, RoundKind};
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;

/// Files of the base model that PEFT users want beside the adapter, where there are any.
const TOKENIZER_FILES: [&str; 5] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "merges.txt"];
const HISTORY: &str = "history.jsonl";
/// Longest file that is copied, bytes.
const MAX_COPY: u64 = 1 << 30;
/// Longest history that is read, bytes.
const MAX_HISTORY: u64 = 256 << 20;

/// One line of `history.jsonl`. Silos by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Round, from 1.
    pub round: u32,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// Digest of the job.
    pub job_digest: String,
    /// When the line was written, seconds since 1970 by this machine's clock.
    pub time_unix_seconds: u64,
    /// `train` or `evaluate`.
    pub kind: String,
    /// Silos that advertised.
    pub cohort: Vec<String>,
    /// Silos whose updates are in the sum.
    pub survivors: Vec<String>,
    /// Cohort without survivors.
    pub dropped: Vec<String>,
    /// Silos of the roster that did not advertise.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Held-out accuracy of the adapter that the round started from, mean over the survivors; none with metrics off.
    pub accuracy: Option<f64>,
    /// Held-out examples of all survivors.
    pub held_out_examples: Option<u64>,
    /// Of them, labelled rightly.
    pub held_out_correct: Option<u64>,
    /// Share of coordinates that were clipped to the coordinate bound.
    pub saturated_share: f64,
    /// Bytes of one masked input.
    pub masked_input_bytes: u64,
    /// Masked inputs of all silos together.
    pub payload_up_bytes: u64,
    /// Control messages from all silos together.
    pub control_up_bytes: u64,
    /// Sums to all silos together.
    pub payload_down_bytes: u64,
    /// Control messages to all silos together.
    pub control_down_bytes: u64,
    /// From opening to certificate.
    pub wall_seconds: f64,
    /// The round's result hash.
    pub result_hash: String,
    /// Hash of the model after the round.
    pub model_hash: String,
}

/// Writes adapters and history.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    model_dir: PathBuf,
    history: File,
    base_model_name: String,
    /// The last round in the history.
    newest: u32,
    best: Option<f64>,
}

impl Output {
    /// Opens or begins the output directory.
    ///
    /// # Errors
    /// The disk's, and a history that is not one.
    pub fn open(dir: &Path, model_dir: &Path, base_model_name: String, plan: &Plan) -> Result<Self, CoordinatorError> {
        provenance::claim(dir, &plan.job().output_name())?;
        blindsum_files::probe::writable(dir)?;
        let path = dir.join(HISTORY);
        let mut history = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| CoordinatorError::file("open", &path, e))?;
        let mut bytes = Vec::new();
        (&mut history)
            .take(MAX_HISTORY)
            .read_to_end(&mut bytes)
            .map_err(|e| CoordinatorError::file("read", &path, e))?;
        let whole = whole_lines(&bytes);
        if whole < bytes.len() {
            history.set_len(whole as u64).map_err(|e| CoordinatorError::file("write", &path, e))?;
        }
        let (newest, best) = replay(&path, &bytes[..whole])?;
        Ok(Self { dir: dir.to_owned(), model_dir: model_dir.to_owned(), history, base_model_name, newest, best })
    }

    /// The last round in the history; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// Refuses a store that knows of fewer rounds than the history: a round is in the store before it is in the history.
    ///
    /// # Errors
    /// The state directory is new, or an old copy.
    pub fn fits(&self, rounds_done: u32, state_dir: &Path) -> Result<(), CoordinatorError> {
        lost_store(&self.dir, self.newest, rounds_done, state_dir)
    }

    /// Keeps a finished round: decides on `best/`, appends the line, replaces `last/`, in this order. While a round has no
    /// line, `last/` is thus still the adapter that it measured; the newest round of the history, reported again after a
    /// crash, writes `last/` again and nothing else.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&mut self, report: &RoundReport, plan: &Plan, roster: &Roster) -> Result<(), CoordinatorError> {
        if report.round > self.newest {
            self.record(report, plan, roster)?;
        }
        if report.round == self.newest && report.kind.trains() {
            self.write_last(report, plan)?;
        }
        Ok(())
    }

    /// Decides on `best/` and appends the line of a new round.
    fn record(&mut self, report: &RoundReport, plan: &Plan, roster: &Roster) -> Result<(), CoordinatorError> {
        let accuracy = report.held_out.map(|held_out| held_out.mean_accuracy);
        if let Some(now) = accuracy.filter(|_| report.round > 1 && report.round == self.newest + 1) {
            if better(self.best, Some(now)) != self.best {
                self.promote()?;
            }
            self.best = better(self.best, Some(now));
        }
        let path = self.dir.join(HISTORY);
        let mut line =
            serde_json::to_vec(&line(report, plan, roster)).expect("a struct of numbers and strings becomes JSON");
        line.push(b'\n');
        self.history
            .write_all(&line)
            .and_then(|()| self.history.sync_all())
            .map_err(|e| CoordinatorError::file("write", &path, e))?;
        self.newest = report.round;
        Ok(())
    }

    /// Replaces `last/` with the adapter of the state `global`.
    fn write_last(&self, report: &RoundReport, plan: &Plan) -> Result<(), CoordinatorError> {
        let last = self.dir.join("last");
        let (layout, adapter) = (plan.layout(), plan.state().adapter(&report.global));
        let meta = PeftMeta {
            base_model_name_or_path: self.base_model_name.clone(),
            labels: plan.job().model.labels.clone(),
            provenance: Some(Provenance::after(plan.job().output_name(), report.round)),
        };
        peft::export(&last, layout, adapter, &meta)?;
        self.copy(&self.model_dir, &last, &TOKENIZER_FILES, true)
    }

    fn promote(&self) -> Result<(), CoordinatorError> {
        let (last, best) = (self.dir.join("last"), self.dir.join("best"));
        std::fs::create_dir_all(&best).map_err(|e| CoordinatorError::file("make", &best, e))?;
        self.copy(&last, &best, &TOKENIZER_FILES, true)?;
        self.copy(&last, &best, &["blindsum.json", "adapter_config.json", "adapter_model.safetensors"], false)
    }

    fn copy(&self, from: &Path, to: &Path, names: &[&str], once: bool) -> Result<(), CoordinatorError> {
        for name in names {
            let (from, to) = (from.join(name), to.join(name));
            if !from.exists() || (once && to.exists()) {
                continue;
            }
            blindsum_files::write_atomic(&to, &blindsum_files::read_public(&from, MAX_COPY)?, 0o644)?;
        }
        Ok(())
    }
}

/// Bytes of a history up to its last whole line.
fn whole_lines(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// The newest round of a history and the best accuracy in it.
fn replay(path: &Path, lines: &[u8]) -> Result<(u32, Option<f64>), CoordinatorError> {
    let (mut newest, mut best) = (0, None);
    for (index, line) in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let line: HistoryLine = serde_json::from_slice(line).map_err(|e| {
            CoordinatorError::Config(format!(
                "{}, line {}: {e}; this is no history of this version: name another output_dir",
                path.display(),
                index + 1
            ))
        })?;
        newest = line.round;
        best = better(best, line.accuracy.filter(|_| line.round > 1));
    }
    Ok((newest, best))
}

/// As [`Output::fits`].
pub(crate) fn lost_store(dir: &Path, newest: u32, rounds_done: u32, state_dir: &Path) -> Result<(), CoordinatorError> {
    if newest <= rounds_done {
        return Ok(());
    }
    Err(CoordinatorError::Lost(format!(
        "{} holds this job up to round {newest}, but the store in {} knows of {rounds_done} rounds: it is new, or an old copy. \
         Name the state_dir that belongs to it; or name another output_dir to run the job anew, in new state directories of all \
         silos",
        dir.display(),
        state_dir.display()
    )))
}

/// The newest round in the history of an output directory, 0 where there is none; changes nothing.
///
/// # Errors
/// The disk's, and a history that is not one.
pub(crate) fn newest(dir: &Path) -> Result<u32, CoordinatorError> {
    let path = dir.join(HISTORY);
    match blindsum_files::read_public(&path, MAX_HISTORY) {
        Ok(bytes) => Ok(replay(&path, &bytes[..whole_lines(&bytes)])?.0),
        Err(FileError::Missing { .. }) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

fn better(best: Option<f64>, now: Option<f64>) -> Option<f64> {
    match (best, now) {
        (Some(best), Some(now)) if now <= best => Some(best),
        (best, now) => now.or(best),
    }
}

/// Silo names in the roster's spelling.
pub(crate) fn names(roster: &Roster, silos: &[SiloId]) -> Vec<String> {
    silos.iter().map(|&silo| roster.name_of(silo)).collect()
}

fn line(report: &RoundReport, plan: &Plan, roster: &Roster) -> HistoryLine {
    let bytes = report.bytes;
    HistoryLine {
        round: report.round,
        attempt: report.attempt,
        job_digest: plan.job_digest().to_string(),
        time_unix_seconds: provenance::now(),
        kind: match report.kind {
            RoundKind::TrainA | RoundKind::TrainB | RoundKind::TrainBoth => "train".into(),
            RoundKind::Evaluate => "evaluate".into(),
        },
        cohort: names(roster, &report.cohort),
        survivors: names(roster, &report.survivors),
        dropped: names(roster, &report.dropped),
        absent: names(roster, &roster.ids().filter(|id| !report.cohort.contains(id)).collect::<Vec<_>>()),
        accuracy: report.held_out.map(|held_out| held_out.mean_accuracy),
        held_out_examples: report.held_out.map(|held_out| held_out.examples),
        held_out_correct: report.held_out.map(|held_out| held_out.correct),
        saturated_share: report.saturated_share,
        masked_input_bytes: bytes.masked_input,
        payload_up_bytes: bytes.payload_up,
        control_up_bytes: bytes.control_up,
        payload_down_bytes: bytes.payload_down,
        control_down_bytes: bytes.control_down,
        wall_seconds: report.duration_ms as f64 / 1000.0,
        result_hash: report.result_hash.to_string(),
        model_hash: report.model_hash.to_string(),
    }
}

#[cfg(test)]
mod tests;
