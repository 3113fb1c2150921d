//! `make figures`: the rows of one topic, measured now, or read from the last `make long`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::report::{self, Reported};
use crate::run::{self, Exited, Interrupt};
use crate::tables::{LongTable, Origin, Topic, TopicRow};
use crate::text::{self, Style};

/// What became of one figure: its name, the value and where it is from, or why there is none.
type Found = (String, Result<(f64, String), String>);

/// Prints the topic's table; 0 when all bars are met, 1 when one is missed or a command failed.
///
/// # Errors
/// When there is no such topic or row, or a table is wrong.
pub fn show(topic: Option<&str>, row: Option<&str>, format: Style, interrupt: &Interrupt) -> Result<u8> {
    let root = Path::new(".");
    let table = Topic::load(root, topic.unwrap_or_default(), &LongTable::load(root)?)?;
    let names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    ensure!(
        row.is_none_or(|row| names.contains(&row)),
        "no row {:?}; there are: {}",
        row.unwrap_or_default(),
        names.join(", ")
    );
    let kept = report::known(root)?;
    let (mut lines, mut good, mut ran) = (Vec::new(), true, BTreeMap::new());
    for row in table.rows.iter().filter(|one| row.is_none_or(|row| row == one.name)) {
        let Some(found) = measure(row, &mut ran, &kept, interrupt)? else {
            eprintln!("figures: stopped");
            return Ok(130);
        };
        for (name, value) in found {
            let (line, fine) = line(row, name, value);
            lines.push(line);
            good &= fine;
        }
    }
    print!("{}", text::table(format, &["row", "figure", "bar", "", "what is measured"], &lines));
    Ok(u8::from(!good))
}

/// `None` when the program was asked to stop.
fn measure(
    row: &TopicRow,
    ran: &mut BTreeMap<String, Exited>,
    kept: &[Reported],
    interrupt: &Interrupt,
) -> Result<Option<Vec<Found>>> {
    let (command, read, take) = match &row.source {
        Origin::Long { step, figure } => return Ok(Some(vec![(row.name.clone(), from_long(kept, step, figure))])),
        Origin::Short { command, read, take } => (command, read, *take),
    };
    if !ran.contains_key(command) {
        let log = Path::new("target/figures").join(format!("{}.log", row.name));
        let Some(exited) = run::run(command, &row.name, &log, interrupt)? else { return Ok(None) };
        ran.insert(command.clone(), exited);
    }
    let exited = &ran[command];
    Ok(Some(match read.read(take, exited) {
        Ok(values) => values
            .into_iter()
            .map(|(label, value)| (format!("{} {label}", row.name).trim_end().to_owned(), Ok((value, String::new()))))
            .collect(),
        Err(why) => {
            eprint!("figures: {}: {why}. The end of `{command}`:\n{}", row.name, exited.tail());
            vec![(row.name.clone(), Err("failed".to_owned()))]
        }
    }))
}

/// A long step's figure, with the commit and date of its measurement. A step that failed has none.
fn from_long(kept: &[Reported], step: &str, figure: &str) -> Result<(f64, String), String> {
    let of = |name: &str| kept.iter().find(|one| one.step == step && one.figure == name);
    let at = |one: &Reported| format!("at {}, {}", one.commit, one.date);
    match (of("exit code"), of(figure)) {
        (Some(code), _) if code.value != 0.0 && figure != "exit code" => Err(format!("failed {}", at(code))),
        (_, Some(one)) => Ok((one.value, at(one))),
        _ => Err(format!("not measured: make long STEP={step}")),
    }
}

/// The cells of one line, and whether it leaves the exit code at 0. A long step that was never run does.
fn line(row: &TopicRow, name: String, found: Result<(f64, String), String>) -> (Vec<String>, bool) {
    let (figure, verdict, good) = match found {
        Ok((value, from)) => {
            let met = row.bar.is_met(value);
            let verdict = met.map_or("", |met| if met { "met" } else { "missed" });
            let figure = [text::figure(value), row.unit.clone(), from].join(" ");
            (figure.split_whitespace().collect::<Vec<_>>().join(" "), verdict, met != Some(false))
        }
        Err(why) => {
            let failed = why.starts_with("failed");
            (why, if failed { "failed" } else { "" }, !failed)
        }
    };
    (vec![name, figure, row.bar.to_string(), verdict.to_owned(), row.what.clone()], good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bar: &str) -> TopicRow {
        let text = format!("name = 'a'\nwhat = 'w'\nbar = '{bar}'\nunit = 'ms'\nstep = 's'\nread = 'f'");
        toml::from_str(&text).unwrap()
    }

    fn kept(figure: &str, value: f64) -> Reported {
        let [step, unit, commit, date] = ["s", "ms", "1a2b3c", "2026-01-02"].map(str::to_owned);
        Reported { step, figure: figure.to_owned(), value, unit, commit, date }
    }

    #[test]
    fn a_missed_bar_and_a_failed_step_end_with_1_and_a_step_that_never_ran_does_not() {
        let good = [kept("exit code", 0.0), kept("f", 3.0)];
        let (cells, fine) = line(&row("<= 3"), "a".to_owned(), from_long(&good, "s", "f"));
        assert_eq!(
            (cells, fine),
            (["a", "3 ms at 1a2b3c, 2026-01-02", "<= 3", "met", "w"].map(str::to_owned).to_vec(), true)
        );
        let verdict = |bar: &str, kept: &[Reported]| {
            let (cells, fine) = line(&row(bar), "a".to_owned(), from_long(kept, "s", "f"));
            (cells[3].clone(), fine)
        };
        assert_eq!(verdict("< 3", &good), ("missed".to_owned(), false));
        assert_eq!(verdict("-", &good), (String::new(), true));
        assert_eq!(verdict("<= 3", &[kept("exit code", 2.0), kept("f", 3.0)]), ("failed".to_owned(), false));
        assert_eq!(verdict("<= 3", &[]), (String::new(), true));
    }
}
