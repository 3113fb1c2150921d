//! `blindsum-coordinator`: the command line of the coordinator service.

use std::path::PathBuf;
use std::sync::LazyLock;

use blindsum_coordinator::config::CoordinatorConfig;
use blindsum_coordinator::{Coordinator, CoordinatorError, announce, check, evidence, prepare};
use blindsum_service::{Common, ExitCode, Program, exit, say, version};
use clap::{Args, Parser, Subcommand};

const PROGRAM: Program = Program("blindsum-coordinator");

static VERSION: LazyLock<String> =
    LazyLock::new(|| version(env!("CARGO_PKG_VERSION"), option_env!("BLINDSUM_COMMIT"), &[]));

/// Runs the rounds of a federation and sees only sums.
///
/// Silos dial in over QUIC; the coordinator dials nobody. It sees names, times, sizes, the sum of each round and the
/// adapter; never a silo's update, its data or its metrics. Keys and certificates are made with `blindsum-certs`.
#[derive(Parser)]
#[command(name = "blindsum-coordinator", version = VERSION.as_str(), after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the job's rounds until it is over. A restart goes on from the store.
    Run(Common),
    /// Try everything that `run` will need, leaving no trace: a line for each thing, with what to do where there is a problem.
    Check(Common),
    /// Check a piece of evidence against a silo, offline: name the silo at fault, or say why the file proves nothing.
    ///
    /// A coordinator that convicts a silo writes the proof to `evidence/` in its output directory. Whoever holds the
    /// federation's roster and the job can check it here, without trusting the coordinator: every message that convicts a silo
    /// is signed with the identity key that the roster pins, and nobody else can make one. Neither the model nor a key is
    /// needed, and nothing is sent anywhere.
    #[command(after_help = EVIDENCE_HELP)]
    Evidence(EvidenceArgs),
}

const EVIDENCE_HELP: &str =
    "Exit codes: 0 the file proves the silo that is printed at fault; 6 it proves nothing; 2 the job \
cannot be used; 3 the file is no evidence file; 4 the roster cannot be used; 7 the file cannot be read.

Example:
  blindsum-coordinator evidence adapter/evidence/round-3-attempt-1-clinic-b.json --roster roster.toml --job job.toml";

#[derive(Args)]
struct EvidenceArgs {
    /// The evidence file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The roster that you pinned yourself; compare its fingerprint with `blindsum-certs roster show`.
    #[arg(long, value_name = "FILE")]
    roster: PathBuf,
    /// The job that you were given; how many silos may collude follows from it.
    #[arg(long, value_name = "FILE")]
    job: PathBuf,
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Run(common) => PROGRAM.run(common.log(), || {
            let (config, document): (CoordinatorConfig, _) = common.load()?;
            let prepared = prepare(config, &document)?;
            announce(&prepared, &VERSION);
            PROGRAM.block_on(|stop| async move { Coordinator::bind(prepared).await?.run(&stop).await })
        }),
        Command::Check(common) => PROGRAM.run(common.log(), || {
            let (config, document): (CoordinatorConfig, _) = common.load()?;
            Ok::<_, CoordinatorError>(check(&config, &document))
        }),
        Command::Evidence(args) => PROGRAM.command(|| {
            let (silo, guilt) = evidence::check(&args.file, &args.roster, &args.job)?;
            say(format_args!("{silo} is at fault: {} ({})", guilt.what, guilt.check.rule()));
            Ok::<_, CoordinatorError>(ExitCode::Done)
        }),
    }
    .into()
}
