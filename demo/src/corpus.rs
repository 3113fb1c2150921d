//! The demo's rows: four sources, each an institution, split into rows for training, choosing and testing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blindsum_adapter::AdapterLayout;
use blindsum_engine::data::{Columns, Example, Goal, Reading, Tokens};
use blindsum_engine::model::ModelDir;
use blindsum_protocol::job::Job;

use crate::statistics::accuracy;

/// The sources in the order of the roster.
pub const SOURCES: [&str; 4] = ["editorials", "reviews", "films", "posts"];

/// One institution's rows.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// Rows that are trained on.
    pub train: Vec<Example>,
    /// Rows for choosing the learning rate.
    pub validation: Vec<Example>,
    /// Rows for the figures.
    pub test: Vec<Example>,
}

/// All rows, tokenised for one base model.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The institutions.
    pub sources: Vec<Source>,
    /// The base model's directory.
    pub model: PathBuf,
    /// The adapter's layout on it.
    pub layout: AdapterLayout,
}

impl Corpus {
    /// Reads and tokenises everything.
    ///
    /// # Errors
    /// When a file is missing or holds something else than rows.
    pub fn open(data: &Path, model: &Path, job: &Job) -> Result<Self> {
        let base = ModelDir::open(model).context("make demo fetches the base model")?;
        let layout = AdapterLayout::new(base.shape(), &job.lora, job.model.task())?;
        let tokens = Tokens::open(&base.tokenizer(), base.shape(), job.model.max_sequence_tokens as usize)?;
        let (columns, goal) = (Columns::default(), Goal::Label(&job.model.labels));
        let reading = Reading { columns: &columns, goal, tokens: &tokens };
        let read = |source: &str, split: &str| -> Result<Vec<Example>> {
            Ok(reading.read(&data.join(source).join(format!("{split}.jsonl")))?.some()?.rows.all())
        };
        let sources = SOURCES
            .into_iter()
            .map(|name| {
                Ok(Source {
                    name,
                    train: read(name, "train")?,
                    validation: read(name, "validation")?,
                    test: read(name, "test")?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { sources, model: model.into(), layout })
    }

    /// Prints the number of rows of each source.
    pub fn print(&self) {
        for Source { name, train, validation, test } in &self.sources {
            println!(
                "  {name:<12}{:>6} rows to train on, {:>4} to choose by, {:>4} to test on",
                train.len(),
                validation.len(),
                test.len()
            );
        }
    }

    /// Macro accuracy of always answering the label that is most frequent in all training rows together: the best
    /// that one adapter can do without reading the text.
    pub fn majority(&self) -> f64 {
        let label = most_frequent(self.sources.iter().flat_map(|source| &source.train));
        self.sources.iter().map(|source| share(&source.test, label)).sum::<f64>() / self.sources.len() as f64
    }

    /// Macro accuracy of always answering each source's own most frequent training label, which no single adapter can.
    pub fn majority_by_source(&self) -> f64 {
        let of = |source: &Source| share(&source.test, most_frequent(&source.train));
        self.sources.iter().map(of).sum::<f64>() / self.sources.len() as f64
    }
}

/// The label that most rows have, the first of equals.
fn most_frequent<'a>(rows: impl IntoIterator<Item = &'a Example>) -> u32 {
    let mut counts = BTreeMap::<u32, usize>::new();
    rows.into_iter().filter_map(Example::label).for_each(|label| *counts.entry(label).or_default() += 1);
    let most = counts.values().copied().max().unwrap_or(0);
    counts.into_iter().find(|(_, count)| *count == most).map_or(0, |(label, _)| label)
}

/// Share of rows with this label.
fn share(rows: &[Example], label: u32) -> f64 {
    accuracy(&rows.iter().map(|row| row.label() == Some(label)).collect::<Vec<_>>())
}
