//! Gaussian noise in floating point, to compare with; training adds that of [`crate::noise`].
//!
//! The accountant speaks of real numbers; this noise is `f64`. Mironov ("On significance of the least significant bits
//! for differential privacy", CCS 2012) showed for a textbook Laplace sampler that the set of floating-point results
//! reachable from one data set differs from that of its neighbour, so that the exact bits of an output can tell them
//! apart; the same holds in principle for Box and Muller's Gaussians used here.
//!
//! The tail ends at 9.42σ (2⁻⁶⁴ is the smallest uniform number): a deviation of less than 1e-20 in total variation per
//! coordinate and step.

use rand_core::CryptoRng;

/// Adds independent N(0, `sigma`²) noise to each value.
///
/// `sigma` is the absolute standard deviation: noise multiplier times clip norm for a clipped sum. Method: Box and
/// Muller (1958) in `f64` with `libm`, uniform numbers of 64 bits.
///
/// # Panics
/// If `sigma` is negative or not finite: noise that fails must not fail silently.
pub fn add_noise(values: &mut [f64], sigma: f64, rng: &mut impl CryptoRng) {
    assert!(sigma >= 0.0 && sigma.is_finite(), "a standard deviation must be finite and not negative");
    for pair in values.chunks_mut(2) {
        let (x, y) = standard_pair(rng);
        for (value, noise) in pair.iter_mut().zip([x, y]) {
            *value += sigma * noise;
        }
    }
}

/// Two independent standard Gaussians.
fn standard_pair(rng: &mut impl CryptoRng) -> (f64, f64) {
    // On (0, 1], so that the logarithm is finite.
    let mut uniform = || (rng.next_u64() as f64 + 1.0) * 2f64.powi(-64);
    let radius = (-2.0 * libm::log(uniform())).sqrt();
    let (sin, cos) = libm::sincos(2.0 * std::f64::consts::PI * uniform());
    (radius * cos, radius * sin)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const N: usize = 200_001;

    fn noise(seed: u64, sigma: f64) -> Vec<f64> {
        let mut values = vec![0.0; N];
        add_noise(&mut values, sigma, &mut ChaCha20Rng::seed_from_u64(seed));
        values
    }

    #[test]
    fn moments_are_those_of_a_gaussian() {
        let values = noise(1, 3.0);
        let moment = |k: i32| values.iter().map(|x| (x / 3.0).powi(k)).sum::<f64>() / N as f64;
        // Standard errors of the first four moments over N draws: √(1, 2, 15, 96)/√N; four of each.
        let error = |variance: f64| 4.0 * (variance / N as f64).sqrt();
        assert!(moment(1).abs() < error(1.0), "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < error(2.0), "variance {}", moment(2));
        assert!(moment(3).abs() < error(15.0), "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < error(96.0), "fourth moment {}", moment(4));
    }

    #[test]
    fn the_distribution_is_within_kolmogorovs_distance() {
        let mut values = noise(2, 0.5);
        values.sort_by(f64::total_cmp);
        let cdf = |x: f64| 0.5 * libm::erfc(-x / 0.5 / std::f64::consts::SQRT_2);
        let distance = values.iter().enumerate().map(|(i, &x)| {
            let p = cdf(x);
            (p - i as f64 / N as f64).max((i + 1) as f64 / N as f64 - p)
        });
        let distance = distance.fold(0.0, f64::max) * (N as f64).sqrt();
        // 1.95 is exceeded with probability 0.001 by a true Gaussian.
        assert!(distance < 1.95, "{distance}");
    }

    #[test]
    fn neighbours_are_independent() {
        let values = noise(3, 1.0);
        for lag in [1, 2] {
            let correlation = values.windows(lag + 1).map(|w| w[0] * w[lag]).sum::<f64>() / N as f64;
            assert!(correlation.abs() < 4.0 / (N as f64).sqrt(), "lag {lag}: {correlation}");
        }
    }

    #[test]
    fn noise_is_added_and_zero_leaves_the_values() {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let mut values = [1.0, 2.0, 3.0];
        add_noise(&mut values, 0.0, &mut rng);
        assert_eq!(values, [1.0, 2.0, 3.0]);
        let before = rng.clone();
        add_noise(&mut values, 1e-3, &mut rng);
        assert!(values.iter().zip([1.0, 2.0, 3.0]).all(|(v, x)| *v != x && (v - x).abs() < 1e-2));
        let mut again = [1.0, 2.0, 3.0];
        add_noise(&mut again, 1e-3, &mut before.clone());
        assert_eq!(values, again);
    }

    #[test]
    #[should_panic(expected = "standard deviation")]
    fn a_broken_deviation_is_not_silent() {
        add_noise(&mut [0.0], f64::NAN, &mut ChaCha20Rng::seed_from_u64(5));
    }
}
