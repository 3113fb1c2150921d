//! Two worlds, one with a row and one without, and how well the best test tells them apart.

use blindsum_engine::data::Example;
use blindsum_engine::local::{StepPrivacy, TrainSpec};
use blindsum_privacy::{Mechanism, pld};

use crate::known::{Known, demo, row, spec};
use crate::statistics::{bisect, gaussian_epsilon, mu_above, rate_below};
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

/// The same at the demo's sampling rate, noise and number of steps, each step seen, by the test that no other beats: the ratio
/// of likelihoods over all steps. Where it is compared with 1, true less false positives are δ at ε = 0; the noise at which the
/// accountant's δ is no larger gives the bound on ε.
pub fn lower_bound_with_sampling() -> Found {
    let mut engine = Known::wide();
    let trials = engine.len();
    let file = demo();
    let number = |key: &str| file["privacy"][key].as_float().unwrap();
    let steps = file["rounds"].as_integer().unwrap() * file["training"]["local_steps"].as_integer().unwrap();
    let batch_max = file["privacy"]["batch_max"].as_integer().unwrap() as u32;
    let (q, sigma, steps) = (number("sampling_rate"), number("noise_multiplier"), steps as u64);
    let job = Mechanism::new(q, sigma, steps, DELTA, batch_max).unwrap();
    let mut positives = |rows: Vec<Example>, seed| {
        let mut likelihood = vec![0.0; trials];
        for released in engine.releases(rows, spec(q, sigma, 1), steps, seed) {
            for (sum, x) in likelihood.iter_mut().zip(released) {
                *sum += libm::log1p(q * (libm::exp((x - 0.5) / sigma / sigma) - 1.0));
            }
        }
        likelihood.into_iter().filter(|ratio| *ratio > 0.0).count()
    };
    let true_positives = positives((0..trials).map(|i| row(&[i], 7)).collect(), 5);
    let false_positives = positives(Vec::new(), 6);
    let miss = rate_below(trials - true_positives, trials, ALPHA / 2.0);
    let advantage = 1.0 - miss - rate_below(false_positives, trials, ALPHA / 2.0);
    let noise = bisect(0.5 * sigma, 2.0 * sigma, |sigma| pld::delta(q, sigma, steps, 0.0) > advantage);
    let (bound, accounted) = (pld::epsilon(q, noise, steps, DELTA), job.epsilon());
    let figure = format!(
        "{trials} pairs of worlds with sampling, {true_positives} true positives, {false_positives} false positives: epsilon at \
         least {bound:.3}, accounted {accounted:.3}: {:.4} of it",
        bound / accounted
    );
    judged((0.85..=1.0).contains(&(bound / accounted)), figure)
}

#[test]
fn what_an_attack_on_samples_proves_is_nearly_what_is_accounted_and_never_more() {
    println!("{}", lower_bound_with_sampling().unwrap());
}

#[test]
fn what_an_attack_proves_is_nearly_what_is_accounted_and_never_more() {
    println!("{}", lower_bound_on_epsilon().unwrap());
}
