//! The figures of docs/results.md: every arm over several seeds, with and without record-level privacy.
//!
//! 1. For each arm, at the first seed, train at each learning rate of the grid and keep the one with the best macro
//!    accuracy on the *validation* rows.
//! 2. Train the arm at its own rate with every seed, and evaluate on the *test* rows.
//! 3. Report means, and paired bootstrap intervals of the federation against the best silo alone and against their mean.
//!
//! A seed draws A and the head; batches and noise come from the operating system. All of it runs in one process
//! (see [`crate::arms`]); what has been trained is kept in a folder, so that an interrupted run goes on where it was.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use blindsum_adapter::Adapter;
use blindsum_protocol::job::Job;
use serde::{Deserialize, Serialize};

use crate::arms::{self, Arm};
use crate::bench::Bench;
use crate::corpus::Corpus;
use crate::progress::Steps;
use crate::statistics::{Hits, macro_accuracy, mean_macro_accuracy, paired_bootstrap};

/// What to run.
#[derive(Clone, Debug)]
pub struct ExperimentSettings {
    /// Seeds of A and the head; the first one chooses the learning rates.
    pub seeds: Vec<u64>,
    /// Learning rates tried by every arm.
    pub learning_rates: Vec<f64>,
    /// Where trained arms' hits are kept.
    pub folder: PathBuf,
}

/// One trained arm at one rate and seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TrainedArm {
    validation: Vec<Vec<bool>>,
    test: Vec<Vec<bool>>,
}

/// Draws of the bootstrap.
const DRAWS: usize = 10_000;

/// Runs the experiment for one job and returns the report as Markdown.
///
/// # Errors
/// When training, evaluating or writing fails.
pub fn run(job: &Job, bench: &mut Bench, corpus: &Corpus, settings: &ExperimentSettings) -> Result<String> {
    fs::create_dir_all(&settings.folder).with_context(|| format!("cannot make {}", settings.folder.display()))?;
    let arms: Vec<(String, Arm)> = [("federation".to_owned(), Arm::Federation), ("pooled".to_owned(), Arm::Pooled)]
        .into_iter()
        .chain(corpus.sources.iter().enumerate().map(|(i, source)| (format!("alone-{}", source.name), Arm::Alone(i))))
        .collect();
    let mut rates = BTreeMap::new();
    let first = settings.seeds[0];
    let mut report =
        String::from("| arm | learning rate (validation accuracy of each) | test accuracy by seed | mean |\n");
    report.push_str("|---|---|---|---|\n");
    let mut hits: BTreeMap<&str, Hits> = BTreeMap::new();
    for (name, arm) in &arms {
        let mut best = (f64::NEG_INFINITY, settings.learning_rates[0]);
        let mut tried = String::new();
        for &rate in &settings.learning_rates {
            let found = train(*arm, name, job, rate, first, bench, corpus, settings)?;
            let score = macro_accuracy(&found.validation);
            let _ = write!(tried, " {rate}: {score:.3}");
            if score > best.0 {
                best = (score, rate);
            }
        }
        rates.insert(name.as_str(), best.1);
        let of_arm = settings
            .seeds
            .iter()
            .map(|&seed| Ok(train(*arm, name, job, best.1, seed, bench, corpus, settings)?.test))
            .collect::<Result<Hits>>()?;
        let by_seed: Vec<String> = of_arm.iter().map(|seed| format!("{:.3}", macro_accuracy(seed))).collect();
        let mean = mean_macro_accuracy(&of_arm);
        let _ = writeln!(report, "| {name} | {} ({}) | {} | {mean:.3} |", best.1, tried.trim(), by_seed.join(", "));
        hits.insert(name, of_arm);
    }
    let base = base(bench, job, corpus, &settings.seeds)?;
    let majority = corpus.majority();
    let _ = writeln!(report, "| base model, untrained head | | | {:.3} |", mean_macro_accuracy(&base));
    let _ = writeln!(report, "| majority label of all rows | | | {majority:.3} |");
    let _ = writeln!(
        report,
        "| majority label of each source (no single adapter) | | | {:.3} |\n",
        corpus.majority_by_source()
    );
    compare(&mut report, &hits, majority);
    Ok(report)
}

