//! The coordinator's library as a process of its own, built together with the tests that look into it.
//!
//! It does what `blindsum-coordinator run` does; only the command line differs, and that it can write down what it
//! receives. (The shipped binary belongs to another
//! package, and cargo does not build it for a test of this one.)

use std::path::PathBuf;

use anyhow::Context;
use blindsum_coordinator::config::CoordinatorConfig;
use blindsum_coordinator::{Coordinator, announce, prepare};
use blindsum_tests::tap;
use blindsum_transport::telemetry::LogFormat;
use blindsum_transport::{config, signals, telemetry};
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

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init(LogFormat::Json, None)?;
    let config: CoordinatorConfig = config::load(&cli.config)?;
    let base = cli.config.parent().context("the configuration file has a folder")?;
    let prepared = prepare(config.resolved(base))?;
    announce(&prepared, "test");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let stop = signals::stop()?;
        let mut coordinator = Coordinator::bind(prepared).await?;
        if let Some(path) = cli.received {
            coordinator = coordinator.tapped(tap::write_to(&path));
        }
        coordinator.run(&stop).await?;
        Ok(())
    })
}
