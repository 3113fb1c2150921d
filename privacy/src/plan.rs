//! The numbers of a job's differential privacy: what every silo does at each step, and what the whole job spends.
//!
//! ```text
//! author: ε, δ, steps, batch, a public guess of a silo's rows ─► Mechanism::propose ─► the job
//! every silo: the job ─► Mechanism::new ─► keeps(ε): does the statement hold? ─► allows(own records)
//! ```
//!
//! Contract: q and the noise multiplier are public numbers of the job, the same in every silo. No number here is computed
//! from a silo's records: neighbouring data sets get the same noise, so that a silo's update does not show by its spread
//! which of them it was made from. Own records are only ever compared, by the silo itself and before the job.

use thiserror::Error;

use crate::Mutant;
use crate::pld;
use crate::rdp::CalibrateError;

/// Significant digits of what [`Mechanism::propose`] proposes: both numbers are rounded up.
const DIGITS: i32 = 5;
/// Above this ε the bound e^ε on what an observer can learn says little.
const WEAK_EPSILON: f64 = 10.0;
/// Largest noise multiplier: what still fits the grid on which noise is drawn, and more than any job needs that learns.
const NOISE_MAX: f64 = 64.0;
/// The part of δ that batches may spend that are cut at [`Mechanism::batch_max`].
const CUT_SHARE: f64 = 0.01;
/// How many times as many rows as guessed a silo may have with what [`Mechanism::propose`] proposes.
const ROOM: u64 = 4;
/// A silo's records times δ, from which on the failure of the guarantee is a likely event for somebody.
const WEAK_DELTA: f64 = 0.1;

/// The Poisson-subsampled Gaussian mechanism of a job, and how often it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mechanism {
    /// Probability with which each record (or person, [`Mechanism::of`]) enters a step.
    pub q: f64,
    /// Standard deviation of the noise divided by the clip norm.
    pub noise_multiplier: f64,
    /// Steps of the whole job.
    pub steps: u64,
    /// δ of the statement.
    pub delta: f64,
    /// Most records of a step: a larger draw is cut, so that time and memory have a public bound.
    pub batch_max: u32,
    /// What is drawn, protected and counted, for sentences.
    unit: &'static str,
    /// ε of all steps: computed once.
    epsilon: f64,
}

/// ε of `steps` steps at sampling rate `q` and this noise multiplier, stated at `delta`: by privacy loss distributions, at δ
/// less the part that batches may spend which are cut.
pub fn spent(q: f64, noise_multiplier: f64, steps: u64, delta: f64) -> f64 {
    pld::epsilon(q, noise_multiplier, steps, main_delta(delta))
}

/// Gaussian noise on counts that are taken `times` times from all units: its standard deviation divided by what one unit
/// can change (L2), with which all of them together stay within `epsilon` at `delta`; [`spent`] with a sampling rate of 1
/// accounts for it.
///
/// # Errors
/// Where the target cannot be reached, or has no meaning.
pub fn counts_noise(times: u32, epsilon: f64, delta: f64) -> Result<f64, MechanismError> {
    let once = pld::calibrate(1.0, 1, epsilon, main_delta(delta))?;
    let mut noise = round_up(once * f64::from(times).sqrt());
    while spent(1.0, noise, u64::from(times), delta) > epsilon {
        noise = round_up(noise * (1.0 + 10f64.powi(-DIGITS)));
    }
    Ok(noise)
}

fn main_delta(delta: f64) -> f64 {
    delta * (1.0 - CUT_SHARE)
}

