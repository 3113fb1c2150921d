//! The job: one file that says what a whole fine-tuning run is, agreed by every silo before it starts.
//!
//! [`JobFile`] is the file as written (TOML through serde, closed: an unknown key is an error). [`Job`] is the same thing
//! after every value was checked; only a `Job` goes further. Its [`Job::digest`] pins the run: two silos whose files
//! differ in one value compute different masks and never add up.
//!
//! ```
//! use blindsum_protocol::JobFile;
//!
//! let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/job.sample.toml"));
//! let file: JobFile = toml::from_str(text)?;
//! let job = file.clone().checked()?;
//! assert_eq!(job.digest(), file.clone().checked()?.digest());
//!
//! let error = JobFile { rounds: 0, ..file }.checked().unwrap_err();
//! assert_eq!((error.key, error.remedy.as_str()), ("rounds", "choose 1 to 10000"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Deref;

use blindsum_adapter::provenance::{Budget, JobName};
use blindsum_adapter::training::{LearningRate, LocalTraining, Optimizer, PrivacyUnit, Protection, Schedule};
use blindsum_adapter::{BaseHashes, LoraConfig, ServerStep, Task, TaskKind};
use blindsum_crypto::{Digest, Hasher, Label, VerifySum};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::server::ServerSection;

/// What is wrong with a job file, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job: `{key}` {problem}; {remedy}")]
pub struct JobError {
    /// The key in the file, dotted.
    pub key: &'static str,
    /// What is wrong with its value.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl JobError {
    pub(crate) fn new(key: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key, problem: problem.into(), remedy: remedy.into() }
    }
}

impl From<JobError> for (String, String) {
    /// The key, and what is wrong with it in words: for whoever can say in which line it stands.
    fn from(error: JobError) -> (String, String) {
        (error.key.to_owned(), format!("{}; {}", error.problem, error.remedy))
    }
}

/// The job file as written. Not yet checked: turn it into a [`Job`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// Version of this file's format: 1.
    pub schema: u32,
    /// Name of the run: lower-case letters, digits and `-`, at most 63.
    pub name: String,
    /// The federation whose roster runs it: the roster's `federation_id`.
    pub federation: String,
    /// How many training rounds (1 to 10,000).
    pub rounds: u32,
    /// The base model.
    pub model: ModelSection,
    /// The adapter that is trained.
    pub lora: LoraConfig,
    /// What a silo does in one round.
    pub training: TrainingSection,
    /// How each silo's records are protected.
    pub privacy: PrivacySection,
    /// How the updates are added up.
    pub aggregation: AggregationSection,
    /// How long everybody waits.
    pub deadlines: DeadlineSection,
    /// What everybody does with the mean of the updates. Left out: adds it to the adapter.
    #[serde(default)]
    pub server: ServerSection,
}

impl JobFile {
    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value is out of range or does not fit the others.
    pub fn checked(self) -> Result<Job, JobError> {
        self.try_into()
    }
}

/// `[model]`: the base model by content, and what it is taught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// SHA-256 of the model's `config.json`, hex.
    #[serde(with = "sha256_text")]
    pub config_sha256: Digest,
    /// SHA-256 of the model's weights, hex: of the file, or of the list of shards (`blindsum-silo hashes`).
    #[serde(with = "sha256_text")]
    pub weights_sha256: Digest,
    /// SHA-256 of the model's `tokenizer.json`, hex.
    #[serde(with = "sha256_text")]
    pub tokenizer_sha256: Digest,
    /// `sequence-classification` (default): one of the labels for each text; `causal-lm`: continue texts.
    #[serde(default)]
    pub task: TaskKind,
    /// Names of the labels, in the order of the classifier's outputs (2 to 1,000). Left out for `causal-lm`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Longer texts are cut to this many tokens (8 to 8,192).
    pub max_sequence_tokens: u32,
}

impl ModelSection {
    /// The task, with what it needs to lay the adapter out.
    pub fn task(&self) -> Task {
        self.task.with_labels(self.labels.len())
    }
}

