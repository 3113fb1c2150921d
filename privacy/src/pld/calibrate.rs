//! The noise multiplier for an ε.

use super::{COARSE, FINE, Joined, SgdPhase, epsilon};
use crate::rdp::{self, CalibrateError, NOISE_RANGE, check_target};

/// Relative distance below the target at which the search is content.
const CONTENT: f64 = 4e-6;
/// Significant decimal digits of the result.
const DIGITS: i32 = 6;

/// A noise multiplier, rounded up to six significant digits, with which `steps` steps at sampling rate `q` stay within
/// `target` at `delta`: `epsilon(q, sigma, steps, delta) <= target` holds for the result, and ε is within a relative
/// 1e-4 of the target where arithmetic allows.
///
/// At least 0.1, also where less would do.
///
/// # Errors
/// Where an argument has no meaning, or the target is below what the largest noise multiplier gives at this δ.
pub fn calibrate(q: f64, steps: u64, target: f64, delta: f64) -> Result<f64, CalibrateError> {
    check_target(q, steps, target, delta)?;
    let (low, high) = NOISE_RANGE;
    if epsilon(q, low, steps, delta) <= target {
        return Ok(low);
    }
    // The noise that Rényi accounting asks for is enough.
    let known = rdp::calibrate(q, steps, target, delta).ok().map(|sigma| round_up(sigma).min(high));
    let high = known.unwrap_or(high);
    if known.is_none() {
        let reachable = epsilon(q, high, steps, delta);
        if reachable > target {
            return Err(CalibrateError::Unreachable { target, delta, reachable });
        }
    }
    let rough = |fineness| {
        move |sigma| {
            Joined::new(&[SgdPhase { q, sigma, steps }]).map_or(f64::INFINITY, |p| p.epsilon(1, delta, fineness))
        }
    };
    let start = Guess { sigma: (low * high).sqrt().max(0.8 * high), slope: -1.0 };
    let near = search(rough(COARSE), target, (low, high), start, 1e-4, 20);
    // Where even the coarse grid is too coarse it says nothing.
    let start = if near.sigma < 0.999 * high { near } else { Guess { sigma: 0.95 * high, slope: -1.0 } };
    let found = search(rough(FINE), target, (low, high), start, CONTENT, 10);
    let mut sigma = round_up(found.sigma);
    let mut step = CONTENT;
    while sigma < high {
        let spent = epsilon(q, sigma, steps, delta);
        if spent <= target {
            return Ok(sigma);
        }
        // ε falls at least about as fast as 1/√σ; twice that, and then ever more.
        step = (2.0 * step).max(if spent.is_finite() { 2.0 * (spent / target - 1.0) } else { 0.0 });
        sigma = round_up(sigma * (1.0 + step.min(1.0)));
    }
    let reachable = epsilon(q, high, steps, delta);
    if reachable <= target { Ok(high) } else { Err(CalibrateError::Unreachable { target, delta, reachable }) }
}

/// The smallest number of six significant digits that is not below `x`.
fn round_up(x: f64) -> f64 {
    let unit = libm::pow(10.0, f64::from(DIGITS - 1) - libm::floor(libm::log10(x)));
    let rounded = libm::ceil(x * unit) / unit;
    if rounded >= x { rounded } else { (libm::ceil(x * unit) + 1.0) / unit }
}

/// Where a search ended.
#[derive(Clone, Copy)]
struct Guess {
    sigma: f64,
    /// d ln ε / d ln σ there.
    slope: f64,
}

/// Looks for the σ at which ε is below the target by less than `content`, relative: secants in logarithms, halves where
/// they leave the bracket, whose upper end meets the target. After so many `turns` it is the upper end of what is left.
fn search(
    epsilon: impl Fn(f64) -> f64,
    target: f64,
    bracket: (f64, f64),
    start: Guess,
    content: f64,
    turns: u32,
) -> Guess {
    let goal = libm::log(target) - 0.5 * content;
    let miss = |ln_sigma: f64| libm::log(epsilon(libm::exp(ln_sigma)).max(f64::MIN_POSITIVE)) - goal;
    let (mut low, mut high) = (libm::log(bracket.0), libm::log(bracket.1));
    let mut slope = start.slope;
    let mut here = libm::log(start.sigma);
    let mut before: Option<(f64, f64)> = None;
    for _ in 0..turns {
        let off = miss(here);
        if off.abs() <= 0.5 * content || high - low < 1e-9 {
            return Guess { sigma: libm::exp(here), slope };
        }
        if off > 0.0 {
            low = here;
        } else {
            high = here;
        }
        if let Some((x, y)) = before {
            let secant = (off - y) / (here - x);
            if secant.is_finite() && secant < -0.05 && secant > -1e3 {
                slope = secant;
            }
        }
        before = Some((here, off));
        let next = here - off / slope;
        here = if next > low && next < high && off.abs() < 20.0 { next } else { 0.5 * (low + high) };
    }
    Guess { sigma: libm::exp(high), slope }
}
