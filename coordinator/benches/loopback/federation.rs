//! A federation of any size on disk, for the benchmark: keys and certificates by the real enrolment steps, a base model of
//! which only the configuration exists (a coordinator reads no weights).

use std::path::PathBuf;
use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape, Task};
use blindsum_crypto::{Roster, sha256};
use blindsum_protocol::{Job, Plan};
use blindsum_testkit::enrol;

/// What every process of the benchmark reads.
pub struct Site {
    dir: tempfile::TempDir,
    pub roster: Arc<Roster>,
    pub plan: Arc<Plan>,
}

impl Site {
    /// A file or folder of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The name of silo number `i`; sorted by name, as a roster is, they are sorted by number.
pub fn name(i: u16) -> String {
    format!("silo-{i:04}")
}

/// n silos, d coordinates (a multiple of 32,768).
pub fn make(n: u16, d: u64) -> Site {
    assert!(d > 0 && d.is_multiple_of(32_768), "d must be a multiple of 32768");
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let silos: Vec<String> = (0..n).map(name).collect();
    let roster = enrol::federation(dir, "bench", &silos);

    let model = dir.join("model");
    std::fs::create_dir(&model).unwrap();
    let config = format!(
        r#"{{"model_type": "bert", "hidden_size": 1024, "num_hidden_layers": {}, "num_attention_heads": 2,
        "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0}}"#,
        d / 32_768
    );
    std::fs::write(model.join("config.json"), &config).unwrap();
    std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
    let (config_hash, tokenizer, weights) = (sha256(config.as_bytes()), sha256(b"{}"), sha256(b""));
    let job = format!(
        r#"
schema = 1
name = "bench"
federation = "bench"
rounds = 1
[model]
config_sha256 = "{config_hash}"
weights_sha256 = "{weights}"
tokenizer_sha256 = "{tokenizer}"
labels = ["no", "yes"]
max_sequence_tokens = 64
[lora]
method = "ffa-lora"
r = 16
lora_alpha = 16.0
target_modules = ["query", "value"]
seed = 7
head = "frozen"
[training]
local_steps = 1
expected_batch_examples = 1
optimizer = "sgd"
learning_rate = 1.0
max_grad_norm = 1.0
[privacy]
mode = "none"
[aggregation]
value_bits = 16
coordinate_bound = 32767.0
metrics = "off"
[deadlines]
training_seconds = 600
phase_seconds = 600
"#
    );
    std::fs::write(dir.join("job.toml"), &job).unwrap();
    std::fs::write(
        dir.join("coordinator.toml"),
        "listen = \"127.0.0.1:0\"\nroster = \"roster.toml\"\njob = \"job.toml\"\nbase_model_dir = \"model\"\n\
         state_dir = \"state\"\noutput_dir = \"adapter\"\ncredentials_dir = \"hub\"\nlinger_seconds = 0\n",
    )
    .unwrap();
    let job: Job = toml::from_str(&job).unwrap();
    let layout =
        AdapterLayout::new(&BaseShape::from_config_json(&config).unwrap(), &job.lora, Task::classify(2)).unwrap();
    assert_eq!(layout.len() as u64, d);
    let plan = Arc::new(Plan::derive(&job, &roster, &layout).unwrap());
    Site { dir: temporary, roster: Arc::new(roster), plan }
}
