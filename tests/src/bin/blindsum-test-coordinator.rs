//! The coordinator's library as a process of its own, built together with the tests that look into it.
//!
//! It does what `blindsum-coordinator run` does; only the command line differs, and that it can write down what it
//! receives. (The shipped binary belongs to another
//! package, and cargo does not build it for a test of this one.)

use std::path::PathBuf;

use blindsum_coordinator::config::CoordinatorConfig;
use blindsum_coordinator::{Coordinator, CoordinatorError, announce, prepare};
use blindsum_service::telemetry::LogFormat;
use blindsum_service::{LogArgs, Program, config};
use blindsum_tests::tap;
use clap::Parser;

/// A coordinator for tests.
#[derive(Parser)]
struct Cli {
    /// coordinator.toml
    #[arg(long)]
    config: PathBuf,
    /// Append every message that a silo sent to this file (see `blindsum_tests::tap`).
    #[arg(long)]
    received: Option<PathBuf>,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let program = Program("blindsum-test-coordinator");
    let log = LogArgs { log_format: LogFormat::Json, log_level: None };
    let code = program.run(&log, || {
        let (config, document) = config::load::<CoordinatorConfig>(&cli.config)?;
        let prepared = prepare(config, &document)?;
        announce(&prepared, "test");
        program.block_on::<CoordinatorError, _, _>(|stop| async move {
            let mut coordinator = Coordinator::bind(prepared).await?;
            if let Some(path) = cli.received {
                coordinator = coordinator.tapped(tap::write_to(&path));
            }
            coordinator.run(&stop).await
        })
    });
    code.into()
}
