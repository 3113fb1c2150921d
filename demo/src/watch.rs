//! What the running federation is doing, read from where an operator would read it: the coordinator's JSON log and the
//! silos' ledgers.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// One line of the coordinator's log that the demo shows. Fields that a line lacks stay empty.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Line {
    /// `phase`, `dropped`, `attempt_failed`, `round_completed`, `finished`, …
    #[serde(default)]
    pub event: String,
    /// Round, from 1.
    #[serde(default)]
    pub round: u32,
    /// Name of the phase.
    #[serde(default)]
    pub phase: String,
    /// Silos of the federation.
    #[serde(default)]
    pub silos: u32,
    /// Silos in the cohort.
    #[serde(default)]
    pub cohort: u32,
    /// Silos whose update is in the sum.
    #[serde(default)]
    pub survivors: u32,
    /// Held-out accuracy of the adapter that the round started from.
    #[serde(default)]
    pub accuracy: Option<f64>,
    /// Bytes of one silo's masked vector.
    #[serde(default)]
    pub masked_input_bytes: u64,
    /// Bytes of all silos' masked vectors.
    #[serde(default)]
    pub payload_up_bytes: u64,
    /// Bytes of all silos' control messages.
    #[serde(default)]
    pub control_up_bytes: u64,
    /// Seconds from the round's opening to its result.
    #[serde(default)]
    pub wall_seconds: f64,
    /// What the line says to a person.
    #[serde(default)]
    pub message: String,
    /// Severity.
    #[serde(default)]
    pub level: String,
}

/// Follows a growing log.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    partial: String,
}

impl Tail {
    /// Follows `path` from its beginning; it may not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, reader: None, partial: String::new() }
    }

    /// The next whole line that is there now.
    pub fn next_line(&mut self) -> Option<Line> {
        if self.reader.is_none() {
            self.reader = File::open(&self.path).ok().map(BufReader::new);
        }
        let reader = self.reader.as_mut()?;
        loop {
            match reader.read_line(&mut self.partial) {
                Ok(count) if count > 0 && self.partial.ends_with('\n') => {
                    let text = std::mem::take(&mut self.partial);
                    if let Ok(line) = serde_json::from_str::<Line>(&text) {
                        return Some(line);
                    }
                }
                _ => return None,
            }
        }
    }
}

/// The last lines of a log, for an error message.
pub fn last_words(path: &Path, lines: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let all: Vec<String> = text
        .lines()
        .map(|line| match serde_json::from_str::<Line>(line) {
            Ok(line) => format!("{} {}", line.level, line.message),
            Err(_) => line.to_owned(),
        })
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What a silo's ledger says it has spent on its training rows, as (ε, δ).
pub fn spent(ledger: &Path) -> Option<(f64, f64)> {
    let text = std::fs::read_to_string(ledger).ok()?;
    let lines: Vec<serde_json::Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let accounts: Vec<&serde_json::Value> = lines.iter().filter(|line| line["entry"] == "account").collect();
    lines.iter().rev().filter(|line| line["entry"] == "debit").find_map(|debit| {
        let account = accounts.get(usize::try_from(debit["account"].as_u64()?).ok()?)?;
        let training = account["purpose"] == "training";
        training.then_some(())?;
        Some((debit["epsilon_so_far"].as_f64()?, account["delta"].as_f64()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_half_written_line_is_read_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut tail = Tail::new(path.clone());
        assert!(tail.next_line().is_none());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"{\"event\":\"phase\",\"round\":3}\n{\"event\":\"dro").unwrap();
        let line = tail.next_line().unwrap();
        assert_eq!((line.event.as_str(), line.round), ("phase", 3));
        assert!(tail.next_line().is_none());
        file.write_all(b"pped\"}\n").unwrap();
        assert_eq!(tail.next_line().unwrap().event, "dropped");
    }

    #[test]
    fn the_last_debit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let account = |purpose| format!("{{\"entry\":\"account\",\"purpose\":\"{purpose}\",\"delta\":1e-5}}\n");
        let debit = |of, e| format!("{{\"entry\":\"debit\",\"account\":{of},\"epsilon_so_far\":{e}}}\n");
        let text = [account("training"), account("held-out"), debit(0, 1.5), debit(0, 2.5), debit(1, 9.5)].concat();
        std::fs::write(&path, text).unwrap();
        assert_eq!(spent(&path), Some((2.5, 1e-5)));
    }
}