/// `[training]`: what a silo does in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSection {
    /// Optimiser steps per round (1 to 10,000).
    pub local_steps: u32,
    /// What each step's sum of gradients is divided by: a public number, never the count that was drawn. Without
    /// differential privacy also how many examples a step draws on average (Poisson sampling).
    pub expected_batch_examples: u32,
    /// The optimiser; its state starts afresh in each round.
    pub optimizer: Optimizer,
    /// Learning rate, above 0; with a schedule or a warm-up the largest of any round.
    pub learning_rate: f64,
    /// How it moves from round to round ([`LearningRate`]): `constant` (default), `linear` or `cosine`.
    #[serde(default)]
    pub learning_rate_schedule: Schedule,
    /// Rounds in which it rises to `learning_rate` first, fewer than `rounds` (default 0).
    #[serde(default)]
    pub warmup_rounds: u32,
    /// Bound on the L2 norm of each step's mean gradient. Needed exactly when `privacy.mode = "none"`; under
    /// `record-dp` the clip norm plays its part.
    #[serde(default)]
    pub max_grad_norm: Option<f64>,
}

/// `[privacy]`: how each silo's records are protected from everybody who sees the sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivacySection {
    /// `record-dp` or `none`.
    pub mode: PrivacyMode,
    /// Whom `record-dp` protects: `record` (default), one row; or `person`, all rows of one together. Every silo then names
    /// the column that says whose a row is, and all below counts persons.
    #[serde(default)]
    pub unit: Unit,
    /// Most rows of one person that count (1 to 10,000): a silo leaves the others out. Needed exactly when `unit = "person"`.
    #[serde(default)]
    pub rows_max_per_unit: Option<u32>,
    /// Probability with which each record enters a step: a public number, the same in every silo whatever it holds.
    #[serde(default)]
    pub sampling_rate: Option<f64>,
    /// Standard deviation of every silo's noise on each step's sum, in clip norms. `blindsum-silo plan` proposes both.
    #[serde(default)]
    pub noise_multiplier: Option<f64>,
    /// L2 bound on each record's gradient.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Most records of a step, so that time and memory have a public bound: a larger draw is cut, which a silo with too many
    /// records refuses.
    #[serde(default)]
    pub batch_max: Option<u32>,
    /// ε that these numbers spend at most on each record over the whole job; every silo computes it and refuses a job of
    /// which it is not true.
    #[serde(default)]
    pub epsilon: Option<f64>,
    /// δ of the same guarantee; each silo refuses when it is not below 1 / its records.
    #[serde(default)]
    pub delta: Option<f64>,
    /// Training rounds that each silo's budget allows for beyond `rounds`: an attempt that fails after masked inputs went
    /// out is trained and charged again. Each one costs noise in every round. Default 0: the first such attempt ends the job.
    #[serde(default)]
    pub spare_rounds: Option<u32>,
}

/// The privacy modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrivacyMode {
    /// Record-level differential privacy by DP-SGD.
    RecordDp,
    /// Secure aggregation alone.
    None,
}

/// Whom privacy protects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// One row.
    #[default]
    Record,
    /// All rows of one person.
    Person,
}

/// `[aggregation]`: how the updates are added up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregationSection {
    /// Bits of one silo's value per coordinate (2 to 24; 16 is a good choice). The ring is sized from it and n.
    pub value_bits: u8,
    /// c: silos that may collude with the coordinator. Default: a third of the others, ⌊(n−1)/3⌋.
    #[serde(default)]
    pub max_colluders: Option<u16>,
    /// m: fewest survivors of a round. Default (and least): max(q, c+2, 3).
    #[serde(default)]
    pub min_survivors: Option<u16>,
    /// Largest magnitude of one coordinate of an update. Default: the worst case of `[training]` and `[privacy]`,
    /// which is coarse; a smaller one loses less to rounding, and what exceeds it is clipped and counted.
    #[serde(default)]
    pub coordinate_bound: Option<f64>,
    /// `held-out` (each silo's held-out accuracy travels inside the sum) or `off`.
    pub metrics: MetricsMode,
    /// What every silo checks each sum against before it signs the result: `sketches` (signed subset sums; default),
    /// `inputs` (the masked inputs themselves: also against silos that collude), or `off`.
    #[serde(default = "verify_sum")]
    pub verify_sum: VerifySum,
}

