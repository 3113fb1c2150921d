//! Tests of one round's work: what ends the agent, and what the log may hold.

use std::io::Write;
use std::sync::{Arc, Mutex};

use blindsum_adapter::training::Optimizer;
use blindsum_adapter::{Adapter, AdapterLayout, BaseShape, RoundKind, Task};
use blindsum_crypto::{IdentityKey, Roster, RosterEntry};
use blindsum_engine::local::StepPrivacy;
use blindsum_engine::{ClippedSum, GradientSum};
use blindsum_files::{ExitCode, Exits};
use blindsum_protocol::AttemptId;
use blindsum_protocol::job::Job;

use super::*;

mod mutants;

/// Gradients of zero; looks around when it is asked for the first.
struct Still(AdapterLayout, Box<dyn FnMut() + Send>);

impl Engine for Still {
    fn layout(&self) -> &AdapterLayout {
        &self.0
    }

    fn gradient_sum(
        &mut self,
        adapter: Adapter<'_>,
        _: RoundKind,
        batch: &[&Example],
    ) -> Result<GradientSum, EngineError> {
        Ok(GradientSum { sum: vec![0.0; adapter.values.len()], losses: vec![0.5; batch.len()] })
    }

    fn clipped_sum(
        &mut self,
        adapter: Adapter<'_>,
        _: RoundKind,
        units: &[&[Example]],
        _: f64,
    ) -> Result<ClippedSum, EngineError> {
        (self.1)();
        let (losses, norms) = (vec![0.5; units.concat().len()], vec![0.0; units.len()]);
        Ok(ClippedSum { sum: vec![0; adapter.values.len()], losses, norms })
    }

    fn logits(&mut self, _: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(vec![vec![0.0, 1.0]; examples.len()])
    }
}

const DP: StepPrivacy = StepPrivacy::RecordDp { q: 1.0, noise_multiplier: 1.0, clip_norm: 0.5, batch_max: 1 << 20 };

fn trainer(privacy: StepPrivacy, allowance: Option<Allowance>) -> (Trainer, TrainRequest) {
    watched(privacy, allowance, || {})
}

/// A trainer whose engine does `look` before each step, of a job with a release time of one second.
fn watched(
    privacy: StepPrivacy,
    allowance: Option<Allowance>,
    look: impl FnMut() + Send + 'static,
) -> (Trainer, TrainRequest) {
    let job = include_str!("../../../../protocol/job.sample.toml");
    let job: Job = toml::from_str(&job.replace("[deadlines]\n", "[deadlines]\nrelease_seconds = 1\n")).unwrap();
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
    (Trainer::new(plan, Box::new(Still(layout, Box::new(look))), rows, spec, allowance).unwrap(), request)
}

#[test]
fn a_ledger_that_cannot_be_written_ends_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut allowance = Allowance::for_tests(dir.path());
    allowance.break_disk();
    let (mut trainer, request) = trainer(DP, Some(allowance));
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

#[test]
fn an_update_leaves_at_a_time_that_does_not_tell_how_long_it_took() {
    let every = Duration::from_secs(10);
    for seconds in [0.0, 0.1, 3.0, 9.999, 10.0] {
        assert_eq!(release(Duration::from_secs_f64(seconds), every), every, "{seconds}");
    }
    assert_eq!(release(Duration::from_secs_f64(10.001), every), 2 * every);
    assert_eq!(release(Duration::from_secs(95), every), 10 * every);

    // The attack: whoever sees when updates leave guesses how many tokens were drawn. Two hundred rounds whose training
    // takes longer the more was drawn; without release times the correlation is 1.
    let drawn: Vec<f64> = (0..200).map(|i| f64::from((i * 7919) % 200)).collect();
    let took = |tokens: f64| Duration::from_secs_f64(2.0 + tokens / 50.0);
    let correlation = |times: Vec<f64>| {
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let (a, b) = (mean(&drawn), mean(&times));
        let sum = |f: &dyn Fn(f64, f64) -> f64| drawn.iter().zip(&times).map(|(x, y)| f(x - a, y - b)).sum::<f64>();
        let spread = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
        if spread == 0.0 { 0.0 } else { sum(&|x, y| x * y) / spread }
    };
    assert!(correlation(drawn.iter().map(|&t| took(t).as_secs_f64()).collect()) > 0.99);
    let left = drawn.iter().map(|&t| release(took(t), every).as_secs_f64()).collect();
    assert!(correlation(left).abs() <= 0.2);
}

#[test]
fn what_is_held_back_leaves_when_it_is_due_or_cancelled() {
    let (never, at_once) = (AtomicBool::new(false), AtomicBool::new(true));
    let started = Instant::now();
    assert!(hold_until(started + Duration::from_millis(120), &never));
    assert!(started.elapsed() >= Duration::from_millis(120));
    let started = Instant::now();
    assert!(!hold_until(started + Duration::from_secs(3600), &at_once));
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn counts_of_the_last_round_are_held_back_as_updates_are() {
    let (trainer, request) = trainer(DP, None);
    for kind in [RoundKind::TrainB, RoundKind::Evaluate] {
        let request = TrainRequest { kind, ..request.clone() };
        // Whoever is cancelled while it waits does not leave; who does not wait would.
        assert!(!trainer.hold_back(&request, Instant::now(), &AtomicBool::new(true)), "{kind:?}");
    }
}
