//! What a [`Mutant`] of the privacy crate does to a step, and that nothing is done where none lives.
//!
//! Contract: in programs no mutant lives, which the compiler knows, and every function here is its first argument.

use blindsum_privacy::Mutant;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use crate::grid;

/// Rows of a micro-batch that gets noise of its own.
const MICRO_BATCH: usize = 8;

/// The noise multiplier of a silo with so many records.
pub(crate) fn noise_multiplier(right: f64, records: usize) -> f64 {
    match () {
        () if Mutant::LessNoise.lives() => 0.9 * right,
        // as an accountant of q = batch/records asks for, to first order
        () if Mutant::NoiseFromRecords.lives() => right * 1000.0 / records.max(1) as f64,
        () => right,
    }
}

/// How often noise is added to the sum of so many rows.
pub(crate) fn noises(right: usize, rows: usize) -> usize {
    match () {
        () if Mutant::NoNoise.lives() => 0,
        () if Mutant::NoisePerMicroBatch.lives() => rows.div_ceil(MICRO_BATCH),
        () => right,
    }
}

/// What the sum of so many rows is divided by.
pub(crate) fn divisor(right: f64, rows: usize) -> f64 {
    if Mutant::DrawnDivisor.lives() { rows.max(1) as f64 } else { right }
}

/// The generator of noise and sampling.
pub(crate) fn generator(right: ChaCha12Rng) -> ChaCha12Rng {
    if Mutant::FixedSeed.lives() { ChaCha12Rng::from_seed([0; 32]) } else { right }
}

/// The sum of so many rows, before noise.
pub(crate) fn sum(mut right: Vec<i64>, rows: usize) -> Vec<i64> {
    let clip = f64::from(grid::STEPS);
    if Mutant::NoiseAfterSaturation.lives() {
        right.iter_mut().for_each(|z| *z = f64::from(*z as f32).clamp(-clip, clip) as i64);
    }
    if Mutant::ClipOfTheMean.lives() {
        let norm = right.iter().map(|&z| (z as f64).powi(2)).sum::<f64>().sqrt();
        let factor = (clip * rows as f64 / norm).min(1.0);
        right.iter_mut().for_each(|z| *z = (*z as f64 * factor) as i64);
    }
    right
}

/// Most rows of one person that count.
pub(crate) fn rows_max(right: usize) -> usize {
    if Mutant::UnitCapIgnored.lives() { usize::MAX } else { right }
}

/// The factor that takes a gradient of this norm onto the grid.
pub(crate) fn factor(right: f64, clip_norm: f64) -> f64 {
    if Mutant::ClipOfTheMean.lives() { grid::STEPS as f64 / clip_norm } else { right }
}
