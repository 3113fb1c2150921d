//! `blindsum-silo budget`: what the organisation's privacy ledger holds, for whoever answers for it.
//!
//! ```text
//! show      every account: job, rows, ε
//! who       the jobs and rounds that may hold a record: for the day when somebody withdraws
//! forecast  what this silo's job will have spent at its end, and what is left
//! verify    every line, tag, mark and journal read again
//! ```
//!
//! Contract: reads only; safe while silos run. No record is printed.

use std::io::Read;
use std::path::PathBuf;

use blindsum_engine::data::Identity;
use blindsum_protocol::job::JobFile;
use blindsum_service::{Document, say};
use clap::{Args, Subcommand};

use super::error::CommandError;
use crate::agent::{Known, read_journal};
use crate::config::SiloConfig;
use crate::journal::JournalFile;
use crate::ledger::{LEDGER_FILE, Ledger, LedgerError, OverJobs, Purpose, Spending};

/// The limit of a ledger from which nothing was debited yet.
const UNUSED: OverJobs = OverJobs { max_epsilon: 8.0, delta: 1e-5 };
/// The most bytes of a record that is looked up.
const MAX_RECORD: u64 = 1 << 20;

/// `blindsum-silo budget`
#[derive(Debug, Args)]
pub struct BudgetArgs {
    #[command(subcommand)]
    command: BudgetCommand,
}

