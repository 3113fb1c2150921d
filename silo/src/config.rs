//! `silo.toml`: what one organisation's agent needs to know, in the organisation's own hands.
//!
//! The file is closed (an unknown key is an error naming it), typed, and carries units in the names of its keys. Paths
//! are relative to the folder that holds the file. `silo.sample.toml` shows every key and is parsed by a test.
//! What the *federation* agreed on (model, training, privacy, aggregation) is not here: it stands in `job.toml`, whose
//! digest goes into every signature. This file can only narrow it down (see [`PolicyConfig`]).

use std::num::NonZeroU16;
use std::path::PathBuf;

use blindsum_adapter::training::Protection;
use blindsum_engine::Precision;
use blindsum_engine::data::Columns;
use blindsum_service::config::{Kind, ServiceConfig};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::unit::{UnitError, unit_column};

/// The whole of `silo.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiloConfig {
    /// This silo's name, as the roster and its certificate spell it.
    pub name: String,
    /// Where to dial: `host:port`, looked up anew at every try; the host must stand in the coordinator's certificate. A
    /// silo never listens.
    pub coordinator: String,
    /// The roster that the federation agreed on out of band; its fingerprint is printed at start.
    pub roster: PathBuf,
    /// The job file, identical on every silo and on the coordinator.
    pub job: PathBuf,
    /// The folder that `blindsum-certs` filled: `authority.pem`, `certificate.pem`, `tls.key` and `identity.key` (both
    /// 0600 or refused), `revoked.pem` where the authority has issued one.
    pub credentials_dir: PathBuf,
    /// A Hugging Face directory: `config.json`, `tokenizer.json` and the weights. Their hashes must be the job's.
    pub model_dir: PathBuf,
    /// Where the journal and the global adapter live. One job per directory; made with mode 0700.
    pub state_dir: PathBuf,
    /// The privacy ledger of the whole organisation: one folder for all its jobs and federations, made with mode 0700.
    /// Needed for jobs with differential privacy.
    #[serde(default)]
    pub ledger_dir: Option<PathBuf>,
    /// Where to put the adapter in PEFT's format after each round; nothing is written when absent.
    #[serde(default)]
    pub output_dir: Option<PathBuf>,
    /// Where to train: `cpu`, or `cuda:0` for the first NVIDIA card (libtorch's CUDA library is loaded only then).
    #[serde(default = "default_device")]
    pub device: String,
    /// Matrix products: `auto` (bf16 where the processor has it), `f32` or `bf16`.
    #[serde(default)]
    pub precision: Precision,
    /// Compute each layer again in the backward pass instead of keeping its activations: for long sequences.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Threads for libtorch; all cores when absent.
    #[serde(default)]
    pub threads: Option<NonZeroU16>,
    /// The rows.
    pub data: DataFiles,
    /// What this organisation accepts.
    pub policy: PolicyConfig,
}

/// `[data]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFiles {
    /// Training rows: `.jsonl`, `.csv` or `.tsv`. The privacy ledger knows each of them again, in whatever file.
    pub train: PathBuf,
    /// Held-out rows, never trained on; only their counts leave, with noise where the job has privacy. Absent: this silo
    /// counts no held-out examples.
    #[serde(default)]
    pub held_out: Option<PathBuf>,
    /// Name of the column (or JSON key) with the text.
    #[serde(default = "default_text")]
    pub text_column: String,
    /// Name of the column (or JSON key) with the label, spelled as in the job's `labels`.
    #[serde(default = "default_label")]
    pub label_column: String,
    /// Where the job continues texts: name of the column (or JSON key) with what stands before each text and is not
    /// predicted; when absent, whole texts are predicted.
    #[serde(default)]
    pub prompt_column: Option<String>,
    /// Where the job protects persons (`privacy.unit = "person"`), and only there: name of the column (or JSON key) that says
    /// whose each row is, in both files. Rows of equal values, compared without spaces around them, are one person's.
    #[serde(default)]
    pub unit_column: Option<String>,
    /// The share of the training rows, or persons, that is brought in, above 0 and at most 1: the divisor of each step is
    /// public, so that a silo with many rows pulls hard. Which ones follows from the rows and the job; all when absent.
    #[serde(default = "all", deserialize_with = "share")]
    pub train_share: f64,
}

fn all() -> f64 {
    1.0
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    let fine = share > 0.0 && share <= 1.0;
    if fine { Ok(share) } else { Err(D::Error::custom("a share of the rows is above 0 and at most 1")) }
}

