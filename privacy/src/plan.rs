//! From the plan's ε, δ, steps and expected batch to one silo's sampling rate and noise.
//!
//! The plan is public and alike for all; the number of records is the silo's own. So q and the noise multiplier are
//! derived inside the silo and neither leaves it. The errors below name them: they are for the silo's own log.

use thiserror::Error;

use crate::rdp::{self, CalibrateError};

/// Fewest expected batches that a silo's records must make.
const MIN_BATCHES: u64 = 10;

/// What one silo does at each step so that the whole job stays within ε at δ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiloPrivacy {
    /// Probability with which each record is drawn: expected batch divided by records.
    pub q: f64,
    /// Standard deviation of the noise divided by the clip norm.
    pub noise_multiplier: f64,
    /// Steps of the whole job.
    pub steps: u64,
    /// δ of the plan.
    pub delta: f64,
}

/// Why a silo does not take part under this plan.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum DeriveError {
    /// No batch can be drawn.
    #[error("the plan expects {0} examples per batch; at least 1 is needed")]
    ExpectedBatch(u64),
    /// δ is large enough to publish some record outright.
    #[error(
        "privacy.delta is {delta}, but with {records} training records it must be below 1/{records}: agree on a smaller delta or bring more records"
    )]
    Delta {
        /// δ of the plan.
        delta: f64,
        /// Records of this silo.
        records: u64,
    },
    /// Too few records for the plan's batch.
    #[error(
        "{records} training records are fewer than {MIN_BATCHES} batches of {expected_batch}: agree on a smaller expected batch or bring more records"
    )]
    TooFewRecords {
        /// Records of this silo.
        records: u64,
        /// Expected batch of the plan.
        expected_batch: u64,
    },
    /// The job's limit on noise is below what this silo needs.
    #[error(
        "drawing {percent:.2} % of the training records at each step needs a noise multiplier of {needed:.3} for this epsilon, above privacy.noise_multiplier_max = {max}: fewer steps, a larger epsilon or more records would lower it", percent = 100.0 * q
    )]
    TooMuchNoise {
        /// Sampling rate of this silo.
        q: f64,
        /// The noise multiplier that the plan's ε needs here.
        needed: f64,
        /// The job's limit.
        max: f64,
    },
    /// The accountant found no noise multiplier.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
}

impl SiloPrivacy {
    /// Derives sampling rate and noise for a silo with `records` training records, for `steps` steps in the whole job.
    ///
    /// # Errors
    /// Refuses where δ ≥ 1/records (one record published outright would satisfy such a δ) and where the records are
    /// fewer than ten expected batches; and where the plan's values have no meaning or cannot be reached.
    pub fn derive(
        records: u64,
        expected_batch: u64,
        steps: u64,
        epsilon: f64,
        delta: f64,
    ) -> Result<Self, DeriveError> {
        if expected_batch == 0 {
            return Err(DeriveError::ExpectedBatch(expected_batch));
        }
        if expected_batch > records / MIN_BATCHES {
            return Err(DeriveError::TooFewRecords { records, expected_batch });
        }
        if delta >= 1.0 / records as f64 {
            return Err(DeriveError::Delta { delta, records });
        }
        let q = expected_batch as f64 / records as f64;
        let noise_multiplier = rdp::calibrate(q, steps, epsilon, delta)?;
        Ok(SiloPrivacy { q, noise_multiplier, steps, delta })
    }

    /// Refuses if this silo needs more noise than the job allows, from which the coordinate bound was derived.
    ///
    /// # Errors
    /// If the noise multiplier is above `max`.
    pub fn within(self, max: f64) -> Result<Self, DeriveError> {
        if self.noise_multiplier <= max {
            return Ok(self);
        }
        Err(DeriveError::TooMuchNoise { q: self.q, needed: self.noise_multiplier, max })
    }

    /// ε spent after `steps` steps at the plan's δ, for the ledger; at most the plan's ε while `steps` is within the
    /// plan.
    pub fn spent(&self, steps: u64) -> f64 {
        rdp::epsilon(self.q, self.noise_multiplier, steps, self.delta)
    }
}
