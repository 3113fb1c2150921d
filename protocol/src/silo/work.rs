//! The CPU-heavy parts of a silo's session, as values for a blocking thread.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::fixed_point::{self, EncodeError, Rounding};
use blindsum_crypto::mask::Stream;
use blindsum_crypto::packing::{self, Values};
use blindsum_crypto::verify::{self, ClaimedSum, Rules};
use blindsum_crypto::{Digest, Roster, SegmentKind, SiloId, SumProof, SurvivorList, sketch};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use crate::message::{AttemptId, Payload};
use crate::metrics;
use crate::plan::{Plan, RoundKind};
use crate::silo::api::MeasuredUpdate;
use crate::silo::verify::proof_of;
use crate::step::{Step, step};

/// One silo's input before masking: its update with the keys that round it (one per fixed-point segment), and its counts.
/// The same integers come of it in every attempt that sends it. Erased on drop.
pub(crate) struct PlainInput {
    update: Zeroizing<Vec<f32>>,
    roundings: Vec<Rounding>,
    counts: Zeroizing<Vec<u32>>,
}

/// Shared between attempts.
pub(crate) type Input = Arc<PlainInput>;

/// Work to run on a blocking thread. Its `Debug` shows no values.
pub struct SiloWork(pub(crate) SiloTask);

pub(crate) enum SiloTask {
    /// Checks the update and draws how it is rounded to integers.
    Prepare { round: u32, kind: RoundKind, plan: Arc<Plan>, update: MeasuredUpdate, rng: Box<ChaCha20Rng> },
    /// Rounds the update, adds all masks and packs it.
    Mask { at: AttemptId, kind: RoundKind, silent: bool, plan: Arc<Plan>, input: Input, streams: Vec<Stream> },
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
pub struct SiloWorkDone(pub(crate) SiloDone);

pub(crate) enum SiloDone {
    Prepared { round: u32, input: Result<Input, String> },
    Masked { at: AttemptId, packed: Result<Vec<u8>, String> },
    Sketched { at: AttemptId, sum_hash: Digest, values: Result<Vec<u32>, String> },
    Applied { at: AttemptId, step: Result<Step, String> },
}

impl SiloWork {
    /// What it is, for logs.
    pub fn name(&self) -> &'static str {
        match self.0 {
            SiloTask::Prepare { .. } => "prepare",
            SiloTask::Mask { .. } => "mask",
            SiloTask::Sketch { .. } => "sketch",
            SiloTask::Apply { .. } => "apply",
        }
    }

    /// Does it. Uses as many threads as the machine has, for as long as it takes (a second for 10⁷ coordinates).
    pub fn run(self) -> SiloWorkDone {
        SiloWorkDone(match self.0 {
            SiloTask::Prepare { round, kind, plan, update, mut rng } => {
                SiloDone::Prepared { round, input: prepare(&plan, kind, update, &mut rng) }
            }
            SiloTask::Mask { at, kind, silent, plan, input, streams } => {
                let packed = mask(&plan, kind, silent, &input, &streams).map_err(|e| e.to_string());
                SiloDone::Masked { at, packed }
            }
            SiloTask::Sketch { at, kind, plan, key, sum_hash, packed } => {
                let values = sketch::subset_sums_of(plan.params(kind), &key, &packed, threads());
                SiloDone::Sketched { at, sum_hash, values: values.map_err(|e| e.to_string()) }
            }
            SiloTask::Apply { at, kind, plan, t3, survivors, payload, check, global } => {
                let (sum, opened) = payload.split_at(plan.params(kind).packed_bytes().min(payload.len()));
                let checked = check.map_or(Ok(()), |check| check.run(&plan, kind, &t3, sum, opened));
                let step = checked.and_then(|()| step(&plan, at, kind, &t3, survivors, sum, &global));
                SiloDone::Applied { at, step }
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
        proof_of(&verified, &self.bind, t3).map_err(|e| e.to_string())
    }
}

/// Checks the update, draws the keys that round it, and makes the counts. The integers themselves are made with the masks,
/// the same in every attempt.
fn prepare(plan: &Plan, kind: RoundKind, update: MeasuredUpdate, rng: &mut ChaCha20Rng) -> Result<Input, String> {
    let params = plan.params(kind);
    let MeasuredUpdate { update, held_out } = update;
    let update = Zeroizing::new(update);
    let expected = params.lanes() - plan.metrics_len();
    if update.len() != expected {
        return Err(format!("the update has {} coordinates where the plan has {expected}", update.len()));
    }
    let (mut roundings, mut counts, mut saturated) = (Vec::new(), Zeroizing::new(Vec::new()), 0);
    for (segment, range) in params.ranges() {
        match segment.kind {
            SegmentKind::FixedPoint { .. } => {
                let clipped = fixed_point::check(&update[range], segment).map_err(|e| e.to_string())?;
                saturated += clipped.saturated;
                roundings.push(Rounding::draw(rng));
            }
            SegmentKind::Counts { .. } => {
                let own = Zeroizing::new(metrics::encode(plan, held_out, saturated));
                fixed_point::encode_counts(&own, segment, &mut counts).map_err(|e| e.to_string())?;
            }
        }
    }
    Ok(Arc::new(PlainInput { update, roundings, counts }))
}

/// The masked input, packed; `silent` leaves the held-out counts out.
fn mask(
    plan: &Plan,
    kind: RoundKind,
    silent: bool,
    input: &PlainInput,
    streams: &[Stream],
) -> Result<Vec<u8>, EncodeError> {
    let params = plan.params(kind);
    let mut counts = input.counts.clone();
    if silent {
        metrics::silence(plan, &mut counts);
    }
    let (mut roundings, mut left) = (input.roundings.iter(), &counts[..]);
    let mut values = Vec::with_capacity(params.segments.len());
    for (segment, range) in params.ranges() {
        let rounding = matches!(segment.kind, SegmentKind::FixedPoint { .. }).then(|| roundings.next()).flatten();
        values.push(match rounding {
            Some(rounding) => Values::Reals(&input.update[range], rounding),
            None => {
                let (own, rest) = left.split_at(range.len().min(left.len()));
                left = rest;
                Values::Lanes(own)
            }
        });
    }
    packing::encode_mask_and_pack(params, &values, streams, threads())
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
            SiloDone::Prepared { .. } => "SiloWorkDone(prepare)",
            SiloDone::Masked { .. } => "SiloWorkDone(mask)",
            SiloDone::Sketched { .. } => "SiloWorkDone(sketch)",
            SiloDone::Applied { .. } => "SiloWorkDone(apply)",
        })
    }
}
