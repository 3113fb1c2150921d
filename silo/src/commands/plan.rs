//! `blindsum-silo plan`: the public numbers of a job's differential privacy, proposed to its author, and how long
//! updates are held back.

use std::path::PathBuf;

use blindsum_privacy::Mechanism;
use blindsum_protocol::job::{Job, JobFile, MetricsMode, PrivacyMode, Unit};
use blindsum_service::{Document, say};
use clap::Args;

use super::EngineArgs;
use super::error::CommandError;
use super::release::{release_seconds, timed};

/// `blindsum-silo plan`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    blindsum-silo plan job.toml --rows 2300\n\n\
    Paste the lines into the job's [privacy]. The guess of the rows is public and need not be right: with other rows a silo \
    draws more or fewer of them in each step, and spends the same ε. Where the job protects persons (privacy.unit), it is how \
    many persons a silo has.\n\n\
    With --model DIR on the slowest silo's machine, or --step-seconds, it proposes deadlines.release_seconds too.")]
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
    /// Propose deadlines.release_seconds for steps that take so long at most
    #[arg(long, value_name = "X", conflicts_with = "model")]
    step_seconds: Option<f64>,
    /// Propose deadlines.release_seconds for this machine: time the largest step on this base model, with made-up rows
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
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
    let (seconds, how) = match (args.step_seconds, &args.model) {
        (Some(seconds), _) if !(seconds.is_finite() && seconds > 0.0) => {
            return Err(CommandError::Usage(format!("--step-seconds is {seconds}: give a number above 0")));
        }
        (Some(seconds), _) => (seconds, "as given"),
        (None, Some(model)) => {
            let mut whole = file.clone();
            let privacy = &mut whole.privacy;
            (privacy.sampling_rate, privacy.noise_multiplier) = (Some(q), Some(noise_multiplier));
            (privacy.batch_max, privacy.epsilon, privacy.delta) = (Some(batch_max), Some(epsilon), Some(delta));
            (timed(&Job::try_from(whole)?, model, args.engine.options())?, "as timed on this machine")
        }
        (None, None) => return Ok(()),
    };
    let release = release_seconds(&document, &file, seconds)?;
    if file.aggregation.metrics == MetricsMode::HeldOut {
        say("# the held-out rows are counted before the steps: add what `blindsum-silo evaluate` takes on them");
    }
    say(format!(
        "# this line belongs to [deadlines]: {} steps of {seconds:.3} s at most, {how}, and a quarter more\n\
         release_seconds = {release}",
        file.training.local_steps
    ));
    Ok(())
}
