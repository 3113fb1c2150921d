//! The learning rate of each round: a pure function of the job and the round.
//!
//! With R training rounds, W of them warm-up, and peak rate η, round k (from 1) trains at
//! - `η · k / (W + 1)` for k ≤ W;
//! - afterwards, with p = (k − W − 1) / (R − W): `η` (constant), `η · (1 − p)` (linear), `η · (1 + cos(π·p)) / 2` (cosine).
//!
//! Contract: since W < R, round W + 1 trains at η and no round above it, and none at zero. Every silo computes the same
//! rate (`libm`'s cosine), though nothing depends on that: only updates travel.

use serde::{Deserialize, Serialize};

/// How the learning rate moves after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls along a line that would reach zero one round after the last.
    Linear,
    /// It falls along half a wave that would reach zero one round after the last.
    Cosine,
}

/// The learning rate of every round of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// η, the largest of any round.
    pub peak: f64,
    /// What follows the warm-up.
    pub schedule: Schedule,
    /// W.
    pub warmup_rounds: u32,
    /// R, above W.
    pub rounds: u32,
}

impl LearningRate {
    /// The rate of round `round`, from 1; what is beyond the job's rounds counts as the nearest of them.
    pub fn at(&self, round: u32) -> f64 {
        let round = round.clamp(1, self.rounds.max(1));
        if round <= self.warmup_rounds {
            return self.peak * f64::from(round) / (f64::from(self.warmup_rounds) + 1.0);
        }
        let progress = f64::from(round - self.warmup_rounds - 1) / f64::from((self.rounds - self.warmup_rounds).max(1));
        match self.schedule {
            Schedule::Constant => self.peak,
            Schedule::Linear => self.peak * (1.0 - progress),
            Schedule::Cosine => self.peak * (1.0 + libm::cos(std::f64::consts::PI * progress)) / 2.0,
        }
    }
}

impl From<f64> for LearningRate {
    /// The same rate in every round.
    fn from(peak: f64) -> Self {
        LearningRate { peak, schedule: Schedule::Constant, warmup_rounds: 0, rounds: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, warmup_rounds: u32) -> Vec<f64> {
        let rate = LearningRate { peak: 8.0, schedule, warmup_rounds, rounds: 6 };
        (1..=6).map(|round| rate.at(round)).collect()
    }

    #[test]
    fn rates_are_those_of_the_formulas() {
        assert_eq!(rates(Schedule::Constant, 0), [8.0; 6]);
        assert_eq!(rates(Schedule::Constant, 3), [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]);
        assert_eq!(rates(Schedule::Linear, 2), [8.0 / 3.0, 16.0 / 3.0, 8.0, 6.0, 4.0, 2.0]);
        let cosine = rates(Schedule::Cosine, 2);
        for (found, expected) in cosine[2..].iter().zip([8.0, 4.0 + 8f64.sqrt(), 4.0, 4.0 - 8f64.sqrt()]) {
            assert!((found - expected).abs() < 1e-12, "{cosine:?}");
        }
        assert_eq!(LearningRate::from(3.0).at(77), 3.0);
    }

    #[test]
    fn the_peak_is_reached_and_never_passed_and_no_round_stands_still() {
        for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
            for rounds in 1..40 {
                for warmup_rounds in 0..rounds {
                    let rate = LearningRate { peak: 0.3, schedule, warmup_rounds, rounds };
                    let rates: Vec<f64> = (1..=rounds).map(|round| rate.at(round)).collect();
                    assert_eq!(rates[warmup_rounds as usize], 0.3);
                    assert!(rates.iter().all(|&x| x > 0.0 && x <= 0.3), "{rate:?} {rates:?}");
                }
            }
        }
    }
}