#[allow(clippy::too_many_arguments)]
fn train(
    arm: Arm,
    name: &str,
    job: &Job,
    rate: f64,
    seed: u64,
    bench: &mut Bench,
    corpus: &Corpus,
    settings: &ExperimentSettings,
) -> Result<TrainedArm> {
    let job = arms::vary(job, rate, seed)?;
    let kept = settings.folder.join(format!("{name}-{rate}-{seed}-{}.json", &job.digest().to_string()[..16]));
    if let Ok(text) = fs::read_to_string(&kept) {
        return serde_json::from_str(&text).with_context(|| format!("{} is damaged: remove it", kept.display()));
    }
    let engine = bench.engine(&job)?;
    let what = format!("{name}, learning rate {rate}, seed {seed}");
    let bar = Steps::new(arms::steps(arm, &job, corpus), what, None);
    let last = arms::train(arm, &job, engine, corpus, &bar)?;
    bar.done();
    let state = arms::state(&job, engine)?;
    let adapter = state.adapter(&last);
    let validation: Vec<_> = corpus.sources.iter().map(|source| source.validation.as_slice()).collect();
    let test: Vec<_> = corpus.sources.iter().map(|source| source.test.as_slice()).collect();
    let trained =
        TrainedArm { validation: arms::hits(engine, adapter, &validation)?, test: arms::hits(engine, adapter, &test)? };
    println!(
        "{name}, learning rate {rate}, seed {seed}: validation {:.3}, test {:.3}",
        macro_accuracy(&trained.validation),
        macro_accuracy(&trained.test)
    );
    fs::write(&kept, serde_json::to_vec(&trained)?).with_context(|| format!("cannot write {}", kept.display()))?;
    Ok(trained)
}

fn base(bench: &mut Bench, job: &Job, corpus: &Corpus, seeds: &[u64]) -> Result<Hits> {
    seeds
        .iter()
        .map(|&seed| {
            let engine = bench.engine(&arms::vary(job, job.training.learning_rate, seed)?)?;
            let values = blindsum_adapter::initial_values(engine.layout());
            let test: Vec<_> = corpus.sources.iter().map(|source| source.test.as_slice()).collect();
            arms::hits(engine, Adapter::of(&values), &test)
        })
        .collect()
}

fn compare(report: &mut String, hits: &BTreeMap<&str, Hits>, majority: f64) {
    let federation = &hits["federation"];
    let alone: Vec<(&&str, &Hits)> = hits.iter().filter(|(name, _)| name.starts_with("alone-")).collect();
    let Some((best_name, best)) =
        alone.iter().max_by(|a, b| mean_macro_accuracy(a.1).total_cmp(&mean_macro_accuracy(b.1)))
    else {
        return;
    };
    let ours = mean_macro_accuracy(federation);
    let mean_alone = alone.iter().map(|(_, h)| mean_macro_accuracy(h)).sum::<f64>() / alone.len() as f64;
    let (low, high) = paired_bootstrap(federation, best, DRAWS);
    let _ = writeln!(
        report,
        "Federation minus the best silo alone ({best_name}): {:+.1} points, 95 % interval {:+.1} to {:+.1}.",
        100.0 * (ours - mean_macro_accuracy(best)),
        100.0 * low,
        100.0 * high
    );
    // each silo's hits as further "seeds" of one arm: their mean is the mean over silos and seeds
    let all: Hits = alone.iter().flat_map(|(_, h)| h.iter().cloned()).collect();
    let repeated: Hits = alone.iter().flat_map(|_| federation.iter().cloned()).collect();
    let (low, high) = paired_bootstrap(&repeated, &all, DRAWS);
    let _ = writeln!(
        report,
        "Federation minus the silos' mean alone: {:+.1} points, 95 % interval {:+.1} to {:+.1}.",
        100.0 * (ours - mean_alone),
        100.0 * low,
        100.0 * high
    );
    let _ =
        writeln!(report, "Federation minus the majority label of all rows: {:+.1} points.", 100.0 * (ours - majority));
    let pooled = mean_macro_accuracy(&hits["pooled"]);
    let _ = writeln!(report, "Pooled rows minus federation: {:+.1} points.", 100.0 * (pooled - ours));
}
