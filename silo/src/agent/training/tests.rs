//! Tests of one round's work: what ends the agent, and what the log may hold.

use std::io::Write;
use std::sync::{Arc, Mutex};

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, AdapterLayout, BaseShape, RoundKind, Task};
use blindsum_crypto::{Digest, IdentityKey, Roster, RosterEntry};
use blindsum_engine::GradientSum;
use blindsum_engine::local::StepPrivacy;
use blindsum_files::{ExitCode, Exits};
use blindsum_protocol::AttemptId;
use blindsum_protocol::job::Job;

use super::*;
use crate::ledger::Covers;

/// Gradients of zero.
struct Still(AdapterLayout);

impl Engine for Still {
    fn layout(&self) -> &AdapterLayout {
        &self.0
    }

    fn gradient_sum(
        &mut self,
        adapter: Adapter<'_>,
        _: RoundKind,
        batch: &[&Example],
        clip: Option<f64>,
    ) -> Result<GradientSum, EngineError> {
        let norms = clip.map_or_else(Vec::new, |_| vec![0.0; batch.len()]);
        Ok(GradientSum { sum: vec![0.0; adapter.values.len()], losses: vec![0.5; batch.len()], norms })
    }

    fn logits(&mut self, _: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(vec![vec![0.0, 1.0]; examples.len()])
    }
}

const DP: StepPrivacy = StepPrivacy::RecordDp { q: 1.0, noise_multiplier: 1.0, clip_norm: 0.5, batch_max: 1 << 20 };

fn trainer(privacy: StepPrivacy, ledger: Option<Ledger>) -> (Trainer, TrainRequest) {
    let job: Job = toml::from_str(include_str!("../../../../protocol/job.sample.toml")).unwrap();
    let config = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
        "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 128}"#;
    let shape = BaseShape::from_config_json(config).unwrap();
    let layout = AdapterLayout::new(&shape, &job.lora, Task::classify(2)).unwrap();
    let request = TrainRequest {
        at: AttemptId { round: 1, attempt: 1 },
        kind: RoundKind::TrainB,
        global: Arc::from(vec![0.0; layout.len()]),
        deadline_ms: 1000,
    };
    let spec =
        TrainSpec { local_steps: 2, expected_batch: 1, optimizer: Optimizer::Sgd, learning_rate: 0.1.into(), privacy };
    let example = || Example::labelled(vec![1], 0);
    let rows = (vec![example(), example()].into(), vec![example()].into());
    let key = |i: u8| IdentityKey::from_bytes(&[i; 32]).public();
    let entries = (0..4).map(|i| RosterEntry { name: format!("silo-{i}"), identity: key(i) }).collect();
    let roster = Roster::new(job.federation.clone(), 1, entries).unwrap();
    let plan = Arc::new(Plan::derive(&job, &roster, &layout).unwrap());
    (Trainer::new(plan, Box::new(Still(layout)), rows, spec, ledger).unwrap(), request)
}

#[test]
fn a_ledger_that_cannot_be_written_ends_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let covers = Covers {
        schema: 1,
        job: Digest([0xaa; 32]),
        train_file: "train.jsonl".into(),
        train_sha256: Digest([0xbb; 32]),
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
    match trainer.run(&request, &AtomicBool::new(false), &StepCount::new(1)) {
        Trained::Fatal(error) => assert_eq!(error.exit_code(), ExitCode::Storage),
        _ => panic!("a full disk is no reason to decline and go on"),
    }
}

/// The log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that one round logs.
fn logged(privacy: StepPrivacy) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let (mut trainer, request) = trainer(privacy, None);
    tracing::subscriber::with_default(subscriber, || {
        assert!(matches!(trainer.run(&request, &AtomicBool::new(false), &StepCount::new(1)), Trained::Update(_)));
    });
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn under_differential_privacy_the_log_holds_nothing_of_training_rows() {
    let names = ["drawn", "empty_batches", "clipped", "loss"];
    let log = logged(DP);
    assert!(log.contains("trained"), "{log}");
    assert!(names.iter().all(|name| !log.contains(name)), "{log}");
    // not "mean_loss": in one round of sixteen no row is drawn, and there is none
    assert!(logged(StepPrivacy::None { max_grad_norm: 1.0 }).contains("drawn"));
}
