//! `blindsum-silo`: the command line of one organisation's agent.

use std::process::ExitCode;

use blindsum_silo::agent::command::{self, CheckArgs, RunArgs};
use blindsum_silo::commands::{self, EvaluateArgs, HashesArgs, PredictArgs, TrainArgs};
use clap::{Parser, Subcommand};

/// One organisation's side of a federation.
///
/// `run` takes part in a federation; `check` looks whether it could. `train`, `evaluate` and `predict` need nobody else:
/// they train the same job on this organisation's rows alone, measure an adapter, and use it; `hashes` prints what a job
/// pins of a base model.
#[derive(Parser)]
#[command(name = "blindsum-silo", version = command::VERSION, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 internal fault; 2 usage or configuration; 3 data or model; 4 identity or \
certificates; 5 network; 6 refused; 7 disk or state directory; 130 and 143 stopped by SIGINT and SIGTERM, in order.";

#[derive(Subcommand)]
enum Command {
    /// Take part in a job until it is over. A restart goes on from the journal.
    Run(RunArgs),
    /// Check configuration, credentials, roster, job, policy, model and data; connect to nobody and write nothing.
    Check(CheckArgs),
    /// Train the job on this organisation's rows alone, with the job's steps and privacy.
    Train(TrainArgs),
    /// Measure an adapter on labelled rows.
    Evaluate(EvaluateArgs),
    /// Answer rows without labels by an adapter.
    Predict(PredictArgs),
    /// Print the lines of a job that pin a base model.
    Hashes(HashesArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => command::run(&args),
        Command::Check(args) => command::check(&args),
        Command::Train(args) => commands::train(&args),
        Command::Evaluate(args) => commands::evaluate(&args),
        Command::Predict(args) => commands::predict(&args),
        Command::Hashes(args) => commands::hashes(&args),
    }
    .into()
}
