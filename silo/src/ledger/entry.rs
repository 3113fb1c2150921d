//! What stands in a ledger: accounts, and what was debited from each.
//!
//! ```text
//! {"entry":"begin","schema":2,"ledger":"…",…,"chain":"…"}
//! {"entry":"account","job":"…","purpose":"training","units":2282,"tags":"…",…,"chain":"…"}
//! {"entry":"debit","account":0,"round":1,"attempt":1,"steps":5,…,"chain":"…"}
//! ```
//!
//! Contract: an account never changes; accounts are numbered from 0 in the order of the file.

use blindsum_crypto::Digest;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum LedgerEntry {
    /// First line: which ledger this is.
    Begin {
        /// Version of this format: 2.
        schema: u32,
        /// Drawn at random.
        ledger: Digest,
        /// When, in seconds since 1970 by this machine's clock.
        time_unix_seconds: u64,
    },
    /// A job begins to use rows.
    Account(Account),
    /// It is about to use them.
    Debit(Debit),
}

/// What records are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Training in a federation's job.
    Training,
    /// Counts of held-out records in a federation's job.
    HeldOut,
    /// Training alone, for one adapter.
    Alone,
}

impl Purpose {
    /// For people.
    pub fn said(self) -> &'static str {
        match self {
            Purpose::Training => "training",
            Purpose::HeldOut => "held-out counts",
            Purpose::Alone => "training alone",
        }
    }
}

/// What one job does with one set of records: every use is the same mechanism.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Digest of the job.
    pub job: Digest,
    /// Its name,
    pub job_name: String,
    /// its federation,
    pub federation: String,
    /// and the silo of this organisation that takes part in it; empty where it trains alone.
    pub silo: String,
    /// What the records are used for.
    pub purpose: Purpose,
    /// Path of their file at that time (for people; not compared).
    pub file: String,
    /// Privacy units in it: records, or persons.
    pub units: u64,
    /// SHA-256 of their tags; where they are persons, also of their rows' tags.
    pub tags: Digest,
    /// Probability of each unit to be in a step; 1 for counts.
    pub sampling_rate: f64,
    /// Standard deviation of the noise by what one unit can change.
    pub noise_multiplier: f64,
    /// Steps that the whole job may take.
    pub steps: u64,
    /// The most ε that the job may spend
    pub epsilon_limit: f64,
    /// at this δ.
    pub delta: f64,
    /// When, in seconds since 1970 by this machine's clock.
    pub time_unix_seconds: u64,
}

impl Account {
    /// ε after so many steps of this account alone.
    pub fn epsilon(&self, steps: u64) -> f64 {
        blindsum_privacy::spent(self.sampling_rate, self.noise_multiplier, steps, self.delta)
    }

    /// Whether this is a silo's in a federation's job: it goes on at the next start, and what was debited stays. Who trains
    /// alone begins anew each time.
    pub fn is_of(&self, job: Digest, silo: &str, purpose: Purpose) -> bool {
        (self.job, self.silo.as_str(), self.purpose) == (job, silo, purpose) && purpose != Purpose::Alone
    }
}

/// One debit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debit {
    /// Number of the account, from 0.
    pub account: usize,
    /// Round and
    pub round: u32,
    /// attempt that the update was trained for.
    pub attempt: u32,
    /// Steps of the mechanism.
    pub steps: u64,
    /// ε of the account after this debit.
    pub epsilon_so_far: f64,
    /// ε of the account's worst unit after it, over all jobs.
    pub epsilon_over_jobs: f64,
    /// The organisation's limit on that, as it was configured,
    pub limit_epsilon: f64,
    /// and its δ.
    pub limit_delta: f64,
    /// When, in seconds since 1970 by this machine's clock.
    pub time_unix_seconds: u64,
}
