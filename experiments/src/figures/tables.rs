//! The tables that say what is measured: one file for each topic, one for the long steps.
//!
//! ```text
//! [[row]]                                            [[row]]
//! name = "folders"                                   name = "test-seconds"
//! what = "folders at top level"                      what = "a whole `make test`"
//! command = "git ls-files … | wc -l"                 step = "test"          a step of experiments/long.toml
//! read = '^(\d+)$'              see reading.rs       read = "seconds"       a figure of that step
//! bar = "<= 20"                 see bar.rs           bar = "-"
//! unit = "folders"                                   unit = "s"
//! ```
//!
//! Contract: unknown keys, names that come twice, and a `read` of a step that has no such figure are refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bar::Bar;
use crate::reading::{FigureReading, Take};

/// Where the tables of the topics are, from the repository's root.
pub const TOPICS: &str = "experiments/figures";
/// Where the long steps are.
pub const LONG: &str = "experiments/long.toml";

/// The rows of one topic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// In the order in which they are printed.
    #[serde(rename = "row")]
    pub rows: Vec<TopicRow>,
}

/// One claim in figures.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "WrittenRow")]
pub struct TopicRow {
    /// Short, without spaces, once in its table.
    pub name: String,
    /// What is measured, in words.
    pub what: String,
    /// Where the figure comes from.
    pub source: Origin,
    /// What it must reach.
    pub bar: Bar,
    /// What it counts; may be empty.
    pub unit: String,
}

/// Where a row's figure comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A command, run when the row is asked for; rows that share it share one run.
    Short { command: String, read: FigureReading, take: Take },
    /// A figure of a long step, as `make long` last found it.
    Long { step: String, figure: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRow {
    name: String,
    what: String,
    command: Option<String>,
    step: Option<String>,
    read: String,
    take: Option<Take>,
    bar: Bar,
    #[serde(default)]
    unit: String,
}

impl TryFrom<WrittenRow> for TopicRow {
    type Error = String;

    fn try_from(row: WrittenRow) -> Result<Self, String> {
        let source = match (row.command, row.step, row.take) {
            (Some(command), None, take) => {
                Origin::Short { command, read: FigureReading::try_from(row.read)?, take: take.unwrap_or_default() }
            }
            (None, Some(step), None) => Origin::Long { step, figure: row.read },
            _ => return Err(format!("row {}: give either `command`, or `step` without `take`", row.name)),
        };
        Ok(Self { name: row.name, what: row.what, source, bar: row.bar, unit: row.unit })
    }
}

/// What `make long` runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongTable {
    /// In the order in which they run.
    #[serde(rename = "step")]
    pub steps: Vec<LongStep>,
}

/// One command that is too long for the gate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongStep {
    /// Short, without spaces, once in the table.
    pub name: String,
    /// What is run, in words.
    pub what: String,
    /// The command; `{seconds}` in it is replaced.
    pub command: String,
    /// What is read out of its output, besides `exit code` and `seconds`, which every step has.
    #[serde(default)]
    pub figures: Vec<LongFigure>,
}

/// One figure of a long step.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongFigure {
    /// Once in its step; what a match is named comes behind it.
    pub name: String,
    /// How it is read.
    pub read: FigureReading,
    /// Which match counts.
    #[serde(default)]
    pub take: Take,
    /// What it counts; may be empty.
    #[serde(default)]
    pub unit: String,
}

impl Topic {
    /// The rows of the topic of this name, checked against the long steps that they name.
    ///
    /// # Errors
    /// When there is no such topic (the error lists those that there are), or a table is wrong.
    pub fn load(root: &Path, name: &str, long: &LongTable) -> Result<Self> {
        let there = topics(root)?;
        if !there.iter().any(|topic| topic == name) {
            bail!(
                "{}; there are: {}",
                if name.is_empty() { "no topic given".into() } else { format!("no topic {name:?}") },
                there.join(", ")
            );
        }
        let file = root.join(TOPICS).join(format!("{name}.toml"));
        let topic: Self = parse(&file)?;
        ensure!(!topic.rows.is_empty(), "topic {name:?} has no rows; there are: {}", there.join(", "));
        check_names(&file, topic.rows.iter().map(|row| row.name.as_str()))?;
        for row in &topic.rows {
            if let Origin::Long { step, figure } = &row.source {
                let known = long.steps.iter().any(|other| other.name == *step && other.has(figure));
                ensure!(known, "{}: row {}: {LONG} has no step {step:?} with {figure:?}", file.display(), row.name);
            }
        }
        Ok(topic)
    }
}

