//! `blindsum-silo train`: the job on this silo's rows alone, with the job's steps and privacy, and nobody else.

use std::path::PathBuf;
use std::time::Instant;

use blindsum_adapter::peft::{self, PeftMeta};
use blindsum_adapter::provenance::{self, JobName, Provenance};
use blindsum_adapter::training::Protection;
use blindsum_adapter::{Adapter, StateLayout};
use blindsum_crypto::Digest;
use blindsum_engine::data::{Columns, Dataset, Example, Goal, Reading, Tokens};
use blindsum_engine::local::{LocalError, LocalTrainer, TrainSpec, whole_job};
use blindsum_engine::{self as engine, Engine};
use blindsum_files::probe;
use blindsum_privacy::Mechanism;
use blindsum_protocol::job::{Job, JobFile};
use blindsum_service::{Document, say};
use blindsum_torch::{FrozenParts, TorchEngine};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::error::CommandError;
use super::{ColumnArgs, EngineArgs, base_and_layout, describe};
use crate::ledger::{Account, Ledger, LedgerError, OverJobs, Purpose};
use crate::unit::unit_column;

/// `blindsum-silo train`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    blindsum-silo train --job job.toml --model all-MiniLM-L6-v2 --data-train train.jsonl \\\n      \
    --data-validation validation.jsonl --out adapter --ledger-dir ledger\n\n\
    Each run spends ε anew on each of its rows, tuning included: the ledger adds it to what other runs and jobs spent on \
    them, and refuses a run that would pass --max-epsilon.")]
