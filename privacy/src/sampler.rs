//! Poisson sampling: each record independently with probability q.
//!
//! The accountant's amplification by sampling holds for exactly this, not for shuffled batches of fixed size. A batch
//! may be empty; the caller divides by the expected size, which is public, never by the actual one.
//!
//! A record is in if a uniform 64-bit integer lies below ⌊q·2⁶⁴⌋. No float decides, and [`Rate::accounted`] is that
//! integer over 2⁶⁴ exactly: what the accountant is told is neither above nor below what is drawn.

use rand_core::CryptoRng;
use thiserror::Error;

use crate::Mutant;

/// A sampling rate that is no probability, or one too small to draw by.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("a sampling rate must lie above 0 (at least at 2^-64) and at most at 1, not {0}")]
pub struct SamplerError(pub f64);

/// A probability t/2⁶⁴ for an integer 1 ≤ t ≤ 2⁶⁴: what is drawn by, and as an f64 what is accounted, the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u128);

impl Rate {
    /// ⌊q·2⁶⁴⌋/2⁶⁴. That is q itself from q = 2⁻¹² on, whose last bit is worth at least 2⁻⁶⁴.
    ///
    /// # Errors
    /// If `q` lies below 2⁻⁶⁴ or above 1.
    pub fn new(q: f64) -> Result<Self, SamplerError> {
        // Multiplying by a power of two is exact.
        let threshold = q * TWO_64;
        if !(threshold >= 1.0 && q <= 1.0) {
            return Err(SamplerError(q));
        }
        Ok(Rate(threshold as u128))
    }

    /// t/2⁶⁴, exactly: an f64 holds it, since t has no more bits than the f64 that it came from.
    pub fn accounted(self) -> f64 {
        self.0 as f64 / TWO_64
    }

    /// Whether a uniform integer says that a record is in: true for t of the 2⁶⁴.
    #[inline]
    pub fn takes(self, uniform: u64) -> bool {
        u128::from(uniform) < self.0
    }
}

const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// Draws batches at one sampling rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoissonSampler {
    rate: Rate,
}

impl PoissonSampler {
    /// A sampler at [`Rate::new`]`(q)`.
    ///
    /// # Errors
    /// If `q` lies below 2⁻⁶⁴ or above 1.
    pub fn new(q: f64) -> Result<Self, SamplerError> {
        Ok(PoissonSampler { rate: Rate::new(q)? })
    }

    /// The probability with which each record is drawn, exactly: what to account.
    pub fn rate(&self) -> f64 {
        self.rate.accounted()
    }

    /// Draws a batch from `n` records: the indices drawn, ascending, each at most once.
    ///
    /// One comparison of 64 random bits with an integer decides on each record. Time and memory traffic depend on the
    /// batch; the batch is secret within the silo, as the records are.
    pub fn sample(&self, n: usize, rng: &mut impl CryptoRng) -> Vec<usize> {
        if Mutant::Shuffle.lives() {
            return shuffled((self.rate() * n as f64).round() as usize, n, rng);
        }
        (0..n).filter(|_| self.rate.takes(rng.next_u64())).collect()
    }
}

