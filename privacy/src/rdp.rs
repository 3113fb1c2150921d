//! ε of many steps of the Poisson-subsampled Gaussian mechanism, by Rényi differential privacy, and the noise for an ε.
//!
//! One step draws each record with probability q, sums vectors of L2 norm at most C and adds Gaussian noise of standard
//! deviation σC. Its Rényi divergence of order α is `ln A(α) / (α − 1)` with
//! `A(α) = E[(1 − q + q·exp((2x − 1) / 2σ²))^α]`, x ~ N(0, σ²), which covers adding and removing a record (Mironov,
//! Talwar and Zhang, arXiv 1908.10530, section 3). Steps add up; then for every order
//! `ε = steps·RDP(α) + ln((α − 1)/α) − (ln δ + ln α)/(α − 1)` (Canonne, Kamath and Steinke, arXiv 2004.00010,
//! proposition 12), and the smallest over the orders holds.
//!
//! Whole orders are summed by the binomial theorem (section 3.3 of the first paper), all terms positive. Fractional
//! orders are integrated: the trapezoidal rule on the whole line converges exponentially for this integrand. Below
//! [`QUADRATURE_FLOOR`] they are bounded from above instead. Everything is in logarithms, so that what overflows is
//! the logarithm itself, and that gives infinity.
//!
//! One step of very little loss has A so close to 1 that `ln A` would be rounding, which 10⁹ steps would multiply.
//! So `A − 1` is what is summed, without the terms that cancel (those of 1 and of the mean ratio, which is 1): every
//! divergence is right to a relative `ROUNDING`, which is added.

use thiserror::Error;

use crate::pld::SgdPhase;

/// Smallest noise multiplier at which fractional orders are integrated. Below it they are bounded by the chord
/// between whole orders (`ln A` is convex in α, and 0 at α = 1) and by the divergence without sampling.
pub const QUADRATURE_FLOOR: f64 = 0.1;
/// Range in which calibration looks for a noise multiplier.
pub(crate) const NOISE_RANGE: (f64, f64) = (0.1, 1e6);
/// Relative width at which [`calibrate`] stops.
const CALIBRATION_WIDTH: f64 = 1e-7;
/// Relative error that a divergence may have from rounding. The logarithms of factorials are the largest part.
const ROUNDING: f64 = 1e-10;
/// Largest fractional order, and the largest whole order that the chords need.
const LAST_TENTH: u32 = 109;
/// Largest order.
const LAST_ORDER: usize = 1024;

/// ε after `steps` steps at sampling rate `q` and noise multiplier `sigma`, at this δ.
///
/// Orders 1.1 to 10.9 in tenths, 11 to 63, 128, 256, 512 and 1024. No steps or q = 0 give 0. Infinite where no finite ε
/// holds, where a value overflows, and for arguments without meaning (`q` outside [0, 1], `sigma` not above 0, `delta`
/// outside (0, 1), NaN).
pub fn epsilon(q: f64, sigma: f64, steps: u64, delta: f64) -> f64 {
    if !((0.0..=1.0).contains(&q) && sigma > 0.0 && delta > 0.0 && delta < 1.0) {
        return f64::INFINITY;
    }
    if steps == 0 || q == 0.0 {
        return 0.0;
    }
    compose(&[SgdPhase { q, sigma, steps }], delta)
}

/// The same for several phases with a meaning (0 < q ≤ 1, sigma > 0): at each order their divergences add up.
pub(crate) fn compose(phases: &[SgdPhase], delta: f64) -> f64 {
    if phases.is_empty() {
        return 0.0;
    }
    totals(phases).into_iter().map(|(order, rdp)| converted(order, rdp, delta)).fold(f64::INFINITY, f64::min).max(0.0)
}

/// Orders and the divergences of these phases at each, added up.
pub(crate) fn totals(phases: &[SgdPhase]) -> Vec<(f64, f64)> {
    let mut totals: Vec<(f64, f64)> = Vec::new();
    for phase in phases {
        let steps = phase.steps as f64 * (1.0 + ROUNDING);
        let own = rdp(phase.q, phase.sigma).map(|(order, rdp)| (order, rdp * steps));
        if totals.is_empty() {
            totals = own.collect();
        } else {
            totals.iter_mut().zip(own).for_each(|(total, (_, rdp))| total.1 += rdp);
        }
    }
    totals
}

/// ε at δ of what has this Rényi divergence at this order.
pub(crate) fn converted(order: f64, rdp: f64, delta: f64) -> f64 {
    let epsilon = rdp + libm::log1p(-1.0 / order) - (libm::log(delta) + libm::log(order)) / (order - 1.0);
    // An overflow on the way (∞ − ∞) says nothing, so it must not win.
    if epsilon.is_nan() { f64::INFINITY } else { epsilon }
}

