//! `blindsum-demo`: the main job on one machine, and the experiment behind the README's figures.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use blindsum_demo::bench::Bench;
use blindsum_demo::corpus::Corpus;
use blindsum_demo::federation::Inputs;
use blindsum_demo::{experiment, run};
use blindsum_protocol::job::{Job, JobFile};
use blindsum_service::signals;
use clap::{Parser, Subcommand};

/// Fine-tunes one model across four institutions on this machine, over real sockets and processes.
#[derive(Debug, Parser)]
#[command(name = "blindsum-demo", version, arg_required_else_help = true)]
struct Cli {
    /// Folder with the fetched model and rows, and for everything that a run makes.
    #[arg(long, global = true, default_value = ".demo")]
    home: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a coordinator and four silos to the end of the job and compare the adapter with other ways of training.
    Run {
        /// The job.
        #[arg(long, default_value = "demo/job.toml")]
        job: PathBuf,
        /// Only the federation, without the arms that it is compared with.
        #[arg(long)]
        federation_only: bool,
        /// Learning rate of each silo alone; few rows under much noise want smaller steps than the federation.
        #[arg(long, default_value_t = 4.0)]
        alone_learning_rate: f64,
        /// Learning rate of the pooled rows (the job's otherwise).
        #[arg(long)]
        pooled_learning_rate: Option<f64>,
    },
    /// Train every arm with several seeds, each at its own learning rate, and print the README's figures (hours).
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run { job, federation_only, alone_learning_rate, pooled_learning_rate } => {
            let settings = inputs(&cli.home).and_then(|inputs| {
                let root = cli.home.join("run");
                std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
                let rates = (Some(alone_learning_rate), pooled_learning_rate);
                Ok(run::Settings { job, inputs, root: root.canonicalize()?, federation_only, rates })
            });
            settings.and_then(|settings| interruptible(&settings))
        }
        Command::Experiment { job, seeds, learning_rates, rounds } => {
            experiment(&cli.home, &job, seeds, learning_rates, rounds)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn inputs(home: &std::path::Path) -> Result<Inputs> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let programs = own.parent().context("this program is in no folder")?.to_owned();
    let home = home.canonicalize().with_context(|| format!("{}: run `make demo`, which fetches it", home.display()))?;
    Ok(Inputs { programs, model: home.join("models/all-MiniLM-L6-v2"), data: home.join("data") })
}

/// Runs until done or Ctrl-C. The federation's processes are killed when the run is dropped; training in this process
/// stops with it.
fn interruptible(settings: &run::Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = signals::stop().context("cannot listen for signals")?;
        tokio::select! {
            result = run::run(settings, &stop) => result,
            () = stop.stopped() => Err(anyhow::anyhow!("stopped; nothing is left running")),
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
    let text = std::fs::read_to_string(job).with_context(|| format!("cannot read {}", job.display()))?;
    let mut file = JobFile::from(toml::from_str::<Job>(&text)?);
    file.rounds = rounds.unwrap_or(file.rounds);
    let job = Job::try_from(file)?;
    let corpus = Corpus::open(&inputs.data, &inputs.model, &job)?;
    let settings = experiment::Settings { seeds, learning_rates, folder: home.join("experiment") };
    let report = experiment::run(&job, &mut Bench::new(&inputs.model), &corpus, &settings)?;
    println!("\n{report}");
    Ok(())
}
