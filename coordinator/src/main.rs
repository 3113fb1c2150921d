//! `blindsum-coordinator`: the command line of the coordinator service.

use std::path::PathBuf;
use std::process::ExitCode as Code;

use blindsum_coordinator::config::CoordinatorConfig;
use blindsum_coordinator::{Coordinator, CoordinatorError, Ended, Prepared, announce, prepare};
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
    let (Command::Run(common) | Command::Check(common)) = &command;
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
