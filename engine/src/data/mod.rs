//! Texts of one organisation, to label, to continue or to answer: read, checked, and turned into token ids once.
//!
//! ```text
//! rows.jsonl / .csv / .tsv ─► Reading { columns, goal, tokens } ─► Dataset: Store of Examples, SHA-256, what was seen
//!                                                  ▲
//!                     tokens-… in the state directory (an earlier start's)
//! ```
//!
//! Contract: nothing that this module returns, prints or logs, errors included, carries a record's text or label;
//! errors name the file and the line. Memory is bounded per row before a row is parsed.

mod dataset;
mod delimited;
mod error;
mod example;
mod identity;
mod json_lines;
mod seen;
mod share;
mod store;
mod tokens;
mod units;
mod watched;

use std::path::Path;

use blindsum_adapter::{BaseShape, TaskKind};

pub use self::dataset::Dataset;
pub use self::error::DataError;
pub use self::example::{Example, Target};
pub use self::identity::Identity;
pub use self::seen::{Seen, Tally};
pub use self::share::TrainShare;
pub use self::store::{RowStore, StoreKey, TokenFile};
pub use self::tokens::Tokens;
pub use self::units::UnitColumn;

use self::tokens::{Continued, Encoded};
use self::units::{Gathered, Row, gathered, rank};
use self::watched::Watched;
use crate::sha256_of;

/// Longest row in bytes, line break included.
pub const MAX_ROW_BYTES: u64 = 1 << 20;

/// Where a file keeps what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Column (or JSON key) of the text.
    pub text: String,
    /// Column (or JSON key) of the label; read only where labels are told apart.
    pub label: String,
    /// Where texts are continued, the column (or JSON key) of what stands before each and is not predicted, if there is
    /// one.
    pub prompt: Option<String>,
    /// Whose each row is, where privacy protects persons and not rows.
    pub unit: Option<UnitColumn>,
}

impl Default for Columns {
    /// `text` and `label`.
    fn default() -> Self {
        Columns { text: "text".to_owned(), label: "label".to_owned(), prompt: None, unit: None }
    }
}

/// What rows are read for.
#[derive(Clone, Copy, Debug)]
pub enum Goal<'a> {
    /// To tell these labels apart; every row's must be one of them.
    Label(&'a [String]),
    /// To continue texts, each ended by one of these tokens if there are any.
    Continue {
        /// The model's `eos_token_id`; the first is put where a text has none of them.
        ends: &'a [u32],
    },
    /// To be answered: nothing is read but the text.
    Answer,
}

impl<'a> Goal<'a> {
    /// The goal of a job with these labels on a base model of this shape.
    pub fn of(task: TaskKind, labels: &'a [String], shape: &'a BaseShape) -> Self {
        match task {
            TaskKind::SequenceClassification => Goal::Label(labels),
            TaskKind::CausalLm => Goal::Continue { ends: shape.decoder.as_ref().map_or(&[], |d| &d.end_tokens) },
        }
    }
}

/// How rows are read: the one door for training, measuring and answering.
///
/// The format follows the file's name: `.jsonl` (or `.ndjson`), `.csv` or `.tsv`, both with quotes as RFC 4180,
/// spreadsheets and pandas have them. CSV and TSV name their columns in the first line. A label is compared as text;
/// JSON numbers and booleans count as their spelling.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// Where a file keeps what is read.
    pub columns: &'a Columns,
    /// What for.
    pub goal: Goal<'a>,
    /// The base model's tokenizer.
    pub tokens: &'a Tokens,
}

