//! The rows of this silo, read and tokenised once, before anything is connected.

use std::path::Path;

use blindsum_engine::data::{Dataset, Example, Goal, Reading, RowStore, Tokens, TrainShare};
use blindsum_engine::model::ModelDir;
use blindsum_protocol::job::Job;

use crate::agent::error::AgentError;
use crate::config::SiloConfig;

/// What the agent trains on and measures with.
pub struct Rows {
    /// Training rows: what the privacy ledger counts for.
    pub train: Dataset,
    /// Held-out rows, never trained on.
    pub held_out: Option<Dataset>,
    /// What should be heard of rows that are both, or stand several times.
    twice: Vec<String>,
}

impl Rows {
    /// The same rows from files in the state directory, so that the next start need not tokenise them and memory holds
    /// only what is in use.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn kept_in(self, state_dir: &Path) -> Result<Self, AgentError> {
        let [train, held_out] = FILES.map(|name| state_dir.join(name));
        let held_out = self.held_out.map(|rows| rows.kept_at(&held_out)).transpose()?;
        Ok(Rows { train: self.train.kept_at(&train)?, held_out, twice: self.twice })
    }

    /// What the organisation should hear about its rows, for its own log: one sentence each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let files = [Some(&self.train), self.held_out.as_ref()].into_iter().flatten().flat_map(Dataset::remarks);
        files.chain(self.twice.clone()).collect()
    }

    /// Number of held-out rows.
    pub fn held_out_len(&self) -> usize {
        self.held_out.as_ref().map_or(0, Dataset::len)
    }

    /// The rows alone: for training, held out.
    pub(crate) fn stores(self) -> (RowStore, RowStore) {
        (self.train.rows, self.held_out.map_or_else(|| Vec::<Example>::new().into(), |data| data.rows))
    }
}

/// Tokenised rows in the state directory: for training, held out.
const FILES: [&str; 2] = ["tokens-train", "tokens-held-out"];

/// Takes both files as they were tokenised at an earlier start, or reads them.
///
/// # Errors
/// Names file and line, never what stands there.
pub(crate) fn load(config: &SiloConfig, job: &Job, model: &ModelDir) -> Result<Rows, AgentError> {
    let tokens = Tokens::open(&model.tokenizer(), model.shape(), job.model.max_sequence_tokens as usize)?;
    let columns = config.data.columns(job.protection())?;
    let goal = Goal::of(job.model.task, &job.model.labels, model.shape());
    let reading = Reading { columns: &columns, goal, tokens: &tokens };
    let read = |path: &Path, name: &str, share| reading.read_or_kept(path, &config.state_dir.join(name), share);
    let part = config.data.train_share;
    let share = (part < 1.0).then(|| TrainShare::new(part, job.digest().0));
    let train = read(&config.data.train, FILES[0], share)?.some()?;
    let held_out = config.data.held_out.as_deref().map(|path| read(path, FILES[1], None)).transpose()?;
    let shared = held_out.as_ref().map(|held_out| train.apart_from(held_out, job.is_private())).transpose()?.flatten();
    let repeated = if job.is_private() { train.repeated() } else { None };
    Ok(Rows { train, held_out, twice: shared.into_iter().chain(repeated).collect() })
}
