//! A silo for tests: the agent's library with an exact engine, records in clear, pauses and SIGKILL at named steps.
//!
//! It writes one line per milestone to standard output (`trained 1`, `paused masked-input 1`, `adopted 1`), its log to
//! standard error, and after `paused` and `stopped` it waits for a line on standard input. It ends with the exit code of
//! `blindsum-silo`, which has none of the rest.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use blindsum_silo::agent::{Agent, prepare};
use blindsum_silo::config::SiloConfig;
use blindsum_tests::cluster::grid;
use blindsum_tests::seams::{HarnessSeams, Milestone, Pause};
use blindsum_tests::stop::Stop;
use blindsum_transport::telemetry::LogFormat;
use blindsum_transport::{Exits, config, signals, telemetry};
use clap::Parser;
use tracing::error;

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
    /// Tell and record every output of the machine.
    #[arg(long)]
    trace: bool,
    /// WHEN:KIND:NAME:ROUND at which to be killed by SIGKILL: see `blindsum_tests::stop`.
    #[arg(long)]
    stop: Option<Stop>,
    /// Write each journal entry only when the next one comes: shows that the tests notice.
    #[arg(long)]
    journal_late: bool,
    /// Copy the state directory into this folder after each journal entry.
    #[arg(long)]
    copies: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    telemetry::init(LogFormat::Json, None)?;
    let config: SiloConfig = config::load(&cli.config)?;
    let base = cli.config.parent().context("the configuration file has a folder")?;
    let prepared = prepare(config.resolved(base))?;
    let state = prepared.config.state_dir.clone();
    let tell = |milestone: Milestone| {
        let mut out = std::io::stdout().lock();
        // Whoever listens may be gone: then there is nobody to wait for either.
        if writeln!(out, "{milestone}").and_then(|()| out.flush()).is_ok()
            && matches!(milestone, Milestone::Paused(..) | Milestone::Stopped(..))
        {
            drop(std::io::stdin().read_line(&mut String::new()));
        }
    };
    let mut seams =
        HarnessSeams::new(&cli.record, cli.pause, tell).trace(cli.trace).stop(cli.stop).late_journal(cli.journal_late);
    if let Some(copies) = cli.copies {
        seams = seams.copies(state, copies);
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let stop = signals::stop()?;
        let ended = Agent::new(prepared, grid(cli.seed)).with_seams(seams).run(&stop).await;
        Ok(match ended {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                error!(event = "failed", "{error}");
                error.exit_code().into()
            }
        })
    })
}