impl Reading<'_> {
    /// Reads every row of the file.
    ///
    /// # Errors
    /// Names the file and the line of the first row that is not as it should be, never what stands there.
    pub fn read(&self, path: &Path) -> Result<Dataset, DataError> {
        self.read_share(path, None)
    }

    fn read_share(&self, path: &Path, share: Option<TrainShare>) -> Result<Dataset, DataError> {
        let beside = match self.goal {
            Goal::Label(_) => Some(self.columns.label.as_str()),
            Goal::Continue { .. } => self.columns.prompt.as_deref(),
            Goal::Answer => None,
        };
        let Some(units) = &self.columns.unit else {
            let (mut rows, mut identities, mut seen) = (Vec::new(), Vec::new(), Seen::default());
            let names = Fields { text: self.columns.text.as_str(), beside, unit: None };
            let sha256 = each_row(path, names, &mut |line, Fields { text, beside, .. }| {
                let identity = self.identity(text, beside);
                let apart = share.is_some_and(|share| !share.has(identity));
                seen.apart.note_if(apart, line);
                if !apart {
                    rows.push(self.example(path, line, text, beside, &mut seen)?);
                    identities.push(identity);
                }
                Ok(())
            })?;
            return Ok(self.dataset(path, sha256, share, Gathered { rows: rows.into(), identities, seen }));
        };
        let (mut rows, mut apart) = (Vec::new(), Seen::default());
        let names = Fields { text: self.columns.text.as_str(), beside, unit: Some(units.name.as_str()) };
        let sha256 = each_row(path, names, &mut |line, Fields { text, beside, unit }| {
            let unit = unit.filter(|unit| !unit.trim().is_empty());
            let unit = Identity::of_person(unit.ok_or_else(|| DataError::nobody(path, line, &units.name))?);
            if share.is_some_and(|share| !share.has(unit)) {
                apart.apart.note_if(true, line);
                return Ok(());
            }
            let mut seen = Seen::default();
            let example = self.example(path, line, text, beside, &mut seen)?;
            let identity = self.identity(text, beside);
            rows.push(Row { line, unit, identity, rank: rank(unit, text, beside), example, seen });
            Ok(())
        })?;
        let mut found = gathered(rows, units.rows_max);
        found.seen.add(apart);
        Ok(self.dataset(path, sha256, share, found))
    }

    /// The same rows as [`read`](Self::read), or a share of them, from the file `kept` if an earlier start left them there
    /// ([`Dataset::kept_at`]).
    ///
    /// # Errors
    /// As [`read`](Self::read), and if the file changed meanwhile: what counts for it would count for other rows.
    pub fn read_or_kept(&self, path: &Path, kept: &Path, share: Option<TrainShare>) -> Result<Dataset, DataError> {
        let before = sha256_of(path)?;
        let key = self.key(&before, share);
        if let Some(file) = TokenFile::open(kept, key) {
            let (identities, seen) = (file.identities(), file.seen());
            return Ok(self.dataset(path, before, share, Gathered { rows: RowStore::File(file), identities, seen }));
        }
        self.read_share(path, share)?.unchanged_since(before)
    }

    fn dataset(&self, path: &Path, sha256: [u8; 32], share: Option<TrainShare>, found: Gathered) -> Dataset {
        let (key, max_tokens) = (self.key(&sha256, share), self.tokens.max_tokens());
        let rows_max = self.columns.unit.as_ref().map(|unit| unit.rows_max);
        let Gathered { rows, identities, seen } = found;
        Dataset { rows, identities, sha256, seen, path: path.to_owned(), key, max_tokens, rows_max }
    }

    fn key(&self, sha256: &[u8; 32], share: Option<TrainShare>) -> StoreKey {
        let tokens = self.tokens;
        let (max_tokens, vocab) = (tokens.max_tokens(), tokens.vocab());
        StoreKey::new(sha256, tokens.sha256(), self.columns, self.goal, max_tokens, vocab).of_share(share)
    }

    /// Which record a row is: a label says nothing of that, a prompt is part of it.
    fn identity(&self, text: &str, beside: Option<&str>) -> Identity {
        match self.goal {
            Goal::Label(_) | Goal::Answer => Identity::of_words([text]),
            Goal::Continue { .. } => Identity::of_words(beside.into_iter().chain([text])),
        }
    }

    /// One row; what is remarkable in it is noted in `seen`.
    fn example(
        &self,
        path: &Path,
        line: u64,
        text: &str,
        beside: Option<&str>,
        seen: &mut Seen,
    ) -> Result<Example, DataError> {
        let wrong = |what| DataError::row(path, line, what);
        seen.blank.note_if(text.trim().is_empty(), line);
        let example = match self.goal {
            Goal::Label(labels) => {
                let label = labels.iter().position(|l| Some(l.as_str()) == beside.map(str::trim));
                let label = label.and_then(|i| u32::try_from(i).ok());
                let label = label.ok_or_else(|| DataError::label(path, line, labels))?;
                let Encoded { ids, cut } = self.tokens.encode(text).map_err(wrong)?;
                seen.cut.note_if(cut, line);
                Example::labelled(ids, label)
            }
            Goal::Continue { ends } => {
                let Continued { ids, given, cut, straddled } =
                    self.tokens.encode_text(beside, text, ends).map_err(wrong)?;
                seen.cut.note_if(cut, line);
                let glued = beside.is_some_and(|prompt| seen::glued(prompt, text));
                seen.glued.note_if(glued, line);
                seen.straddled.note_if(straddled && !glued, line);
                Example::text(ids, given as u32)
            }
            Goal::Answer => {
                let Encoded { ids, cut } = self.tokens.encode(text).map_err(wrong)?;
                seen.cut.note_if(cut, line);
                Example::unanswered(ids)
            }
        };
        seen.all_prompt.note_if(example.is_all_prompt(), line);
        Ok(example)
    }
}

/// What is read of a row, or the names of the columns where it stands.
#[derive(Clone, Copy)]
struct Fields<'a> {
    text: &'a str,
    /// The label or the prompt, if one is asked for.
    beside: Option<&'a str>,
    /// Whose the row is, if that is asked for.
    unit: Option<&'a str>,
}

/// What a reader hands over: line (from 1) and what stands there.
type EachRow<'a> = dyn FnMut(u64, Fields<'_>) -> Result<(), DataError> + 'a;

/// Hands over each row; returns the SHA-256 of what was read.
fn each_row(path: &Path, names: Fields<'_>, take: &mut EachRow) -> Result<[u8; 32], DataError> {
    let mut source = Watched::open(path).map_err(|e| DataError::file(path, &e))?;
    match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "jsonl" | "ndjson" => json_lines::each(path, &mut source, names, take)?,
        "csv" => delimited::each(path, &mut source, b',', names, take)?,
        "tsv" => delimited::each(path, &mut source, b'\t', names, take)?,
        _ => {
            let what = "the file's name must end in .jsonl, .csv or .tsv, which says how to read it";
            return Err(DataError::whole(path, what));
        }
    }
    Ok(source.sha256())
}
