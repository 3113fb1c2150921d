//! Texts of one organisation, to label or to continue: read, checked, and turned into token ids once.
//!
//! ```text
//! rows.jsonl / .csv / .tsv ─► reader: (line, text, label or prompt) ─► Tokens ─► Example { ids, target }
//! ```
//!
//! Contract: nothing that this module returns, prints or logs, errors included, carries a record's text or label;
//! errors name the file and the line. Memory is bounded per row before a row is parsed.

mod delimited;
mod error;
mod json_lines;
mod store;
mod tokens;

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use blindsum_adapter::{BaseShape, TaskKind};
use indicatif::{ProgressBar, ProgressStyle};

pub use self::error::DataError;
pub use self::store::{Store, StoreKey, TokenFile};
pub use self::tokens::Tokens;

/// Longest row in bytes, line break included.
pub const MAX_ROW_BYTES: u64 = 1 << 20;
/// A file that takes longer to read shows a progress bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// One training or held-out row: what the engine needs and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids with the tokenizer's special tokens, at least one.
    pub ids: Vec<u32>,
    /// What the model should make of them.
    pub target: Target,
}

/// What a model should make of an example.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Index into the job's labels.
    Label(u32),
    /// Each token after so many, the prompt's; the first token of a text is never predicted.
    After(u32),
}

impl Example {
    /// A text and its label.
    pub fn labelled(ids: Vec<u32>, label: u32) -> Self {
        Example { ids, target: Target::Label(label) }
    }

    /// A text to continue, whose first `prompt` tokens are given.
    pub fn text(ids: Vec<u32>, prompt: u32) -> Self {
        Example { ids, target: Target::After(prompt) }
    }

    /// The label, where that is the target.
    pub fn label(&self) -> Option<u32> {
        match self.target {
            Target::Label(label) => Some(label),
            Target::After(_) => None,
        }
    }

    /// The places in `ids` of the tokens to predict; none where the target is a label.
    pub fn predicted(&self) -> std::ops::Range<usize> {
        match self.target {
            Target::Label(_) => 0..0,
            Target::After(prompt) => (prompt as usize).max(1).min(self.ids.len())..self.ids.len(),
        }
    }
}

/// Shows the length only: ids are the text in another alphabet.
impl std::fmt::Debug for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Example").field("tokens", &self.ids.len()).finish_non_exhaustive()
    }
}

/// Where a file keeps what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Column (or JSON key) of the text.
    pub text: String,
    /// Column (or JSON key) of the label; not read where texts are continued.
    pub label: String,
    /// Where texts are continued, the column (or JSON key) of what stands before each and is not predicted, if there is
    /// one.
    pub prompt: Option<String>,
}

impl Default for Columns {
    /// `text` and `label`.
    fn default() -> Self {
        Columns { text: "text".to_owned(), label: "label".to_owned(), prompt: None }
    }
}

/// What rows are read for.
#[derive(Clone, Copy, Debug)]
pub enum Goal<'a> {
    /// To tell these labels apart; every row's must be one of them.
    Label(&'a [String]),
    /// To continue texts, each ended by this token if there is one.
    Continue {
        /// The model's `eos_token_id`.
        end_token: Option<u32>,
    },
}

impl<'a> Goal<'a> {
    /// The goal of a job with these labels on a base model of this shape.
    pub fn of(task: TaskKind, labels: &'a [String], shape: &BaseShape) -> Self {
        match task {
            TaskKind::SequenceClassification => Goal::Label(labels),
            TaskKind::CausalLm => Goal::Continue { end_token: shape.decoder.as_ref().and_then(|d| d.end_token) },
        }
    }
}

/// A file's rows, tokenised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// How many were cut to the job's `max_sequence_tokens`.
    pub truncated: usize,
    /// How many have nothing to predict, since their prompt alone fills `max_sequence_tokens`: they teach nothing.
    pub all_prompt: usize,
}

/// Reads rows for this goal.
///
/// The format follows the file's name: `.jsonl` (or `.ndjson`), `.csv` (with quotes, RFC 4180) or `.tsv` (no quotes, as
/// tabs cannot occur in a field). CSV and TSV name their columns in the first line. A label is compared as text; JSON
/// numbers and booleans count as their spelling.
///
/// # Errors
/// Names the file and the line of the first row that is not as it should be, never what stands there.
pub fn read(path: &Path, columns: &Columns, goal: Goal, tokens: &Tokens) -> Result<Dataset, DataError> {
    let mut data = Dataset::default();
    let beside = match goal {
        Goal::Label(_) => Some(columns.label.as_str()),
        Goal::Continue { .. } => columns.prompt.as_deref(),
    };
    each_row(path, &columns.text, beside, &mut |line, text, beside| {
        let wrong = |what| DataError::row(path, line, what);
        let (example, cut) = match goal {
            Goal::Label(labels) => {
                let label = labels.iter().position(|l| Some(l.as_str()) == beside.map(str::trim));
                let label = label.and_then(|i| u32::try_from(i).ok());
                let label = label.ok_or_else(|| DataError::label(path, line, labels))?;
                let (ids, cut) = tokens.encode(text).map_err(wrong)?;
                (Example::labelled(ids, label), cut)
            }
            Goal::Continue { end_token } => {
                let (ids, prompt, cut) = tokens.encode_text(beside, text, end_token).map_err(wrong)?;
                (Example::text(ids, prompt), cut)
            }
        };
        data.truncated += usize::from(cut);
        data.all_prompt += usize::from(matches!(example.target, Target::After(_)) && example.predicted().is_empty());
        data.examples.push(example);
        Ok(())
    })?;
    Ok(data)
}

/// Reads rows without labels; each example's label is 0 and means nothing.
///
/// # Errors
/// As [`read`].
pub fn read_texts(path: &Path, text_column: &str, tokens: &Tokens) -> Result<Dataset, DataError> {
    let mut data = Dataset::default();
    each_row(path, text_column, None, &mut |line, text, _| {
        let (ids, cut) = tokens.encode(text).map_err(|what| DataError::row(path, line, what))?;
        data.truncated += usize::from(cut);
        data.examples.push(Example::labelled(ids, 0));
        Ok(())
    })?;
    Ok(data)
}

/// What a reader hands over: line (from 1), text, and what stands beside it if that was asked for.
type EachRow<'a> = dyn FnMut(u64, &str, Option<&str>) -> Result<(), DataError> + 'a;

fn each_row(path: &Path, text: &str, beside: Option<&str>, take: &mut EachRow) -> Result<(), DataError> {
    let file = File::open(path).map_err(|e| DataError::file(path, &e))?;
    let size = file.metadata().map_err(|e| DataError::file(path, &e))?.len();
    let source = Watched { file, bar: None, read: 0, size, since: Instant::now(), name: file_name(path) };
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "jsonl" | "ndjson" => json_lines::each(path, source, text, beside, take),
        "csv" => delimited::each(path, source, b',', text, beside, take),
        "tsv" => delimited::each(path, source, b'\t', text, beside, take),
        _ => Err(DataError::format(path)),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file that shows how far it was read, where that takes long and somebody watches.
struct Watched {
    file: File,
    bar: Option<ProgressBar>,
    read: u64,
    size: u64,
    since: Instant,
    name: String,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        if self.bar.is_none() && self.since.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}, {eta} left");
            let bar = ProgressBar::new(self.size).with_message(format!("reading {}", self.name));
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.read);
        }
        Ok(count)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
