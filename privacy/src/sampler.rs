//! Poisson sampling: each record independently with probability q.
//!
//! The accountant's amplification by sampling holds for exactly this, not for shuffled batches of fixed size. A batch
//! may be empty; the caller divides by the expected size, which is public, never by the actual one.

use rand_core::CryptoRng;
use thiserror::Error;

/// A sampling rate that is no probability.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("a sampling rate must lie above 0 and at most at 1, not {0}")]
pub struct SamplerError(pub f64);

/// Draws batches at one sampling rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoissonSampler {
    q: f64,
    /// `q · 2¹²⁸`; a record is drawn if a uniform 128-bit number lies below. `None` for q = 1.
    threshold: Option<u128>,
}

impl PoissonSampler {
    /// A sampler at rate `0 < q ≤ 1`.
    ///
    /// # Errors
    /// If `q` lies outside.
    pub fn new(q: f64) -> Result<Self, SamplerError> {
        if !(q > 0.0 && q <= 1.0) {
            return Err(SamplerError(q));
        }
        // Multiplying by a power of two is exact, and so is the conversion for q ≥ 2⁻⁷⁵: the probability of drawing is
        // q itself. For smaller q it is less by under 2⁻¹²⁸.
        let threshold = (q < 1.0).then(|| (q * 2f64.powi(64) * 2f64.powi(64)) as u128);
        Ok(PoissonSampler { q, threshold })
    }

    /// The sampling rate.
    pub fn rate(&self) -> f64 {
        self.q
    }

    /// Draws a batch from `n` records: the indices drawn, ascending, each at most once.
    ///
    /// Time and memory traffic depend on the batch; the batch is secret within the silo, as the records are.
    pub fn sample(&self, n: usize, rng: &mut impl CryptoRng) -> Vec<usize> {
        let Some(threshold) = self.threshold else {
            return (0..n).collect();
        };
        let (high, low) = ((threshold >> 64) as u64, threshold as u64);
        // 64 bits decide but for a chance of 2⁻⁶⁴, in which 64 more are drawn.
        let mut drawn = |_: &usize| {
            let bits = rng.next_u64();
            bits < high || (bits == high && rng.next_u64() < low)
        };
        (0..n).filter(|i| drawn(i)).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn rates_that_are_no_probability_are_refused() {
        for q in [0.0, -0.1, 1.0 + f64::EPSILON, f64::NAN, f64::INFINITY] {
            assert!(PoissonSampler::new(q).is_err(), "{q}");
        }
        assert_eq!(PoissonSampler::new(0.25).map(|s| s.threshold), Ok(Some(1 << 126)));
        assert_eq!(PoissonSampler::new(2f64.powi(-75)).map(|s| s.threshold), Ok(Some(1 << 53)));
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
