//! Tests of the output directory: what is kept, what is best, what a crash leaves.

use std::sync::Arc;

use blindsum_adapter::{AdapterLayout, BaseShape, Method};
use blindsum_crypto::{Digest, IdentityKey, RosterEntry};
use blindsum_protocol::coordinator::RoundBytes;
use blindsum_protocol::job::Job;
use blindsum_protocol::metrics::HeldOut;
use blindsum_protocol::server::ServerOptimizer;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    roster: Roster,
    plan: Plan,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same with a changed job.
    fn with(change: fn(&mut blindsum_protocol::job::JobFile)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("model")).unwrap();
        std::fs::write(dir.path().join("model/tokenizer.json"), "{}").unwrap();
        let entries = (0..4u8).map(|i| RosterEntry {
            name: format!("silo-{i}"),
            identity: IdentityKey::from_bytes(&[i + 1; 32]).public(),
        });
        let roster = Roster::new("demo", 1, entries.collect()).unwrap();
        let job: Job = toml::from_str(include_str!("../../../protocol/job.sample.toml")).unwrap();
        let mut file = blindsum_protocol::job::JobFile::from(job);
        file.federation = "demo".into();
        change(&mut file);
        let job = Job::try_from(file).unwrap();
        let config = r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16,
            "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 128}"#;
        let shape = BaseShape::from_config_json(config).unwrap();
        let layout = AdapterLayout::new(&shape, &job.lora, job.model.task()).unwrap();
        let plan = Plan::derive(&job, &roster, &layout).unwrap();
        Self { dir, roster, plan }
    }

    fn open(&self) -> Output {
        let (out, model) = (self.dir.path().join("out"), self.dir.path().join("model"));
        Output::open(&out, &model, "base".into(), &self.plan).unwrap()
    }

    fn report(&self, round: u32, kind: RoundKind, accuracy: f64) -> RoundReport {
        let silos: Vec<SiloId> = self.roster.ids().collect();
        RoundReport {
            round,
            attempt: 1,
            kind,
            cohort: silos.clone(),
            survivors: silos[..3].to_vec(),
            dropped: silos[3..].to_vec(),
            held_out: Some(HeldOut { examples: 30, correct: 20, mean_accuracy: accuracy }),
            saturated_share: 0.0,
            bytes: RoundBytes::default(),
            duration_ms: 1500,
            result_hash: Digest([round as u8; 32]),
            model_hash: Digest([9; 32]),
            global: Arc::from(vec![round as f32; self.plan.state().len(round)]),
        }
    }

    fn keep(&self, output: &mut Output, round: u32, accuracy: f64) {
        let kind = if round == 4 { RoundKind::Evaluate } else { RoundKind::TrainB };
        output.keep(&self.report(round, kind, accuracy), &self.plan, &self.roster).unwrap();
    }

    /// The first trained value of the adapter in `last` or `best`: the round that made it.
    fn round_in(&self, which: &str) -> Option<f32> {
        let dir = self.dir.path().join("out").join(which);
        let shape = self.plan.layout().shape();
        peft::load(&dir, shape).ok().map(|loaded| loaded.values[0])
    }
}

#[test]
fn best_is_decided_one_round_later_and_survives_a_restart() {
    let fixture = Fixture::new();
    let mut output = fixture.open();
    fixture.keep(&mut output, 1, 0.9); // of the adapter before any training: never the best
    assert_eq!((fixture.round_in("last"), fixture.round_in("best")), (Some(1.0), None));
    fixture.keep(&mut output, 2, 0.6);
    assert_eq!((fixture.round_in("last"), fixture.round_in("best")), (Some(2.0), Some(1.0)));
    drop(output);
    let mut output = fixture.open();
    assert_eq!(output.newest(), 2);
    fixture.keep(&mut output, 2, 0.99); // reported again after a restart
    fixture.keep(&mut output, 3, 0.55);
    assert_eq!((fixture.round_in("last"), fixture.round_in("best")), (Some(3.0), Some(1.0)));
    fixture.keep(&mut output, 4, 0.7); // the closing round measures the last adapter and makes none
    assert_eq!((fixture.round_in("last"), fixture.round_in("best")), (Some(3.0), Some(3.0)));
    assert!(fixture.dir.path().join("out/best/tokenizer.json").exists());

    let history = std::fs::read_to_string(fixture.dir.path().join("out/history.jsonl")).unwrap();
    let lines: Vec<HistoryLine> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.round).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((lines[3].dropped.as_slice(), lines[3].absent.len()), (["silo-3".to_owned()].as_slice(), 0));
    assert_eq!(newest(&fixture.dir.path().join("out")).unwrap(), 4);
    assert_eq!(newest(&fixture.dir.path().join("elsewhere")).unwrap(), 0);
    let output = fixture.open();
    output.fits(4, Path::new("state")).unwrap();
    let error = output.fits(3, Path::new("state")).unwrap_err().to_string();
    assert!(error.contains("up to round 4") && error.contains("knows of 3"), "{error}");
    assert_eq!(lines[3].kind, "evaluate");
}

