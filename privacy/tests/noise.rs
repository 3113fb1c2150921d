//! Rounded Gaussian noise against the distribution that it claims, and wrong samplers that the same tests must catch.
//!
//! Seeds are fixed, so nothing here is flaky; each threshold says how rarely a right sampler would miss it anyway.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use blindsum_privacy::noise::{NoiseError, RoundedGaussian};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

const DRAWS: usize = 2_000_000;

/// Φ(b) − Φ(a), from the tail that both are in.
fn normal(a: f64, b: f64) -> f64 {
    let above = |x: f64| 0.5 * libm::erfc(x / std::f64::consts::SQRT_2);
    if a > 0.0 { above(a) - above(b) } else { above(-b) - above(-a) }
}

/// The probability that σZ rounds to one of `from..=to`.
fn rounds_to(from: i64, to: i64, sigma: f64) -> f64 {
    normal((from as f64 - 0.5) / sigma, (to as f64 + 0.5) / sigma)
}

/// How far `draws` are from N(0, σ²) rounded to multiples of `cell`: chi-square over its threshold, so above 1 is wrong.
///
/// A cell counts for itself where 25 draws are expected in it; what lies beyond on both sides is one cell. By Laurent and
/// Massart (2000), lemma 1, a chi-square variable of d degrees exceeds d + 2√(dt) + 2t with probability at most e^(−t).
fn misfit(draws: &[i64], sigma: f64, cell: i64) -> f64 {
    let total = draws.len() as f64;
    let expects = |c: i64| total * rounds_to(c * cell - cell / 2, c * cell + (cell - 1) / 2, sigma);
    let last = (0..).find(|&c| expects(c + 1) < 25.0).unwrap();
    let mut counts: BTreeMap<i64, f64> = BTreeMap::new();
    for &n in draws {
        *counts.entry((n + cell / 2).div_euclid(cell)).or_default() += 1.0;
    }
    let mut cells: Vec<(f64, f64)> =
        (-last..=last).map(|c| (counts.get(&c).copied().unwrap_or_default(), expects(c))).collect();
    let within = rounds_to(-last * cell - cell / 2, last * cell + (cell - 1) / 2, sigma);
    let beyond = (total - cells.iter().map(|(count, _)| count).sum::<f64>(), total * (1.0 - within));
    if beyond.1 >= 25.0 {
        cells.push(beyond);
    } else if beyond.0 > beyond.1 + spread(beyond.1) {
        return f64::INFINITY;
    }
    chi_square(&cells)
}

/// Chi-square of counts and what was expected, over the threshold that it exceeds with probability 1e-10.
fn chi_square(cells: &[(f64, f64)]) -> f64 {
    let (degrees, t) = (cells.len() as f64 - 1.0, 23.0f64);
    let chi: f64 = cells.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum();
    chi / (degrees + 2.0 * (degrees * t).sqrt() + 2.0 * t)
}

/// Chi-square of the remainders likewise; for σ far above the modulus they are uniform but for e^(−2π²σ²/m²).
fn uneven(draws: &[i64], modulus: i64) -> f64 {
    let mut cells = vec![(0.0, draws.len() as f64 / modulus as f64); modulus as usize];
    draws.iter().for_each(|n| cells[n.rem_euclid(modulus) as usize].0 += 1.0);
    chi_square(&cells)
}

fn noise(sigma: f64, seed: u64, count: usize) -> Vec<i64> {
    let mut draws = vec![0; count];
    RoundedGaussian::new(sigma).unwrap().fill(&mut ChaCha12Rng::seed_from_u64(seed), &mut draws);
    draws
}

/// Bernstein's bound at 1e-10 on either side for a count that is expected to be so high.
fn spread(expected: f64) -> f64 {
    (46.0 * expected).sqrt() + 46.0 / 3.0
}

