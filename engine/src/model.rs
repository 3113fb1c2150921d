//! The base model's directory: which files it holds, what shape they say, and whether they are the job's.
//!
//! Contract: a job pins configuration, weights and tokenizer by SHA-256; what is not pinned is not read. The weights are,
//! in this order, `model.safetensors`, `model.safetensors.index.json` with its shards, or `pytorch_model.bin`, as Hugging
//! Face chooses. Of one file the job pins the SHA-256; of shards it pins the SHA-256 of the lines that `sha256sum` prints
//! for the index and the shards, sorted by file name:
//!
//! ```sh
//! sha256sum model.safetensors.index.json model-*.safetensors | LC_ALL=C sort -k 2 | sha256sum
//! ```

pub mod index;

use std::path::{Path, PathBuf};

use blindsum_adapter::{BaseHashes, BaseShape, ShapeError};
use blindsum_files::{ExitCode, Exits, FileError, read_public};
use sha2::{Digest, Sha256};
use thiserror::Error;

use self::index::Index;
use crate::sha256_of;

/// Longest `config.json`, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What makes a folder one of an adapter, for Transformers and PEFT.
const ADAPTER: &str = "adapter_config.json";

/// Weights, in order of preference.
const WEIGHTS: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/// Why a directory is not the base model that is needed.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file is missing or unreadable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The model is not supported.
    #[error("{path}: {source}", path = path.display())]
    Shape {
        /// The `config.json`.
        path: PathBuf,
        /// What is wrong with it.
        source: ShapeError,
    },
    /// An adapter lies beside the model.
    #[error(
        "{path}: an adapter lies in the base model's folder, and Hugging Face Transformers would add it to the model: move \
         it to a folder of its own, or merge it into the weights",
        path = path.display()
    )]
    Adapter {
        /// Its configuration.
        path: PathBuf,
    },
    /// The index of a sharded checkpoint is not one.
    #[error("{path}: {problem}", path = path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
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

impl Exits for ModelError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Data
    }
}

/// What to do where one is missing.
const REMEDY: &str = "a base model's directory holds config.json, tokenizer.json and, for training, the weights as \
                      model.safetensors, model.safetensors.index.json with its shards, or pytorch_model.bin";

/// A Hugging Face directory.
#[derive(Clone, Debug)]
pub struct ModelDir {
    dir: PathBuf,
    shape: BaseShape,
    config_sha256: [u8; 32],
}

impl ModelDir {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If it is missing or describes a model that is not supported, or if an adapter lies beside it.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let bytes = read_public(&path, MAX_CONFIG_BYTES).map_err(|e| e.or_missing(REMEDY))?;
        let config_sha256 = Sha256::digest(&bytes).into();
        let shape = BaseShape::from_config_json(&String::from_utf8_lossy(&bytes))
            .map_err(|source| ModelError::Shape { path, source })?;
        let adapter = dir.join(ADAPTER);
        if adapter.exists() {
            return Err(ModelError::Adapter { path: adapter });
        }
        Ok(ModelDir { dir: dir.to_owned(), shape, config_sha256 })
    }

    /// What `config.json` says.
    pub fn shape(&self) -> &BaseShape {
        &self.shape
    }

    /// Path of the weights: of the index where they are sharded.
    pub fn weights(&self) -> PathBuf {
        weights(&self.dir)
    }

    /// Path of `tokenizer.json`.
    pub fn tokenizer(&self) -> PathBuf {
        self.dir.join("tokenizer.json")
    }

    /// What a job pins: see the contract above.
    ///
    /// # Errors
    /// If a file is missing or unreadable, or if the index is none.
    pub fn hashes(&self) -> Result<BaseHashes, ModelError> {
        let (weights, tokenizer) = (weights_hash(&self.weights())?, sha256(&self.tokenizer())?);
        Ok(BaseHashes { config: self.config_sha256, weights, tokenizer })
    }

    /// Checks the files against what the job pins.
    ///
    /// # Errors
    /// Names the first file that is another one.
    pub fn check(&self, pinned: &BaseHashes) -> Result<(), ModelError> {
        self.check_without_weights(pinned)?;
        let weights = self.weights();
        same(&weights, "weights_sha256", weights_hash(&weights)?, pinned.weights)
    }

    /// The same for whoever only lays adapters out and needs no weights.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_without_weights(&self, pinned: &BaseHashes) -> Result<(), ModelError> {
        same(&self.dir.join("config.json"), "config_sha256", self.config_sha256, pinned.config)?;
        let tokenizer = self.tokenizer();
        same(&tokenizer, "tokenizer_sha256", sha256(&tokenizer)?, pinned.tokenizer)
    }
}

fn same(path: &Path, key: &'static str, found: [u8; 32], expected: [u8; 32]) -> Result<(), ModelError> {
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (hex::encode(expected), hex::encode(found));
    Err(ModelError::Hash { path: path.to_owned(), key, expected, found })
}

/// Path of the weights in a base model's directory; that of `model.safetensors` where there are none.
pub fn weights(dir: &Path) -> PathBuf {
    let path = |name: &&str| dir.join(name);
    WEIGHTS.iter().map(path).find(|p| p.exists()).unwrap_or_else(|| dir.join(WEIGHTS[0]))
}

/// Whether this is the index of a sharded checkpoint.
pub fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "json")
}

/// What the job pins of these weights.
fn weights_hash(path: &Path) -> Result<[u8; 32], ModelError> {
    if !is_index(path) {
        return sha256(path);
    }
    let index = Index::read(path)?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut names = index.shards();
    // sorts before, between or behind the shards, as `sort` would put it
    names.push(WEIGHTS[1]);
    names.sort_unstable();
    let mut list = String::new();
    for name in names {
        list += &format!("{}  {name}\n", hex::encode(sha256(&dir.join(name))?));
    }
    Ok(Sha256::digest(list).into())
}

fn sha256(path: &Path) -> Result<[u8; 32], ModelError> {
    Ok(sha256_of(path).map_err(|e| e.or_missing(REMEDY))?)
}
