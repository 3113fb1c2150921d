//! A federation of four on disk, made by the real enrolment steps: what each process of it reads.
//!
//! ```text
//! root/model/  roster.toml  job.toml  coordinator.toml  hub/  <silo>.toml  <silo>/ (keys)  <silo>-data/  record/<silo>/
//! root/state-coordinator/  state-<silo>/  adapter/ (coordinator's output)
//! ```
//! Silo number i holds 2^i held-out rows, so that the count of held-out rows in a sum says whose are in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blindsum_adapter::training::{Optimizer, Schedule};
use blindsum_adapter::{AdapterLayout, BaseShape, Head, Init, LoraConfig, Method, TaskKind, peft};
use blindsum_coordinator::config::CoordinatorConfig;
use blindsum_coordinator::output::HistoryLine;
use blindsum_crypto::{Roster, VerifySum, sha256};
use blindsum_protocol::job::{
    AggregationSection, DeadlineSection, Job, JobFile, MetricsMode, ModelSection, PrivacyMode, PrivacySection,
    TrainingSection, Unit,
};
use blindsum_protocol::plan::Plan;
use blindsum_protocol::server::{ServerOptimizer, ServerSection};
use blindsum_service::Document;
use blindsum_silo::config::SiloConfig;
use blindsum_testkit::{bert, enrol};

use crate::engine::{BATCH, BOUND};

/// The silos' names, in roster order.
pub const SILOS: [&str; 4] = ["east", "north", "south", "west"];
const TRAINING_ROWS: usize = 160;

/// What differs between tests.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Training rounds; a closing round follows.
    pub rounds: u32,
    /// Steps per round.
    pub local_steps: u32,
    /// Record-level differential privacy; otherwise the terms of [`crate::engine`].
    pub private: bool,
    /// What is trained.
    pub method: Method,
    /// `lora.refresh_rounds`.
    pub refresh_rounds: Option<u32>,
    /// What is done with the mean of the updates.
    pub server: ServerOptimizer,
    /// How long a phase may take: what a silo that was killed costs. Long where none is.
    pub phase_seconds: u32,
    /// How long the coordinator stays after the job for silos that have not been told.
    pub linger_seconds: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            rounds: 2,
            local_steps: 2,
            private: false,
            method: Method::FfaLora,
            refresh_rounds: None,
            server: ServerOptimizer::FedAvg,
            phase_seconds: 60,
            linger_seconds: 5,
        }
    }
}

/// A federation on disk.
pub struct Site {
    dir: tempfile::TempDir,
    roster: Roster,
    plan: Arc<Plan>,
    terms: Terms,
}