#[derive(Debug, Subcommand)]
enum BudgetCommand {
    /// List every account: the job, its rows, what it spent, and what all jobs spent on its worst unit.
    Show(LedgerArgs),
    /// List the jobs and rounds that may hold a record.
    ///
    /// A record is known by its words, whatever file it stood in and whomever the job protects: spacing, capitals and
    /// label do not matter; where a job continues texts, a record is its prompt and its text together. In jobs that
    /// protect persons, a person is known by what stands in data.unit_column.
    #[command(after_help = "Example, so that the record stays out of the shell's history:\n  \
        blindsum-silo budget who --config silo.toml - < record.txt")]
    Who(WhoArgs),
    /// Say what the job of a silo will have spent at its end, in the job and over all jobs, and how much is left.
    Forecast(ConfigArgs),
    /// Read the ledger again, line by line, with all tags; with --config also what this silo's mark and journal know of it.
    Verify(LedgerArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The silo's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Which ledger, and the organisation's limit.
#[derive(Debug, Args)]
struct LedgerArgs {
    /// A silo's configuration, which names ledger and limit
    #[arg(long, value_name = "FILE", conflicts_with = "ledger_dir", required_unless_present = "ledger_dir")]
    config: Option<PathBuf>,
    /// The ledger's folder, where there is no silo.toml
    #[arg(long, value_name = "DIR")]
    ledger_dir: Option<PathBuf>,
    /// With --ledger-dir: the organisation's limit on ε over all jobs [default: under which the ledger was last used]
    #[arg(long, value_name = "X", conflicts_with = "config")]
    max_epsilon: Option<f64>,
    /// With --ledger-dir: its δ [default: likewise]
    #[arg(long, value_name = "X", conflicts_with = "config")]
    max_delta: Option<f64>,
}

#[derive(Debug, Args)]
struct WhoArgs {
    #[command(flatten)]
    ledger: LedgerArgs,
    /// The record's text, or the person; - reads it from standard input
    #[arg(value_name = "RECORD")]
    record: String,
}

impl LedgerArgs {
    /// The ledger, and the configuration if it was named by one.
    fn open(&self) -> Result<(Ledger, Option<SiloConfig>), CommandError> {
        let config = self.config.as_deref().map(config).transpose()?;
        let (dir, limit) = match (&config, &self.ledger_dir) {
            (Some(config), _) => ledger_of(config)?,
            (None, Some(dir)) => {
                let before = Ledger::limit_before(dir, UNUSED)?;
                let (max_epsilon, delta) = (self.max_epsilon, self.max_delta);
                let max_epsilon = max_epsilon.unwrap_or(before.max_epsilon);
                (dir.clone(), OverJobs { max_epsilon, delta: delta.unwrap_or(before.delta) })
            }
            (None, None) => return Err(LedgerError::NotNamed("--ledger-dir").into()),
        };
        let none = || {
            let path = dir.join(LEDGER_FILE);
            CommandError::Usage(format!(
                "{} is not there: nothing was spent yet, or the ledger lies elsewhere",
                path.display()
            ))
        };
        Ok((Ledger::look(&dir, limit)?.ok_or_else(none)?, config))
    }
}

fn config(path: &std::path::Path) -> Result<SiloConfig, CommandError> {
    let (config, _) = blindsum_service::config::load::<SiloConfig>(path)?;
    Ok(config)
}

fn ledger_of(config: &SiloConfig) -> Result<(PathBuf, OverJobs), CommandError> {
    let limit = OverJobs { max_epsilon: config.policy.max_epsilon, delta: config.policy.max_delta };
    Ok((config.ledger_dir.clone().ok_or(LedgerError::NotNamed("ledger_dir"))?, limit))
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn budget(args: &BudgetArgs) -> Result<(), CommandError> {
    match &args.command {
        BudgetCommand::Show(args) => show(&args.open()?.0),
        BudgetCommand::Who(args) => who(args),
        BudgetCommand::Forecast(args) => forecast(&config(&args.config)?),
        BudgetCommand::Verify(args) => verify(args),
    }
}

fn show(ledger: &Ledger) -> Result<(), CommandError> {
    let OverJobs { max_epsilon, delta } = ledger.limit();
    say(format!("{}, ledger {}", ledger.path().display(), ledger.id()));
    say(format!("limit over all jobs: ε ≤ {max_epsilon} at δ = {delta:e}, and as much δ again for the job itself"));
    for OverJobs { max_epsilon, delta } in ledger.limits().iter().filter(|limit| **limit != ledger.limit()) {
        say(format!("also used with another limit: ε ≤ {max_epsilon} at δ = {delta:e}; the δ of each limit adds up"));
    }
    say("");
    say(format!(
        "{:>3}  {:24}{:16}{:18}{:>10}{:>8}{:>12}{:>12}{:>10}",
        "", "job", "silo", "for", "units", "debits", "ε in job", "over jobs", "shared"
    ));
    for (number, spending) in ledger.spendings().iter().enumerate() {
        let Spending { account, debits } = spending;
        let (spent, shared) = ledger.inspect(number)?;
        say(format!(
            "{number:>3}  {:24}{:16}{:18}{:>10}{:>8}{:>12.4}{:>12.4}{:>10}",
            clipped(&account.job_name, 23),
            clipped(&account.silo, 15),
            account.purpose.said(),
            account.units,
            debits.len(),
            spent.in_job,
            spent.over_jobs,
            shared.number
        ));
    }
    say(
        "\nover jobs: ε of the account's worst unit, whatever job used it; shared: units that other accounts spent on \
         too, where they are persons with their rows",
    );
    Ok(())
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

fn who(args: &WhoArgs) -> Result<(), CommandError> {
    let (ledger, _) = args.ledger.open()?;
    let record = match args.record.as_str() {
        "-" => {
            let (mut text, stdin) = (String::new(), PathBuf::from("standard input"));
            let read = std::io::stdin().take(MAX_RECORD + 1).read_to_string(&mut text);
            read.map_err(|e| blindsum_files::FileError::from_io("read", &stdin, e))?;
            if text.len() as u64 > MAX_RECORD {
                // The beginning of a record is another record, which no job holds.
                return Err(CommandError::Usage(format!("the record has more than {MAX_RECORD} bytes")));
            }
            text
        }
        given => given.to_owned(),
    };
    if record.trim().is_empty() {
        return Err(CommandError::Usage("the record is blank: give its text".to_owned()));
    }
    let mut accounts = ledger.who(&Identity::of_words([record.as_str()]))?;
    accounts.extend(ledger.who(&Identity::of_person(&record))?);
    accounts.sort_unstable();
    if accounts.is_empty() {
        say("no job in this ledger holds this record or person");
        if record.trim_start().starts_with('{') && record.trim_end().ends_with('}') {
            say("if this is a row of a file: a record is known by its text alone (and its prompt, where there is one)");
        }
        return Ok(());
    }
    for number in accounts {
        let Spending { account, debits } = &ledger.spendings()[number];
        let silo = if account.silo.is_empty() { "alone".to_owned() } else { format!("as {}", account.silo) };
        let used = match debits.len() {
            0 => "holds it and has used nothing of it yet".to_owned(),
            _ if account.purpose == Purpose::Alone => {
                format!("may hold it, ε = {:.4}", ledger.spendings()[number].epsilon())
            }
            _ => {
                let rounds = ranges(debits.iter().map(|debit| debit.round));
                format!("may hold it in rounds {rounds}, ε = {:.4}", ledger.spendings()[number].epsilon())
            }
        };
        say(format!(
            "job {:?} of federation {:?} ({}, {silo}): {used}; {}",
            account.job_name,
            account.federation,
            account.purpose.said(),
            account.file
        ));
    }
    Ok(())
}

/// Ascending numbers, with what lies between: 1-4, 7.
fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let numbers: std::collections::BTreeSet<u32> = numbers.collect();
    for number in numbers {
        match runs.last_mut().filter(|(_, last)| last.checked_add(1) == Some(number)) {
            Some((_, last)) => *last = number,
            None => runs.push((number, number)),
        }
    }
    let run = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(run).collect::<Vec<_>>().join(", ")
}

fn forecast(config: &SiloConfig) -> Result<(), CommandError> {
    let (dir, limit) = ledger_of(config)?;
    let job = Document::read(&config.job)?.checked(JobFile::checked)?;
    let found = Ledger::look(&dir, limit)?
        .and_then(|ledger| Some((ledger.find(job.digest(), &config.name, Purpose::Training)?, ledger)));
    let Some((number, ledger)) = found else {
        let said = "this silo's job has no account yet: `blindsum-silo check` says whether it may begin";
        return Err(CommandError::Usage(said.to_owned()));
    };
    let spending = &ledger.spendings()[number];
    let ((spent, shared), (in_job, over_jobs)) = (ledger.inspect(number)?, ledger.steps_left(number)?);
    let (account, steps) = (&spending.account, u64::from(job.training.local_steps));
    say(format!("job {:?}, silo {}: {} units; {shared} are in other jobs too", job.name, config.name, account.units));
    say(format!(
        "spent: ε = {:.4} of {:.4} in the job, {:.4} of {} over all jobs",
        spent.in_job, account.epsilon_limit, spent.over_jobs, limit.max_epsilon
    ));
    say(format!("left: {} trainings by the job's ε, {} by the organisation's", in_job / steps, over_jobs / steps));
    let rounds = job.rounds.saturating_sub(spending.debits.iter().map(|debit| debit.round).max().unwrap_or(0));
    let spare = (over_jobs / steps).saturating_sub(u64::from(rounds));
    say(match over_jobs / steps >= u64::from(rounds) {
        true => format!("the {rounds} rounds to come fit, and {spare} repeated attempts"),
        false => format!("the {rounds} rounds to come do not fit: this silo will have to leave the job"),
    });
    Ok(())
}

fn verify(args: &LedgerArgs) -> Result<(), CommandError> {
    let (ledger, config) = args.open()?;
    ledger.verify_tags()?;
    let mark = ledger.mark();
    say(format!("{}: {} lines, each follows from the one before", ledger.path().display(), mark.lines));
    say(format!("tags of {} accounts: as the ledger names them", ledger.spendings().len()));
    if let Some(config) = config {
        let job = Document::read(&config.job)?.checked(JobFile::checked)?;
        let path = config.state_dir.join("journal");
        let entries = read_journal(&path, &JournalFile::look(&path)?)?;
        let (dir, limit) = ledger_of(&config)?;
        Known::new(&config.state_dir, &job, &entries)?.look(&dir, limit, job.digest(), &config.name)?;
        say(format!("{}: the ledger holds all that mark and journal know", config.state_dir.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_said_in_runs() {
        assert_eq!(ranges([3, 1, 2, 2, 7, 9, 8].into_iter()), "1-3, 7-9");
        assert_eq!(ranges([5].into_iter()), "5");
    }
}