pub struct TrainArgs {
    /// The job: what is trained, for how many steps, under which privacy
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
    /// Base model: a Hugging Face directory with config.json, tokenizer.json and the weights, as the job pins them
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Training rows: .jsonl, .csv or .tsv
    #[arg(long, value_name = "FILE")]
    data_train: PathBuf,
    /// Held-out rows, never trained on and not covered by the privacy guarantee
    #[arg(long, value_name = "FILE")]
    data_validation: Option<PathBuf>,
    #[command(flatten)]
    columns: ColumnArgs,
    /// Where the job protects persons: column (or JSON key) that says whose each row is
    #[arg(long, value_name = "NAME")]
    unit_column: Option<String>,
    /// Where the adapter goes, in PEFT's format
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The organisation's privacy ledger, one folder for all its jobs and federations; needed where the job has privacy
    #[arg(long, value_name = "DIR")]
    ledger_dir: Option<PathBuf>,
    /// The most ε that may be spent on any row or person, over all jobs in the ledger [default: the limit under which the ledger was last used; what the job states where it is new]
    #[arg(long, value_name = "X")]
    max_epsilon: Option<f64>,
    /// Rounds instead of the job's; the noise stays, so that more rounds spend more, and more than the job states is refused
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Learning rate instead of the job's; with a schedule the largest
    #[arg(long, value_name = "X")]
    learning_rate: Option<f64>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs the command.
///
/// # Errors
/// One sentence, and its exit code.
pub fn train(args: &TrainArgs) -> Result<(), CommandError> {
    let job = job(args)?;
    let name = JobName { alone: true, ..job.output_name() };
    provenance::look(&args.out, &name)?;
    probe::writable(&args.out)?;
    let (model, layout) = base_and_layout(&job, &args.model)?;
    let tokens = Tokens::open(&model.tokenizer(), model.shape(), job.model.max_sequence_tokens as usize)?;
    let unit = unit_column(job.protection(), args.unit_column.as_deref(), "--unit-column")?;
    let columns = Columns { unit, ..args.columns.columns() };
    let goal = Goal::of(job.model.task, &job.model.labels, model.shape());
    let reading = Reading { columns: &columns, goal, tokens: &tokens };
    let train = reading.read(&args.data_train)?.some()?.several_labels()?;
    let held_out = args.data_validation.as_deref().map(|path| reading.read(path)).transpose()?;
    if let Some(held_out) = &held_out {
        train.apart_from(held_out, job.is_private())?.into_iter().for_each(say);
    }
    [Some(&train), held_out.as_ref()].into_iter().flatten().flat_map(Dataset::remarks).for_each(say);
    let held_out = held_out.map(|data| data.rows.all());
    let (spec, privacy) = TrainSpec::derive(&job.local_training()).map_err(|e| match args.rounds {
        Some(rounds) => CommandError::Usage(format!("--rounds {rounds}: {e} for a job of so many rounds")),
        None => LocalError::from(e).into(),
    })?;
    if let Some(mechanism) = &privacy {
        mechanism.allows(train.units() as u64).map_err(LocalError::from)?;
        mechanism.remarks(train.units() as u64).into_iter().chain(train.repeated()).for_each(say);
    }
    if privacy.is_some() && args.ledger_dir.is_none() {
        return Err(LedgerError::NotNamed("--ledger-dir").into());
    }
    let state = StateLayout::new(layout, job.server_step(), job.rounds)?;
    let layout = state.layout();
    let frozen = FrozenParts::from_seed(layout);
    let mut engine = TorchEngine::open(&model.weights(), layout, &frozen, args.engine.options())?;

    let steps = job.rounds * spec.local_steps;
    let (rows, units) = (train.len(), train.units() as f64);
    let per_step = privacy.map_or(f64::from(spec.expected_batch).min(units), |p| p.q * units);
    let format = if engine.uses_bf16() { "bf16" } else { "f32" };
    say(format!(
        "{rows} training rows{}, {} rounds of {} steps, about {per_step:.0} {} per step, {format}",
        train.whose(),
        job.rounds,
        spec.local_steps,
        if columns.unit.is_some() { "persons" } else { "rows" }
    ));
    match job.protection() {
        Protection::RecordDp { epsilon, delta, clip_norm, unit, .. } => {
            let noise = privacy.map_or(0.0, |p| p.noise_multiplier);
            say(format!(
                "privacy ε ≤ {epsilon} at δ = {delta:e} for each {unit}: clip norm {clip_norm}, noise multiplier {noise:.3}"
            ));
        }
        Protection::None { .. } => say("no differential privacy: the adapter may give records away"),
    }
    // Before anything is trained, so that what was spent is not lost.
    provenance::claim(&args.out, &name)?;
    let over_jobs = spend(args, &job, privacy, &train)?;
    let before = state.initial();
    report("before", &job, &mut engine, state.adapter(&before), held_out.as_deref())?;

    let trainer = LocalTrainer::new(train.rows, spec)?;
    let style = ProgressStyle::with_template("{msg} {bar:30} step {pos} of {len}, {eta} left");
    let bar = ProgressBar::new(u64::from(steps)).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (started, mut drawn) = (Instant::now(), 0);
    bar.set_message("round 1");
    let mut before_step = || {
        bar.inc(1);
        true
    };
    let now = whole_job(&[trainer], &mut engine, &state, job.rounds, &mut before_step, &mut |round, took| {
        bar.set_message(format!("round {}", round + 1));
        drawn += took[0].rows;
        Ok(took[0].sum())
    })?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    say(format!("trained in {seconds:.1} s, {:.0} rows a second", drawn as f64 / seconds.max(1e-9)));
    let adapter = state.adapter(&now);
    report("after", &job, &mut engine, adapter, held_out.as_deref())?;
    if let (Some(privacy), Protection::RecordDp { unit, .. }) = (privacy, job.protection()) {
        say(format!("ε = {:.3} at δ = {:e} for each {unit}", privacy.spent(u64::from(steps)), privacy.delta));
        over_jobs.into_iter().for_each(say);
    }
    let meta = PeftMeta {
        base_model_name_or_path: args.model.display().to_string(),
        labels: job.model.labels.clone(),
        provenance: Some(Provenance::alone(name)),
    };
    peft::export(&args.out, layout, adapter, &meta)?;
    say(format!("adapter in {}", args.out.display()));
    Ok(())
}

/// Charges every row, or every person with its rows, for the whole run; a sentence about what all jobs spent, where there is privacy.
fn spend(
    args: &TrainArgs,
    job: &Job,
    privacy: Option<Mechanism>,
    train: &Dataset,
) -> Result<Option<String>, CommandError> {
    let (Some(mechanism), Protection::RecordDp { epsilon, delta, .. }) = (privacy, job.protection()) else {
        return Ok(None);
    };
    let dir = args.ledger_dir.as_ref().ok_or(LedgerError::NotNamed("--ledger-dir"))?;
    // The organisation's limit is not the job's, whose author may state what he likes.
    let stated = OverJobs { max_epsilon: epsilon, delta };
    let limit = Ledger::limit_before(dir, stated)?;
    let limit = OverJobs { max_epsilon: args.max_epsilon.unwrap_or(limit.max_epsilon), ..limit };
    let mut ledger = Ledger::open(dir, limit)?;
    let steps = u64::from(job.rounds) * u64::from(job.training.local_steps);
    let account = ledger.admit(
        Account {
            job: job.digest(),
            job_name: job.name.clone(),
            federation: job.federation.clone(),
            silo: String::new(),
            purpose: Purpose::Alone,
            file: args.data_train.display().to_string(),
            units: train.units() as u64,
            tags: Digest([0; 32]),
            sampling_rate: mechanism.q,
            noise_multiplier: mechanism.noise_multiplier,
            steps,
            epsilon_limit: epsilon,
            delta,
            time_unix_seconds: 0,
        },
        &train.identities,
    )?;
    let spent = ledger.debit(account, 1, 1, steps)?;
    let (limit, path) = (ledger.limit().max_epsilon, ledger.path());
    let (over_jobs, units) = (spent.over_jobs, if train.has_persons() { "persons and rows" } else { "rows" });
    Ok(Some(format!(
        "over all jobs in {}: ε = {over_jobs:.3} of {limit} for the worst of these {units}",
        path.display()
    )))
}

/// The job with what the command line changes.
fn job(args: &TrainArgs) -> Result<Job, CommandError> {
    let mut file = JobFile::from(Document::read(&args.job)?.checked(JobFile::checked)?);
    file.rounds = args.rounds.unwrap_or(file.rounds);
    file.training.learning_rate = args.learning_rate.unwrap_or(file.training.learning_rate);
    Ok(Job::try_from(file)?)
}

fn report(
    when: &str,
    job: &Job,
    engine: &mut dyn Engine,
    adapter: Adapter<'_>,
    held_out: Option<&[Example]>,
) -> Result<(), CommandError> {
    let Some(rows) = held_out else { return Ok(()) };
    let rows: Vec<&Example> = rows.iter().collect();
    let result = engine::evaluate(engine, adapter, &rows)?;
    say(format!("{when} training: {}, held-out", describe(job.model.task, &result)));
    Ok(())
}