fn verify_sum() -> VerifySum {
    VerifySum::Sketches
}

/// What else travels inside the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetricsMode {
    /// Held-out counts and accuracy of the global adapter that each round starts from.
    HeldOut,
    /// Nothing but the canary and the count of saturated coordinates.
    Off,
}

/// `[deadlines]`: how long everybody waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadlineSection {
    /// From the opening of an attempt until a silo's update must be ready (1 to 604,800).
    pub training_seconds: u32,
    /// For each later phase (1 to 3,600).
    pub phase_seconds: u32,
    /// A silo's update leaves so long after it was asked for, or a whole multiple of it where training took longer, also after
    /// the last round, which only counts; at most `training_seconds`. Left out: as soon as it is ready, which shows how much there was to compute.
    #[serde(default)]
    pub release_seconds: Option<u32>,
}

/// A checked job. Reads like its [`JobFile`]; made only by `TryFrom` (which serde uses).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "JobFile", into = "JobFile")]
pub struct Job {
    file: JobFile,
    protection: Protection,
    server: ServerStep,
}

impl Job {
    /// SHA-256 over the canonical encoding, in which a key that was left out stands with its default: the identity of the
    /// run.
    pub fn digest(&self) -> Digest {
        Hasher::new(Label::Job).field(&codec::canonical(&self.file)).finish()
    }

    /// What everybody does with the mean of the updates.
    pub fn server_step(&self) -> ServerStep {
        self.server
    }

    /// The learning rate of every round.
    pub fn learning_rate(&self) -> LearningRate {
        let TrainingSection { learning_rate, learning_rate_schedule, warmup_rounds, .. } = self.file.training;
        LearningRate { peak: learning_rate, schedule: learning_rate_schedule, warmup_rounds, rounds: self.file.rounds }
    }

    /// How records are protected.
    pub fn protection(&self) -> Protection {
        self.protection
    }

    /// Trainings that each silo's privacy budget has to cover: the rounds and the spare ones.
    pub fn charged_rounds(&self) -> u32 {
        self.file.rounds.saturating_add(self.file.privacy.spare_rounds.unwrap_or(0))
    }

    /// How an output of the job names it.
    pub fn output_name(&self) -> JobName {
        let privacy = match self.protection {
            Protection::RecordDp { epsilon, delta, .. } => {
                let rows_max_per_person = self.file.privacy.rows_max_per_unit;
                Some(Budget { epsilon, delta, trainings: self.charged_rounds(), rows_max_per_person })
            }
            Protection::None { .. } => None,
        };
        let (job, job_digest) = (self.file.name.clone(), self.digest().to_string());
        JobName { job, job_digest, rounds: self.file.rounds, alone: false, privacy }
    }

    /// What a silo does in one round, and how its records are protected.
    pub fn local_training(&self) -> LocalTraining {
        LocalTraining {
            local_steps: self.file.training.local_steps,
            expected_batch: self.file.training.expected_batch_examples,
            optimizer: self.file.training.optimizer,
            learning_rate: self.learning_rate(),
            protection: self.protection,
            charged_rounds: self.charged_rounds(),
        }
    }

    /// SHA-256 of the base model's files.
    pub fn base(&self) -> BaseHashes {
        let ModelSection { config_sha256, weights_sha256, tokenizer_sha256, .. } = self.file.model;
        BaseHashes { config: config_sha256.0, weights: weights_sha256.0, tokenizer: tokenizer_sha256.0 }
    }

    /// Whether updates carry differential privacy noise.
    pub fn is_private(&self) -> bool {
        matches!(self.protection, Protection::RecordDp { .. })
    }
}

impl Deref for Job {
    type Target = JobFile;
    fn deref(&self) -> &JobFile {
        &self.file
    }
}

impl From<Job> for JobFile {
    fn from(job: Job) -> JobFile {
        job.file
    }
}

impl TryFrom<JobFile> for Job {
    type Error = JobError;

