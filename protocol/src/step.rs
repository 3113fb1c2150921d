//! From a packed sum to the next state: the same arithmetic on every silo and on the coordinator.
//!
//! Contract: pure, scalar f64 in a fixed order ([`blindsum_adapter::StateLayout`]); whoever has the same sum, survivor list
//! and starting state gets the same result hash. CPU-heavy: call it from a work value.

use std::sync::Arc;

use blindsum_crypto::{Digest, SegmentKind, SiloId, fixed_point, packing, transcript};

use crate::message::AttemptId;
use crate::metrics::{self, SumMetrics};
use crate::plan::{Plan, RoundKind};
use crate::silo::verify::canary;

/// What a sum leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub at: AttemptId,
    pub kind: RoundKind,
    pub survivors: Vec<SiloId>,
    pub metrics: SumMetrics,
    pub saturated_share: f64,
    pub global: Arc<[f32]>,
    pub model_hash: Digest,
    pub result_hash: Digest,
}

/// Applies a packed sum over `survivors` to the state `global`.
///
/// # Errors
/// Says in words what is wrong with the sum (length, padding or canary), or that `global` is not the state before it.
pub(crate) fn step(
    plan: &Plan,
    at: AttemptId,
    kind: RoundKind,
    t3: &Digest,
    survivors: Vec<SiloId>,
    packed: &[u8],
    global: &Arc<[f32]>,
) -> Result<Step, String> {
    let params = plan.params(kind);
    let lanes = packing::unpack(params, packed).map_err(|e| format!("the sum is malformed: {e}"))?;
    let mut update = Vec::new();
    let mut metrics = None;
    for (segment, range) in params.ranges() {
        match segment.kind {
            SegmentKind::FixedPoint { .. } => update.extend(fixed_point::decode_sum(&lanes[range], segment)),
            SegmentKind::Counts { .. } => metrics = Some(metrics::decode(plan, &lanes[range])),
        }
    }
    let metrics = metrics.expect("every plan has a metrics segment");
    canary(metrics.canary, survivors.len()).map_err(|e| e.to_string())?;
    let count = u32::try_from(survivors.len()).expect("at most 1000 survivors");
    let global = if kind.trains() {
        if plan.kind(at.round) != Some(kind) || global.len() != plan.state().len(at.round - 1) {
            return Err(format!("the state is not the one before round {}", at.round));
        }
        plan.state().step(global, &update, count, at.round).into()
    } else {
        Arc::clone(global)
    };
    let coordinates = update.len() as f64 * f64::from(count);
    let saturated_share = if coordinates > 0.0 { f64::from(metrics.saturated) / coordinates } else { 0.0 };
    let model_hash = plan.model_hash(&global);
    let result_hash = transcript::result_hash(t3, &transcript::sum_hash(packed), &model_hash);
    Ok(Step { at, kind, survivors, metrics, saturated_share, global, model_hash, result_hash })
}