#[test]
fn the_histogram_is_that_of_a_rounded_gaussian() {
    for (seed, sigma) in
        [(1, 0.0625), (2, 0.5), (3, 1.0 / 3.0), (4, 4.0), (5, 16.0), (6, 64.0), (7, 61.803_398_874_989_5)]
    {
        let misfit = misfit(&noise(sigma, seed, DRAWS), sigma, 1);
        assert!(misfit < 1.0, "sigma {sigma}: {misfit}");
    }
    for (seed, sigma) in [(8, 2f64.powi(20)), (9, 1e9 / 7.0), (10, RoundedGaussian::SIGMA_MAX)] {
        let draws = noise(sigma, seed, DRAWS);
        // the shape, in cells of about σ/50, and the low bits, all alike
        let cell = (sigma / 50.0) as i64;
        assert!(misfit(&draws, sigma, cell) < 1.0, "sigma {sigma}: {}", misfit(&draws, sigma, cell));
        for modulus in [3, 256] {
            assert!(uneven(&draws, modulus) < 1.0, "sigma {sigma}: {} modulo {modulus}", uneven(&draws, modulus));
        }
    }
}

#[test]
fn moments_and_neighbours_are_those_of_independent_gaussians() {
    for (seed, sigma) in [(11, 0.5), (12, 4.0), (13, 64.0), (14, 2f64.powi(20))] {
        let draws = noise(sigma, seed, DRAWS);
        let n = DRAWS as f64;
        // the exact moments of the rounded law for a small σ, those of the continuous one for a large
        let exact = |k: i32| -> f64 {
            if sigma > 1e3 {
                return [1.0, 0.0, 1.0, 0.0, 3.0, 0.0, 15.0, 0.0, 105.0][k as usize];
            }
            let to = (12.0 * sigma) as i64;
            (-to..=to).map(|n| (n as f64 / sigma).powi(k) * rounds_to(n, n, sigma)).sum()
        };
        for k in 1..=4 {
            let found = draws.iter().map(|&d| (d as f64 / sigma).powi(k)).sum::<f64>() / n;
            // 6.5 standard errors: 1e-10 for a sum of millions that is normal by then
            let error = 6.5 * ((exact(2 * k) - exact(k).powi(2)) / n).sqrt();
            assert!((found - exact(k)).abs() < error, "sigma {sigma}, moment {k}: {found}, not {}", exact(k));
        }
        for lag in [1, 2, 64] {
            let products: f64 = draws.windows(lag + 1).map(|w| w[0] as f64 * w[lag] as f64 / sigma / sigma).sum();
            let correlation = products / n / exact(2);
            assert!(correlation.abs() < 6.5 / n.sqrt(), "sigma {sigma}, lag {lag}: {correlation}");
        }
    }
}

#[test]
fn tails_are_neither_cut_nor_fat() {
    let mut beyond = [0.0; 6];
    let (sigma, rounds) = (16.0, 4);
    for seed in 0..rounds {
        for draw in noise(sigma, 100 + seed, DRAWS) {
            (1..6).filter(|k| draw.abs() >= 16 * k).for_each(|k| beyond[k as usize] += 1.0);
        }
    }
    for (k, count) in (1..6).zip(&beyond[1..]) {
        let expected = 2.0 * rounds_to(16 * k, 1 << 20, sigma) * (DRAWS as f64) * rounds as f64;
        assert!((count - expected).abs() < spread(expected), "beyond {k} sigma: {count}, not {expected}");
    }
    // 8 are expected beyond 5σ; the test of `normal` looks further out, one integer part at a time
    assert!((1.0..=40.0).contains(&beyond[5]), "{}", beyond[5]);
}

#[test]
fn same_words_same_noise_and_adding_is_filling_on_top() {
    let law = RoundedGaussian::new(4.0).unwrap();
    let (mut a, mut b) = (ChaCha12Rng::seed_from_u64(20), ChaCha12Rng::seed_from_u64(20));
    let mut sum: Vec<i64> = (0..1000).map(|i| i - 500).collect();
    law.add_to(&mut a, &mut sum).unwrap();
    let mut fresh = vec![7; 1000];
    law.fill(&mut b, &mut fresh);
    assert!((0..1000).all(|i| sum[i] == i as i64 - 500 + fresh[i]));
    assert!(fresh.iter().any(|&n| n != 0));
    // the generator goes on behind what was used
    let mut next = vec![7; 1000];
    law.fill(&mut b, &mut next);
    assert_ne!(fresh, next);
    assert_eq!((law.sigma(), law), (4.0, RoundedGaussian::new(4.0).unwrap()));
}

