//! `blindsum-silo`: the command line of one organisation's agent.

use std::sync::LazyLock;
use std::time::Duration;

use blindsum_service::{Common, ExitCode, Program, exit, version};
use blindsum_silo::agent::{self, Agent, AgentError, prepare, torch};
use blindsum_silo::commands::{
    self, BudgetArgs, EvaluateArgs, HashesArgs, PlanArgs, PredictArgs, ReportArgs, TrainArgs,
};
use blindsum_torch::LIBTORCH_VERSION;
use clap::{Args, Parser, Subcommand};

const PROGRAM: Program = Program("blindsum-silo");

static VERSION: LazyLock<String> = LazyLock::new(|| {
    version(env!("CARGO_PKG_VERSION"), option_env!("BLINDSUM_COMMIT"), &[("libtorch", LIBTORCH_VERSION)])
});

/// One organisation's side of a federation.
///
/// `run` takes part in a federation; `check` looks whether it could. `train`, `evaluate` and `predict` need nobody else:
/// they train the same job on this organisation's rows alone, measure an adapter, and use it; `hashes` prints what a job
/// pins of a base model, `plan` proposes its sampling rate and noise.
#[derive(Parser)]
#[command(name = "blindsum-silo", version = VERSION.as_str(), after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take part in a job until it is over. A restart goes on from the journal.
    Run(RunArgs),
    /// Try everything that `run` will need, connecting to nobody and leaving no trace: a line for each thing, with what to do
    /// where there is a problem.
    Check(Common),
    /// Train the job on this organisation's rows alone, with the job's steps and privacy.
    Train(TrainArgs),
    /// Measure an adapter on labelled rows.
    Evaluate(EvaluateArgs),
    /// Answer rows without labels by an adapter.
    Predict(PredictArgs),
    /// Print the lines of a job that pin a base model.
    Hashes(HashesArgs),
    /// Propose the lines of a job that fix sampling rate and noise.
    Plan(PlanArgs),
    /// Say what was spent, on which records, by which mechanism, and what is not covered: for the data-protection officer.
    PrivacyReport(ReportArgs),
    /// Look into the organisation's privacy ledger: what was spent, on which records, and what is left.
    Budget(BudgetArgs),
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Give up when there was no connection to the coordinator for so many seconds; by default it goes on trying.
    #[arg(long, value_name = "N")]
    connect_timeout_seconds: Option<u64>,
}

fn main() -> std::process::ExitCode {
    let done = |()| ExitCode::Done;
    match Cli::parse().command {
        Command::Run(args) => PROGRAM.run(args.common.log(), || run(&args)),
        Command::Check(common) => PROGRAM.run(common.log(), || check(&common)),
        Command::Train(args) => PROGRAM.command(|| commands::train(&args).map(done)),
        Command::Evaluate(args) => PROGRAM.command(|| commands::evaluate(&args).map(done)),
        Command::Predict(args) => PROGRAM.command(|| commands::predict(&args).map(done)),
        Command::Hashes(args) => PROGRAM.command(|| commands::hashes(&args).map(done)),
        Command::Plan(args) => PROGRAM.command(|| commands::plan(&args).map(done)),
        Command::Budget(args) => PROGRAM.command(|| commands::budget(&args).map(done)),
        Command::PrivacyReport(args) => PROGRAM.command(|| commands::privacy_report(&args).map(done)),
    }
    .into()
}

/// Takes part in the job until it is over.
fn run(args: &RunArgs) -> Result<ExitCode, AgentError> {
    let (config, document) = args.common.load()?;
    let prepared = prepare(config, &document)?;
    prepared.announce(&VERSION);
    let agent = Agent::new(prepared, torch());
    let agent = agent.connect_timeout(args.connect_timeout_seconds.map(Duration::from_secs));
    PROGRAM.block_on(|stop| async move { agent.run(&stop).await })
}

/// Tries everything that `run` will need.
fn check(common: &Common) -> Result<ExitCode, AgentError> {
    let (config, document) = common.load()?;
    Ok(agent::check(&config, &document))
}
