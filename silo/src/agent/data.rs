//! The rows of this silo, read and tokenised once, before anything is connected.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use blindsum_crypto::Digest;
use blindsum_engine::data::{self, DataError, Goal, Store, StoreKey, TokenFile, Tokens};
use blindsum_engine::model::ModelDir;
use blindsum_protocol::job::Job;
use sha2::Digest as _;
use tracing::warn;

use crate::agent::error::AgentError;
use crate::config::SiloConfig;

/// What the agent trains on and measures with.
pub struct Rows {
    /// Training rows: what the privacy ledger counts for.
    pub train: Store,
    /// Hash of the file that they came from.
    pub train_sha256: Digest,
    /// Held-out rows, never trained on.
    pub held_out: Store,
    /// What each was made from, for the files that keep them tokenised.
    pub keys: [StoreKey; 2],
}

impl Rows {
    /// The same rows from files in the state directory, so that the next start need not tokenise them and memory holds
    /// only what is in use.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn kept_in(self, state_dir: &Path) -> Result<Self, AgentError> {
        let Rows { train, train_sha256, held_out, keys } = self;
        let [train_path, held_out_path] = FILES.map(|name| state_dir.join(name));
        let (train, held_out) = (train.kept_at(&train_path, keys[0])?, held_out.kept_at(&held_out_path, keys[1])?);
        Ok(Rows { train, train_sha256, held_out, keys })
    }
}

/// Tokenised rows in the state directory: for training, held out.
const FILES: [&str; 2] = ["tokens-train", "tokens-held-out"];

/// Takes both files as they were tokenised at an earlier start, or reads them.
///
/// # Errors
/// Names file and line, never what stands there.
pub(crate) fn load(config: &SiloConfig, job: &Job, model: &ModelDir) -> Result<Rows, AgentError> {
    let max_tokens = job.model.max_sequence_tokens as usize;
    let tokens = Tokens::open(&model.tokenizer(), max_tokens)?;
    let columns = config.data.columns();
    let goal = Goal::of(job.model.task, &job.model.labels, model.shape());
    // the model's files were checked against the job
    let tokenizer = job.model.tokenizer_sha256.to_string();
    let key = |sha256: &Digest| StoreKey::new(&sha256.0, &tokenizer, &columns, goal, max_tokens);
    let rows = |path: &Path, name: &str| -> Result<(Store, Digest), AgentError> {
        let before = sha256_of(path)?;
        if let Some(file) = TokenFile::open(&config.state_dir.join(name), key(&before)) {
            return Ok((Store::File(file), before));
        }
        let (found, sha256) = unchanged(path, |path| data::read(path, &columns, goal, &tokens))?;
        if found.all_prompt > 0 {
            warn!(
                event = "all_prompt",
                "{}: in {} of {} rows the prompt alone fills model.max_sequence_tokens; they teach nothing",
                path.display(),
                found.all_prompt,
                found.examples.len()
            );
        }
        Ok((found.examples.into(), sha256))
    };
    let (train, train_sha256) = rows(&config.data.train, FILES[0])?;
    let (held_out, held_out_sha256) = match &config.data.held_out {
        Some(path) => rows(path, FILES[1])?,
        None => (Vec::new().into(), Digest([0; 32])),
    };
    if train_sha256 == held_out_sha256 {
        return Err(DataError::same_rows(&config.data.train, config.data.held_out.as_deref()).into());
    }
    Ok(Rows { train, train_sha256, held_out, keys: [key(&train_sha256), key(&held_out_sha256)] })
}

/// Reads a file, and refuses it if it was written to meanwhile: the ledger would count for other rows than those read.
fn unchanged<T>(path: &Path, read: impl FnOnce(&Path) -> Result<T, DataError>) -> Result<(T, Digest), AgentError> {
    let before = sha256_of(path)?;
    let value = read(path)?;
    if sha256_of(path)? != before {
        let what = "the file changed while it was read; start again when nobody writes to it".to_owned();
        return Err(DataError { path: path.to_owned(), line: None, what }.into());
    }
    Ok((value, before))
}

/// SHA-256 of a file of any size.
fn sha256_of(path: &Path) -> Result<Digest, DataError> {
    let error = |e: std::io::Error| DataError { path: path.to_owned(), line: None, what: e.kind().to_string() };
    let mut file = File::open(path).map_err(error)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(error)? {
            0 => return Ok(Digest(hasher.finalize().into())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_under_the_reader_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.tsv");
        std::fs::write(&path, "abc").unwrap();
        let file = |e: std::io::Error| DataError { path: path.clone(), line: None, what: e.to_string() };
        let (text, hash) = unchanged(&path, |path| std::fs::read(path).map_err(file)).unwrap();
        assert_eq!((text, hash), (b"abc".to_vec(), Digest(sha2::Sha256::digest(b"abc").into())));

        let error = unchanged(&path, |path| std::fs::write(path, "abcd").map_err(file)).unwrap_err();
        assert!(matches!(error, AgentError::Data(_)) && error.to_string().contains("train.tsv"), "{error}");

        std::fs::remove_file(&path).unwrap();
        assert!(matches!(unchanged(&path, |_| Ok(())), Err(AgentError::Data(_))));
    }
}
