//! `blindsum-demo`: the main job on one machine, and the experiment behind the figures of docs/results.md.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use blindsum_demo::bench::Bench;
use blindsum_demo::corpus::Corpus;
use blindsum_demo::federation::Inputs;
use blindsum_demo::{experiment, run};
use blindsum_protocol::job::JobFile;
use blindsum_service::{ConfigError, Document, ExitCode, Exits, Program, signals, version};
use clap::{Parser, Subcommand};

const PROGRAM: Program = Program("blindsum-demo");

static VERSION: LazyLock<String> =
    LazyLock::new(|| version(env!("CARGO_PKG_VERSION"), option_env!("BLINDSUM_COMMIT"), &[]));

/// Fine-tunes one model across four institutions on this machine, over real sockets and processes.
#[derive(Debug, Parser)]
#[command(name = "blindsum-demo", version = VERSION.as_str(), arg_required_else_help = true)]
struct Cli {
    /// Folder with the fetched model and rows, and for everything that a run makes.
    #[arg(long, global = true, default_value = ".demo")]
    home: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a coordinator and four silos to the end of the job, and say what the adapter is worth.
    Run {
        /// The job.
        #[arg(long, default_value = "demo/job.toml")]
        job: PathBuf,
        /// Then train each silo alone and the pooled rows too, for the same steps, and compare (about twice the federation's
        /// time).
        #[arg(long)]
        compare: bool,
        /// Learning rate of each silo alone; few rows under much noise want smaller steps than the federation.
        #[arg(long, default_value_t = 4.0)]
        alone_learning_rate: f64,
        /// Learning rate of the pooled rows (the job's otherwise).
        #[arg(long)]
        pooled_learning_rate: Option<f64>,
    },
    /// Train every arm with several seeds, each at its own learning rate, and print the figures of docs/results.md (hours).
    Experiment {
        /// The job.
        #[arg(long, default_value = "demo/job.toml")]
        job: PathBuf,
        /// Seeds of A and the head; the first one chooses the learning rates.
        #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
        seeds: Vec<u64>,
        /// Learning rates to choose from, at most three.
        #[arg(long, value_delimiter = ',', default_value = "2,4,8")]
        learning_rates: Vec<f64>,
        /// Rounds, for a quick look.
        #[arg(long)]
        rounds: Option<u32>,
    },
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    PROGRAM.command(|| dispatch(cli).map_err(DemoError)).into()
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Run { job, compare, alone_learning_rate, pooled_learning_rate } => {
            let inputs = inputs(&cli.home)?;
            let root = cli.home.join("run");
            std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
            let rates = (Some(alone_learning_rate), pooled_learning_rate);
            interruptible(&run::RunSettings { job, inputs, root: root.canonicalize()?, compare, rates })
        }
        Command::Experiment { job, seeds, learning_rates, rounds } => {
            experiment(&cli.home, &job, seeds, learning_rates, rounds)?;
            Ok(ExitCode::Done)
        }
    }
}

/// Why the demo ended early, with the code of the error below it where that has one.
struct DemoError(anyhow::Error);

impl std::fmt::Display for DemoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl Exits for DemoError {
    fn exit_code(&self) -> ExitCode {
        let known = self.0.chain().find_map(|cause| {
            let code = cause.downcast_ref::<ConfigError>().map(Exits::exit_code);
            code.or_else(|| cause.downcast_ref::<Missing>().map(|_| ExitCode::Data))
        });
        known.unwrap_or(ExitCode::Internal)
    }
}

/// What the demo needs has not been fetched.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not there: run `make demo`, which fetches it")]
struct Missing(String);

fn inputs(home: &std::path::Path) -> Result<Inputs> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let programs = own.parent().context("this program is in no folder")?.to_owned();
    let home = home.canonicalize().map_err(|_| Missing(home.display().to_string()))?;
    Ok(Inputs { programs, model: home.join("models/all-MiniLM-L6-v2"), data: home.join("data") })
}

/// Runs until done or stopped. The federation's processes are killed when the run is dropped; training in this process
/// stops with it.
fn interruptible(settings: &run::RunSettings) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = signals::stop().context("cannot listen for signals")?;
        tokio::select! {
            result = run::run(settings, &stop) => result.map(|()| ExitCode::Done),
            () = stop.stopped() => {
                eprintln!("{}: stopped; nothing is left running", PROGRAM.0);
                Ok(stop.reason().map_or(ExitCode::Interrupted, signals::Reason::exit_code))
            }
        }
    });
    runtime.shutdown_background();
    result
}

fn experiment(
    home: &std::path::Path,
    job: &std::path::Path,
    seeds: Vec<u64>,
    learning_rates: Vec<f64>,
    rounds: Option<u32>,
) -> Result<()> {
    anyhow::ensure!((1..=3).contains(&learning_rates.len()), "give one to three learning rates");
    anyhow::ensure!(!seeds.is_empty(), "give at least one seed");
    let inputs = inputs(home)?;
    let document = Document::read(job)?;
    let mut file: JobFile = document.parse()?;
    file.rounds = rounds.unwrap_or(file.rounds);
    let job = file.checked().map_err(|e| document.at_key(e))?;
    let corpus = Corpus::open(&inputs.data, &inputs.model, &job)?;
    let settings = experiment::ExperimentSettings { seeds, learning_rates, folder: home.join("experiment") };
    let report = experiment::run(&job, &mut Bench::new(&inputs.model), &corpus, &settings)?;
    println!("\n{report}");
    Ok(())
}
