//! The privacy ledger of an organisation: what has been spent, on which records and persons, over all its jobs, written
//! down before it can leave the machine.
//!
//! ```text
//! ledger_dir/  key            of tags and links, drawn once
//!              ledger.jsonl   begin · accounts (a job and its records) · debits, each line hanging on the one before
//!              head.json      its last line
//!              tags/          keyed tags of each account's units; where they are persons, of their rows too
//! state_dir/   ledger-mark.json   how far the ledger was when this silo last spent
//! ```
//!
//! A debit is written and fsynced before anything is computed from the records, hence before any noised value exists; a
//! crash afterwards leaves the debit standing, which errs on the safe side.
//!
//! # Contract
//! - **Within a job** ε is the accountant's exact figure over all debits of its account, retries included; past the job's
//!   ε nothing is debited.
//! - **Over jobs** a unit is known by its tag, whatever file it stands in. What other accounts debited for the same unit
//!   adds up by a Rényi filter ([`Filter`]), since jobs are chosen after the results of earlier ones; past the
//!   organisation's limit nothing is debited, and no job begins whose whole spending would pass it.
//! - **Persons and records** meet: a job that protects persons holds the tags of its persons and of their rows that
//!   count, and each of these tags is charged what a person is.
//! - The file may be shared by any number of processes; each debit is decided on what all of them wrote.
//! - What is changed, cut or put back from a copy is found by the chain, by the mark in each silo's state directory and by
//!   its journal ([`Ledger::remembered`]); journals put back are found by the other silos, which hold their marks.
//! - After an error of the disk, or lines that could not be taken in, nothing more is debited until the ledger is opened
//!   anew.

mod chain;
mod entry;
mod error;
mod mark;
mod overlap;
mod spend;
mod tags;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use blindsum_crypto::Digest;
use blindsum_files::{FileError, private_dir, read_secret, write_atomic};
use blindsum_privacy::{Filter, FilterCost};
use rand::TryRng;
use zeroize::Zeroizing;

use chain::Lines;
pub use entry::{Account, Debit, LedgerEntry, Purpose};
pub use error::LedgerError;
pub use mark::{LedgerMark, MARK_FILE};
use overlap::Overlap;
use tags::{TagKey, TagSet};

/// The organisation's limit over all jobs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverJobs {
    /// The most ε of any unit
    pub max_epsilon: f64,
    /// at this δ, beside the δ of the job itself.
    pub delta: f64,
}

impl OverJobs {
    /// Refuses limits that limit nothing, or that have no meaning.
    ///
    /// # Errors
    /// [`LedgerError::Limit`].
    pub fn checked(self) -> Result<Self, LedgerError> {
        let sane = self.max_epsilon > 0.0 && self.max_epsilon.is_finite() && self.delta > 0.0 && self.delta < 1.0;
        if sane { Ok(self) } else { Err(LedgerError::Limit { epsilon: self.max_epsilon, delta: self.delta }) }
    }
}

/// An account and what was debited from it.
#[derive(Debug, Clone)]
pub struct Spending {
    /// What for.
    pub account: Account,
    /// Oldest first.
    pub debits: Vec<Debit>,
}

impl Spending {
    /// Steps of all debits.
    pub fn steps(&self) -> u64 {
        self.debits.iter().fold(0, |steps, debit| steps.saturating_add(debit.steps))
    }

    /// ε of the account alone.
    pub fn epsilon(&self) -> f64 {
        self.account.epsilon(self.steps())
    }

    /// Debits beyond one for each round.
    pub fn retries(&self) -> usize {
        self.debits.len() - self.debits.iter().map(|debit| debit.round).collect::<BTreeSet<_>>().len()
    }
}

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// ε of the account alone.
    pub in_job: f64,
    /// ε of its worst unit over all jobs.
    pub over_jobs: f64,
}

/// How much of an account other accounts spent on too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InOtherJobs {
    /// So many of its tags,
    pub number: usize,
    /// of so many,
    pub tags: usize,
    /// which are of persons and their rows, not of rows alone.
    pub persons: bool,
}

impl std::fmt::Display for InOtherJobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = if self.persons { "persons and rows" } else { "units" };
        write!(f, "{} of {} {of}", self.number, self.tags)
    }
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    key: TagKey,
    chain: Lines,
    id: Digest,
    limit: OverJobs,
    filter: Filter,
    spendings: Vec<Spending>,
    /// Under which debits were made, each once, the last at the end.
    limits: Vec<OverJobs>,
    /// What a step of each account costs by the filter.
    costs: Vec<FilterCost>,
    /// Of the accounts that were admitted here.
    overlaps: BTreeMap<usize, Overlap>,
}

/// Name of the ledger's file in its folder.
pub const LEDGER_FILE: &str = "ledger.jsonl";
const KEY_FILE: &str = "key";
const HEAD_FILE: &str = "head.json";
const TAGS_DIR: &str = "tags";