/// What [`Mutant::Shuffle`] does: the first of the records in a random order.
fn shuffled(batch: usize, n: usize, rng: &mut impl CryptoRng) -> Vec<usize> {
    let mut order: Vec<(u64, usize)> = (0..n).map(|i| (rng.next_u64(), i)).collect();
    order.sort_unstable();
    order.into_iter().take(batch).map(|(_, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn rates_that_are_no_probability_are_refused() {
        let below = f64::from_bits(2f64.powi(-64).to_bits() - 1);
        for q in [0.0, -0.1, below, 5e-324, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY] {
            assert!(PoissonSampler::new(q).is_err(), "{q}");
        }
        assert_eq!(Rate::new(0.25), Ok(Rate(1 << 62)));
        assert_eq!((Rate::new(2f64.powi(-64)), Rate::new(1.0)), (Ok(Rate(1)), Ok(Rate(1 << 64))));
    }

    proptest! {
        #[test]
        fn the_accounted_rate_is_the_drawn_one(bits in 2f64.powi(-64).to_bits()..=1f64.to_bits()) {
            let q = f64::from_bits(bits);
            let rate = Rate::new(q).unwrap();
            // Back to the very integer: nothing was rounded in either direction.
            prop_assert_eq!((rate.accounted() * TWO_64) as u128, rate.0);
            prop_assert!(rate.accounted() == q || q < 2f64.powi(-12));
            prop_assert!(rate.accounted() <= q && q - rate.accounted() < 2f64.powi(-64));
        }

        #[test]
        fn a_record_is_in_for_so_many_integers(bits in 2f64.powi(-64).to_bits()..1f64.to_bits()) {
            let rate = Rate::new(f64::from_bits(bits)).unwrap();
            let least = rate.0 as u64;
            prop_assert!(rate.takes(0) && rate.takes(least - 1) && !rate.takes(least) && !rate.takes(u64::MAX));
        }
    }

    #[test]
    fn the_batch_is_the_comparison_of_words() {
        let (rate, rng) = (Rate::new(0.3).unwrap(), ChaCha20Rng::seed_from_u64(7));
        let batch = PoissonSampler::new(0.3).unwrap().sample(1000, &mut rng.clone());
        let mut words = rng;
        let expected: Vec<usize> = (0..1000).filter(|_| rate.takes(words.next_u64())).collect();
        assert_eq!(batch, expected);
    }

    #[test]
    fn rate_one_takes_all_and_nothing_gives_nothing() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        assert_eq!(PoissonSampler::new(1.0).unwrap().sample(5, &mut rng), [0, 1, 2, 3, 4]);
        assert_eq!(PoissonSampler::new(0.5).unwrap().sample(0, &mut rng), [0usize; 0]);
    }

    #[test]
    fn batch_sizes_are_binomial_and_records_alike() {
        let (n, q, draws) = (400, 0.03, 20_000u32);
        let sampler = PoissonSampler::new(q).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(20_240_601);
        let (mut sum, mut squares, mut empty) = (0.0, 0.0, 0u32);
        let mut inclusions = vec![0u32; n];
        let mut together = 0u32;
        for _ in 0..draws {
            let batch = sampler.sample(n, &mut rng);
            assert!(batch.windows(2).all(|w| w[0] < w[1]));
            batch.iter().for_each(|&i| inclusions[i] += 1);
            together += u32::from(batch.contains(&0) && batch.contains(&1));
            empty += u32::from(batch.is_empty());
            sum += batch.len() as f64;
            squares += (batch.len() * batch.len()) as f64;
        }
        let draws = f64::from(draws);
        let (mean, expected, variance) = (sum / draws, 400.0 * q, 400.0 * q * (1.0 - q));
        assert!((mean - expected).abs() < 4.0 * (variance / draws).sqrt(), "mean {mean}");
        // A sampler of fixed batch size would have no variance at all. Standard error of a variance: about √(2/draws).
        let measured = squares / draws - mean * mean;
        assert!((measured / variance - 1.0).abs() < 4.0 * (2.1 / draws).sqrt(), "variance {measured}");
        // Inclusion counts: chi-square with 400 degrees of freedom, mean 400, deviation √800 ≈ 28.
        let per_record = draws * q;
        let chi: f64 =
            inclusions.iter().map(|&c| (f64::from(c) - per_record).powi(2)).sum::<f64>() / (per_record * (1.0 - q));
        assert!((chi - 400.0).abs() < 4.0 * 800f64.sqrt(), "chi-square {chi}");
        // Pairs: q² of the draws, 18 of 20 000.
        assert!((f64::from(together) - draws * q * q).abs() < 4.0 * (draws * q * q).sqrt(), "together {together}");
        assert!(f64::from(empty) < 5.0, "(1 − q)⁴⁰⁰ is 5e-6: {empty} of 20 000 batches were empty");
    }

    #[test]
    fn small_rates_still_draw() {
        let sampler = PoissonSampler::new(1e-3).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let drawn: usize = (0..1000).map(|_| sampler.sample(1000, &mut rng).len()).sum();
        assert!((drawn as f64 - 1000.0).abs() < 4.0 * 1000f64.sqrt(), "{drawn}");
    }
}
