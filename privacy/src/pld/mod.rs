//! ε of many steps of the Poisson-subsampled Gaussian mechanism, by privacy loss distributions: nearly exact.
//!
//! ```text
//! phases (q, σ, steps) ─► loss: of one step, both directions ─► sketch: tilt, window, grid
//!                                                                  │
//!        ε at δ, δ at ε ◄─ compose: powers of spectra (fft) ◄─ step: on the grid, dots connected
//! ```
//!
//! A step draws each record with probability q, sums vectors of L2 norm at most C and adds Gaussian noise of standard
//! deviation σC to each coordinate. One record (or the k records of one person) is added or removed; ε is the larger
//! of both directions. All is bounded from above: what the grid, the tails, the window and rounding can change is
//! counted towards δ. The step's distribution connects dots (Doroshenko et al., arXiv 2207.04380) on a grid chosen for
//! a relative 1e-5; then ε is that close to the exact one, and 3 % (many steps, little noise) to 70 % (rare draws) below
//! Rényi accounting. It is never above that: where Rényi accounting says less, as for some 10⁹ steps, that is said.
//! Between neighbouring arguments the grid may change, so ε is monotone in every argument up to the same 1e-5. Looser,
//! by up to a tenth of ε, is what a few steps with rare draws give at a δ below 1e-9: rounding is counted there.
//!
//! Contract: arguments without meaning (`q` outside [0, 1], `sigma` not above 0, `delta` outside (0, 1), NaN) give an
//! infinite ε and δ = 1, and so does arithmetic that fails, where Rényi accounting fails too. At most 2²⁰ grid points,
//! less than 100 MB. The same bits come out on every machine.
//!
//! ```
//! use blindsum_privacy::pld::{self, SgdPhase};
//! use blindsum_privacy::rdp;
//!
//! // noise for 100 steps that draw each record with probability 0.01, so that ε is at most 6 at δ = 1e-5
//! let sigma = pld::calibrate(0.01, 100, 6.0, 1e-5)?;
//! assert!(pld::epsilon(0.01, sigma, 100, 1e-5) <= 6.0 && sigma < rdp::calibrate(0.01, 100, 6.0, 1e-5)?);
//!
//! // half of the steps with twice the noise; a person with two records
//! let phases = [SgdPhase { q: 0.01, sigma, steps: 50 }, SgdPhase { q: 0.01, sigma: 2.0 * sigma, steps: 50 }];
//! let one = pld::compose(&phases, 1e-5);
//! assert!(one < 6.0 && pld::group_epsilon(&phases, 2, 1e-5) > one);
//! # Ok::<(), rdp::CalibrateError>(())
//! ```

mod calibrate;
mod compose;
mod fft;
mod loss;
mod sketch;
mod step;

use crate::{Mutant, rdp};

pub use calibrate::calibrate;
use loss::{Direction, Loss};
use sketch::{Fineness, GridPlan, LossSketch};

/// What is published.
const FINE: Fineness = Fineness { tolerance: 1e-5, most_points: 1 << 20 };
/// What suffices to compare, and to search.
const COARSE: Fineness = Fineness { tolerance: 1e-3, most_points: 1 << 14 };
/// Share of δ, at most, for losses beyond the range of one step.
const BEYOND_SHARE: f64 = 1e-6;
/// Most windows and grids that are tried.
const MOST_PLANS: usize = 4;
/// Most phases that differ.
const MOST_PHASES: usize = 256;
/// Smallest δ for which shares of it are still ordinary numbers.
const SMALLEST_DELTA: f64 = 1e-290;

/// Steps alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdPhase {
    /// Probability with which a step draws each record.
    pub q: f64,
    /// Noise multiplier: standard deviation of the noise divided by the clip norm.
    pub sigma: f64,
    /// How many steps.
    pub steps: u64,
}

/// ε after `steps` steps at sampling rate `q` and noise multiplier `sigma`, at this δ.
///
/// No steps or q = 0 give 0.
pub fn epsilon(q: f64, sigma: f64, steps: u64, delta: f64) -> f64 {
    compose(&[SgdPhase { q, sigma, steps }], delta)
}

/// ε of all `phases` together, at this δ: the phases of one job, or several jobs fixed beforehand.
///
/// Infinite for more than 256 phases that differ.
pub fn compose(phases: &[SgdPhase], delta: f64) -> f64 {
    if !(delta > 0.0 && delta < 1.0) {
        return f64::INFINITY;
    }
    let Some(phases) = Joined::new(phases) else { return f64::INFINITY };
    phases.epsilon(1, delta, FINE).min(rdp::compose(&phases.0, delta))
}

/// ε for `k` records of one person, all added or all removed, over all `phases`, at this δ.
///
/// By the distribution of how many of them a step draws, not by k times the ε of one. Each record is clipped on its
/// own. Infinite also where more than 256 of the records may be drawn together.
pub fn group_epsilon(phases: &[SgdPhase], k: u32, delta: f64) -> f64 {
    let k = if Mutant::GroupOfOne.lives() { k.min(1) } else { k };
    if k <= 1 && delta > 0.0 && delta < 1.0 {
        return if k == 0 { 0.0 } else { compose(phases, delta) };
    }
    if !(delta > 0.0 && delta < 1.0) {
        return f64::INFINITY;
    }
    Joined::new(phases).map_or(f64::INFINITY, |phases| phases.epsilon(k, delta, FINE))
}

/// δ after `steps` steps at sampling rate `q` and noise multiplier `sigma`, at this ε ≥ 0.
///
/// 1 where no grid is found that says less: near the largest loss that a step can have in one direction.
/// No steps or q = 0 give 0.
pub fn delta(q: f64, sigma: f64, steps: u64, epsilon: f64) -> f64 {
    if epsilon.is_nan() || epsilon < 0.0 {
        return 1.0;
    }
    Joined::new(&[SgdPhase { q, sigma, steps }]).map_or(1.0, |phases| phases.delta(epsilon))
}

