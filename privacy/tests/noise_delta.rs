//! δ(ε) of rounded Gaussian noise, enumerated: never above the continuous mechanism's; the discrete Gaussian's is.
//!
//! Two worlds whose integer sums differ by Δ steps; δ(ε) = Σ max(0, P(n − Δ) − e^ε·P(n)). Every sum is in f64 and comes
//! with a bound on its own rounding: `libm`'s erfc and exp are taken to err by at most 4 units in the last place (their
//! source promises 1), and an x that is off by a relative 2⁻⁵² moves P(Z > x) by a relative (x² + 1)·2⁻⁵² at most, since
//! x·φ(x)/P(Z > x) ≤ x² + 1 (Mills' ratio).

use std::collections::BTreeSet;

/// Unit of relative rounding.
const ULP: f64 = f64::EPSILON;

/// A number and a bound on its error.
#[derive(Clone, Copy)]
struct Bounded(f64, f64);

/// P(Z > x) for x ≥ −1.
fn above(x: f64) -> Bounded {
    let value = 0.5 * libm::erfc(x / std::f64::consts::SQRT_2);
    Bounded(value, value * (2.0 * x * x + 6.0) * ULP)
}

/// The probability that σZ rounds to n; `sigma` is a power of two, so that the ends are exact.
fn rounded(n: i64, sigma: f64) -> Bounded {
    let n = n.abs() as f64;
    let (Bounded(a, ea), Bounded(b, eb)) = (above((n - 0.5) / sigma), above((n + 0.5) / sigma));
    Bounded(a - b, ea + eb + (a - b) * ULP)
}

/// e^(−n²/2σ²) before it is divided by the sum of all.
fn weight(n: i64, sigma: f64) -> f64 {
    libm::exp(-((n * n) as f64) / (2.0 * sigma * sigma))
}

/// δ(ε) of two shifted laws on the integers; beyond `to` on either side is next to nothing, which counts as error.
fn enumerated(law: impl Fn(i64) -> Bounded, shift: i64, epsilon: f64, to: i64) -> Bounded {
    let e = libm::exp(epsilon);
    (-to..=to).fold(Bounded(0.0, 1e-30), |Bounded(sum, slack), n| {
        let (Bounded(p, ep), Bounded(q, eq)) = (law(n - shift), law(n));
        let (more, error) = (p - e * q, ep + e * eq + 4.0 * ULP * (p + e * q));
        // A term that may be positive counts, if only by its error.
        let certain = if more + error > 0.0 { error } else { 0.0 };
        let sum = sum + more.max(0.0);
        Bounded(sum, slack + certain + sum * ULP)
    })
}

/// δ(ε) of the continuous mechanism with `mu` = Δ/σ (Balle and Wang 2018, theorem 8).
fn continuous(epsilon: f64, mu: f64) -> Bounded {
    let tail = |x: f64| {
        let Bounded(value, error) = above(x);
        // x itself is off by a few units of either of its terms; φ(x)/P(Z > x) is at most |x| + 1
        Bounded(value, error + value * (x.abs() + 1.0) * (epsilon / mu + mu) * 4.0 * ULP)
    };
    let (Bounded(p, ep), Bounded(q, eq)) = (tail(epsilon / mu - mu / 2.0), tail(epsilon / mu + mu / 2.0));
    let e = libm::exp(epsilon);
    Bounded(p - e * q, ep + e * eq + 4.0 * ULP * (p + e * q))
}

/// ε from 0.05 to 6.
fn epsilons() -> impl Iterator<Item = f64> {
    (1..=120).map(|i| f64::from(i) * 0.05)
}

#[test]
fn rounding_never_raises_delta() {
    for sigma in [1i64, 4, 16, 64] {
        for shift in BTreeSet::from([1, (sigma / 2).max(1), sigma, 2 * sigma, 3 * sigma]) {
            let (steps, mu) = (sigma as f64, shift as f64 / sigma as f64);
            let (mut compared, mut closest) = (0, f64::INFINITY);
            // up to where an output 6.5σ out is needed to tell the worlds apart
            for epsilon in (-10..=65).map(|x| mu * (f64::from(x) / 10.0 + mu / 2.0)).filter(|&e| e > 0.0) {
                let Bounded(exact, slack) = continuous(epsilon, mu);
                let Bounded(delta, own) = enumerated(|n| rounded(n, steps), shift, epsilon, 15 * sigma + 3 * shift);
                assert!(slack + own < 1e-8 * exact, "sums too rough to compare: {slack} {own} of {exact}");
                assert!(delta <= exact + slack + own, "sigma {sigma}, {shift} steps, {epsilon}: {delta} above {exact}");
                (compared, closest) = (compared + 1, closest.min(exact / delta));
            }
            // Enough to compare, and no comparison of zeros: at its closest it is within the loss of one cell.
            assert!(compared >= 60 && closest < 1.2, "sigma {sigma}, {shift} steps: {compared} at {closest}");
        }
    }
}

#[test]
fn a_discrete_gaussian_raises_it() {
    for (sigma, expected, digits) in [(1i64, 2.12, 0.005), (4, 1.10, 0.005), (16, 1.006, 0.0005), (64, 1.0003, 0.00005)]
    {
        let steps = sigma as f64;
        let to = 16 * sigma;
        let total: f64 = (-to..=to).map(|n| weight(n, steps)).sum();
        let law = |n| {
            let p = weight(n, steps) / total;
            Bounded(p, 1e-13 * p)
        };
        let worst = epsilons().map(|epsilon| {
            let (delta, exact) = (enumerated(law, sigma, epsilon, to), continuous(epsilon, 1.0));
            delta.0 / exact.0
        });
        let worst = worst.fold(0.0, f64::max);
        assert!((worst - expected).abs() < digits, "moved by sigma = {sigma} steps: {worst} times, not {expected}");
    }
}

#[test]
fn the_laws_add_up_to_one() {
    for sigma in [1i64, 4, 16, 64] {
        let sum: f64 = (-12 * sigma..=12 * sigma).map(|n| rounded(n, sigma as f64).0).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
    }
}
