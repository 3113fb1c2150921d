//! `make long`: everything that is too long for the gate, one step after the other, each result kept as soon as it ends.
//!
//! Contract: a step that succeeded with the same command on the same files (committed or not; `*.md` and the tables of figures
//! do not count) is skipped unless forced. Ctrl-C loses the running step alone. After the last step, or on `--report` alone, the figures are
//! written into docs/testing.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::output_of;
use crate::report::{self, Reported};
use crate::run::{self, Exited, Interrupt};
use crate::tables::{LongStep, LongTable};

/// Where results and logs are kept.
pub const KEPT: &str = ".long";

/// What `make long` was asked for.
#[derive(Debug, Args)]
pub struct Wanted {
    /// These steps alone.
    #[arg(long, value_delimiter = ',')]
    step: Vec<String>,
    /// How long a step runs that lasts as long as it is told to (each fuzz target).
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Run steps again that have succeeded.
    #[arg(long)]
    force: bool,
    /// Run nothing; write the figures that are there into docs/testing.md.
    #[arg(long)]
    report: bool,
}

/// How a step ended, as kept in its file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepResult {
    command: String,
    /// A hash over the files that the step ran with.
    files: String,
    /// Empty where it succeeded.
    problem: String,
    figures: Vec<Reported>,
}

impl StepResult {
    /// The figures of all steps that have run here.
    pub fn figures(root: &Path, table: &LongTable) -> Result<Vec<Reported>> {
        let mut figures = Vec::new();
        for step in &table.steps {
            figures.extend(Self::load(root, &step.name)?.into_iter().flat_map(|kept| kept.figures));
        }
        Ok(figures)
    }

    fn load(root: &Path, step: &str) -> Result<Option<Self>> {
        let file = file_of(root, step);
        let Ok(text) = fs::read_to_string(&file) else { return Ok(None) };
        toml::from_str(&text).map(Some).with_context(|| format!("{} is damaged: remove it", file.display()))
    }

    fn store(&self, root: &Path, step: &str) -> Result<()> {
        let (file, new) = (file_of(root, step), file_of(root, step).with_extension("new"));
        fs::write(&new, toml::to_string(self)?).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &file).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn file_of(root: &Path, step: &str) -> PathBuf {
    root.join(KEPT).join(format!("{step}.toml"))
}

/// Runs what is due, then writes the report; 1 when a step failed.
///
/// # Errors
/// When there is no such step, a table is wrong, or a result cannot be written.
pub fn long(wanted: &Wanted, interrupt: &Interrupt) -> Result<u8> {
    let root = Path::new(".");
    let table = LongTable::load(root)?;
    let names: Vec<&str> = table.steps.iter().map(|step| step.name.as_str()).collect();
    for name in &wanted.step {
        ensure!(names.contains(&name.as_str()), "no step {name:?}; there are: {}", names.join(", "));
    }
    let due = |step: &&LongStep| !wanted.report && (wanted.step.is_empty() || wanted.step.contains(&step.name));
    let steps: Vec<&LongStep> = table.steps.iter().filter(due).collect();
    let mut failed = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let title = format!("long: {} of {}, {}: {}", i + 1, steps.len(), step.name, step.what);
        match one(root, step, wanted, &title, interrupt)? {
            None => {
                eprintln!("long: stopped in {}; what ended before is kept, and `make long` goes on here", step.name);
                return Ok(130);
            }
            Some(false) => failed.push(step.name.as_str()),
            Some(true) => {}
        }
    }
    report::write(root, &table)?;
    if !failed.is_empty() {
        eprintln!("long: failed: {}", failed.join(", "));
    }
    Ok(u8::from(!failed.is_empty()))
}

/// Whether the step succeeded, now or before; `None` when the program was asked to stop.
fn one(root: &Path, step: &LongStep, wanted: &Wanted, title: &str, interrupt: &Interrupt) -> Result<Option<bool>> {
    let command = step.command.replace("{seconds}", &wanted.seconds.to_string());
    let files = files(root)?;
    let earlier = StepResult::load(root, &step.name)?.filter(|kept| kept.problem.is_empty());
    if let Some(kept) = earlier.filter(|kept| !wanted.force && (&kept.command, &kept.files) == (&command, &files)) {
        let at = kept.figures.first().map(|one| format!(" at {}, {}", one.commit, one.date)).unwrap_or_default();
        eprintln!("{title}: skipped, it succeeded with these files{at} (FORCE=1 runs it again)");
        return Ok(Some(true));
    }
    let (commit, date) = (commit(root)?, today()?);
    let log = root.join(KEPT).join(format!("{}.log", step.name));
    eprintln!("{title}: `{command}`, output in {}", log.display());
    let Some(exited) = run::run(&command, title, &log, interrupt)? else { return Ok(None) };
    let (figures, problem) = figures_of(step, &exited, &commit, &date);
    if !problem.is_empty() {
        eprint!("long: {}: {problem}. The end of its output:\n{}", step.name, exited.tail());
    }
    eprintln!(
        "long: {}: {}, {:.0} s",
        step.name,
        if problem.is_empty() { "succeeded" } else { "failed" },
        exited.seconds
    );
    let good = problem.is_empty();
    StepResult { command, files, problem, figures }.store(root, &step.name)?;
    Ok(Some(good))
}