/// Why a job's numbers protect nobody as they say.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum MechanismError {
    /// A number without meaning.
    #[error("{name} is {value}; it must be {expected}")]
    Number {
        /// Which number.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// More is spent than stated.
    #[error(
        "ε is stated as {stated}, but {steps} steps at sampling_rate {q} with noise_multiplier {noise_multiplier} spend ε = \
         {spent:.4} at δ = {delta:e}; `blindsum-silo plan` proposes numbers that keep it"
    )]
    Overspent {
        /// The job's ε.
        stated: f64,
        /// What its numbers come to.
        spent: f64,
        /// Steps of the whole job.
        steps: u64,
        /// Sampling rate.
        q: f64,
        /// Noise multiplier.
        noise_multiplier: f64,
        /// δ.
        delta: f64,
    },
    /// δ is large enough to publish some record outright.
    #[error(
        "privacy.delta is {delta}, but with {records} training {unit}s it must be below 1/{records}: agree on a smaller delta, or \
         train on fewer"
    )]
    Delta {
        /// δ of the job.
        delta: f64,
        /// Records of this silo.
        records: u64,
        /// What they are.
        unit: &'static str,
    },
    /// Batches of this silo would be cut too often.
    #[error(
        "{records} training {unit}s are too many for privacy.batch_max = {batch_max}: a step draws {mean:.0} of them on average, \
         and cutting batches may cost no more than a hundredth of delta; bring in a part of them, chosen once, or agree on a larger \
         batch_max"
    )]
    Cut {
        /// Records of this silo.
        records: u64,
        /// The job's largest batch.
        batch_max: u32,
        /// Records that a step draws on average.
        mean: f64,
        /// What they are.
        unit: &'static str,
    },
    /// A batch larger than what it is drawn from.
    #[error("a batch of {batch} cannot be drawn from {rows} rows: choose a smaller batch, or larger silos")]
    Batch {
        /// Rows per step.
        batch: u64,
        /// Guess of a silo's rows.
        rows: u64,
    },
    /// The accountant found no noise multiplier.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
}

impl Mechanism {
    /// The mechanism with a job's numbers.
    ///
    /// # Errors
    /// A number that is no probability, no noise, or no δ.
    pub fn new(q: f64, noise_multiplier: f64, steps: u64, delta: f64, batch_max: u32) -> Result<Self, MechanismError> {
        let wrong = |name, value, expected| Err(MechanismError::Number { name, value, expected });
        if !(q > 0.0 && q <= 1.0) {
            return wrong("the sampling rate", q, "above 0 and at most 1");
        }
        if !(noise_multiplier > 0.0 && noise_multiplier <= NOISE_MAX) {
            return wrong("the noise multiplier", noise_multiplier, "above 0 and at most 64");
        }
        if !(delta > 0.0 && delta < 1.0) {
            return wrong("delta", delta, "above 0 and below 1");
        }
        if batch_max == 0 {
            return wrong("batch_max", 0.0, "at least 1");
        }
        let epsilon = spent(q, noise_multiplier, steps, delta);
        Ok(Mechanism { q, noise_multiplier, steps, delta, batch_max, unit: "record", epsilon })
    }

    /// The same numbers where not records are drawn, protected and counted, but `unit`s: persons with all their rows.
    pub fn of(self, unit: &'static str) -> Self {
        Mechanism { unit, ..self }
    }

    /// Numbers with which `steps` steps stay within `epsilon` at `delta`, where a silo of `rows` rows, a public guess,
    /// draws `batch` of them on average; silos of up to four times as many rows may take part. Rate and noise are rounded up
    /// to five significant digits, the noise after the rate.
    ///
    /// # Errors
    /// Where the arguments have no meaning or the target cannot be reached.
    pub fn propose(rows: u64, batch: u64, steps: u64, epsilon: f64, delta: f64) -> Result<Self, MechanismError> {
        if batch == 0 || batch > rows {
            return Err(MechanismError::Batch { batch, rows });
        }
        let q = round_up(batch as f64 / rows as f64).min(1.0);
        let noise_multiplier = round_up(pld::calibrate(q, steps, epsilon, main_delta(delta))?);
        let mut found = Self::new(q, noise_multiplier, steps, delta, u32::MAX)?;
        // What a decimal number loses in its last digit must not be lost by the records.
        while found.epsilon > epsilon {
            let more = round_up(found.noise_multiplier * (1.0 + 10f64.powi(-DIGITS)));
            found = Self::new(q, more, steps, delta, u32::MAX)?;
        }
        let room = rows.saturating_mul(ROOM);
        found.batch_max = u32::try_from(batch.saturating_mul(ROOM)).unwrap_or(u32::MAX);
        while found.cuts(room) && found.batch_max < u32::MAX {
            // A 64th at a time: the answer is a round number soon enough.
            found.batch_max = found.batch_max.saturating_add((found.batch_max / 64).max(1));
        }
        Ok(found)
    }

