//! The command lines `blindsum-silo run` and `blindsum-silo check`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blindsum_protocol::Plan;
use blindsum_transport::telemetry::LogFormat;
use blindsum_transport::{ExitCode, Exits, config, signals, telemetry};
use clap::Args;

use crate::agent::{Agent, AgentError, Ended, EngineFactory, Prepared, prepare};
use crate::config::SiloConfig;
use crate::engine::EngineError;
use crate::engine::torch::{FrozenParts, TorchEngine, TorchOptions};
use crate::model;

/// Version, commit, and the libtorch that the program was built for.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("BLINDSUM_COMMIT"),
    ", libtorch ",
    env!("BLINDSUM_LIBTORCH"),
    ")"
);

/// What both commands take.
#[derive(Debug, Args)]
pub struct Common {
    /// The configuration file (see silo.sample.toml); paths in it are relative to its folder.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Form of the log on standard error: `text` for people, `json` with one object per line for programs.
    #[arg(long, default_value_t)]
    log_format: LogFormat,
    /// error, warn, info, debug or trace, or a filter such as `info,blindsum_protocol=debug`; else RUST_LOG, else info.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// `blindsum-silo run`
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Give up when there was no connection to the coordinator for so many seconds; by default it goes on trying.
    #[arg(long, value_name = "N")]
    connect_timeout_seconds: Option<u64>,
}

/// `blindsum-silo check`
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    common: Common,
}

/// Takes part in the job until it is over; returns how the process should end.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    with_log(&args.common, || {
        let prepared = load(&args.common)?;
        prepared.announce(VERSION);
        let timeout = args.connect_timeout_seconds.map(Duration::from_secs);
        let fault = |e: std::io::Error| AgentError::Internal(e.to_string());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fault)?;
        runtime.block_on(async {
            let stop = signals::stop().map_err(fault)?;
            let ended = Agent::new(prepared, torch()).connect_timeout(timeout).run(&stop).await?;
            Ok(match (ended, stop.reason()) {
                (Ended::Stopped, Some(reason)) => reason.exit_code(),
                _ => ExitCode::Done,
            })
        })
    })
}

/// Checks configuration, credentials, roster, job, policy, model and data; connects to nobody and writes nothing.
#[must_use]
pub fn check(args: &CheckArgs) -> ExitCode {
    with_log(&args.common, || {
        let prepared = load(&args.common)?;
        prepared.announce(VERSION);
        drop(torch()(&prepared.config, &prepared.plan)?);
        println!("everything that the configuration names is in order");
        Ok(ExitCode::Done)
    })
}

fn with_log(common: &Common, task: impl FnOnce() -> Result<ExitCode, AgentError>) -> ExitCode {
    if let Err(error) = telemetry::init(common.log_format, common.log_level.as_deref()) {
        eprintln!("blindsum-silo: {error}");
        return ExitCode::Usage;
    }
    task().unwrap_or_else(|error| {
        tracing::error!(event = "failed", "{error}");
        error.exit_code()
    })
}

fn load(common: &Common) -> Result<Prepared, AgentError> {
    let config: SiloConfig = config::load(&common.config)?;
    let base = common.config.parent().unwrap_or(Path::new(""));
    let base = std::path::absolute(base).map_err(|e| AgentError::Config(format!("the current folder: {e}")))?;
    prepare(config.resolved(&base))
}

/// The product's engine: libtorch.
#[must_use]
pub fn torch() -> EngineFactory {
    Box::new(|config, plan| Ok(Box::new(open_torch(config, plan)?)))
}

/// Opens the base model that this configuration names, for the plan's layout.
///
/// # Errors
/// As [`TorchEngine::open`].
pub fn open_torch(config: &SiloConfig, plan: &Plan) -> Result<TorchEngine, EngineError> {
    let options = TorchOptions {
        device: config.device.parse().map_err(EngineError::Argument)?,
        gradient_checkpointing: config.gradient_checkpointing,
        precision: config.precision,
        threads: config.threads.map_or(0, |threads| threads.get().into()),
        ..TorchOptions::default()
    };
    let layout = plan.layout();
    let frozen = FrozenParts::from_seed(layout);
    let engine = TorchEngine::open(&model::weights(&config.model_dir), layout, &frozen, options)?;
    tracing::info!(
        event = "engine",
        bf16 = engine.uses_bf16(),
        "engine: libtorch on {}, {}",
        config.device,
        match engine.uses_bf16() {
            true => "matrix products in bf16",
            false => "f32",
        }
    );
    Ok(engine)
}
