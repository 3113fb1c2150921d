//! `coordinator.toml`: what the coordinator needs to know.
//!
//! The file is closed (an unknown key is an error naming it), typed, and carries units in the names of its keys. Paths
//! are relative to the folder that holds the file. `coordinator.sample.toml` shows every key and is parsed by a test.
//! The coordinator needs no weights and no data: of the base model it reads `config.json` and the tokenizer's files.

use std::net::SocketAddr;
use std::path::PathBuf;

use blindsum_service::config::{Kind, ServiceConfig};
use serde::Deserialize;

/// The whole of `coordinator.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// Where to listen (UDP). Port 0 takes any free one, which is printed.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// The roster that the federation agreed on; its fingerprint is printed at start.
    pub roster: PathBuf,
    /// The job file, identical on every silo and here.
    pub job: PathBuf,
    /// `config.json` and `tokenizer.json` of the base model; their hashes must be the job's. No weights are read.
    pub base_model_dir: PathBuf,
    /// The durable store. Made with mode 0700, locked by one process. One job per directory.
    pub state_dir: PathBuf,
    /// Where the adapter is written: `last/`, `best/` and `history.jsonl`.
    pub output_dir: PathBuf,
    /// What `adapter_config.json` names as the base model; the job's name for it is `base_model_dir` when absent.
    #[serde(default)]
    pub base_model_name: Option<String>,
    /// The folder that `blindsum-certs` filled: `authority.pem`, `certificate.pem`, `tls.key` (0600 or refused), and
    /// `revoked.pem` where the authority has issued one; read at start.
    pub credentials_dir: PathBuf,
    /// After the job's end: how long to stay for silos that have not been told yet. Leaves at once when all have been.
    #[serde(default = "default_linger")]
    pub linger_seconds: u32,
}

fn listen<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "{text:?} is no address to listen on: write an IP address of this machine and a port, as in \"0.0.0.0:4433\""
        ))
    })
}

fn default_linger() -> u32 {
    60
}

impl ServiceConfig for CoordinatorConfig {
    const KIND: Kind = Kind::Coordinator;

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        vec![
            &mut self.roster,
            &mut self.job,
            &mut self.base_model_dir,
            &mut self.state_dir,
            &mut self.output_dir,
            &mut self.credentials_dir,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../coordinator.sample.toml");

    /// The sample with its commented-out keys made live.
    fn with_optional_keys() -> String {
        let live = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest.to_owned(),
            _ => line.to_owned(),
        };
        SAMPLE.lines().map(live).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_sample_parses_with_and_without_its_optional_keys() {
        let config: CoordinatorConfig = toml::from_str(SAMPLE).unwrap();
        assert_eq!(config.base_model_name, None);
        let config: CoordinatorConfig = toml::from_str(&with_optional_keys()).unwrap();
        assert!(config.base_model_name.is_some());
    }

    #[test]
    fn the_sample_shows_every_key() {
        let all = with_optional_keys();
        for key in [
            "listen",
            "roster",
            "job",
            "base_model_dir",
            "state_dir",
            "output_dir",
            "base_model_name",
            "credentials_dir",
            "linger_seconds",
        ] {
            assert!(all.lines().any(|line| line.starts_with(&format!("{key} = "))), "the sample does not show `{key}`");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let text = SAMPLE.replace("output_dir", "outptu_dir");
        let error = toml::from_str::<CoordinatorConfig>(&text).unwrap_err().to_string();
        assert!(error.contains("outptu_dir"), "{error}");
    }

    #[test]
    fn relative_paths_follow_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coordinator.toml");
        std::fs::write(&path, SAMPLE).unwrap();
        let (config, _) = blindsum_service::config::load::<CoordinatorConfig>(&path).unwrap();
        assert_eq!(config.credentials_dir, dir.path().join("keys"));
        assert_eq!(config.state_dir, dir.path().join("state"));
    }
}