#[test]
fn a_half_written_line_is_removed_and_a_foreign_one_refused() {
    let fixture = Fixture::new();
    let mut output = fixture.open();
    fixture.keep(&mut output, 1, 0.5);
    drop(output);
    let path = fixture.dir.path().join("out/history.jsonl");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [whole.as_slice(), b"{\"round\":2,"].concat()).unwrap();
    let mut output = fixture.open();
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    fixture.keep(&mut output, 2, 0.5);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);

    std::fs::write(&path, "{\"something\": \"else\"}\n").unwrap();
    let (out, model) = (fixture.dir.path().join("out"), fixture.dir.path().join("model"));
    let error = Output::open(&out, &model, "base".into(), &fixture.plan).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn a_crash_around_the_history_line_mixes_up_no_adapters() {
    let fixture = Fixture::new();
    let mut output = fixture.open();
    fixture.keep(&mut output, 1, 0.5);
    fixture.keep(&mut output, 2, 0.6);
    // It stops before the line of round 3 is written: what is measured next time must still be the adapter of round 2.
    output.history = File::open(fixture.dir.path().join("out/history.jsonl")).unwrap();
    let report = fixture.report(3, RoundKind::TrainB, 0.7);
    assert!(output.keep(&report, &fixture.plan, &fixture.roster).is_err());
    let mut output = fixture.open();
    fixture.keep(&mut output, 3, 0.7);
    assert_eq!((fixture.round_in("last"), fixture.round_in("best")), (Some(3.0), Some(2.0)));

    // It stops after the line and before `last/`.
    std::fs::remove_dir_all(fixture.dir.path().join("out/last")).unwrap();
    let mut output = fixture.open();
    fixture.keep(&mut output, 3, 0.7);
    assert_eq!((fixture.round_in("last"), fixture.round_in("best")), (Some(3.0), Some(2.0)));
    assert_eq!(std::fs::read_to_string(fixture.dir.path().join("out/history.jsonl")).unwrap().lines().count(), 3);
}

#[test]
fn the_adapter_of_every_method_is_written_without_the_servers_moments() {
    type Change = fn(&mut blindsum_protocol::job::JobFile);
    let adam = |file: &mut blindsum_protocol::job::JobFile| file.server.optimizer = ServerOptimizer::FedAdam;
    let refresh: Change = |file| {
        file.lora.refresh_rounds = Some(1);
        file.server.optimizer = ServerOptimizer::FedAdam;
    };
    let rolora: Change = |file| file.lora.method = Method::RoLora;
    for (change, generations) in [(adam as Change, 1), (refresh, 3), (rolora, 1)] {
        let fixture = Fixture::with(change);
        let mut output = fixture.open();
        fixture.keep(&mut output, 1, 0.5);
        let kind = fixture.plan.kind(2).unwrap();
        output.keep(&fixture.report(2, kind, 0.6), &fixture.plan, &fixture.roster).unwrap();
        let (layout, report) = (fixture.plan.layout(), fixture.report(2, kind, 0.6));
        let loaded = peft::load(&fixture.dir.path().join("out/last"), layout.shape()).unwrap();
        assert_eq!(loaded.adapter(), fixture.plan.state().adapter(&report.global));
        assert_eq!(loaded.adapter().generations(layout), Some(generations));
        assert_eq!(fixture.round_in("best"), Some(1.0), "round 2 measures the adapter of round 1");
        let line = std::fs::read_to_string(fixture.dir.path().join("out/history.jsonl")).unwrap();
        assert_eq!(line.matches("\"kind\":\"train\"").count(), 2);
    }
}
