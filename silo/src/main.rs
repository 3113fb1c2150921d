//! `blindsum-silo`: the command line of one organisation's agent.

use std::process::ExitCode;

use blindsum_silo::agent::command::{self, CheckArgs, RunArgs};
use clap::{Parser, Subcommand};

/// One organisation's side of a federation.
#[derive(Parser)]
#[command(name = "blindsum-silo", version = command::VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take part in a job until it is over. A restart goes on from the journal.
    Run(RunArgs),
    /// Check configuration, credentials, roster, job, policy, model and data; connect to nobody and write nothing.
    Check(CheckArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => command::run(&args),
        Command::Check(args) => command::check(&args),
    }
    .into()
}
