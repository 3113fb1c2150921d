//! Tests of one round's work: what ends the agent, and what the log may hold.

use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape};
use blindsum_crypto::Digest;
use blindsum_protocol::AttemptId;
use blindsum_protocol::job::{Job, Optimizer};
use blindsum_transport::{ExitCode, Exits};

use super::*;
use crate::engine::GradientSum;
use crate::ledger::Covers;
use crate::local::StepPrivacy;

/// Gradients of zero.
struct Still(AdapterLayout);

impl Engine for Still {
    fn layout(&self) -> &AdapterLayout {
        &self.0
    }

    fn gradient_sum(
        &mut self,
        adapter: &[f32],
        batch: &[&Example],
        clip: Option<f64>,
    ) -> Result<GradientSum, EngineError> {
        let norms = clip.map_or_else(Vec::new, |_| vec![0.0; batch.len()]);
        Ok(GradientSum { sum: vec![0.0; adapter.len()], losses: vec![0.5; batch.len()], norms })
    }

    fn logits(&mut self, _: &[f32], examples: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(vec![vec![0.0, 1.0]; examples.len()])
    }
}

const DP: StepPrivacy = StepPrivacy::RecordDp { q: 1.0, noise_multiplier: 1.0, clip_norm: 0.5 };

fn trainer(privacy: StepPrivacy, ledger: Option<Ledger>) -> (Trainer, TrainRequest) {
    let job: Job = toml::from_str(include_str!("../../../protocol/job.sample.toml")).unwrap();
    let config = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
        "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 128}"#;
    let shape = BaseShape::from_config_json(config).unwrap();
    let layout = AdapterLayout::new(&shape, &job.lora, 2).unwrap();
    let request = TrainRequest {
        at: AttemptId { round: 1, attempt: 1 },
        kind: RoundKind::Train,
        global: Arc::from(vec![0.0; layout.len()]),
        deadline_ms: 1000,
    };
    let spec = TrainSpec { local_steps: 2, expected_batch: 1, optimizer: Optimizer::Sgd, learning_rate: 0.1, privacy };
    let example = || Example { ids: vec![1], label: 0 };
    let rows = Rows { train: vec![example(), example()], train_sha256: Digest([0; 32]), held_out: vec![example()] };
    (Trainer::new(Box::new(Still(layout)), rows, spec, ledger).unwrap(), request)
}

#[test]
fn a_ledger_that_cannot_be_written_ends_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let covers = Covers {
        schema: 1,
        job: "aa".into(),
        train_file: "train.jsonl".into(),
        train_sha256: "bb".into(),
        records: 2,
        sampling_rate: 0.02,
        noise_multiplier: 1.0,
        clip_norm: 0.5,
        expected_batch_examples: 1.0,
        delta: 1e-5,
        epsilon_limit: 100.0,
    };
    let mut ledger = Ledger::open(&dir.path().join("ledger.jsonl"), covers).unwrap();
    ledger.break_disk(b"");
    let (mut trainer, request) = trainer(DP, Some(ledger));
    match trainer.run(&request, &AtomicBool::new(false)) {
        Trained::Fatal(error) => assert_eq!(error.exit_code(), ExitCode::Storage),
        _ => panic!("a full disk is no reason to decline and go on"),
    }
}
