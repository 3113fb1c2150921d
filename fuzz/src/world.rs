//! The fixed federation of four in which everything happens: roster, two jobs (without and with differential privacy),
//! and the arithmetic that leads from a sum to the next adapter.

use std::sync::{Arc, OnceLock};

use blindsum_crypto::{Digest, IdentityKey, SegmentKind, SiloId, fixed_point, packing, transcript};
use blindsum_protocol::Plan;
use blindsum_protocol::limits::Limits;
use blindsum_testkit::{DP, NONE, Setup, job_text};

/// Silos of the federation.
pub const SILOS: u16 = 4;

/// Roster, job and keys.
pub struct World {
    /// As the protocol's own tests make it.
    pub setup: Setup,
    /// The job's sizes.
    pub limits: Limits,
    /// Identity keys by silo.
    pub keys: Vec<IdentityKey>,
}

impl World {
    /// The federation with a job of one training round and a closing one, with differential privacy or without.
    pub fn get(private: bool) -> &'static World {
        static WORLDS: [OnceLock<World>; 2] = [OnceLock::new(), OnceLock::new()];
        WORLDS[usize::from(private)].get_or_init(|| {
            let setup = Setup::new(SILOS, &job_text(1, if private { DP } else { NONE }, "held-out"));
            let keys = setup.roster.ids().map(|silo| setup.identity(silo)).collect();
            World { limits: Limits::new(&setup.plan), setup, keys }
        })
    }

    /// The job's plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.setup.plan
    }

    /// All silos.
    pub fn ids(&self) -> impl Iterator<Item = SiloId> + use<> {
        (0..SILOS).map(SiloId)
    }

    /// The adapter after a sum over `count` silos.
    pub fn apply(&self, round: u32, global: &Arc<[f32]>, packed: &[u8], count: usize) -> Arc<[f32]> {
        let Some(kind) = self.plan().kind(round).filter(|kind| kind.trains()) else { return Arc::clone(global) };
        let params = self.plan().params(kind);
        let Ok(lanes) = packing::unpack(params, packed) else { return Arc::clone(global) };
        let mut update = Vec::new();
        for (segment, range) in params.ranges() {
            if matches!(segment.kind, SegmentKind::FixedPoint { .. }) {
                update.extend(fixed_point::decode_sum(&lanes[range], segment));
            }
        }
        self.plan().state().step(global, &update, count.max(1) as u32, round).into()
    }
}

/// How far the job has got: what an honest coordinator and an honest silo agree on.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// Rounds with a result.
    pub round: u32,
    /// Hash of the last result; the job digest at first.
    pub result_hash: Digest,
    /// Hash of the model after it.
    pub model_hash: Digest,
    /// The adapter after it.
    pub global: Arc<[f32]>,
}

impl Chain {
    /// Before the first round.
    pub fn start(world: &World) -> Chain {
        let (plan, global) = (world.plan(), world.plan().initial_global());
        Chain { round: 0, result_hash: plan.job_digest(), model_hash: plan.model_hash(&global), global }
    }

    /// After the next round, whose survivor list has this T3.
    pub fn next(&self, world: &World, t3: &Digest, packed: &[u8], count: usize) -> Chain {
        let round = self.round + 1;
        let global = world.apply(round, &self.global, packed, count);
        let model_hash = world.plan().model_hash(&global);
        let result_hash = transcript::result_hash(t3, &transcript::sum_hash(packed), &model_hash);
        Chain { round, result_hash, model_hash, global }
    }
}
