//! The privacy ledger: what has been spent on the training file, written down before it can leave the machine.
//!
//! `ledger.jsonl` opens with a line that says what it covers (job, training file with hash and row count, sampling rate,
//! noise multiplier, clip norm) and gets one line per **debit**. A debit is written and fsynced when an attempt starts to
//! train a fresh update, hence before any noised value exists; a crash afterwards leaves the debit standing, which errs
//! on the safe side. ε so far is the accountant's figure over *all* debits of the file, retries included.
//!
//! # Contract
//! - A debit that would take ε past the job's ε or the organisation's `max_epsilon` is refused before training.
//! - The ledger belongs to one training file. If the file's hash or row count changed, it refuses: what was spent was
//!   spent on rows that may still be there, at a sampling rate that no longer holds. See [`LedgerError::OtherData`].
//! - A last line that was cut off by a crash is removed and reported: its debit was never acknowledged, so nothing was
//!   trained under it. Any other unreadable line is refused.
//! - After an error of the disk the ledger takes no further debit: what reached the disk is known again only after
//!   opening it anew. The agent stops.
//! - It counts for one state directory. It cannot know what other jobs spent on the same rows: ε adds up over jobs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blindsum_crypto::Digest;
use blindsum_files::{ExitCode, Exits, FileError};
use serde::{Deserialize, Serialize};

/// The most bytes of a ledger that are read: far beyond any job, so that a wrong file does not fill the memory.
const MAX_BYTES: u64 = 64 << 20;

/// First line: what the ledger covers. It never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covers {
    /// Version of this format: 1.
    pub schema: u32,
    /// Digest of the job.
    pub job: Digest,
    /// Path of the training file when the ledger was opened (for people; not compared).
    pub train_file: String,
    /// SHA-256 of the training file.
    pub train_sha256: Digest,
    /// Rows in it.
    pub records: u64,
    /// Probability of each record to be in a step's batch.
    pub sampling_rate: f64,
    /// Standard deviation of the noise, in clip norms.
    pub noise_multiplier: f64,
    /// L2 bound of each example's gradient.
    pub clip_norm: f64,
    /// The public batch size that sums are divided by.
    pub expected_batch_examples: f64,
    /// The δ at which ε is stated.
    pub delta: f64,
    /// The most ε that may be spent: the smaller of the job's and the organisation's.
    pub epsilon_limit: f64,
}

impl Covers {
    /// ε after so many steps.
    fn epsilon(&self, steps: u64) -> f64 {
        blindsum_privacy::spent(self.sampling_rate, self.noise_multiplier, steps, self.delta)
    }
}

/// One debit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debit {
    /// Round and
    pub round: u32,
    /// attempt that the update was trained for.
    pub attempt: u32,
    /// Steps of DP-SGD.
    pub steps: u64,
    /// ε after this debit, over all debits.
    pub epsilon_so_far: f64,
    /// At this δ.
    pub delta: f64,
    /// When, in seconds since 1970 by this machine's clock.
    pub time_unix_seconds: u64,
}

/// Why the ledger refuses.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk.
    #[error("the privacy ledger {path}: {source}. Nothing was trained.")]
    Io {
        /// The ledger.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not there, though something was trained.
    #[error(
        "the privacy ledger {path} is not there or empty, but the journal beside it says that this silo took part in rounds: what \
         was spent is no longer known, so nothing more will be spent. Put the file back as it was, or start a new job in a \
         new state directory, knowing that what was spent stays spent"
    )]
    Lost {
        /// Where it should lie.
        path: PathBuf,
    },
    /// A line that is not a ledger's.
    #[error(
        "the privacy ledger {path}, line {line}, cannot be read. What was spent is no longer known, so nothing more \
         will be spent: restore the file as it was, or start a new job in a new state directory"
    )]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// Another job's ledger.
    #[error("the privacy ledger {path} belongs to job {found}, not to job {expected}: give each job its own state_dir")]
    OtherJob {
        /// The ledger.
        path: PathBuf,
        /// Whose it is.
        found: Digest,
        /// Who asks.
        expected: Digest,
    },
    /// The training file changed under the job.
    #[error(
        "the training file is not the one that the privacy ledger {path} was opened for ({detail}). Put the earlier \
         file back to go on with this job; or start a new job with a new state_dir, knowing that what this ledger \
         records as spent stays spent on the rows that are in both"
    )]
    OtherData {
        /// The ledger.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// The configuration or the accountant gives other numbers than those the ledger was opened with.
    #[error("the privacy ledger {path} was opened with {what} {before}, now it is {now}: go back, or start a new job")]
    OtherMechanism {
        /// The ledger.
        path: PathBuf,
        /// Which number.
        what: &'static str,
        /// As recorded.
        before: f64,
        /// As derived now.
        now: f64,
    },
    /// The budget.
    #[error(
        "round {round}, attempt {attempt} would bring ε to {would_be:.4} at δ = {delta:e}, past the limit of {limit:.4} \
         (ε so far: {so_far:.4}, {debits} debits, of which {retries} for attempts that were repeated). Nothing was \
         trained; this silo takes no further part in the job. What is already in the sum stays within the limit"
    )]
    Exhausted {
        /// Round asked for.
        round: u32,
        /// Attempt asked for.
        attempt: u32,
        /// ε after it.
        would_be: f64,
        /// The δ.
        delta: f64,
        /// The limit.
        limit: f64,
        /// ε now.
        so_far: f64,
        /// Debits so far.
        debits: usize,
        /// Debits beyond one per round.
        retries: usize,
    },
}

