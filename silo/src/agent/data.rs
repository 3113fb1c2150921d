//! The rows of this silo, read and tokenised once, before anything is connected.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use blindsum_certs::files::FileError;
use blindsum_crypto::Digest;
use blindsum_protocol::job::Job;
use sha2::Digest as _;

use crate::agent::error::AgentError;
use crate::config::SiloConfig;
use crate::data::{self, Columns, Example, Tokens};
use crate::model::ModelDir;

/// What the agent trains on and measures with.
pub struct Rows {
    /// Training rows: what the privacy ledger counts for.
    pub train: Vec<Example>,
    /// Hash of the file that they came from.
    pub train_sha256: Digest,
    /// Held-out rows, never trained on.
    pub held_out: Vec<Example>,
}

/// Reads both files.
///
/// # Errors
/// Names file and line, never what stands there.
pub(crate) fn load(config: &SiloConfig, job: &Job, model: &ModelDir) -> Result<Rows, AgentError> {
    let max_tokens = job.model.max_sequence_tokens as usize;
    if max_tokens > model.shape().max_positions {
        return Err(AgentError::Config(format!(
            "{}: model.max_sequence_tokens is {max_tokens}, but the base model reads at most {}",
            config.job.display(),
            model.shape().max_positions
        )));
    }
    let tokens = Tokens::open(&model.tokenizer(), max_tokens)?;
    let columns = Columns { text: config.data.text_column.clone(), label: config.data.label_column.clone() };
    let train = data::read(&config.data.train, &columns, &job.model.labels, &tokens)?.examples;
    let train_sha256 = sha256_of(&config.data.train)?;
    let held_out = match &config.data.held_out {
        Some(path) => data::read(path, &columns, &job.model.labels, &tokens)?.examples,
        None => Vec::new(),
    };
    Ok(Rows { train, train_sha256, held_out })
}

/// SHA-256 of a file of any size.
fn sha256_of(path: &Path) -> Result<Digest, FileError> {
    let mut file = File::open(path).map_err(|e| FileError::from_io("open", path, e))?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| FileError::from_io("read", path, e))? {
            0 => return Ok(Digest(hasher.finalize().into())),
            length => hasher.update(&buffer[..length]),
        }
    }
}