    fn try_from(file: JobFile) -> Result<Job, JobError> {
        if file.schema != 1 {
            return Err(JobError::new("schema", format!("is {}", file.schema), "this version reads schema = 1"));
        }
        check_name("name", &file.name)?;
        check_name("federation", &file.federation)?;
        within("rounds", file.rounds, 1, 10_000)?;
        check_model(&file.model)?;
        within("training.local_steps", file.training.local_steps, 1, 10_000)?;
        within("training.expected_batch_examples", file.training.expected_batch_examples, 1, 1 << 20)?;
        positive("training.learning_rate", file.training.learning_rate)?;
        if file.training.warmup_rounds >= file.rounds {
            let problem = format!("is {}", file.training.warmup_rounds);
            let remedy = format!("choose fewer than the {} rounds", file.rounds);
            return Err(JobError::new("training.warmup_rounds", problem, remedy));
        }
        within("aggregation.value_bits", u32::from(file.aggregation.value_bits), 2, 24)?;
        if let Some(bound) = file.aggregation.coordinate_bound {
            positive("aggregation.coordinate_bound", bound)?;
        }
        within("deadlines.training_seconds", file.deadlines.training_seconds, 1, 604_800)?;
        within("deadlines.phase_seconds", file.deadlines.phase_seconds, 1, 3_600)?;
        if let Some(release) = file.deadlines.release_seconds {
            within("deadlines.release_seconds", release, 1, file.deadlines.training_seconds)?;
        }
        let protection = protection(&file)?;
        let server = file.server.step()?;
        Ok(Job { file, protection, server })
    }
}

fn check_model(model: &ModelSection) -> Result<(), JobError> {
    let labels = &model.labels;
    if model.task == TaskKind::CausalLm {
        if !labels.is_empty() {
            let remedy = "leave it out: with model.task = \"causal-lm\" texts are continued, not labelled";
            return Err(JobError::new("model.labels", "is set", remedy));
        }
        return within("model.max_sequence_tokens", model.max_sequence_tokens, 8, 8_192);
    }
    if !(2..=1000).contains(&labels.len()) {
        let problem = format!("has {} names", labels.len());
        return Err(JobError::new("model.labels", problem, "name 2 to 1,000 labels in the classifier's order"));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.is_empty() || label.len() > 256 {
            let problem = format!("has an empty or overlong name at position {}", index + 1);
            return Err(JobError::new("model.labels", problem, "use 1 to 256 bytes per label"));
        }
        if labels[..index].contains(label) {
            let problem = format!("repeats a name at position {}", index + 1);
            return Err(JobError::new("model.labels", problem, "give each label once"));
        }
    }
    within("model.max_sequence_tokens", model.max_sequence_tokens, 8, 8_192)
}

/// The remedy for a privacy key that is not there.
const NEEDED: &str = "privacy.mode = \"record-dp\" needs it (`blindsum-silo plan` proposes numbers)";