impl Exits for LedgerError {
    fn exit_code(&self) -> ExitCode {
        match self {
            LedgerError::Io { .. } => ExitCode::Storage,
            _ => ExitCode::Refused,
        }
    }
}

/// The open ledger. ε is [`blindsum_privacy::spent`].
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    covers: Covers,
    debits: Vec<Debit>,
    steps: u64,
    /// Bytes of a torn last line that were cut off.
    cut_bytes: u64,
    /// A line may have been written in part: another one after it would make the file unreadable.
    broken: bool,
}

impl Ledger {
    /// Refuses a ledger that is gone or empty: `took_part` says whether the journal knows of an attempt, before which the
    /// ledger's first line was on the disk.
    ///
    /// # Errors
    /// [`LedgerError::Lost`].
    pub fn not_lost(path: &Path, took_part: bool) -> Result<(), LedgerError> {
        let begun = || blindsum_files::read_public(path, MAX_BYTES).is_ok_and(|bytes| bytes.contains(&b'\n'));
        if took_part && !begun() {
            return Err(LedgerError::Lost { path: path.to_owned() });
        }
        Ok(())
    }

    /// Opens or begins the ledger at `path` for exactly what `covers` says.
    ///
    /// # Errors
    /// See [`LedgerError`]; all of them mean that nothing may be trained.
    pub fn open(path: &Path, covers: Covers) -> Result<Self, LedgerError> {
        let io = |source| LedgerError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length > MAX_BYTES {
            return Err(LedgerError::Damaged { path: path.to_owned(), line: 1 });
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.read_to_end(&mut bytes).map_err(io)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let cut_bytes = (bytes.len() - whole) as u64;
        bytes.truncate(whole);
        if cut_bytes > 0 {
            file.set_len(whole as u64).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        file.seek(SeekFrom::Start(whole as u64)).map_err(io)?;

        let (debits, path_kept) = (Vec::new(), path.to_owned());
        let mut ledger = Self { path: path_kept, file, covers, debits, steps: 0, cut_bytes, broken: false };
        match lines(path, &bytes)? {
            None => {
                ledger.append(&serde_json::to_vec(&ledger.covers))?;
                sync_parent(path).map_err(io)?;
            }
            Some((before, debits)) => {
                compare(path, &before, &ledger.covers)?;
                ledger.steps = steps(&debits);
                ledger.debits = debits;
            }
        }
        Ok(ledger)
    }

    /// ε so far by the ledger at `path`, which must be for exactly what `covers` says; zero where there is none. Writes
    /// nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(path: &Path, covers: &Covers) -> Result<f64, LedgerError> {
        let Some((before, debits)) = Self::recorded(path)? else { return Ok(0.0) };
        compare(path, &before, covers)?;
        Ok(covers.epsilon(steps(&debits)))
    }

    /// What the ledger at `path` covers and its debits; `None` where there is none. Writes nothing.
    ///
    /// # Errors
    /// The disk's, and a line that cannot be read.
    pub fn recorded(path: &Path) -> Result<Option<(Covers, Vec<Debit>)>, LedgerError> {
        let bytes = match blindsum_files::read_public(path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(FileError::Missing { .. }) => return Ok(None),
            Err(FileError::TooLarge { .. }) => return Err(LedgerError::Damaged { path: path.to_owned(), line: 1 }),
            Err(e) => {
                return Err(LedgerError::Io { path: path.to_owned(), source: std::io::Error::other(e.to_string()) });
            }
        };
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        lines(path, &bytes[..whole])
    }

    /// Writes the debit of `steps` steps and returns ε after it. When this returns, the line is on the disk.
    ///
    /// # Errors
    /// [`LedgerError::Exhausted`] if the limit would be passed: nothing was written, nothing may be trained.
    /// [`LedgerError::Io`] from the disk, and again at every later call.
    pub fn debit(&mut self, round: u32, attempt: u32, steps: u64) -> Result<f64, LedgerError> {
        let would_be = self.epsilon_after(steps);
        // Calibration lands on the limit itself; an ulp of it is not an overdraft. NaN and ∞ are.
        let within = would_be <= self.covers.epsilon_limit * (1.0 + 1e-9);
        if !within {
            let rounds: std::collections::BTreeSet<u32> = self.debits.iter().map(|debit| debit.round).collect();
            return Err(LedgerError::Exhausted {
                round,
                attempt,
                would_be,
                delta: self.covers.delta,
                limit: self.covers.epsilon_limit,
                so_far: self.epsilon_so_far(),
                debits: self.debits.len(),
                retries: self.debits.len() - rounds.len(),
            });
        }
        let time_unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let delta = self.covers.delta;
        let debit = Debit { round, attempt, steps, epsilon_so_far: would_be, delta, time_unix_seconds };
        self.append(&serde_json::to_vec(&debit))?;
        self.steps += steps;
        self.debits.push(debit);
        Ok(would_be)
    }

    /// ε over all debits; zero before the first.
    #[must_use]
    pub fn epsilon_so_far(&self) -> f64 {
        self.covers.epsilon(self.steps)
    }

    fn epsilon_after(&self, more: u64) -> f64 {
        self.covers.epsilon(self.steps.saturating_add(more))
    }

    /// All debits, oldest first.
    #[must_use]
    pub fn debits(&self) -> &[Debit] {
        &self.debits
    }

    /// What the ledger covers.
    #[must_use]
    pub fn covers(&self) -> &Covers {
        &self.covers
    }

    /// Bytes of an unfinished last line that opening has cut off; 0 after a clean end.
    #[must_use]
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    fn append(&mut self, line: &Result<Vec<u8>, serde_json::Error>) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut line = line.as_ref().map_err(|error| io(std::io::Error::other(error.to_string())))?.clone();
        line.push(b'\n');
        if self.broken {
            return Err(io(std::io::Error::other("an earlier line could not be written; restart the silo")));
        }
        self.broken = true;
        self.file.write_all(&line).map_err(io)?;
        self.file.sync_all().map_err(io)?;
        self.broken = false;
        Ok(())
    }
}