/// At most [`MOST_PHASES`] phases with a meaning, none without effect, equal ones joined.
struct Joined(Vec<SgdPhase>);

impl Joined {
    fn new(phases: &[SgdPhase]) -> Option<Self> {
        let mut joined: Vec<SgdPhase> = Vec::new();
        // Where all records are drawn, the losses are Gaussian, and 1/σ² adds up.
        let mut precision = 0.0;
        for phase in phases {
            if !((0.0..=1.0).contains(&phase.q) && phase.sigma > 0.0) {
                return None;
            }
            if phase.q == 0.0 || phase.steps == 0 {
                continue;
            }
            if phase.q == 1.0 {
                precision += phase.steps as f64 / phase.sigma / phase.sigma;
                continue;
            }
            // No more are looked through than may stay.
            match joined.iter_mut().take(MOST_PHASES + 1).find(|other| (other.q, other.sigma) == (phase.q, phase.sigma))
            {
                Some(other) => other.steps = other.steps.checked_add(phase.steps)?,
                None => joined.push(*phase),
            }
        }
        if joined.len() > MOST_PHASES {
            return None;
        }
        if precision > 0.0 {
            joined.push(SgdPhase { q: 1.0, sigma: (1.0 / precision).sqrt() * (1.0 - 1e-14), steps: 1 });
        }
        Some(Joined(joined))
    }

    /// Both directions; `None` where arithmetic fails.
    fn sketches(&self, k: u32, budget: f64) -> Option<[Vec<LossSketch>; 2]> {
        let steps: f64 = self.0.iter().map(|phase| phase.steps as f64).sum();
        let direction = |direction| {
            let sketch = |phase: &SgdPhase| {
                let loss = Loss::new(phase.q, phase.sigma, k)?;
                LossSketch::new(loss, direction, phase.steps, budget / steps)
            };
            self.0.iter().map(sketch).collect::<Option<Vec<_>>>()
        };
        Some([direction(Direction::Remove)?, direction(Direction::Add)?])
    }

    fn epsilon(&self, k: u32, delta: f64, fineness: Fineness) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        if delta < SMALLEST_DELTA {
            return f64::INFINITY;
        }
        let Some([remove, add]) = self.sketches(k, BEYOND_SHARE * delta) else { return f64::INFINITY };
        let removed = directed_epsilon(&remove, delta, fineness);
        // Adding a record is nearly always the lesser loss, which a coarse bound shows.
        if directed_epsilon(&add, delta, COARSE) <= removed {
            return removed;
        }
        removed.max(directed_epsilon(&add, delta, fineness))
    }

    fn delta(&self, epsilon: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        // Which δ the tails are a share of is known only roughly before.
        let rough = |sketches: &Vec<LossSketch>| sketch::likely_delta(sketches, epsilon).1;
        let Some(first) = self.sketches(1, 1e-30) else { return 1.0 };
        let ln_delta = first.iter().map(rough).fold(f64::MIN, f64::max);
        let Some(directions) = self.sketches(1, BEYOND_SHARE * libm::exp(ln_delta)) else { return 1.0 };
        let directed = |sketches: &Vec<LossSketch>| {
            let plan = GridPlan::for_epsilon(sketches, epsilon, FINE);
            plan.and_then(|plan| compose::compose(sketches, plan)).map_or(1.0, |composed| composed.delta(epsilon))
        };
        directions.iter().map(directed).fold(0.0, f64::max)
    }
}

/// ε in one direction; infinite where arithmetic fails.
fn directed_epsilon(sketches: &[LossSketch], delta: f64, fineness: Fineness) -> f64 {
    let Some(mut plan) = GridPlan::for_delta(sketches, delta, fineness) else { return f64::INFINITY };
    let mut best = f64::INFINITY;
    for _ in 0..MOST_PLANS {
        let Some(composed) = compose::compose(sketches, plan) else { break };
        let answer = composed.epsilon(delta);
        best = best.min(answer.epsilon);
        let next = if answer.narrow {
            // ε lies below the window: a wider one, on a coarser grid where it would grow too long.
            plan.wider(fineness)
        } else {
            plan.finer(answer.epsilon, answer.steepness, fineness)
        };
        match next {
            Some(next) => plan = next,
            None => break,
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The masses of an untilted step sum to 1, whatever the shape of its loss.
    #[test]
    fn a_step_keeps_its_probability() {
        for (q, sigma, k) in
            [(1e-6, 0.8, 1), (0.01, 1.0, 1), (0.3, 0.2, 1), (0.999, 5.0, 1), (1.0, 1.0, 1), (0.05, 0.7, 5)]
        {
            for direction in [Direction::Remove, Direction::Add] {
                let sketch = LossSketch::new(Loss::new(q, sigma, k).unwrap(), direction, 1, 1e-18).unwrap();
                let plan = GridPlan {
                    tilt: 0.0,
                    tail_tilt: 0.0,
                    ln_tail: -30.0,
                    spacing: 2f64.powi(-10),
                    points: 1 << 16,
                    count: 1.0,
                };
                let step = step::place(&sketch, &plan).unwrap();
                assert!(step.cumulant.abs() < 4e-15, "{q} {sigma} {direction:?}: {:e}", step.cumulant);
                // Tilted by −1 it is the distribution on the other data, which sums to 1 too.
                if direction == Direction::Remove {
                    let other = step::place(&sketch, &GridPlan { tilt: -1.0, ..plan }).unwrap().cumulant;
                    assert!(other.abs() < 1e-14, "{q} {sigma}: {other:e}");
                }
            }
        }
    }
}