fn protection(file: &JobFile) -> Result<Protection, JobError> {
    let privacy = &file.privacy;
    let five = [
        ("privacy.sampling_rate", privacy.sampling_rate),
        ("privacy.noise_multiplier", privacy.noise_multiplier),
        ("privacy.clip_norm", privacy.clip_norm),
        ("privacy.epsilon", privacy.epsilon),
        ("privacy.delta", privacy.delta),
    ];
    match privacy.mode {
        PrivacyMode::RecordDp => {
            let mut values = [0.0; 5];
            for (slot, (key, value)) in values.iter_mut().zip(five) {
                *slot = value.ok_or_else(|| JobError::new(key, "is missing", NEEDED))?;
                positive(key, *slot)?;
            }
            within("privacy.spare_rounds", privacy.spare_rounds.unwrap_or(0), 0, 10_000)?;
            let [sampling_rate, noise_multiplier, clip_norm, epsilon, delta] = values;
            if noise_multiplier > 64.0 {
                let remedy = "choose at most 64: more rows, fewer steps or a larger epsilon need less";
                return Err(JobError::new("privacy.noise_multiplier", format!("is {noise_multiplier}"), remedy));
            }
            if sampling_rate > 1.0 {
                let problem = format!("is {sampling_rate}");
                return Err(JobError::new("privacy.sampling_rate", problem, "a probability is at most 1"));
            }
            if delta >= 1.0 {
                return Err(JobError::new("privacy.delta", format!("is {delta}"), "choose it well below 1 / records"));
            }
            if file.training.max_grad_norm.is_some() {
                let remedy = "remove it: under record-dp, privacy.clip_norm bounds each record instead";
                return Err(JobError::new("training.max_grad_norm", "is set", remedy));
            }
            let key = "privacy.batch_max";
            let batch_max = privacy.batch_max.ok_or_else(|| JobError::new(key, "is missing", NEEDED))?;
            within(key, batch_max, 1, 1 << 20)?;
            let unit = unit(privacy)?;
            Ok(Protection::RecordDp { unit, sampling_rate, noise_multiplier, clip_norm, batch_max, epsilon, delta })
        }
        PrivacyMode::None => {
            if let Some((key, _)) = five.iter().find(|(_, value)| value.is_some()) {
                return Err(JobError::new(key, "is set", "remove it, or set privacy.mode = \"record-dp\""));
            }
            if privacy.batch_max.is_some() {
                let remedy = "remove it, or set privacy.mode = \"record-dp\"";
                return Err(JobError::new("privacy.batch_max", "is set", remedy));
            }
            if unit(privacy)? != PrivacyUnit::Record {
                let remedy =
                    "remove it: without differential privacy nobody is protected, or set privacy.mode = \"record-dp\"";
                return Err(JobError::new("privacy.unit", "is \"person\"", remedy));
            }
            if privacy.spare_rounds.is_some() {
                let remedy = "remove it: without a privacy budget nothing is charged";
                return Err(JobError::new("privacy.spare_rounds", "is set", remedy));
            }
            let max_grad_norm = file.training.max_grad_norm.ok_or_else(|| {
                JobError::new("training.max_grad_norm", "is missing", "privacy.mode = \"none\" needs it")
            })?;
            positive("training.max_grad_norm", max_grad_norm)?;
            Ok(Protection::None { max_grad_norm })
        }
    }
}

/// Whom the job protects.
fn unit(privacy: &PrivacySection) -> Result<PrivacyUnit, JobError> {
    let key = "privacy.rows_max_per_unit";
    match (privacy.unit, privacy.rows_max_per_unit) {
        (Unit::Record, None) => Ok(PrivacyUnit::Record),
        (Unit::Record, Some(_)) => {
            let remedy = "remove it: a record is one row; or set privacy.unit = \"person\"";
            Err(JobError::new(key, "is set", remedy))
        }
        (Unit::Person, None) => {
            let remedy = "say how many rows of one person count (1 to 10000), the same in every silo";
            Err(JobError::new(key, "is missing", remedy))
        }
        (Unit::Person, Some(rows_max)) => {
            within(key, rows_max, 1, 10_000)?;
            Ok(PrivacyUnit::Person { rows_max })
        }
    }
}

fn check_name(key: &'static str, value: &str) -> Result<(), JobError> {
    let fine = (1..=63).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fine {
        return Ok(());
    }
    Err(JobError::new(key, "is not a name", "use 1 to 63 lower-case letters, digits and `-`"))
}

fn within(key: &'static str, value: u32, low: u32, high: u32) -> Result<(), JobError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(JobError::new(key, format!("is {value}"), format!("choose {low} to {high}")))
}

fn positive(key: &'static str, value: f64) -> Result<(), JobError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(JobError::new(key, format!("is {value}"), "give a finite number above 0"))
}

/// A SHA-256 as `sha256sum` prints it: 64 lower-case hexadecimal digits, as text also where the job's digest is taken.
mod sha256_text {
    use blindsum_crypto::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digest.to_string())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = text.parse().ok().filter(|digest: &Digest| digest.to_string() == text);
        let remedy = "this is not a SHA-256; give 64 lower-case hexadecimal digits (sha256sum prints them)";
        digest.ok_or_else(|| Error::custom(remedy))
    }
}
