//! The rows of this silo, read and tokenised once, before anything is connected.

use blindsum_adapter::BaseShape;
use blindsum_crypto::Digest;
use blindsum_protocol::job::Job;

use crate::agent::error::AgentError;
use crate::agent::setup::sha256_of;
use crate::config::SiloConfig;
use crate::data::{self, Columns, Example, Tokens};

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
pub(crate) fn load(config: &SiloConfig, job: &Job, shape: &BaseShape) -> Result<Rows, AgentError> {
    let max_tokens = job.model.max_sequence_tokens as usize;
    if max_tokens > shape.max_positions {
        return Err(AgentError::Config(format!(
            "{}: model.max_sequence_tokens is {max_tokens}, but the base model reads at most {}",
            config.job.display(),
            shape.max_positions
        )));
    }
    let tokens = Tokens::open(&config.model_dir.join("tokenizer.json"), max_tokens)?;
    let columns = Columns { text: config.data.text_column.clone(), label: config.data.label_column.clone() };
    let train_sha256 = sha256_of(&config.data.train)?;
    let train = data::read(&config.data.train, &columns, &job.model.labels, &tokens)?.examples;
    let held_out = match &config.data.held_out {
        Some(path) => data::read(path, &columns, &job.model.labels, &tokens)?.examples,
        None => Vec::new(),
    };
    Ok(Rows { train, train_sha256, held_out })
}
