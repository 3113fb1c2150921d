//! Two worlds, one with a row and one without, and how well the best test tells them apart.

use blindsum_engine::local::{StepPrivacy, TrainSpec};
use blindsum_privacy::Mechanism;

use crate::known::{Known, row, spec};
use crate::statistics::{gaussian_epsilon, mu_above};
use crate::{Found, judged};

const EPSILON: f64 = 6.0;
const DELTA: f64 = 1e-5;
const STEPS: u32 = 4;
/// Probability with which the bound may be wrong.
const ALPHA: f64 = 0.05;

/// A lower bound on ε from an attack lies between 85 % and all of what the accountant says.
///
/// Every row is in every step, where the accountant's bound is attained: of a row that is longer than the clip norm, its
/// coordinate alone says all that there is to know. Rows whose gradients are orthogonal do not see each other, so that each
/// coordinate is a pair of worlds of its own.
pub fn lower_bound_on_epsilon() -> Found {
    let mut engine = Known::wide();
    let trials = engine.len();
    let job = Mechanism::propose(trials as u64, trials as u64, u64::from(STEPS), EPSILON, DELTA).unwrap();
    let Mechanism { q, noise_multiplier, batch_max, .. } = job;
    let privacy = StepPrivacy::RecordDp { q, noise_multiplier, clip_norm: 0.5, batch_max };
    let spec = TrainSpec { privacy, ..spec(q, noise_multiplier, STEPS) };
    let with = engine.released((0..trials).map(|i| row(&[i], 7)).collect(), spec, 3);
    let without = engine.released(Vec::new(), spec, 4);
    // half of what a row adds over all steps
    let threshold = 0.5 * f64::from(STEPS);
    let false_positives = without.iter().filter(|x| **x > threshold).count();
    let false_negatives = with.iter().filter(|x| **x <= threshold).count();
    let bound = gaussian_epsilon(mu_above(false_positives, false_negatives, trials, ALPHA), DELTA);
    let accounted = job.epsilon();
    let figure = format!(
        "{trials} pairs of worlds, {false_positives} false positives, {false_negatives} false negatives: epsilon at least \
         {bound:.3}, accounted {accounted:.3}: {:.4} of it",
        bound / accounted
    );
    judged(accounted > 0.999 * EPSILON && (0.85..=1.0).contains(&(bound / accounted)), figure)
}

#[test]
fn what_an_attack_proves_is_nearly_what_is_accounted_and_never_more() {
    println!("{}", lower_bound_on_epsilon().unwrap());
}
