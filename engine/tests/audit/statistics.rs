//! Bounds and quantiles that an audit needs, by bisection.

/// The x between `low` and `high` up to which `below` holds, or a billionth above.
pub fn bisect(mut low: f64, mut high: f64, below: impl Fn(f64) -> bool) -> f64 {
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        *(if below(middle) { &mut low } else { &mut high }) = middle;
    }
    high
}

/// Φ.
fn normal(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// Φ⁻¹.
fn quantile(p: f64) -> f64 {
    bisect(-40.0, 40.0, |x| normal(x) < p)
}

/// The probability of at most `k` of `n` at rate `p`.
fn at_most(k: usize, n: usize, p: f64) -> f64 {
    let (k, n) = (k as f64, n as f64);
    let choose = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    let mut term = libm::exp(choose + k * p.ln() + (n - k) * libm::log1p(-p));
    let (mut sum, mut i) = (term, k);
    while i > 0.0 && term > 1e-18 * sum {
        term *= i * (1.0 - p) / ((n - i + 1.0) * p);
        (sum, i) = (sum + term, i - 1.0);
    }
    sum
}

/// A bound that the rate of an event seen `k` times in `n` exceeds with probability `alpha` at most (Clopper and Pearson
/// 1934).
pub fn rate_below(k: usize, n: usize, alpha: f64) -> f64 {
    bisect(0.0, 1.0, |p| p <= k as f64 / n as f64 || at_most(k, n, p) > alpha)
}

/// ε of N(0, 1) against N(µ, 1) at `delta` (Balle and Wang 2018, theorem 5; Dong, Roth and Su 2022, corollary 2.13).
pub fn gaussian_epsilon(mu: f64, delta: f64) -> f64 {
    let spent = |e: f64| normal(mu / 2.0 - e / mu) - libm::exp(e) * normal(-mu / 2.0 - e / mu);
    bisect(0.0, 500.0, |epsilon| spent(epsilon) > delta)
}

/// A lower bound on µ, for a mechanism whose every trade-off is that of N(0, 1) against N(µ, 1), from the errors of a test at
/// a threshold that was fixed before; wrong with probability `alpha` at most (Nasr et al. 2023, section 4).
pub fn mu_above(false_positives: usize, false_negatives: usize, trials: usize, alpha: f64) -> f64 {
    let worst = |errors| quantile(rate_below(errors, trials, alpha / 2.0));
    -worst(false_positives) - worst(false_negatives)
}

/// Mean and variance.
pub fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, values.map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

#[test]
fn bounds_are_those_of_the_tables() {
    let near = |found: f64, known: f64| assert!((found / known - 1.0).abs() < 1e-3, "{found}, not {known}");
    near(quantile(0.975), 1.959_964);
    // none of 10: 1 − 0.025^(1/10); 5 of 20 and 50 of 100 as published
    near(rate_below(0, 10, 0.025), 0.308_497);
    near(rate_below(5, 20, 0.025), 0.491_046);
    near(rate_below(50, 100, 0.025), 0.601_676);
    // no pair of error rates is above what µ allows: 1,587 of 10,000 each way is µ = 2
    let mu = mu_above(1_587, 1_587, 10_000, 0.05);
    assert!((1.9..2.0).contains(&mu), "{mu}");
    // one Gaussian step, as the accountant has it in closed form
    for sigma in [0.5, 1.0, 3.0] {
        near(gaussian_epsilon(1.0 / sigma, 1e-5), blindsum_privacy::pld::epsilon(1.0, sigma, 1, 1e-5));
    }
}
