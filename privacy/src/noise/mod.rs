//! Rounded Gaussian noise on integers, sampled exactly.
//!
//! ```text
//! sum of clipped gradients, in grid steps: i64 ─┐
//! RoundedGaussian(σ in grid steps) ──add_to─────┴─► the noised sum, in grid steps
//!     digits: random words in bulk ─► normal: |Z| = k + 0.x₁x₂… ─► round: ±(σ(k + x) to the nearest integer)
//! ```
//!
//! # Why rounded and not discrete
//! The noise is round(σZ) for a standard normal Z. A sum of integers plus it is the rounding of the sum plus σZ: what the
//! continuous Gaussian mechanism would have given, post-processed. So every (ε, δ) of the continuous mechanism holds for
//! this one, under composition and sampling too. The discrete Gaussian, whose weights are e^(−n²/2σ²), is another
//! mechanism: moved by σ, its δ is up to 2.12, 1.10, 1.006 and 1.0003 times the continuous one's at σ = 1, 4, 16 and 64
//! steps and ε up to 6 (`tests/noise_delta.rs`).
//!
//! # What is exact
//! The probability of the integer n is Φ((n + ½)/σ) − Φ((n − ½)/σ) for the very f64 σ, provided that the generator's
//! words are uniform and independent: no decision rests on a float or on a constant that was rounded, and no tail is cut
//! (Mironov, "On significance of the least significant bits for differential privacy", CCS 2012, is what floats cost).
//! Source: Karney, "Sampling exactly from the normal distribution", ACM TOMS 42(1), 2016 (arXiv 1303.6257).
//!
//! # What is not hidden
//! The sampler rejects, so its time depends on what it draws; no sampler by rejection is constant in time. Draws are
//! made in bulk, before the time at which an update leaves, which is fixed beforehand. Random words are read 1 KiB at a
//! time and erased after use, those left over at the end of a call too. The generator and the values belong to the
//! caller: one of the ChaCha family, seeded by the operating system and never stored. Twelve rounds do: the best attack
//! known reaches seven (Aumasson, "Too Much Crypto", 2019), and `rand`'s own standard generator has twelve; twenty cost
//! a fifth more time per draw (`benches/draws.rs`).

mod digits;
mod normal;
#[cfg(test)]
mod reference;
mod round;

use rand_core::CryptoRng;
use thiserror::Error;

use digits::{Digits, Words};
use round::ExactScale;

/// Why noise was not made. Nothing was drawn and nothing changed.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum NoiseError {
    /// The standard deviation has no meaning here.
    #[error(
        "noise needs a standard deviation of {min} to {max} grid steps, not {0}: choose another grid or noise multiplier",
        min = RoundedGaussian::SIGMA_MIN,
        max = RoundedGaussian::SIGMA_MAX
    )]
    Sigma(f64),
    /// A value to which the noise might not be added without overflow. The value itself is secret and not told.
    #[error(
        "value {index} is beyond ±{max} grid steps, where noise may overflow: choose a coarser grid",
        max = RoundedGaussian::VALUE_MAX
    )]
    Value {
        /// Place of the first such value.
        index: usize,
    },
}

/// The distribution of round(σZ) for a standard normal Z, to the nearest integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundedGaussian {
    sigma: f64,
    scale: ExactScale,
}

impl RoundedGaussian {
    /// Smallest standard deviation in grid steps: 2⁻⁴.
    pub const SIGMA_MIN: f64 = 0.0625;
    /// Largest standard deviation in grid steps: 2³⁰.
    pub const SIGMA_MAX: f64 = 1_073_741_824.0;
    /// Largest absolute value that noise is added to: 2⁶¹.
    pub const VALUE_MAX: u64 = 1 << 61;

    /// Noise with a standard deviation of `sigma` grid steps before rounding, taken as the exact value of the f64.
    ///
    /// # Errors
    /// If `sigma` is not within [`SIGMA_MIN`](Self::SIGMA_MIN) and [`SIGMA_MAX`](Self::SIGMA_MAX).
    pub fn new(sigma: f64) -> Result<Self, NoiseError> {
        if !(Self::SIGMA_MIN..=Self::SIGMA_MAX).contains(&sigma) {
            return Err(NoiseError::Sigma(sigma));
        }
        Ok(RoundedGaussian { sigma, scale: ExactScale::of(sigma) })
    }

    /// The standard deviation in grid steps before rounding: what is accounted.
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Overwrites `noise` with independent draws.
    pub fn fill(&self, rng: &mut impl CryptoRng, noise: &mut [i64]) {
        let mut words = Words::new(rng);
        noise.iter_mut().for_each(|n| *n = self.draw(&mut words));
    }

    /// Adds an independent draw to each value.
    ///
    /// No addition overflows, and none saturates: a draw is below 2³⁰ · 2³² + 1 in absolute value (its integer part k is
    /// counted in 32 bits), a value at most [`VALUE_MAX`](Self::VALUE_MAX).
    ///
    /// # Errors
    /// If a value is beyond; then before any draw.
    pub fn add_to(&self, rng: &mut impl CryptoRng, values: &mut [i64]) -> Result<(), NoiseError> {
        if let Some(index) = values.iter().position(|v| v.unsigned_abs() > Self::VALUE_MAX) {
            return Err(NoiseError::Value { index });
        }
        let mut words = Words::new(rng);
        values.iter_mut().for_each(|v| *v += self.draw(&mut words));
        Ok(())
    }

    #[inline]
    fn draw<D: Digits>(&self, digits: &mut D) -> i64 {
        let (k, x) = normal::absolute(digits);
        let negative = digits.bits(1) == 1;
        let n = self.scale.round(k, &x, digits);
        if negative { -n } else { n }
    }
}
