//! What a federation in memory is made from: roster, job, plan, identity keys, and numbers in place of training.
//!
//! Contract: everything follows from the number of silos and the text of the job. The text's coordinate bound makes the
//! fixed-point scale exactly 1, so that integers survive encoding.

use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape};
use blindsum_crypto::{IdentityKey, Roster, RosterEntry, SiloId};
use blindsum_protocol::job::{Job, JobFile};
use blindsum_protocol::{HeldOutCounts, Plan};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Everything that a cluster is made from.
#[derive(Clone)]
pub struct Setup {
    pub roster: Arc<Roster>,
    pub plan: Arc<Plan>,
    pub seeds: Vec<[u8; 32]>,
}

pub const NONE: &str = "mode = \"none\"";
pub const DP: &str = "mode = \"record-dp\"\nsampling_rate = 0.05\nnoise_multiplier = 2.0\nclip_norm = 0.5\nbatch_max = 1024\nepsilon = 6.0\n\
                      delta = 1e-5";

/// The text of a job. Its coordinate bound makes the fixed-point scale exactly 1, so that integers survive encoding.
pub fn job_text(rounds: u32, privacy: &str, metrics: &str) -> String {
    let norm = if privacy == NONE { "max_grad_norm = 1.0" } else { "" };
    let hash = "ab".repeat(32);
    format!(
        r#"
schema = 1
name = "test"
federation = "wards"
rounds = {rounds}

[model]
config_sha256 = "{hash}"
weights_sha256 = "{hash}"
tokenizer_sha256 = "{hash}"
labels = ["no", "yes"]
max_sequence_tokens = 64

[lora]
method = "ffa-lora"
r = 2
lora_alpha = 4.0
target_modules = ["query", "value"]
seed = 7
head = "trained"

[training]
local_steps = 5
expected_batch_examples = 32
optimizer = "sgd"
learning_rate = 0.5
{norm}

[privacy]
{privacy}

[aggregation]
value_bits = 16
coordinate_bound = 32767.0
metrics = "{metrics}"

[deadlines]
training_seconds = 10
phase_seconds = 2
"#
    )
}

pub fn layout(file: &JobFile) -> AdapterLayout {
    let config = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0}"#;
    let shape = BaseShape::from_config_json(config).unwrap();
    AdapterLayout::new(&shape, &file.lora, file.model.task()).unwrap()
}

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

impl Setup {
    pub fn new(n: u16, job: &str) -> Setup {
        Setup::of("wards", n, job)
    }

    /// The same silos in a federation of another name.
    pub fn of(federation: &str, n: u16, job: &str) -> Setup {
        let job = job.replace("federation = \"wards\"", &format!("federation = \"{federation}\""));
        let job: Job = toml::from_str(&job).unwrap();
        Setup::over(federation, n, &job, &layout(&job))
    }

    /// A job over an adapter of any size.
    pub fn over(federation: &str, n: u16, job: &Job, layout: &AdapterLayout) -> Setup {
        let mut rng = rng(u64::from(n));
        let keys: Vec<IdentityKey> = (0..n).map(|_| IdentityKey::generate(&mut rng)).collect();
        let entries = keys
            .iter()
            .enumerate()
            .map(|(i, key)| RosterEntry { name: format!("ward-{i}"), identity: key.public() })
            .collect();
        let roster = Roster::new(federation.to_owned(), 1, entries).unwrap();
        let plan = Plan::derive(job, &roster, layout).unwrap();
        let seeds = keys.iter().map(|key| *key.to_bytes()).collect();
        Setup { roster: Arc::new(roster), plan: Arc::new(plan), seeds }
    }

    pub fn n(&self) -> u16 {
        u16::try_from(self.seeds.len()).unwrap()
    }

    pub fn identity(&self, silo: SiloId) -> IdentityKey {
        IdentityKey::from_bytes(&self.seeds[silo.index()])
    }

    /// What a silo's fake training gives: integers, different for every silo, round and run of the training.
    pub fn update(&self, silo: SiloId, round: u32, run: u32) -> (Vec<f32>, HeldOutCounts) {
        let seed = u64::from(silo.0) << 32 | u64::from(round) << 16 | u64::from(run);
        let value = |i: usize| {
            let x = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (i as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9)) >> 13;
            (x % 2001) as f32 - 1000.0
        };
        let kind = self.plan.kind(round).unwrap();
        let length = self.plan.params(kind).lanes() - self.plan.metrics_len();
        let examples = 100 + u32::from(silo.0);
        ((0..length).map(value).collect(), HeldOutCounts { examples, correct: 40 + round + u32::from(silo.0) })
    }
}

/// A repeatable stand-in for the operating system's generator.
pub fn boxed_rng(seed: u64) -> Box<dyn rand_core::CryptoRng + Send> {
    Box::new(rng(seed))
}
