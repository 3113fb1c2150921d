//! The base model's directory: which files it holds, what shape they say, and whether they are the job's.
//!
//! Contract: a job pins three files by SHA-256; what is not pinned is not read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use blindsum_adapter::{BaseHashes, BaseShape, ShapeError};
use blindsum_protocol::job::ModelSection;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Longest `config.json`, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why a directory is not the base model that is needed.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file is missing or unreadable.
    #[error(
        "{path}: {kind}; the base model's directory must hold config.json, model.safetensors and tokenizer.json",
        path = path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
    /// The model is not supported.
    #[error("{path}: {source}", path = path.display())]
    Shape {
        /// The `config.json`.
        path: PathBuf,
        /// What is wrong with it.
        source: ShapeError,
    },
    /// Another model than the job's.
    #[error(
        "{path} has the SHA-256 {found}, the job pins model.{key} = {expected}: this is another base model than the \
         federation agreed on",
        path = path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// The job's key.
        key: &'static str,
        /// What the job says.
        expected: String,
        /// What the file has.
        found: String,
    },
}

/// A Hugging Face directory.
#[derive(Clone, Debug)]
pub struct ModelDir {
    dir: PathBuf,
    shape: BaseShape,
}

impl ModelDir {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If it is missing or describes a model that is not supported.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let failed = |e: std::io::Error| ModelError::File { path: path.clone(), kind: e.kind() };
        let mut text = String::new();
        File::open(&path).and_then(|f| f.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)).map_err(failed)?;
        let shape = BaseShape::from_config_json(&text).map_err(|source| ModelError::Shape { path, source })?;
        Ok(ModelDir { dir: dir.to_owned(), shape })
    }

    /// What `config.json` says.
    pub fn shape(&self) -> &BaseShape {
        &self.shape
    }

    /// Path of `model.safetensors`.
    pub fn weights(&self) -> PathBuf {
        self.dir.join("model.safetensors")
    }

    /// Path of `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.dir.join("tokenizer.json")
    }

    /// SHA-256 of the three files.
    ///
    /// # Errors
    /// If one is missing or unreadable.
    pub fn hashes(&self) -> Result<BaseHashes, ModelError> {
        Ok(BaseHashes {
            config: sha256(&self.dir.join("config.json"))?,
            weights: sha256(&self.weights())?,
            tokenizer: sha256(&self.tokenizer())?,
        })
    }

    /// Checks the three files against the job.
    ///
    /// # Errors
    /// Names the first file that is another one.
    pub fn check(&self, job: &ModelSection) -> Result<(), ModelError> {
        let hashes = self.hashes()?;
        for (path, found, key, expected) in [
            (self.dir.join("config.json"), hashes.config, "config_sha256", &job.config_sha256),
            (self.tokenizer(), hashes.tokenizer, "tokenizer_sha256", &job.tokenizer_sha256),
            (self.weights(), hashes.weights, "weights_sha256", &job.weights_sha256),
        ] {
            let found = hex::encode(found);
            if found != *expected {
                return Err(ModelError::Hash { path, key, expected: expected.clone(), found });
            }
        }
        Ok(())
    }
}

fn sha256(path: &Path) -> Result<[u8; 32], ModelError> {
    let failed = |e: std::io::Error| ModelError::File { path: path.to_owned(), kind: e.kind() };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
