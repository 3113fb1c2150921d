//! `blindsum-coordinator`: the command line of the coordinator service.

use std::path::PathBuf;
use std::process::ExitCode as Code;

use blindsum_coordinator::config::CoordinatorConfig;
use blindsum_coordinator::{Coordinator, CoordinatorError, Ended, Prepared, announce, evidence, prepare};
use blindsum_transport::telemetry::LogFormat;
use blindsum_transport::{ExitCode, Exits, config, signals, telemetry};
use clap::{Args, Parser, Subcommand};

/// Runs the rounds of a federation and sees only sums.
///
/// Silos dial in over QUIC; the coordinator dials nobody. It sees names, times, sizes, the sum of each round and the
/// adapter; never a silo's update, its data or its metrics. Keys and certificates are made with `blindsum-certs`.
#[derive(Parser)]
#[command(name = "blindsum-coordinator", version = VERSION, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("BLINDSUM_COMMIT"), ")");

const EXIT_CODES: &str = "Exit codes: 0 done; 1 internal fault; 2 usage or configuration; 3 data or model; 4 identity or \
certificates; 5 network; 6 refused; 7 disk or state directory; 130 and 143 stopped by SIGINT and SIGTERM, in order.";

#[derive(Subcommand)]
enum Command {
    /// Run the job's rounds until it is over. A restart goes on from the store.
    Run(Common),
    /// Check configuration, credentials, roster, job and base model; listen nowhere and write nothing.
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

#[derive(Args)]
struct Common {
    /// The configuration file (see coordinator.sample.toml); paths in it are relative to its folder.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Form of the log on standard error: `text` for people, `json` with one object per line for programs.
    #[arg(long, default_value_t)]
    log_format: LogFormat,
    /// error, warn, info, debug or trace, or a filter such as `info,blindsum_protocol=debug`; else RUST_LOG, else info.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

fn main() -> Code {
    let Cli { command } = Cli::parse();
    let common = match &command {
        Command::Run(common) | Command::Check(common) => common,
        Command::Evidence(args) => return judge(args),
    };
    if let Err(error) = telemetry::init(common.log_format, common.log_level.as_deref()) {
        eprintln!("blindsum-coordinator: {error}");
        return ExitCode::Usage.into();
    }
    let prepared = match load(common) {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error),
    };
    announce(&prepared, VERSION);
    if matches!(command, Command::Check(_)) {
        println!("everything that the configuration names is in order");
        return ExitCode::Done.into();
    }
    match run(prepared) {
        Ok(code) => code.into(),
        Err(error) => fail(&error),
    }
}

/// The verdict goes to standard output, the reason of a refusal to standard error.
fn judge(args: &EvidenceArgs) -> Code {
    match evidence::check(&args.file, &args.roster, &args.job) {
        Ok((silo, guilt)) => {
            println!("{silo} is at fault: {} ({})", guilt.what, guilt.rule);
            ExitCode::Done.into()
        }
        Err(error) => {
            eprintln!("blindsum-coordinator: {error}");
            error.exit_code().into()
        }
    }
}

fn load(common: &Common) -> Result<Prepared, CoordinatorError> {
    let config: CoordinatorConfig = config::load(&common.config)?;
    let base = common.config.parent().unwrap_or(std::path::Path::new(""));
    let base = std::path::absolute(base).map_err(|e| CoordinatorError::Config(format!("the current folder: {e}")))?;
    prepare(config.resolved(&base))
}

fn run(prepared: Prepared) -> Result<ExitCode, CoordinatorError> {
    let fault = |e: std::io::Error| CoordinatorError::Internal(e.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fault)?;
    runtime.block_on(async {
        let stop = signals::stop().map_err(fault)?;
        let ended = Coordinator::bind(prepared).await?.run(&stop).await?;
        Ok(match (ended, stop.reason()) {
            (Ended::Stopped, Some(reason)) => reason.exit_code(),
            _ => ExitCode::Done,
        })
    })
}

fn fail(error: &CoordinatorError) -> Code {
    tracing::error!(event = "failed", "{error}");
    error.exit_code().into()
}