#[test]
fn what_has_no_meaning_is_refused_before_anything_is_drawn() {
    for sigma in [0.0, 0.0624, -1.0, f64::NAN, f64::INFINITY, RoundedGaussian::SIGMA_MAX * 1.001] {
        assert!(matches!(RoundedGaussian::new(sigma), Err(NoiseError::Sigma(_))), "{sigma}");
    }
    let law = RoundedGaussian::new(RoundedGaussian::SIGMA_MAX).unwrap();
    let edge = 1i64 << 61;
    let mut rng = ChaCha12Rng::seed_from_u64(21);
    let untouched = rng.clone().next_u64();
    for bad in [edge + 1, -edge - 1, i64::MAX, i64::MIN] {
        let mut values = [edge, -edge, bad];
        let error = law.add_to(&mut rng, &mut values).unwrap_err();
        assert_eq!((error, values), (NoiseError::Value { index: 2 }, [edge, -edge, bad]));
        assert!(!error.to_string().contains(&bad.to_string()));
    }
    assert_eq!(rng.clone().next_u64(), untouched);
    law.add_to(&mut rng, &mut [edge, -edge]).unwrap();
}

/// Standard normal numbers in f64 (Box and Muller 1958), of which the wrong samplers below are made.
fn floats(seed: u64) -> Vec<f64> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    // on (0, 1], so that the logarithm is finite
    let mut uniform = || (rng.next_u64() as f64 + 1.0) * 2f64.powi(-64);
    let pair = |_| {
        let radius = (-2.0 * libm::log(uniform())).sqrt();
        let (sin, cos) = libm::sincos(2.0 * std::f64::consts::PI * uniform());
        [radius * cos, radius * sin]
    };
    (0..500_000).flat_map(pair).collect()
}

#[test]
fn wrong_samplers_are_caught() {
    let normal = floats(30);
    let made = |f: &dyn Fn(f64) -> f64| -> Vec<i64> { normal.iter().map(|&z| f(z) as i64).collect() };
    let right = made(&|z| (4.0 * z).round());
    assert!(misfit(&right, 4.0, 1) < 1.0, "the control: {}", misfit(&right, 4.0, 1));
    let halved = right.iter().enumerate().filter(|&(i, &n)| n != 0 || i % 2 == 0);
    let wrong: [(&str, f64, Vec<i64>); 8] = [
        ("cut towards zero", 4.0, made(&|z| (4.0 * z).trunc())),
        ("rounded down", 16.0, made(&|z| (16.0 * z).floor())),
        ("narrow by one part in a hundred", 4.0, made(&|z| (3.96 * z).round())),
        ("cut at 3.5 sigma", 4.0, made(&|z| (4.0 * z.clamp(-3.5, 3.5)).round())),
        ("read to five bits", 64.0, made(&|z| (64.0 * (z * 32.0).floor() / 32.0).round())),
        ("without negative zero", 4.0, halved.map(|(_, &n)| n).collect()),
        ("rounded up a hundredth of sigma late", 0.5, made(&|z| (0.5 * z / 1.01).round())),
        ("discrete", 0.5, discrete(0.5, 31)),
    ];
    for (name, sigma, draws) in &wrong {
        let misfit = misfit(draws, *sigma, 1);
        assert!(misfit > 1.0, "a sampler that is {name} at sigma {sigma} passes: {misfit}");
    }
    // At σ = 2³⁰ an f32 has no bits left for the steps. An f64 still has 22 to spare: there the histogram is blind, and
    // the unit test of `round` shows the decision that it gets wrong.
    let coarse = made(&|z| f64::from((z * RoundedGaussian::SIGMA_MAX) as f32));
    assert!(uneven(&coarse, 256) > 1.0 && misfit(&coarse, RoundedGaussian::SIGMA_MAX, 1 << 25) < 1.0);
}

/// Draws with weights e^(−n²/2σ²), by inversion.
fn discrete(sigma: f64, seed: u64) -> Vec<i64> {
    let weights: Vec<f64> = (-20..=20).map(|n| libm::exp(-f64::from(n * n) / (2.0 * sigma * sigma))).collect();
    let total: f64 = weights.iter().sum();
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let draw = |_| {
        let mut u = rng.next_u64() as f64 * 2f64.powi(-64) * total;
        let place = weights.iter().position(|w| {
            (u < *w) || {
                u -= w;
                false
            }
        });
        place.map_or(20, |i| i as i64 - 20)
    };
    (0..1_000_000).map(draw).collect()
}