/// What a step's output says, and what is wrong with it (nothing where that is empty).
fn figures_of(step: &LongStep, exited: &Exited, commit: &str, date: &str) -> (Vec<Reported>, String) {
    let reported = |figure: String, value: f64, unit: &str| {
        let [step, unit, commit, date] = [step.name.as_str(), unit, commit, date].map(str::to_owned);
        Reported { step, figure, value, unit, commit, date }
    };
    let mut figures = vec![
        reported("exit code".to_owned(), f64::from(exited.code), ""),
        reported("seconds".to_owned(), exited.seconds.round(), "s"),
    ];
    if exited.code != 0 {
        return (figures, format!("exit code {}", exited.code));
    }
    let mut problems = Vec::new();
    for figure in &step.figures {
        match figure.read.read(figure.take, exited) {
            Ok(values) => figures.extend(values.into_iter().map(|(label, value)| {
                reported(format!("{} {label}", figure.name).trim_end().replace('|', "/"), value, &figure.unit)
            })),
            Err(why) => problems.push(format!("{}: {why}", figure.name)),
        }
    }
    (figures, problems.join("; "))
}

/// A hash over all files that git knows or would add, but not `*.md` and the tables of this program: neither a report nor
/// a new row makes anything run again.
fn files(root: &Path) -> Result<String> {
    let listing = "{ git ls-tree -r HEAD | grep -vE '[.]md$|experiments/(figures/|long[.]toml$)'
        others=\"-- . :!*.md :!experiments/figures :!experiments/long.toml\"; set -f
        git diff HEAD $others; git ls-files -oz --exclude-standard $others | tee /dev/stderr | xargs -0r git hash-object
        } 2>&1 | git hash-object --stdin";
    Ok(output_of(Command::new("sh").current_dir(root).args(["-c", listing]))?.trim_end().to_owned())
}

/// The commit's short hash, with a `+` where files differ from it.
fn commit(root: &Path) -> Result<String> {
    let git = |args: &[&str]| output_of(Command::new("git").arg("-C").arg(root).args(args));
    let changed = git(&["status", "--porcelain", "--", ".", ":!*.md"])?;
    Ok(git(&["rev-parse", "--short=10", "HEAD"])?.trim_end().to_owned() + if changed.is_empty() { "" } else { "+" })
}

fn today() -> Result<String> {
    Ok(output_of(Command::new("date").args(["-u", "+%F"]))?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let own = ["-c", "user.name=n", "-c", "user.email=e"];
            output_of(Command::new("git").arg("-C").arg(folder.path()).args(own).args(args)).unwrap();
        };
        git(&["init", "--quiet"]);
        fs::write(folder.path().join(".gitignore"), "/.long/\n").unwrap();
        fs::write(folder.path().join("source"), "one").unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "first"]);
        folder
    }

    fn step(command: &str) -> LongStep {
        let figure = r"figures = [{ name = 'ran', read = '^ran (\d+)$', unit = 'times' }]";
        toml::from_str(&format!("name = 's'\nwhat = ''\ncommand = '''{command}'''\n{figure}")).unwrap()
    }

    fn go(root: &Path, command: &str, force: bool) -> Option<bool> {
        let wanted = Wanted { step: Vec::new(), seconds: 60, force, report: false };
        one(root, &step(command), &wanted, "s", &Interrupt::default()).unwrap()
    }

    #[test]
    fn a_step_runs_again_when_it_failed_or_a_file_or_its_command_changed_or_it_is_forced() {
        let (folder, count) = (repository(), tempfile::NamedTempFile::new().unwrap());
        let root = folder.path();
        let count = count.path().to_owned();
        let command = format!("echo >> {}; echo ran {{seconds}}", count.display());
        let runs = || fs::read_to_string(&count).unwrap().len();
        assert_eq!((go(root, &command, false), runs()), (Some(true), 1));
        assert_eq!((go(root, &command, false), runs()), (Some(true), 1));
        fs::write(root.join("read.md"), "words").unwrap();
        fs::create_dir_all(root.join("experiments/figures")).unwrap();
        fs::write(root.join("experiments/figures/new.toml"), "").unwrap();
        assert_eq!((go(root, &command, false), runs()), (Some(true), 1));
        assert_eq!((go(root, &command, true), runs()), (Some(true), 2));
        fs::write(root.join("source"), "two").unwrap();
        assert_eq!((go(root, &command, false), runs()), (Some(true), 3));
        fs::write(root.join("untracked"), "").unwrap();
        assert_eq!((go(root, &command, false), runs()), (Some(true), 4));
        assert_eq!((go(root, &format!("{command}; true"), false), runs()), (Some(true), 5));
        let failing = format!("{command}; exit 4");
        assert_eq!((go(root, &failing, false), runs()), (Some(false), 6));
        assert_eq!((go(root, &failing, false), runs()), (Some(false), 7));
        let kept = StepResult::load(root, "s").unwrap().unwrap();
        assert_eq!((kept.problem.as_str(), kept.figures[0].value), ("exit code 4", 4.0));
    }

    #[test]
    fn a_result_has_the_figures_with_commit_and_date_and_fails_without_one_of_them() {
        let folder = repository();
        assert_eq!(go(folder.path(), "echo ran 1234", false), Some(true));
        let kept = StepResult::load(folder.path(), "s").unwrap().unwrap();
        let [code, seconds, ran] = &kept.figures[..] else { panic!("{kept:?}") };
        assert_eq!(
            (code.value, seconds.figure.as_str(), ran.value, ran.unit.as_str()),
            (0.0, "seconds", 1234.0, "times")
        );
        assert!(ran.commit.len() == 10 && ran.date.len() == 10, "{ran:?}");
        fs::write(folder.path().join("source"), "two").unwrap();
        assert_eq!(go(folder.path(), "echo walked 5", false), Some(false));
        let kept = StepResult::load(folder.path(), "s").unwrap().unwrap();
        assert!(kept.problem.starts_with("ran: no match") && kept.figures[0].commit.ends_with('+'), "{kept:?}");
    }
}
