//! `blindsum-demo run`: the main job on this machine, from keys to adapter, then what it is worth beside other ways.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use blindsum_adapter::Adapter;
use blindsum_protocol::job::{Job, JobFile};
use blindsum_service::{Document, Stop};
use indicatif::ProgressBar;

use crate::arms::{self, Arm};
use crate::bench::Bench;
use crate::corpus::Corpus;
use crate::federation::{Federation, Inputs, Running};
use crate::progress::{Steps, style};
use crate::report::{Costs, Report};
use crate::statistics::macro_accuracy;
use crate::watch::{Line, Tail, last_words, spent};

/// What to run.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// The job file.
    pub job: PathBuf,
    /// Where programs, model and rows are.
    pub inputs: Inputs,
    /// Folder for keys, state, logs and the adapter; emptied first.
    pub root: PathBuf,
    /// Train the arms that the federation is compared with, too.
    pub compare: bool,
    /// Learning rates of the arms that the federation is compared with, as (silos alone, pooled); the job's otherwise.
    pub rates: (Option<f64>, Option<f64>),
}

/// Runs the federation and the comparison and prints the report.
///
/// # Errors
/// When anything fails; the message says where the logs are.
pub async fn run(settings: &RunSettings, stop: &Stop) -> Result<()> {
    let document = Document::read(&settings.job)?;
    let job = document.checked(JobFile::checked)?;
    println!("Reading and tokenising the rows of four institutions…");
    let corpus = Corpus::open(&settings.inputs.data, &settings.inputs.model, &job)?;
    corpus.print();
    let mut bench = Bench::new(&settings.inputs.model);
    announce(&job, &corpus, &mut bench, settings.compare)?;

    println!("\nMaking keys, certificates, the roster and the configuration in {}", settings.root.display());
    let silos: Vec<&str> = corpus.sources.iter().map(|source| source.name).collect();
    let federation = Federation::set_up(&settings.root, &settings.inputs, &silos, document.text(), job.is_private())?;
    println!("Starting one coordinator and {} silos, each a process of its own\n", silos.len());
    let costs = follow(&federation, federation.start()?, &job).await?;

    println!("\nEvaluating the adapter that the coordinator wrote, on each institution's test rows");
    let loaded = blindsum_adapter::peft::load(&federation.adapter(), bench.engine(&job)?.layout().shape())?;
    let mut report = Report::new(&job, &corpus, &federation, costs);
    report.federation = test(&mut bench, &job, &corpus, loaded.adapter())?;
    report.base = base(&mut bench, &job, &corpus)?;
    if settings.compare {
        compare(&mut report, settings, &job, &corpus, &mut bench, stop)?;
    }
    report.print();
    Ok(())
}

/// Says what is about to happen and how long it will take on this machine.
fn announce(job: &Job, corpus: &Corpus, bench: &mut Bench, compare: bool) -> Result<()> {
    let silos = corpus.sources.len() as u64;
    let steps = u64::from(job.rounds) * u64::from(job.training.local_steps);
    let batch = u64::from(job.training.expected_batch_examples);
    // the federation, each silo alone, and the pooled rows (as many per step as all silos draw)
    let passes = steps * batch * if compare { 3 * silos } else { silos };
    let seconds = bench.seconds_per_example(job, &corpus.sources[0].train)? * passes as f64;
    println!(
        "\n{} rounds of {} steps, about {batch} rows a step and silo; matrix products in {}.",
        job.rounds,
        job.training.local_steps,
        if bench.uses_bf16(job)? { "bf16" } else { "f32 (this processor has no bf16)" },
    );
    println!("Training passes over {passes} rows: about {:.0} minutes on this machine.", (seconds / 60.0).ceil());
    Ok(())
}

