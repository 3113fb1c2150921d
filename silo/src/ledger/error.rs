//! Why the ledger refuses: each means that nothing may be trained.

use std::path::PathBuf;

use blindsum_crypto::Digest;
use blindsum_files::{ExitCode, Exits, FileError};

use super::InOtherJobs;

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
    /// A file beside it.
    #[error("the privacy ledger: {0}. Nothing was trained.")]
    File(#[from] FileError),
    /// It is not there, though it was.
    #[error(
        "the privacy ledger {path} is not there, but {beside} says that there was one: what was spent is no longer known, so \
         nothing more will be spent. Put ledger_dir back as it was, or take no further part with these rows"
    )]
    Lost {
        /// Where it should lie.
        path: PathBuf,
        /// What remembers.
        beside: PathBuf,
    },
    /// It knows less than something else does.
    #[error(
        "the privacy ledger {path} is an old copy, or was changed: {what}. What was spent is no longer known, so nothing more \
         will be spent. Put ledger_dir back as it was when this organisation last trained"
    )]
    RolledBack {
        /// The ledger.
        path: PathBuf,
        /// What it does not know.
        what: String,
    },
    /// A line that is not a ledger's.
    #[error(
        "the privacy ledger {path}, line {line}: {what}. What was spent is no longer known, so nothing more will be spent: \
         put ledger_dir back as it was when this organisation last trained"
    )]
    Damaged {
        /// The ledger.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The tags of an account.
    #[error(
        "the privacy ledger: the tags of account {account}, {path}, are damaged or not there, so that it is not known on whom \
         its ε was spent; nothing more will be spent. Put ledger_dir back as it was"
    )]
    Tags {
        /// The account.
        account: usize,
        /// Their file.
        path: PathBuf,
    },
    /// The organisation's limit limits nothing.
    #[error(
        "the organisation's limit, ε ≤ {epsilon} at δ = {delta:e}, has no meaning: policy.max_epsilon (--max-epsilon) must be a \
         number above 0, policy.max_delta (--max-delta) one between 0 and 1"
    )]
    Limit {
        /// Its ε.
        epsilon: f64,
        /// Its δ.
        delta: f64,
    },
    /// The job's δ alone.
    #[error(
        "the job states δ = {job:e}, the organisation's limit over all jobs is one at δ = {limit:e}: agree on a smaller delta. \
         Nothing was trained"
    )]
    Delta {
        /// The job's.
        job: f64,
        /// The organisation's.
        limit: f64,
    },
    /// Others may read the key. It must not be replaced, as other keys are: without it the ledger cannot be read.
    #[error(
        "{path} may be read by others on this machine, who could then tell whether a text that they guess was trained on: run \
         `chmod 600 {path}`, and keep the key, without which the ledger cannot be read. Nothing was trained"
    )]
    KeyExposed {
        /// The key.
        path: PathBuf,
    },
    /// No ledger is named.
    #[error(
        "the job has differential privacy, but {0} is missing: name the folder of the organisation's privacy ledger, \
         one for all its jobs and federations"
    )]
    NotNamed(&'static str),
    /// The units changed under the job.
    #[error(
        "{now} does not hold the same rows as {before}, for which account {account} of the privacy ledger {path} was opened ({counts}): \
         within a job they must stay the same. Put the earlier rows back to go on with this job"
    )]
    OtherData {
        /// The ledger.
        path: PathBuf,
        /// The account.
        account: usize,
        /// The file then.
        before: String,
        /// The file now.
        now: String,
        /// Units then and now.
        counts: String,
    },
    /// The configuration or the accountant gives other numbers than those the account was opened with.
    #[error(
        "the privacy ledger {path}: account {account} was opened with {what} {before}, now it is {now}: go back, or start a new job"
    )]
    OtherMechanism {
        /// The ledger.
        path: PathBuf,
        /// The account.
        account: usize,
        /// Which number.
        what: &'static str,
        /// As recorded.
        before: f64,
        /// As derived now.
        now: f64,
    },
    /// The job's own budget.
    #[error(
        "round {round}, attempt {attempt} would bring ε to {would_be:.4} at δ = {delta:e}, past the job's {limit:.4} (ε so far: \
         {so_far:.4}, {debits} debits, of which {retries} for attempts that were repeated). Nothing was trained; this silo \
         takes no further part in the job. What is already in the sum stays within the limit"
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
    /// The organisation's budget.
    #[error(
        "{file}: {what} would bring ε of its worst unit to {would_be:.4} over all jobs, past the organisation's limit of \
         {limit} (policy.max_epsilon; --max-epsilon of `train`) at δ = {delta:e}: other jobs spent ε = {others:.4} on some of them \
         ({shared} are in other jobs too). \
         Nothing was trained. `blindsum-silo budget show` lists the jobs; train on others, in a job that spends less, or \
         let the organisation's data-protection officer decide on a larger limit"
    )]
    OverJobs {
        /// The rows.
        file: String,
        /// What was asked for.
        what: String,
        /// ε after it.
        would_be: f64,
        /// The organisation's limit
        limit: f64,
        /// at this δ.
        delta: f64,
        /// The worst unit's ε by other jobs alone.
        others: f64,
        /// What other jobs used too.
        shared: InOtherJobs,
    },
    /// A state directory that another ledger knows.
    #[error(
        "{mark} says that this silo spends from the privacy ledger {before}, but {path} is ledger {now}: name the ledger_dir that \
         it used before"
    )]
    OtherLedger {
        /// What the state directory remembers.
        mark: PathBuf,
        /// The ledger.
        path: PathBuf,
        /// Which it was.
        before: Digest,
        /// Which it is.
        now: Digest,
    },
}

impl LedgerError {
    /// Whether a budget is spent: nothing is wrong with the ledger.
    #[must_use]
    pub fn spent_up(&self) -> bool {
        matches!(self, LedgerError::Exhausted { .. } | LedgerError::OverJobs { .. })
    }
}

impl Exits for LedgerError {
    fn exit_code(&self) -> ExitCode {
        match self {
            LedgerError::Io { .. } | LedgerError::KeyExposed { .. } => ExitCode::Storage,
            LedgerError::File(e) => e.exit_code(),
            LedgerError::NotNamed(_) | LedgerError::Limit { .. } => ExitCode::Usage,
            _ => ExitCode::Refused,
        }
    }
}
