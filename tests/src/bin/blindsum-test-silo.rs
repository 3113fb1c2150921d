//! A silo for tests: the agent's library with an exact engine, records in clear, pauses and SIGKILL at named steps.
//!
//! It writes one line per milestone to standard output (`trained 1`, `paused masked-input 1`, `adopted 1`), its log to
//! standard error, and after `paused` and `stopped` it waits for a line on standard input. It ends with the exit code of
//! `blindsum-silo`, which has none of the rest.

use std::io::Write;
use std::path::PathBuf;

use blindsum_service::telemetry::LogFormat;
use blindsum_service::{LogArgs, Program, config};
use blindsum_silo::agent::{Agent, AgentError, prepare};
use blindsum_silo::config::SiloConfig;
use blindsum_tests::cluster::grid;
use blindsum_tests::seams::{HarnessSeams, Milestone, Pause};
use blindsum_tests::stop::Stop;
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

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let program = Program("blindsum-test-silo");
    let log = LogArgs { log_format: LogFormat::Json, log_level: None };
    let code = program.run(&log, || {
        let (config, document) = config::load::<SiloConfig>(&cli.config)?;
        let prepared = prepare(config, &document)?;
        let state = prepared.config.state_dir.clone();
        let mut seams = HarnessSeams::new(&cli.record, cli.pause, tell)
            .trace(cli.trace)
            .stop(cli.stop)
            .late_journal(cli.journal_late);
        if let Some(copies) = cli.copies {
            seams = seams.copies(state, copies);
        }
        let agent = Agent::new(prepared, grid(cli.seed)).with_seams(seams);
        program.block_on::<AgentError, _, _>(|stop| async move { agent.run(&stop).await })
    });
    code.into()
}

/// Writes a milestone; waits for a line where the harness holds this silo.
fn tell(milestone: Milestone) {
    let mut out = std::io::stdout().lock();
    // Whoever listens may be gone: then there is nobody to wait for either.
    if writeln!(out, "{milestone}").and_then(|()| out.flush()).is_ok()
        && matches!(milestone, Milestone::Paused(..) | Milestone::Stopped(..))
    {
        drop(std::io::stdin().read_line(&mut String::new()));
    }
}
