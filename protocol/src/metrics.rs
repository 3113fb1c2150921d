//! What the metrics segment of the sum says: the canary, held-out accuracy, and how many coordinates were clipped.
//!
//! Contract: each silo's own numbers exist only inside its masked input. Layout, 32-bit counts:
//! `[canary = 1, held-out examples, held-out correct, held-out accuracy in 1e-6, measured, saturated coordinates]` with
//! metrics on, `[canary = 1, saturated coordinates]` with metrics off. `measured` is 1 where the silo measured; a silo that
//! holds nothing out, and every silo of a session in which one's counts may be in another sum, has 0 in all four.

use crate::job::MetricsMode;
use crate::plan::Plan;

/// One silo's held-out counts for the adapter that the round starts from. Stays inside the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldOutCounts {
    /// Held-out examples, or the predicted tokens of all of them where the job continues texts; 0 if the silo holds none
    /// out.
    pub examples: u32,
    /// Of them, how many the adapter labels, or predicts, rightly.
    pub correct: u32,
}

/// Held-out accuracy over all survivors, of the global adapter that the round started from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// Held-out examples (where the job continues texts: their predicted tokens) of all survivors.
    pub examples: u64,
    /// Of them, answered rightly.
    pub correct: u64,
    /// Mean over the survivors that measured of each one's accuracy (macro mean), 0 to 1, exact to 1e-6.
    pub mean_accuracy: f64,
}

/// The metrics of a sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SumMetrics {
    /// Count of canaries: equals the survivors unless something is at fault.
    pub canary: u32,
    /// Held-out accuracy; `None` with metrics off, or where no survivor measured.
    pub held_out: Option<HeldOut>,
    /// Coordinates that were clipped to the coordinate bound, over all survivors.
    pub saturated: u32,
}

/// One silo's metrics segment. Counts that could overflow a sum of n are capped at ⌊(2³²−1)/n⌋.
pub(crate) fn encode(plan: &Plan, counts: HeldOutCounts, saturated: u64) -> Vec<u32> {
    let cap = u32::MAX / u32::from(plan.quorum().n);
    let saturated = u32::try_from(saturated).unwrap_or(u32::MAX).min(cap);
    match plan.job().aggregation.metrics {
        MetricsMode::Off => vec![1, saturated],
        MetricsMode::HeldOut => {
            let (examples, correct) = (u64::from(counts.examples), u64::from(counts.correct.min(counts.examples)));
            // At most 10⁶, and n ≤ 1000: the sum stays below 2³².
            let accuracy = (correct * 1_000_000 + examples / 2).checked_div(examples).unwrap_or(0);
            let accuracy = u32::try_from(accuracy).expect("correct ≤ examples, so at most 10^6");
            let (examples, correct) = (counts.examples.min(cap), counts.correct.min(counts.examples).min(cap));
            vec![1, examples, correct, accuracy, u32::from(examples > 0), saturated]
        }
    }
}

/// Takes the held-out counts out of one silo's encoded coordinates, whose last ones are the metrics segment.
///
/// SA-13 for the counts: they are exact and the same in every attempt at a round, so that two sums with and without them
/// would give one silo's own.
pub(crate) fn silence(plan: &Plan, lanes: &mut [u32]) {
    if plan.job().aggregation.metrics == MetricsMode::HeldOut {
        let start = lanes.len() - plan.metrics_len();
        lanes[start + 1..start + 5].fill(0);
    }
}

/// Reads the metrics at the end of a sum. `sum` is the metrics segment alone.
pub(crate) fn decode(plan: &Plan, sum: &[u32]) -> SumMetrics {
    match (plan.job().aggregation.metrics, sum) {
        (MetricsMode::HeldOut, &[canary, examples, correct, accuracy, measured, saturated]) => SumMetrics {
            canary,
            held_out: (measured > 0).then(|| HeldOut {
                examples: u64::from(examples),
                correct: u64::from(correct),
                mean_accuracy: f64::from(accuracy) / 1e6 / f64::from(measured),
            }),
            saturated,
        },
        (_, &[canary, .., saturated]) => SumMetrics { canary, held_out: None, saturated },
        _ => SumMetrics { canary: 0, held_out: None, saturated: 0 },
    }
}