    /// ε that the whole job spends on each record.
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// ε spent after `steps` steps, at δ less the part that is kept for batches that are cut.
    pub fn spent(&self, steps: u64) -> f64 {
        spent(self.q, self.noise_multiplier, steps, self.delta)
    }

    /// The part of δ at which ε is computed.
    pub fn main_delta(&self) -> f64 {
        main_delta(self.delta)
    }

    /// Refuses a statement of `stated` that the numbers do not keep.
    ///
    /// # Errors
    /// [`MechanismError::Overspent`].
    pub fn keeps(self, stated: f64) -> Result<Self, MechanismError> {
        let Mechanism { q, noise_multiplier, steps, delta, .. } = self;
        let spent = self.epsilon;
        if spent <= stated {
            return Ok(self);
        }
        Err(MechanismError::Overspent { stated, spent, steps, q, noise_multiplier, delta })
    }

    /// Whether a silo with so many records may take part, for the silo itself and before the job. Where δ is not below
    /// 1/records, publishing one record outright would satisfy it. Where batches are cut too often, ε does not hold.
    ///
    /// # Errors
    /// [`MechanismError::Delta`] and [`MechanismError::Cut`].
    pub fn allows(&self, records: u64) -> Result<(), MechanismError> {
        if self.delta * records as f64 >= 1.0 {
            return Err(MechanismError::Delta { delta: self.delta, records, unit: self.unit });
        }
        if self.cuts(records) {
            let (batch_max, mean) = (self.batch_max, self.q * records as f64);
            return Err(MechanismError::Cut { records, batch_max, mean, unit: self.unit });
        }
        Ok(())
    }

    /// Whether cutting batches costs more than its part of δ. With the probability τ that some batch of the job is cut,
    /// outputs lie within τ of those of the mechanism that is accounted for, under either neighbour; so
    /// P[S] ≤ e^ε·(P'[S] + τ) + δ + τ, and cutting costs (1 + e^ε)·τ.
    fn cuts(&self, records: u64) -> bool {
        if Mutant::UnchargedCut.lives() {
            return false;
        }
        // A neighbour may have one record more.
        let ln_tau =
            libm::log(self.steps as f64) + ln_tail(records.saturating_add(1), self.q, u64::from(self.batch_max));
        let ln_cost = ln_tau + libm::log1p(libm::exp(self.epsilon));
        ln_cost.is_nan() || ln_cost > libm::log(CUT_SHARE * self.delta)
    }

    /// What a silo with so many records should know before it takes part: sentences for its own log.
    pub fn remarks(&self, records: u64) -> Vec<String> {
        let Mechanism { epsilon, delta, unit, .. } = *self;
        let mut said = Vec::new();
        if epsilon > WEAK_EPSILON {
            said.push(format!(
                "ε = {epsilon:.2} is a weak promise: whoever sees the results may become e^ε = {:.0e} times surer that a {unit} \
                 was among them; below {WEAK_EPSILON} is usual, 1 is strong",
                libm::exp(epsilon)
            ));
        }
        if delta * records as f64 > WEAK_DELTA {
            said.push(format!(
                "δ = {delta:e} is {:.0} % of 1/{records}: with that probability one of the {unit}s may be given away whole; \
                 below {WEAK_DELTA}/{unit}s is usual",
                100.0 * delta * records as f64
            ));
        }
        said
    }
}

/// An upper bound on ln P[more than `most` of `n` draws at rate `q`]: Chernoff's, exp(−n·KL(k/n ‖ q)) for k = most + 1.
fn ln_tail(n: u64, q: f64, most: u64) -> f64 {
    if most >= n {
        return f64::NEG_INFINITY;
    }
    let (n, k) = (n as f64, (most + 1) as f64);
    if k <= n * q {
        return 0.0;
    }
    let missing = if k < n { (n - k) * libm::log((n - k) / (n * (1.0 - q))) } else { 0.0 };
    -(k * libm::log(k / (n * q)) + missing)
}

/// To [`DIGITS`] significant digits, upwards; x above 0.
fn round_up(x: f64) -> f64 {
    let place = DIGITS - 1 - x.log10().floor() as i32;
    let scale = 10f64.powi(place.abs());
    if place >= 0 { (x * scale).ceil() / scale } else { (x / scale).ceil() * scale }
}