impl Site {
    /// Makes everything but the configuration files, which need an address.
    pub fn new(terms: Terms) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        bert::write(&dir.join("model"));
        let roster = enrol::federation(dir, "harness", &SILOS);
        for (i, name) in SILOS.iter().enumerate() {
            let data = dir.join(format!("{name}-data"));
            std::fs::create_dir_all(&data).unwrap();
            std::fs::write(data.join("train.jsonl"), rows(TRAINING_ROWS, i)).unwrap();
            std::fs::write(data.join("held-out.jsonl"), rows(1 << i, i + SILOS.len())).unwrap();
            std::fs::create_dir_all(dir.join("record").join(name)).unwrap();
        }
        let job = job(&dir.join("model"), terms);
        std::fs::write(dir.join("job.toml"), toml::to_string(&JobFile::from(job.clone())).unwrap()).unwrap();
        let shape = shape(&dir.join("model"));
        let layout = AdapterLayout::new(&shape, &job.lora, job.model.task()).unwrap();
        let plan = Arc::new(Plan::derive(&job, &roster, &layout).unwrap());
        Site { dir: temporary, roster, plan, terms }
    }

    /// The folder that holds all of it.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A file or folder of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The roster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The plan, as everybody derives it.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// A silo's state directory.
    pub fn state(&self, silo: &str) -> PathBuf {
        self.path(&format!("state-{silo}"))
    }

    /// Where a silo of the harness writes its updates in clear.
    pub fn record(&self, silo: &str) -> PathBuf {
        self.path("record").join(silo)
    }

    /// Writes `coordinator.toml`; returns its path.
    pub fn write_coordinator(&self, listen: &str) -> PathBuf {
        let path = self.path("coordinator.toml");
        let text = format!(
            "listen = \"{listen}\"\nroster = \"roster.toml\"\njob = \"job.toml\"\nbase_model_dir = \"model\"\n\
             state_dir = \"state-coordinator\"\noutput_dir = \"adapter\"\ncredentials_dir = \"hub\"\nlinger_seconds = {}\n",
            self.terms.linger_seconds
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes `<silo>.toml` for a coordinator at `address`; returns its path.
    pub fn write_silo(&self, name: &str, address: &str) -> PathBuf {
        let path = self.path(&format!("{name}.toml"));
        let open = !self.terms.private;
        let text = format!(
            "name = \"{name}\"\ncoordinator = \"{address}\"\nroster = \"roster.toml\"\njob = \"job.toml\"\n\
             credentials_dir = \"{name}\"\nmodel_dir = \"model\"\nstate_dir = \"state-{name}\"\nledger_dir = \"ledger-{name}\"\nprecision = \"f32\"\n\
             threads = 1\n[data]\ntrain = \"{name}-data/train.jsonl\"\nheld_out = \"{name}-data/held-out.jsonl\"\n\
             [policy]\nmax_epsilon = 8.0\nmax_delta = 1e-5\nmin_names = 4\ndanger_allow_no_privacy = {open}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Reads back what [`Site::write_coordinator`] wrote.
    pub fn coordinator_config(&self) -> (CoordinatorConfig, Document) {
        blindsum_service::config::load(&self.path("coordinator.toml")).unwrap()
    }

    /// Reads back what [`Site::write_silo`] wrote.
    pub fn silo_config(&self, name: &str) -> (SiloConfig, Document) {
        blindsum_service::config::load(&self.path(&format!("{name}.toml"))).unwrap()
    }

    /// The coordinator's history, round by round.
    pub fn history(&self) -> Vec<HistoryLine> {
        let text = std::fs::read_to_string(self.path("adapter/history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The adapter that the coordinator wrote for its users.
    pub fn published(&self) -> Vec<f32> {
        self.published_adapter().values
    }

    /// The same with its folded parts.
    pub fn published_adapter(&self) -> peft::Loaded {
        peft::load(&self.path("adapter/last"), &shape(&self.path("model"))).unwrap()
    }
}

fn shape(model: &Path) -> BaseShape {
    BaseShape::from_config_json(&std::fs::read_to_string(model.join("config.json")).unwrap()).unwrap()
}

/// Keys and certificates by the steps of the README; returns the roster.
fn rows(count: usize, salt: usize) -> String {
    let row = |i: usize| {
        let (text, label) = (format!("{} {}", bert::word(i), bert::word(7 * i + salt)), ["bad", "good"][i % 2]);
        format!("{{\"text\": \"{text}\", \"label\": \"{label}\"}}\n")
    };
    (0..count).map(row).collect()
}

fn job(model: &Path, terms: Terms) -> Job {
    let hash = |file: &str| sha256(&std::fs::read(model.join(file)).unwrap());
    let when = |value: f64| terms.private.then_some(value);
    let file = JobFile {
        schema: 1,
        name: "harness".into(),
        federation: "harness".into(),
        rounds: terms.rounds,
        model: ModelSection {
            task: TaskKind::SequenceClassification,
            config_sha256: hash("config.json"),
            weights_sha256: hash("model.safetensors"),
            tokenizer_sha256: hash("tokenizer.json"),
            labels: vec!["bad".into(), "good".into()],
            max_sequence_tokens: 16,
        },
        lora: LoraConfig {
            method: terms.method,
            r: 8,
            lora_alpha: 16.0,
            target_modules: None,
            init: Init::Orthonormal,
            seed: 1,
            head: Head::Frozen,
            refresh_rounds: terms.refresh_rounds,
        },
        training: TrainingSection {
            local_steps: terms.local_steps,
            expected_batch_examples: BATCH,
            optimizer: Optimizer::Sgd,
            learning_rate: 1.0,
            learning_rate_schedule: Schedule::Constant,
            warmup_rounds: 0,
            max_grad_norm: (!terms.private).then_some(1000.0),
        },
        privacy: PrivacySection {
            mode: if terms.private { PrivacyMode::RecordDp } else { PrivacyMode::None },
            sampling_rate: when(f64::from(BATCH) / TRAINING_ROWS as f64),
            noise_multiplier: when(2.0),
            clip_norm: when(0.5),
            batch_max: terms.private.then_some(256),
            epsilon: when(6.0),
            delta: when(1e-5),
            spare_rounds: None,
            unit: Unit::Record,
            rows_max_per_unit: None,
        },
        aggregation: AggregationSection {
            value_bits: 16,
            max_colluders: None,
            min_survivors: None,
            coordinate_bound: (!terms.private).then_some(BOUND),
            metrics: MetricsMode::HeldOut,
            verify_sum: VerifySum::Sketches,
        },
        deadlines: DeadlineSection { training_seconds: 120, phase_seconds: terms.phase_seconds, release_seconds: None },
        server: ServerSection { optimizer: terms.server, ..ServerSection::default() },
    };
    Job::try_from(file).unwrap()
}