/// What whole lines say: the first what is covered, the others a debit each; `None` where there is no line.
fn lines(path: &Path, bytes: &[u8]) -> Result<Option<(Covers, Vec<Debit>)>, LedgerError> {
    let damaged = |line| LedgerError::Damaged { path: path.to_owned(), line };
    let mut lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let Some(first) = lines.next() else { return Ok(None) };
    let covers = serde_json::from_slice(first).map_err(|_| damaged(1))?;
    let debit = |(index, line)| serde_json::from_slice(line).map_err(|_| damaged(index + 2));
    let debits = lines.enumerate().map(debit).collect::<Result<_, _>>()?;
    Ok(Some((covers, debits)))
}

fn steps(debits: &[Debit]) -> u64 {
    debits.iter().fold(0, |steps, debit: &Debit| steps.saturating_add(debit.steps))
}

/// Refuses a ledger that was opened for something else than `now` says.
fn compare(path: &Path, before: &Covers, now: &Covers) -> Result<(), LedgerError> {
    let path = path.to_owned();
    if before.job != now.job {
        return Err(LedgerError::OtherJob { path, found: before.job, expected: now.job });
    }
    if before.train_sha256 != now.train_sha256 || before.records != now.records {
        let detail = format!(
            "then {} with {} rows, sha256 {}; now {} with {} rows, sha256 {}",
            before.train_file, before.records, before.train_sha256, now.train_file, now.records, now.train_sha256
        );
        return Err(LedgerError::OtherData { path, detail });
    }
    let numbers = [
        ("sampling rate", before.sampling_rate, now.sampling_rate),
        ("noise multiplier", before.noise_multiplier, now.noise_multiplier),
        ("clip norm", before.clip_norm, now.clip_norm),
        ("expected batch", before.expected_batch_examples, now.expected_batch_examples),
        ("δ", before.delta, now.delta),
    ];
    for (what, before, now) in numbers {
        // What was trained under the earlier number cannot be accounted for with the new one. The tolerance is for
        // the last digit of a decimal number in a file, nothing more.
        if (before - now).abs() > 1e-12 * before.abs() {
            return Err(LedgerError::OtherMechanism { path, what, before, now });
        }
    }
    Ok(())
}

/// Makes a new directory entry durable.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
impl Ledger {
    /// Makes the disk refuse: writes go to a handle that cannot write, `partial` stands at the end of the file.
    pub(crate) fn break_disk(&mut self, partial: &[u8]) {
        self.file.write_all(partial).expect("the disk of the tests");
        self.file = File::open(&self.path).expect("the ledger");
    }
}

#[cfg(test)]
mod tests;
