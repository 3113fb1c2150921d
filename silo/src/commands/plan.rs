//! `blindsum-silo plan`: the public numbers of a job's differential privacy, proposed to its author.

use std::path::PathBuf;

use blindsum_privacy::Mechanism;
use blindsum_protocol::job::{JobFile, PrivacyMode, Unit};
use blindsum_service::{Document, say};
use clap::Args;

use super::error::CommandError;

/// `blindsum-silo plan`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    blindsum-silo plan job.toml --rows 2300\n\n\
    Paste the lines into the job's [privacy]. The guess of the rows is public and need not be right: with other rows a silo \
    draws more or fewer of them in each step, and spends the same ε. Where the job protects persons (privacy.unit), it is how \
    many persons a silo has.")]
pub struct PlanArgs {
    /// The job; sampling_rate and noise_multiplier may still be missing
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// How many training rows (where the job protects persons: how many persons) a silo has, as far as everybody may know: with
    /// it a step draws expected_batch_examples of them
    #[arg(long, value_name = "N")]
    rows: u64,
    /// ε over the whole job instead of the job's
    #[arg(long, value_name = "X")]
    epsilon: Option<f64>,
    /// δ instead of the job's
    #[arg(long, value_name = "X")]
    delta: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn plan(args: &PlanArgs) -> Result<(), CommandError> {
    let document = Document::read(&args.job)?;
    let file: JobFile = document.parse()?;
    if file.privacy.mode == PrivacyMode::None {
        return Err(document.wrong("privacy.mode", "is \"none\": there is nothing to plan; set \"record-dp\"").into());
    }
    let needed = |key: &str, given: Option<f64>, job: Option<f64>| {
        let missing = || document.wrong(&format!("privacy.{key}"), format!("is missing: add it, or give --{key}"));
        given.or(job).ok_or_else(missing)
    };
    let epsilon = needed("epsilon", args.epsilon, file.privacy.epsilon)?;
    let delta = needed("delta", args.delta, file.privacy.delta)?;
    let trainings = u64::from(file.rounds) + u64::from(file.privacy.spare_rounds.unwrap_or(0));
    let batch = u64::from(file.training.expected_batch_examples);
    let steps = trainings * u64::from(file.training.local_steps);
    let (units, noun) = match file.privacy.unit {
        Unit::Record => ("rows", "record"),
        Unit::Person => ("persons", "person"),
    };
    let found = Mechanism::propose(args.rows, batch, steps, epsilon, delta)?.of(noun);
    found.allows(args.rows)?;
    let Mechanism { q, noise_multiplier, batch_max, .. } = found;
    say(format!(
        "# for {trainings} trainings of {} steps: ε = {:.4} at δ = {delta:e} for each {noun}, in every silo",
        file.training.local_steps,
        found.epsilon()
    ));
    for rows in [args.rows.div_ceil(2), args.rows, args.rows.saturating_mul(2)] {
        let drawn = q * rows as f64;
        let pull = drawn / batch as f64;
        say(format!(
            "# a silo of {rows} {units} draws {drawn:.1} of them in a step and pulls {pull:.2} times as hard as planned"
        ));
    }
    say(format!(
        "sampling_rate = {q}\nnoise_multiplier = {noise_multiplier}\nbatch_max = {batch_max}\nepsilon = {epsilon:?}\ndelta = {delta:e}"
    ));
    found.remarks(args.rows).iter().for_each(|remark| say(format!("# {remark}")));
    Ok(())
}