/// Why no noise multiplier can be given.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum CalibrateError {
    /// An argument without meaning.
    #[error("{name} is {value}; it must be {expected}")]
    Argument {
        /// Which argument.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// The accountant cannot certify so small an ε with any noise.
    #[error(
        "epsilon {target} cannot be reached at delta {delta}: even with noise without bound the accountant certifies only {reachable:.4}"
    )]
    Unreachable {
        /// The ε asked for.
        target: f64,
        /// The δ asked for.
        delta: f64,
        /// The smallest ε at this δ.
        reachable: f64,
    },
}

/// The smallest noise multiplier, to a relative 1e-7, with which `steps` steps at sampling rate `q` stay within
/// `target` at `delta`: `epsilon(q, sigma, steps, delta) <= target` holds for the result.
///
/// At least 0.1, also where less would do: below that the accountant has nothing useful to say.
///
/// # Errors
/// Where an argument has no meaning, or the target is below what Rényi accounting can certify at this δ.
pub fn calibrate(q: f64, steps: u64, target: f64, delta: f64) -> Result<f64, CalibrateError> {
    check_target(q, steps, target, delta)?;
    let (mut low, mut high) = NOISE_RANGE;
    if epsilon(q, low, steps, delta) <= target {
        return Ok(low);
    }
    let reachable = epsilon(q, high, steps, delta);
    if reachable > target {
        return Err(CalibrateError::Unreachable { target, delta, reachable });
    }
    // Bisection in the exponent; `high` always meets the target.
    while high / low > 1.0 + CALIBRATION_WIDTH {
        let middle = (low * high).sqrt();
        if epsilon(q, middle, steps, delta) <= target {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// Refuses arguments of a calibration that have no meaning.
pub(crate) fn check_target(q: f64, steps: u64, target: f64, delta: f64) -> Result<(), CalibrateError> {
    let argument = |name, value, expected| Err(CalibrateError::Argument { name, value, expected });
    if !(q > 0.0 && q <= 1.0) {
        return argument("the sampling rate", q, "above 0 and at most 1");
    }
    if steps == 0 {
        return argument("the number of steps", 0.0, "at least 1");
    }
    if !(target > 0.0 && target.is_finite()) {
        return argument("epsilon", target, "a finite number above 0");
    }
    if !(delta > 0.0 && delta < 1.0) {
        return argument("delta", delta, "above 0 and below 1");
    }
    Ok(())
}

/// Pairs of order and Rényi divergence of one step; 0 < q ≤ 1, σ > 0.
fn rdp(q: f64, sigma: f64) -> impl Iterator<Item = (f64, f64)> {
    let whole = WholeOrders::new(q, sigma);
    let grid = (q < 1.0 && sigma >= QUADRATURE_FLOOR).then(|| Grid::new(q, sigma));
    // Sampling only ever lowers the divergence, so this bounds it too.
    let unsampled = move |order: f64| order / 2.0 / sigma / sigma;
    let tenths = (11..=LAST_TENTH).map(|tenth| (tenth, f64::from(tenth) / 10.0));
    let large = (11..=63).chain([128, 256, 512, LAST_ORDER]).map(|order| (order as u32 * 10, order as f64));
    tenths.chain(large).map(move |(tenth, order)| {
        if q == 1.0 {
            return (order, unsampled(order));
        }
        let below = (tenth / 10) as usize;
        let ln_a = match (&grid, tenth % 10) {
            (_, 0) => whole.ln_a(below),
            (Some(grid), _) => grid.ln_a(order),
            (None, _) => {
                let part = order - below as f64;
                let chord = (1.0 - part) * whole.ln_a(below) + part * whole.ln_a(below + 1);
                chord.min((order - 1.0) * unsampled(order))
            }
        };
        // What is no number must not count as no loss.
        let ln_a = if ln_a.is_nan() { f64::INFINITY } else { ln_a };
        (order, ln_a / (order - 1.0))
    })
}

/// `ln A(α)` for whole α: `A − 1 = Σₖ C(α,k)·(1 − q)^(α−k)·q^k·(exp(k(k−1)/2σ²) − 1)`, where k starts at 2.
struct WholeOrders {
    ln_q: f64,
    ln_not_q: f64,
    sigma: f64,
    ln_factorial: Vec<f64>,
}

impl WholeOrders {
    fn new(q: f64, sigma: f64) -> Self {
        let mut ln_factorial = vec![0.0];
        for k in 1..=LAST_ORDER {
            ln_factorial.push(ln_factorial[k - 1] + libm::log(k as f64));
        }
        WholeOrders { ln_q: libm::log(q), ln_not_q: libm::log1p(-q), sigma, ln_factorial }
    }

    fn ln_a(&self, order: usize) -> f64 {
        let term = |k: usize| {
            let ln_binomial = self.ln_factorial[order] - self.ln_factorial[k] - self.ln_factorial[order - k];
            // Divided twice, because σ² may underflow to 0 and 0/0 says nothing.
            let growth = (k * (k - 1)) as f64 / 2.0 / self.sigma / self.sigma;
            let ln_gain = growth + libm::log(-libm::expm1(-growth));
            ln_binomial + k as f64 * self.ln_q + (order - k) as f64 * self.ln_not_q + ln_gain
        };
        ln_one_plus(ln_sum_exp((2..=order).map(term)))
    }
}

/// `ln A(α)` for any α up to 10.9 by the trapezoidal rule in z = x/σ:
/// `A − 1 = ∫ φ(z)·(r^α − 1 − α·(r − 1)) dz` with the ratio `r = 1 − q + q·exp(z/σ − 1/2σ²)`, whose mean is 1.
///
/// The integrand is a Gaussian times a function with branch points at a distance of πσ from the real line, so a step of
/// 0.4·min(σ, 1) leaves a relative error below 1e-16; what lies outside the ends is smaller than that too.
struct Grid {
    step: f64,
    /// z at each point and `ln(1 − q + q·exp(…))` there.
    points: Vec<(f64, f64)>,
}

impl Grid {
    fn new(q: f64, sigma: f64) -> Self {
        let step = 0.4 * sigma.min(1.0);
        let (ln_q, ln_not_q) = (libm::log(q), libm::log1p(-q));
        let first = -10.0;
        let last = f64::from(LAST_TENTH) / 10.0 / sigma + 10.0;
        let count = ((last - first) / step) as usize + 1;
        let point = |i: usize| {
            let z = first + i as f64 * step;
            let exponent = z / sigma - 1.0 / (2.0 * sigma * sigma);
            let ln_ratio = if exponent < 50.0 {
                libm::log1p(q * libm::expm1(exponent))
            } else {
                ln_q + exponent + libm::log1p(libm::exp(ln_not_q - ln_q - exponent))
            };
            (z, ln_ratio)
        };
        Grid { step, points: (0..count).map(point).collect() }
    }

    fn ln_a(&self, order: f64) -> f64 {
        let sum = ln_sum_exp(self.points.iter().map(|(z, ln_ratio)| ln_gap(order, *ln_ratio) - z * z / 2.0));
        ln_one_plus(sum + libm::log(self.step) - 0.5 * libm::log(2.0 * std::f64::consts::PI))
    }
}

/// `ln(r^α − 1 − α·(r − 1))` for r = exp(`u`) and α > 1; the difference is not negative, by Bernoulli's inequality.
fn ln_gap(order: f64, u: f64) -> f64 {
    let power = order * u;
    if power.abs() < 0.5 {
        // Σₖ≥₂ (α^k − α)·u^k/k!, because the differences below cancel.
        let (mut grown, mut term, mut sum) = (order, u, 0.0);
        for k in 2..=20 {
            grown *= order;
            term *= u / f64::from(k);
            sum += (grown - order) * term;
        }
        return libm::log(sum);
    }
    if power > 30.0 {
        return power + libm::log1p((order - 1.0) * libm::exp(-power) - order * libm::exp(u - power));
    }
    libm::log(libm::expm1(power) - order * libm::expm1(u))
}

/// `ln(1 + exp(x))`.
fn ln_one_plus(x: f64) -> f64 {
    if x > 40.0 { x } else { libm::log1p(libm::exp(x)) }
}

/// `ln Σ exp(x)`; infinite if a term is, NaN if a term is.
fn ln_sum_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + libm::log(terms.map(|x| libm::exp(x - largest)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For small q, `A − 1` is `α(α − 1)/2·q²·(exp(1/σ²) − 1)` and terms of q³: far below the last bit of 1.
    #[test]
    fn a_small_divergence_is_not_rounding() {
        for (q, sigma) in [(1e-9, 1.0), (1e-12, 0.5), (1e-7, 20.0), (1e-12, 1e3), (1e-30, 1.0)] {
            for (order, rdp) in rdp(q, sigma).filter(|(order, _)| *order <= 11.0) {
                let expected = order / 2.0 * q * q * libm::expm1(1.0 / sigma / sigma);
                assert!((rdp / expected - 1.0).abs() < 1e-5, "{q} {sigma} order {order}: {rdp} for {expected}");
            }
        }
    }

    /// Many steps of little loss spend what the sum of the losses says, and not what rounding says.
    #[test]
    fn many_small_divergences_add_up() {
        for (q, steps, largest) in [(1e-6, 1_000_000_000, 512.0), (1e-9, 1_000_000_000_000_000, 1024.0)] {
            let at = |order: f64| {
                let total = steps as f64 * order / 2.0 * q * q * libm::expm1(1.0 / 25.0);
                total + libm::log1p(-1.0 / order) + (libm::log(1e10) - libm::log(order)) / (order - 1.0)
            };
            let expected = [63.0, 128.0, 256.0, largest].map(at).into_iter().fold(f64::INFINITY, f64::min);
            let found = epsilon(q, 5.0, steps, 1e-10);
            assert!((found / expected - 1.0).abs() < 1e-4, "{q}: {found} for {expected}");
        }
        assert!(epsilon(1e-3, 1.0, u64::MAX, 1e-5) > 1e9);
    }
}
