//! The figures of long steps in docs/testing.md, between two markers: written from what is kept here, read back where
//! nothing is.
//!
//! Contract: a step that has run here replaces its committed lines; other lines stay while their step is in the table.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::long::StepResult;
use crate::tables::LongTable;
use crate::text::{self, Style};

const FILE: &str = "docs/testing.md";
const BEGIN: &str = "<!-- figures of make long: written by it -->\n";
const END: &str = "<!-- end of the figures -->\n";

/// One figure of a long step, and what it was measured at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// The step.
    pub step: String,
    /// `exit code`, `seconds`, or the figure's own name.
    pub figure: String,
    /// Its value.
    pub value: f64,
    /// What it counts; may be empty.
    pub unit: String,
    /// The commit's short hash, with a `+` where files differed from it.
    pub commit: String,
    /// The day, UTC.
    pub date: String,
}

/// All figures of long steps that are known: kept here, or committed.
///
/// # Errors
/// When a result or the report is damaged.
pub fn known(root: &Path) -> Result<Vec<Reported>> {
    let (table, text) = (LongTable::load(root)?, read(root)?);
    Ok(merge(&table, StepResult::figures(root, &table)?, parse(split(&text)?[1])?))
}

/// Writes the report.
///
/// # Errors
/// When the file has no markers or cannot be written.
pub fn write(root: &Path, table: &LongTable) -> Result<()> {
    let text = read(root)?;
    let [before, old, after] = split(&text)?;
    let figures = merge(table, StepResult::figures(root, table)?, parse(old)?);
    let new = if figures.is_empty() { "No step has been run yet.\n".to_owned() } else { print(&figures) };
    if new == old {
        eprintln!("long: the figures in {FILE} are these already");
        return Ok(());
    }
    fs::write(root.join(FILE), [before, &new, after].concat()).with_context(|| format!("cannot write {FILE}"))?;
    eprintln!("long: {FILE} has the figures; commit it");
    Ok(())
}

fn read(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))
}

/// The text up to the first marker and with it, between the two, and from the second one on.
fn split(text: &str) -> Result<[&str; 3]> {
    let missing = || format!("{FILE} has not the two lines {:?} and {:?}: put them back", BEGIN.trim(), END.trim());
    let begin = text.find(BEGIN).with_context(missing)? + BEGIN.len();
    let end = begin + text[begin..].find(END).with_context(missing)?;
    Ok([&text[..begin], &text[begin..end], &text[end..]])
}

fn merge(table: &LongTable, new: Vec<Reported>, old: Vec<Reported>) -> Vec<Reported> {
    let of = |all: &[Reported], step: &str| all.iter().filter(|one| one.step == step).cloned().collect::<Vec<_>>();
    let newest = |step: &str| Some(of(&new, step)).filter(|own| !own.is_empty()).unwrap_or_else(|| of(&old, step));
    table.steps.iter().flat_map(|step| newest(&step.name)).collect()
}

fn print(figures: &[Reported]) -> String {
    let cells = |one: &Reported| {
        let value = text::figure(one.value);
        [&one.step, &one.figure, &value, &one.unit, &one.commit, &one.date].map(String::clone).to_vec()
    };
    let rows: Vec<_> = figures.iter().map(cells).collect();
    text::table(Style::Markdown, &["step", "figure", "value", "unit", "commit", "date"], &rows)
}

fn parse(text: &str) -> Result<Vec<Reported>> {
    let lines = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let one = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [step, figure, value, unit, commit, date] = cells[..] else { return None };
        let value = value.parse().ok()?;
        let [step, figure, unit, commit, date] = [step, figure, unit, commit, date].map(str::to_owned);
        Some(Reported { step, figure, value, unit, commit, date })
    };
    lines.map(|line| one(line).with_context(|| format!("{FILE}: no figure: {line:?}; remove the line"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(step: &str, figure: &str, value: f64) -> Reported {
        let [step, figure, unit, commit, date] = [step, figure, "", "1a2b3c+", "2026-01-02"].map(str::to_owned);
        Reported { step, figure, value, unit, commit, date }
    }

    fn table(steps: &[&str]) -> LongTable {
        let text: String = steps.iter().map(|s| format!("[[step]]\nname = '{s}'\nwhat = ''\ncommand = ''\n")).collect();
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let figures = [reported("a", "exit code", 0.0), reported("a", "points, mean", -1.25)];
        assert_eq!(parse(&print(&figures)).unwrap(), figures);
        assert!(parse("No step has been run yet.\n").unwrap().is_empty());
        assert!(parse("| step | figure |\n|---|---|\n| a | b |\n").is_err());
    }

    #[test]
    fn a_step_that_ran_here_replaces_its_lines_and_no_other() {
        let old = vec![reported("b", "seconds", 1.0), reported("gone", "seconds", 2.0), reported("a", "odd", 3.0)];
        let new = vec![reported("a", "seconds", 4.0)];
        let merged = merge(&table(&["a", "b", "c"]), new, old);
        assert_eq!(merged, [reported("a", "seconds", 4.0), reported("b", "seconds", 1.0)]);
    }

    #[test]
    fn the_report_goes_between_the_markers_of_the_committed_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = read(root).unwrap();
        let [before, between, after] = split(&text).unwrap();
        assert!(before.ends_with(BEGIN) && after.starts_with(END));
        parse(between).unwrap();
        assert!(split("no markers").is_err());
    }
}
