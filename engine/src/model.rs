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

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use blindsum_adapter::{BaseHashes, BaseShape, ShapeError};
use sha2::{Digest, Sha256};
use thiserror::Error;

use self::index::Index;

/// Longest `config.json`, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Weights, in order of preference.
const WEIGHTS: [&str; 3] = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/// Why a directory is not the base model that is needed.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A file is missing or unreadable.
    #[error(
        "{path}: {kind}; the base model's directory must hold config.json, tokenizer.json and the weights as \
         model.safetensors, model.safetensors.index.json with its shards, or pytorch_model.bin",
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
        Ok(BaseHashes {
            config: sha256(&self.dir.join("config.json"))?,
            weights: weights_hash(&self.weights())?,
            tokenizer: sha256(&self.tokenizer())?,
        })
    }

    /// Checks the files against what the job pins.
    ///
    /// # Errors
    /// Names the first file that is another one.
    pub fn check(&self, pinned: &BaseHashes) -> Result<(), ModelError> {
        let hashes = self.hashes()?;
        for (path, found, key, expected) in [
            (self.dir.join("config.json"), hashes.config, "config_sha256", pinned.config),
            (self.tokenizer(), hashes.tokenizer, "tokenizer_sha256", pinned.tokenizer),
            (self.weights(), hashes.weights, "weights_sha256", pinned.weights),
        ] {
            if found != expected {
                let (expected, found) = (hex::encode(expected), hex::encode(found));
                return Err(ModelError::Hash { path, key, expected, found });
            }
        }
        Ok(())
    }
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
    let wrong = |problem| ModelError::Index { path: path.to_owned(), problem };
    let index = Index::read(path).map_err(wrong)?;
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