impl LongTable {
    /// The long steps of the repository.
    ///
    /// # Errors
    /// When the table is wrong.
    pub fn load(root: &Path) -> Result<Self> {
        let file = root.join(LONG);
        let table: Self = parse(&file)?;
        check_names(&file, table.steps.iter().map(|step| step.name.as_str()))?;
        for step in &table.steps {
            let built_in = ["exit code", "seconds"].into_iter();
            check_names(&file, step.figures.iter().map(|figure| figure.name.as_str()).chain(built_in))
                .with_context(|| format!("step {}", step.name))?;
        }
        Ok(table)
    }
}

impl LongStep {
    /// Whether the step can give a figure of this name.
    fn has(&self, figure: &str) -> bool {
        let is_or_begins =
            |name: &str| figure.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        ["exit code", "seconds"].contains(&figure) || self.figures.iter().any(|own| is_or_begins(&own.name))
    }
}

/// The names of all topics.
fn topics(root: &Path) -> Result<Vec<String>> {
    let folder = root.join(TOPICS);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no such table", file.display()))
}

fn check_names<'a>(file: &Path, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        ensure!(!name.trim().is_empty() && !name.contains('|'), "{}: a name is empty or holds a bar", file.display());
        ensure!(seen.insert(name), "{}: the name {name:?} comes twice", file.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str =
        "[[step]]\nname = 'test'\nwhat = ''\ncommand = 'make test'\nfigures = [{ name = 'ran', read = '(\\d+)' }]\n";

    fn tree(topic: &str, long: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(TOPICS)).unwrap();
        fs::write(folder.path().join(TOPICS).join("rooms.toml"), topic).unwrap();
        fs::write(folder.path().join(LONG), long).unwrap();
        folder
    }

    fn load(topic: &str) -> Result<Topic> {
        let folder = tree(topic, STEP);
        Topic::load(folder.path(), "rooms", &LongTable::load(folder.path())?)
    }

    fn row(name: &str, rest: &str) -> String {
        format!("[[row]]\nname = '{name}'\nwhat = 'w'\nbar = '<= 9'\n{rest}\n")
    }

    #[test]
    fn every_committed_table_parses_and_names_are_unique() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let long = LongTable::load(root).unwrap();
        let topics = topics(root).unwrap();
        assert!(topics.contains(&"house".to_owned()) && !long.steps.is_empty());
        for topic in topics {
            Topic::load(root, &topic, &long).unwrap();
        }
    }

    #[test]
    fn a_row_has_a_command_or_the_figure_of_a_long_step() {
        let rows = row("a", "command = 'true'\nread = 'exit code'") + &row("b", "step = 'test'\nread = 'ran all'");
        let topic = load(&rows).unwrap();
        assert!(matches!(&topic.rows[0].source, Origin::Short { command, .. } if command == "true"));
        assert!(
            matches!(&topic.rows[1].source, Origin::Long { step, figure } if (step.as_str(), figure.as_str()) == ("test", "ran all"))
        );
        for wrong in [
            "read = 'seconds'",
            "command = 'true'\nstep = 'test'\nread = 'seconds'",
            "step = 'test'\ntake = 'sum'\nread = 'seconds'",
            "step = 'other'\nread = 'seconds'",
            "step = 'test'\nread = 'rank'",
            "command = 'true'\nread = 'no group'",
            "command = 'true'\nread = 'seconds'\ncolour = 'red'",
        ] {
            assert!(load(&row("a", wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_come_once() {
        let same = row("a", "command = 'true'\nread = 'seconds'");
        let error = format!("{:#}", load(&(same.clone() + &same)).unwrap_err());
        assert!(error.contains("rooms.toml") && error.contains("\"a\" comes twice"), "{error}");
        let folder = tree(&same, &STEP.repeat(2));
        assert!(LongTable::load(folder.path()).is_err());
        let folder = tree(&same, &STEP.replace("'ran'", "'seconds'"));
        assert!(LongTable::load(folder.path()).is_err());
    }

    #[test]
    fn an_unknown_topic_or_one_without_rows_lists_the_topics() {
        let folder = tree(&row("a", "command = 'true'\nread = 'seconds'"), STEP);
        fs::write(folder.path().join(TOPICS).join("empty.toml"), "row = []").unwrap();
        let long = LongTable::load(folder.path()).unwrap();
        for name in ["", "other", "empty"] {
            let error = Topic::load(folder.path(), name, &long).unwrap_err().to_string();
            assert!(error.ends_with("there are: empty, rooms"), "{error}");
        }
    }
}