impl DataFiles {
    /// The columns that are read for a job with this protection.
    ///
    /// # Errors
    /// If the job protects persons and no column says whose each row is, or the other way round.
    pub fn columns(&self, protection: Protection) -> Result<Columns, UnitError> {
        let (text, label, prompt) = (self.text_column.clone(), self.label_column.clone(), self.prompt_column.clone());
        let unit =
            unit_column(protection, self.unit_column.as_deref(), "data.unit_column of the silo's configuration")?;
        Ok(Columns { text, label, prompt, unit })
    }
}

/// `[policy]`: what this organisation accepts of a job. Checked before connecting and at every round.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// The most ε that may be spent on any row or person, over all jobs in `ledger_dir`.
    pub max_epsilon: f64,
    /// The largest δ that may stand beside it.
    pub max_delta: f64,
    /// The fewest names in the roster. Below four no colluder is tolerated.
    #[serde(default = "default_min_names")]
    pub min_names: u16,
    /// The fewest colluding silos that the sum must withstand; ⌊(N−1)/3⌋ of the roster's N when absent.
    #[serde(default)]
    pub min_tolerated_colluders: Option<u16>,
    /// The most rounds that a job may have; any number when absent.
    #[serde(default)]
    pub max_rounds: Option<u32>,
    /// Accept a job without differential privacy: the sum and the adapter may then give away records.
    #[serde(default)]
    pub danger_allow_no_privacy: bool,
}

fn default_device() -> String {
    "cpu".into()
}

fn default_text() -> String {
    "text".into()
}

fn default_label() -> String {
    "label".into()
}

fn default_min_names() -> u16 {
    3
}

impl ServiceConfig for SiloConfig {
    const KIND: Kind = Kind::Silo;

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = vec![
            &mut self.roster,
            &mut self.job,
            &mut self.credentials_dir,
            &mut self.model_dir,
            &mut self.state_dir,
            &mut self.data.train,
        ];
        paths.extend(self.ledger_dir.as_mut());
        paths.extend(self.output_dir.as_mut());
        paths.extend(self.data.held_out.as_mut());
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../silo.sample.toml");

    #[test]
    fn the_sample_parses_and_shows_every_key() {
        let config: SiloConfig = toml::from_str(SAMPLE).unwrap();
        assert_eq!(config.policy.min_names, 4);
        for key in [
            "name",
            "roster",
            "job",
            "credentials_dir",
            "model_dir",
            "state_dir",
            "ledger_dir",
            "output_dir",
            "device",
            "precision",
            "gradient_checkpointing",
            "threads",
            "coordinator",
            "train",
            "held_out",
            "text_column",
            "label_column",
            "prompt_column",
            "unit_column",
            "train_share",
            "max_epsilon",
            "max_delta",
            "min_names",
            "min_tolerated_colluders",
            "max_rounds",
            "danger_allow_no_privacy",
        ] {
            let shown = SAMPLE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(shown, "silo.sample.toml does not show `{key}`");
        }
    }

    #[test]
    fn commented_out_keys_of_the_sample_are_valid_too() {
        let all: String = SAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
                _ => line,
            })
            .fold(String::new(), |all, line| all + line + "\n");
        let config: SiloConfig = toml::from_str(&all).unwrap();
        assert_eq!(config.policy.max_rounds, Some(100));
        assert_eq!(config.threads.map(NonZeroU16::get), Some(2));
    }

    #[test]
    fn a_share_is_a_part_of_the_rows() {
        let read = |share: &str| {
            toml::from_str::<SiloConfig>(&SAMPLE.replace("# train_share = 0.5", &format!("train_share = {share}")))
        };
        for (text, share) in [("0.5", 0.5), ("1", 1.0), ("1e-3", 1e-3)] {
            assert_eq!(read(text).unwrap().data.train_share, share);
        }
        assert_eq!(toml::from_str::<SiloConfig>(SAMPLE).unwrap().data.train_share, 1.0);
        for text in ["0", "1.5", "-0.5", "nan"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("train_share") && error.contains("above 0 and at most 1"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<SiloConfig>(&SAMPLE.replace("max_delta", "max_dleta")).unwrap_err().to_string();
        assert!(error.contains("max_dleta"), "{error}");
    }

    #[test]
    fn relative_paths_follow_the_file_and_absolute_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silo.toml");
        let line = SAMPLE.lines().find(|line| line.starts_with("model_dir")).unwrap();
        std::fs::write(&path, SAMPLE.replace(line, "model_dir = \"/models/m\"")).unwrap();
        let (config, _) = blindsum_service::config::load::<SiloConfig>(&path).unwrap();
        assert_eq!(config.roster, dir.path().join("roster.toml"));
        assert_eq!(config.model_dir, std::path::Path::new("/models/m"));
        assert_eq!(config.data.held_out, Some(dir.path().join("data/validation.jsonl")));
    }
}