/// Shows the rounds as they pass until every process has ended.
async fn follow(federation: &Federation, mut running: Running, job: &Job) -> Result<Costs> {
    let mut tail = Tail::new(federation.log("coordinator"));
    let bar = ProgressBar::new(u64::from(job.rounds) + 1);
    bar.set_style(style("  {bar:30} {msg}"));
    bar.enable_steady_tick(Duration::from_millis(250));
    let mut costs = Costs::default();
    let mut shown = Shown::default();
    loop {
        while let Some(line) = tail.next_line() {
            shown.take(&line, &mut costs, federation, job, &bar);
        }
        bar.set_message(shown.text(job));
        for (silo, process) in &mut running.silos {
            if let Some(status) = process.try_wait()?
                && !status.success()
            {
                bar.abandon();
                bail!("silo {silo} ended with {status}:\n{}", last_words(&federation.log(silo), 5));
            }
        }
        if let Some(status) = running.coordinator.try_wait()? {
            bar.finish_and_clear();
            if !status.success() {
                bail!("the coordinator ended with {status}:\n{}", last_words(&federation.log("coordinator"), 5));
            }
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while let Some(line) = tail.next_line() {
        shown.take(&line, &mut costs, federation, job, &bar);
    }
    for (silo, process) in &mut running.silos {
        let ended = tokio::time::timeout(Duration::from_secs(30), process.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => {}
            _ => bail!("silo {silo} did not end with the job:\n{}", last_words(&federation.log(silo), 5)),
        }
    }
    costs.total = costs.started.elapsed();
    Ok(costs)
}

/// What the progress bar says.
#[derive(Debug, Default)]
struct Shown {
    round: u32,
    phase: String,
    cohort: u32,
    accuracy: Option<f64>,
    epsilon: Option<f64>,
    sent: u64,
}

impl Shown {
    fn take(&mut self, line: &Line, costs: &mut Costs, federation: &Federation, job: &Job, bar: &ProgressBar) {
        match line.event.as_str() {
            "phase" => {
                self.round = line.round;
                self.phase.clone_from(&line.phase);
                self.cohort = line.cohort;
            }
            "dropped" | "attempt_failed" => bar.suspend(|| println!("  {}", line.message)),
            "round_completed" => {
                costs.take(line, job.rounds);
                self.accuracy = line.accuracy.or(self.accuracy);
                self.sent += line.payload_up_bytes + line.control_up_bytes;
                self.epsilon = federation
                    .silos()
                    .iter()
                    .filter_map(|s| spent(&federation.ledger(s)))
                    .map(|s| s.0)
                    .reduce(f64::max);
                bar.set_position(u64::from(line.round));
                bar.suspend(|| println!("{}", self.round_line(line)));
            }
            _ => {}
        }
    }

    fn round_line(&self, line: &Line) -> String {
        let accuracy = line
            .accuracy
            .map_or_else(String::new, |a| format!(", accuracy on held-out rows before it {:.1} %", 100.0 * a));
        let epsilon = self.epsilon.map_or_else(String::new, |e| format!(", ε spent so far {e:.2}"));
        format!(
            "  round {:>2}: {} of {} silos in the sum{accuracy}{epsilon}, {:.2} MB sent up so far",
            line.round,
            line.survivors,
            line.silos,
            self.sent as f64 / 1e6
        )
    }

    fn text(&self, job: &Job) -> String {
        if self.phase.is_empty() {
            return "waiting for the silos to connect".to_owned();
        }
        if self.round > job.rounds {
            return format!("closing evaluation: {} ({} silos)", self.phase, self.cohort);
        }
        format!("round {} of {}: {} ({} silos)", self.round, job.rounds, self.phase, self.cohort)
    }
}

fn test(bench: &mut Bench, job: &Job, corpus: &Corpus, adapter: Adapter<'_>) -> Result<Vec<Vec<bool>>> {
    let rows: Vec<_> = corpus.sources.iter().map(|source| source.test.as_slice()).collect();
    arms::hits(bench.engine(job)?, adapter, &rows)
}

fn base(bench: &mut Bench, job: &Job, corpus: &Corpus) -> Result<Vec<Vec<bool>>> {
    let values = blindsum_adapter::initial_values(bench.engine(job)?.layout());
    test(bench, job, corpus, Adapter::of(&values))
}

fn compare(
    report: &mut Report,
    settings: &RunSettings,
    job: &Job,
    corpus: &Corpus,
    bench: &mut Bench,
    stop: &Stop,
) -> Result<()> {
    println!("Training what to compare it with: each silo alone and the pooled rows, same steps, same privacy mode");
    let (alone, pooled) = settings.rates;
    let alone = arms::vary(job, alone.unwrap_or(job.training.learning_rate), job.lora.seed)?;
    let pooled = arms::vary(job, pooled.unwrap_or(job.training.learning_rate), job.lora.seed)?;
    for (index, source) in corpus.sources.iter().enumerate() {
        let hits = arm(bench, Arm::Alone(index), &alone, corpus, format!("{} alone", source.name), stop)?;
        report.alone.push((source.name, hits));
    }
    report.pooled = arm(bench, Arm::Pooled, &pooled, corpus, "pooled rows".to_owned(), stop)?;
    Ok(())
}

fn arm(bench: &mut Bench, arm: Arm, job: &Job, corpus: &Corpus, what: String, stop: &Stop) -> Result<Vec<Vec<bool>>> {
    let bar = Steps::new(arms::steps(arm, job, corpus), what.clone(), Some(stop.clone()));
    let last = arms::train(arm, job, bench.engine(job)?, corpus, &bar)?;
    bar.done();
    let state = arms::state(job, bench.engine(job)?)?;
    let hits = test(bench, job, corpus, state.adapter(&last))?;
    println!("  {what}: {:.1} %", 100.0 * macro_accuracy(&hits));
    Ok(hits)
}
