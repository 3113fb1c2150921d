//! The CPU-heavy parts of a silo's session, as values for a blocking thread.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::mask::Stream;
use blindsum_crypto::verify::{self, ClaimedSum, Rules};
use blindsum_crypto::{Digest, Roster, SegmentKind, SiloId, SumProof, SurvivorList, fixed_point, packing, sketch};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use crate::message::{AttemptId, Payload};
use crate::metrics;
use crate::plan::{Plan, RoundKind};
use crate::silo::api::LocalUpdate;
use crate::step::{Step, step};

/// Encoded coordinates of one silo, before masking. Erased on drop.
pub(crate) type Lanes = Arc<Zeroizing<Vec<u32>>>;

/// Work to run on a blocking thread. Its `Debug` shows no values.
pub struct SiloWork(pub(crate) Task);

pub(crate) enum Task {
    /// Rounds the update to integers.
    Encode { round: u32, kind: RoundKind, plan: Arc<Plan>, update: LocalUpdate, rng: Box<ChaCha20Rng> },
    /// Adds all masks to the encoded update and packs it.
    Mask { at: AttemptId, kind: RoundKind, silent: bool, plan: Arc<Plan>, lanes: Lanes, streams: Vec<Stream> },
    /// Subset sums of the own masked input.
    Sketch { at: AttemptId, kind: RoundKind, plan: Arc<Plan>, key: Digest, sum_hash: Digest, packed: Payload },
    /// Checks a round's sum, where nobody has vouched for it yet, and applies it.
    Apply {
        at: AttemptId,
        kind: RoundKind,
        plan: Arc<Plan>,
        t3: Digest,
        survivors: Vec<SiloId>,
        /// S, then the masked inputs that the check opens.
        payload: Payload,
        check: Option<Box<SumCheck>>,
        global: Arc<[f32]>,
    },
}

/// What a sum is checked with before its result is signed (SA-16).
pub(crate) struct SumCheck {
    pub roster: Arc<Roster>,
    pub ctx: Digest,
    pub bind: Digest,
    pub list: SurvivorList,
    pub proof: Box<SumProof>,
}

/// Finished work, to be handed back.
pub struct SiloWorkDone(pub(crate) Done);

pub(crate) enum Done {
    Encoded { round: u32, lanes: Result<Lanes, String> },
    Masked { at: AttemptId, packed: Result<Vec<u8>, String> },
    Sketched { at: AttemptId, sum_hash: Digest, values: Result<Vec<u32>, String> },
    Applied { at: AttemptId, step: Result<Step, String> },
}

impl SiloWork {
    /// What it is, for logs.
    pub fn name(&self) -> &'static str {
        match self.0 {
            Task::Encode { .. } => "encode",
            Task::Mask { .. } => "mask",
            Task::Sketch { .. } => "sketch",
            Task::Apply { .. } => "apply",
        }
    }

    /// Does it. Uses as many threads as the machine has, for as long as it takes (a second for 10⁷ coordinates).
    pub fn run(self) -> SiloWorkDone {
        SiloWorkDone(match self.0 {
            Task::Encode { round, kind, plan, update, mut rng } => {
                Done::Encoded { round, lanes: encode(&plan, kind, update, &mut rng) }
            }
            Task::Mask { at, kind, silent, plan, lanes, streams } => {
                let silenced = silent.then(|| {
                    let mut lanes = Zeroizing::new(lanes.to_vec());
                    metrics::silence(&plan, &mut lanes);
                    lanes
                });
                let lanes: &[u32] = silenced.as_ref().unwrap_or(&lanes);
                let packed = packing::mask_and_pack(plan.params(kind), lanes, &streams, threads());
                let packed = packed.map_err(|e| e.to_string());
                Done::Masked { at, packed }
            }
            Task::Sketch { at, kind, plan, key, sum_hash, packed } => {
                let values = sketch::subset_sums_of(plan.params(kind), &key, &packed, threads());
                Done::Sketched { at, sum_hash, values: values.map_err(|e| e.to_string()) }
            }
            Task::Apply { at, kind, plan, t3, survivors, payload, check, global } => {
                let (sum, opened) = payload.split_at(plan.params(kind).packed_bytes().min(payload.len()));
                let checked = check.map_or(Ok(()), |check| check.run(&plan, kind, &t3, sum, opened));
                let step = checked.and_then(|()| step(&plan, at, kind, &t3, survivors, sum, &global));
                Done::Applied { at, step }
            }
        })
    }
}

impl SumCheck {
    fn run(&self, plan: &Plan, kind: RoundKind, t3: &Digest, sum: &[u8], opened: &[u8]) -> Result<(), String> {
        let (params, quorum) = (plan.params(kind), plan.quorum());
        let rules = Rules { roster: &self.roster, ctx: &self.ctx, quorum: &quorum };
        let opened: Vec<&[u8]> = opened.chunks(params.packed_bytes()).collect();
        let claim = ClaimedSum { params, list: &self.list, packed: sum, proof: &self.proof, opened: &opened };
        let verified = verify::sum(&rules, &claim, threads()).map_err(|e| e.to_string())?;
        if (verified.bind(), verified.t3()) != (self.bind, *t3) {
            return Err("the proof of the sum belongs to another session (SA-16)".into());
        }
        Ok(())
    }
}

fn encode(plan: &Plan, kind: RoundKind, update: LocalUpdate, rng: &mut ChaCha20Rng) -> Result<Lanes, String> {
    let params = plan.params(kind);
    let LocalUpdate { update, held_out } = update;
    let update = Zeroizing::new(update);
    let expected = params.lanes() - plan.metrics_len();
    if update.len() != expected {
        return Err(format!("the update has {} coordinates where the plan has {expected}", update.len()));
    }
    let mut lanes = Zeroizing::new(Vec::with_capacity(params.lanes()));
    let mut saturated = 0;
    for (segment, range) in params.ranges() {
        match segment.kind {
            SegmentKind::FixedPoint { .. } => {
                let clipped = fixed_point::encode(&update[range], segment, rng, &mut lanes);
                saturated += clipped.map_err(|e| e.to_string())?.saturated;
            }
            SegmentKind::Counts { .. } => {
                let counts = Zeroizing::new(metrics::encode(plan, held_out, saturated));
                fixed_point::encode_counts(&counts, segment, &mut lanes).map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(Arc::new(lanes))
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

impl fmt::Debug for SiloWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiloWork({})", self.name())
    }
}

impl fmt::Debug for SiloWorkDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Done::Encoded { .. } => "SiloWorkDone(encode)",
            Done::Masked { .. } => "SiloWorkDone(mask)",
            Done::Sketched { .. } => "SiloWorkDone(sketch)",
            Done::Applied { .. } => "SiloWorkDone(apply)",
        })
    }
}