impl Ledger {
    /// Opens the ledger in the folder `dir`, or begins it there.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn open(dir: &Path, limit: OverJobs) -> Result<Self, LedgerError> {
        private_dir(dir)?;
        private_dir(&dir.join(TAGS_DIR))?;
        let io = |source| LedgerError::Io { path: dir.to_owned(), source };
        // Two processes that begin it at once would draw two keys.
        let folder = File::open(dir).map_err(io)?;
        folder.lock().map_err(io)?;
        if !dir.join(KEY_FILE).exists() && !dir.join(LEDGER_FILE).exists() {
            nothing_spent(dir)?;
            // As one step: half a key would be in the way of every later start.
            let drawn = Zeroizing::new(hex::encode(random()?));
            write_atomic(&dir.join(KEY_FILE), drawn.as_bytes(), 0o600)?;
        }
        folder.unlock().map_err(io)?;
        let mut ledger = Self::at(dir, limit, true)?;
        ledger.exclusively(|ledger| {
            if !ledger.chain.links().is_empty() {
                return Ok(());
            }
            nothing_spent(&ledger.dir)?;
            let begin = LedgerEntry::Begin { schema: 2, ledger: Digest(random()?), time_unix_seconds: now() };
            ledger.append(begin)?;
            sync_parent(&ledger.path()).map_err(|source| LedgerError::Io { path: ledger.path(), source })
        })?;
        Ok(ledger)
    }

    /// The ledger in the folder `dir` as it is now; `None` where there is none. Writes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(dir: &Path, limit: OverJobs) -> Result<Option<Self>, LedgerError> {
        limit.checked()?;
        if dir.join(LEDGER_FILE).exists() {
            let mut ledger = Self::at(dir, limit, false)?;
            // First, since others write meanwhile: the head is never ahead of whole lines.
            let head = ledger.head()?;
            ledger.read()?;
            if !ledger.chain.unfinished()? {
                ledger.reaches(head.as_ref())?;
            }
            if !ledger.chain.links().is_empty() {
                return Ok(Some(ledger));
            }
        }
        nothing_spent(dir).map(|()| None)
    }

    /// The limit under which the ledger in the folder `dir` was last used; `otherwise` where nothing was debited yet.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub fn limit_before(dir: &Path, otherwise: OverJobs) -> Result<OverJobs, LedgerError> {
        let before = Self::look(dir, otherwise)?.and_then(|ledger| ledger.limits.last().copied());
        Ok(before.unwrap_or(otherwise))
    }

    fn at(dir: &Path, limit: OverJobs, writes: bool) -> Result<Self, LedgerError> {
        limit.checked()?;
        let damaged = |what| LedgerError::Damaged { path: dir.join(LEDGER_FILE), line: 1, what };
        let text = match read_secret(&dir.join(KEY_FILE)) {
            Err(FileError::Missing { .. }) => return Err(damaged("the key beside it (the file `key`) is gone")),
            Err(FileError::Exposed { path, .. }) => return Err(LedgerError::KeyExposed { path }),
            read => read?,
        };
        let mut key = Zeroizing::new([0; 32]);
        let no_key = |_| damaged("the key beside it (the file `key`) is no key");
        hex::decode_to_slice(text.trim_ascii(), &mut *key).map_err(no_key)?;
        let key = TagKey::new(&key);
        let chain = Lines::open(&dir.join(LEDGER_FILE), key.clone(), writes)?;
        let filter = Filter::new(limit.max_epsilon, limit.delta);
        let (spendings, limits, costs, overlaps) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let (dir, id) = (dir.to_owned(), Digest([0; 32]));
        Ok(Ledger { dir, key, chain, id, limit, filter, spendings, limits, costs, overlaps })
    }

    /// Does something on what all processes wrote, while none of the others writes.
    fn exclusively<T>(&mut self, what: impl FnOnce(&mut Self) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        self.chain.lock()?;
        let done = self.read_to_the_end().and_then(|()| what(self));
        self.chain.unlock();
        done
    }

    /// Takes in what others wrote, and ends what one of them did not; only inside of [`exclusively`](Self::exclusively).
    fn read_to_the_end(&mut self) -> Result<(), LedgerError> {
        self.read()?;
        if self.chain.cut()? {
            self.read()?;
        }
        self.reaches(self.head()?.as_ref())
    }

    fn head(&self) -> Result<Option<LedgerMark>, LedgerError> {
        Ok(LedgerMark::read(&self.dir.join(HEAD_FILE))?)
    }

    /// Refuses lines that end before `head` does.
    fn reaches(&self, head: Option<&LedgerMark>) -> Result<(), LedgerError> {
        let path = self.dir.join(HEAD_FILE);
        match (head, self.chain.links().len()) {
            // The first line is written before there is a head, and without it there is no account.
            (_, 0) | (None, 1) => Ok(()),
            (Some(head), _) => self.holds(head, &path),
            (None, _) => {
                Err(LedgerError::RolledBack { path: self.path(), what: format!("{} is gone", path.display()) })
            }
        }
    }

    /// Takes in what others wrote.
    fn read(&mut self) -> Result<(), LedgerError> {
        let before = self.chain.links().len();
        let news = self.chain.news()?;
        let taken = news.into_iter().enumerate().try_for_each(|(index, entry)| self.take(before + index + 1, entry));
        // Lines that were read and not taken in would be missing from every later sum.
        taken.inspect_err(|_| self.chain.give_up())
    }

    /// Writes a line; only inside of [`exclusively`](Self::exclusively).
    fn append(&mut self, entry: LedgerEntry) -> Result<(), LedgerError> {
        self.chain.append(&entry)?;
        self.take(self.chain.links().len(), entry).inspect_err(|_| self.chain.give_up())?;
        Ok(self.mark().write(&self.dir.join(HEAD_FILE))?)
    }

    /// Takes in a line.
    fn take(&mut self, line: usize, entry: LedgerEntry) -> Result<(), LedgerError> {
        let path = self.path();
        let damaged = |what| LedgerError::Damaged { path: path.clone(), line, what };
        match entry {
            LedgerEntry::Begin { schema: 2, ledger, .. } if line == 1 => self.id = ledger,
            LedgerEntry::Begin { schema: 2, .. } => return Err(damaged("the ledger begins a second time")),
            LedgerEntry::Begin { .. } => return Err(damaged("it is of another version")),
            _ if line == 1 => return Err(damaged("it is not how a ledger begins")),
            LedgerEntry::Account(account) => {
                let number = self.spendings.len();
                self.costs.push(self.filter.cost(account.sampling_rate, account.noise_multiplier));
                self.spendings.push(Spending { account, debits: Vec::new() });
                if !self.overlaps.is_empty() {
                    let tags = self.tags(number)?;
                    self.overlaps.values_mut().for_each(|overlap| overlap.split(&tags, &[number]));
                }
            }
            LedgerEntry::Debit(debit) => {
                let spending = self.spendings.get_mut(debit.account);
                let Some(spending) = spending else { return Err(damaged("it debits an account that there is not")) };
                let limit = OverJobs { max_epsilon: debit.limit_epsilon, delta: debit.limit_delta };
                spending.debits.push(debit);
                self.limits.retain(|before| *before != limit);
                self.limits.push(limit);
            }
        }
        Ok(())
    }

    /// The tags of an account.
    fn tags(&self, number: usize) -> Result<TagSet, LedgerError> {
        let (dir, digest) = (self.dir.join(TAGS_DIR), self.spendings[number].account.tags);
        match TagSet::read(&dir, &digest) {
            Ok(Some(tags)) => Ok(tags),
            Ok(None) | Err(FileError::Missing { .. }) => {
                Err(LedgerError::Tags { account: number, path: dir.join(TagSet::name(&digest)) })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.dir.join(LEDGER_FILE)
    }

    /// Which ledger this is.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The organisation's limit.
    pub fn limit(&self) -> OverJobs {
        self.limit
    }

    /// The limits under which was debited, each once, the last at the end. Whoever changes the limit after seeing results
    /// has a filter more, and its δ.
    pub fn limits(&self) -> &[OverJobs] {
        &self.limits
    }

    /// Every account, in the order of the file.
    pub fn spendings(&self) -> &[Spending] {
        &self.spendings
    }

    /// Bytes of an unfinished last line that were cut off; 0 after a clean end.
    pub fn cut_bytes(&self) -> u64 {
        self.chain.cut_bytes()
    }
}

/// Refuses to begin a ledger in a folder where tags lie: they are written after a ledger's first line.
fn nothing_spent(dir: &Path) -> Result<(), LedgerError> {
    let tags = dir.join(TAGS_DIR);
    match tags.read_dir().map(|mut found| found.next().is_some()) {
        Ok(true) => Err(LedgerError::Lost { path: dir.join(LEDGER_FILE), beside: tags }),
        Ok(false) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LedgerError::Io { path: tags, source }),
    }
}

/// 32 bytes from the operating system.
fn random() -> Result<[u8; 32], LedgerError> {
    let mut bytes = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(|e| LedgerError::Io {
        path: PathBuf::from("the operating system's randomness"),
        source: std::io::Error::other(e.to_string()),
    })?;
    Ok(bytes)
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
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
    /// Makes the disk refuse.
    pub(crate) fn break_disk(&mut self) {
        self.chain.break_disk(b"");
    }
}

#[cfg(test)]
mod tests;
