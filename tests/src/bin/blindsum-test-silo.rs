//! A silo for tests: the agent's library with an exact engine, records in clear, and pauses at named steps.
//!
//! It writes one line per milestone to standard output (`trained 1`, `paused masked-input 1`, `adopted 1`), its log to
//! standard error, and after `paused` it waits for a line on standard input. The shipped `blindsum-silo` has none of this.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use blindsum_silo::agent::{Agent, prepare};
use blindsum_silo::config::SiloConfig;
use blindsum_tests::cluster::grid;
use blindsum_tests::seams::{HarnessSeams, Milestone, Pause};
use blindsum_transport::telemetry::LogFormat;
use blindsum_transport::{config, signals, telemetry};
use clap::Parser;

/// A silo that records its updates in clear: for tests only.
#[derive(Parser)]
struct Cli {
    /// silo.toml
    #[arg(long)]
    config: PathBuf,
    /// Folder for updates and adapters in clear.
    #[arg(long)]
    record: PathBuf,
    /// Which updates it makes.
    #[arg(long)]
    seed: u64,
    /// MESSAGE:ROUND before which to pause; may be given several times.
    #[arg(long)]
    pause: Vec<Pause>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    telemetry::init(LogFormat::Json, None)?;
    let config: SiloConfig = config::load(&cli.config)?;
    let base = cli.config.parent().context("the configuration file has a folder")?;
    let prepared = prepare(config.resolved(base))?;
    let tell = |milestone: Milestone| {
        let mut out = std::io::stdout().lock();
        // Whoever listens may be gone: then there is nobody to wait for either.
        if writeln!(out, "{milestone}").and_then(|()| out.flush()).is_ok() && matches!(milestone, Milestone::Paused(..))
        {
            drop(std::io::stdin().read_line(&mut String::new()));
        }
    };
    let seams = HarnessSeams::new(&cli.record, cli.pause, tell);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let stop = signals::stop()?;
        Agent::new(prepared, grid(cli.seed)).with_seams(seams).run(&stop).await?;
        Ok(())
    })
}
