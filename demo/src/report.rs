//! The demo's last page: accuracy of every arm, what privacy cost, what was sent, and how to load the adapter.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use blindsum_adapter::AdapterLayout;
use blindsum_protocol::job::Job;

use crate::corpus::Corpus;
use crate::federation::Federation;
use crate::statistics::{accuracy, macro_accuracy};
use crate::watch::{Line, spent};

/// What the same federation reached without noise, as measured by `make experiment`.
const MEASURED_WITHOUT_PRIVACY: &str = "Without differential privacy the same federation reached 81.2 % (mean of three \
     seeds, see docs/results.md); to run that: make demo ARGS=\"--job demo/job-open.toml\"";

/// How to read the table.
const HOW_FAR: &str = "
  Noise and batches are drawn anew in each run. Three earlier runs of demo/job.toml lay up to 3.9 points apart for the
  federation; a silo alone, whose noise no sum thins out, varies far more (docs/results.md). One run shows that one arm is
  better than another only where they lie further apart than that.";

/// Mean accuracy in % of three earlier runs of `make demo` (docs/results.md).
const EARLIER_RUNS: [(&str, [f64; 3]); 1] = [("federation", [79.8, 77.2, 81.1])];

/// The arm that trains on all rows in one place.
const POOLED: &str = "pooled rows, one training";

/// What the federation took.
#[derive(Clone, Debug)]
pub struct Costs {
    /// When the processes were started.
    pub started: Instant,
    /// Until they had all ended.
    pub total: Duration,
    /// Until the first round was complete.
    pub first_round: Option<Duration>,
    rounds: u64,
    masked: u64,
    control: u64,
    inputs: u64,
}

impl Default for Costs {
    fn default() -> Self {
        let started = Instant::now();
        Self { started, total: Duration::ZERO, first_round: None, rounds: 0, masked: 0, control: 0, inputs: 0 }
    }
}

impl Costs {
    /// Adds a finished round of a job of `rounds`. The closing round, which only measures, does not count.
    pub fn take(&mut self, line: &Line, rounds: u32) {
        if line.round > rounds || line.cohort == 0 {
            return;
        }
        self.first_round.get_or_insert_with(|| self.started.elapsed());
        self.rounds += 1;
        self.masked = line.masked_input_bytes;
        self.control += line.control_up_bytes;
        self.inputs += u64::from(line.cohort);
    }

    /// Control bytes up per silo and round, mean.
    fn control_per_silo(&self) -> f64 {
        self.control as f64 / self.inputs.max(1) as f64
    }
}

/// Everything that the page shows.
#[derive(Debug)]
pub struct Report<'a> {
    job: &'a Job,
    corpus: &'a Corpus,
    federation_dir: &'a Federation,
    costs: Costs,
    /// Rows that the federation's adapter gets right, by source.
    pub federation: Vec<Vec<bool>>,
    /// The same for the base model with its untrained head.
    pub base: Vec<Vec<bool>>,
    /// For each silo alone.
    pub alone: Vec<(&'static str, Vec<Vec<bool>>)>,
    /// For the pooled rows; empty where not trained.
    pub pooled: Vec<Vec<bool>>,
}

impl<'a> Report<'a> {
    /// An empty page.
    pub fn new(job: &'a Job, corpus: &'a Corpus, federation_dir: &'a Federation, costs: Costs) -> Self {
        Self { job, corpus, federation_dir, costs, federation: vec![], base: vec![], alone: vec![], pooled: vec![] }
    }

    /// Prints the page.
    pub fn print(&self) {
        let mode = if self.job.is_private() { "record-level privacy" } else { "no differential privacy" };
        println!("\nAccuracy in % on test rows, by source and as their mean ({mode}, same number of steps)\n");
        let names: Vec<&str> = self.corpus.sources.iter().map(|source| source.name).collect();
        let earlier = if self.job.is_private() { "   earlier runs" } else { "" };
        println!("  {:<28}{}{:>10}{earlier}", "", names.iter().map(|n| format!("{n:>12}")).collect::<String>(), "mean");
        self.row("base model, untrained head", &self.base);
        for (name, hits) in &self.alone {
            self.row(&format!("{name} alone"), hits);
        }
        self.row("federation", &self.federation);
        if !self.pooled.is_empty() {
            self.row(POOLED, &self.pooled);
        }
        println!("  {:<28}{:>58.1}", "always the majority label", 100.0 * self.corpus.majority());
        if self.job.is_private() {
            println!("{HOW_FAR}");
        }
        self.privacy();
        self.bytes();
        self.times();
        self.adapter();
    }

    fn row(&self, name: &str, hits: &[Vec<bool>]) {
        let cells: String = hits.iter().map(|rows| format!("{:>12.1}", 100.0 * accuracy(rows))).collect();
        println!("  {name:<28}{cells}{:>10.1}{}", 100.0 * macro_accuracy(hits), self.earlier(name));
    }

    /// The means of earlier runs of an arm, where the job is one like theirs.
    fn earlier(&self, name: &str) -> String {
        let found = EARLIER_RUNS.iter().find(|(arm, _)| self.job.is_private() && *arm == name);
        found.map_or_else(String::new, |(_, [a, b, c])| format!("   {a:.1}, {b:.1}, {c:.1}"))
    }

    fn privacy(&self) {
        println!();
        for silo in self.federation_dir.silos() {
            if let Some((epsilon, delta)) = spent(&self.federation_dir.ledger(silo)) {
                println!("  {silo:<12} spent ε = {epsilon:.3} at δ = {delta:e} on each of its training rows");
            }
        }
        if self.job.is_private() {
            println!(
                "  ε does not cover the accuracies above, which only the demo measures, nor the choice of the learning rate."
            );
            println!("  {MEASURED_WITHOUT_PRIVACY}");
            self.officer();
        } else {
            println!("  No differential privacy: the adapter may give away training rows.");
        }
    }

    /// What the first silo's officer reads.
    fn officer(&self) {
        let Some(silo) = self.federation_dir.silos().first() else { return };
        println!("\nWhat {silo}'s data-protection officer reads (blindsum-silo privacy-report):\n");
        match self.federation_dir.privacy_report(silo) {
            Ok(report) => report.lines().for_each(|line| println!("  {line}")),
            Err(why) => println!("  {why:#}"),
        }
    }

    fn bytes(&self) {
        let layout = &self.corpus.layout;
        let lora = lora_bytes(layout);
        println!(
            "\n  sent up per silo and round: {} bytes masked ({:.2} per coordinate) and {:.0} bytes of control;\n  \
             plain LoRA (A and B in f32) would send {lora}",
            self.costs.masked,
            self.costs.masked as f64 / layout.trained(layout.training_kind(1)).len() as f64,
            self.costs.control_per_silo(),
        );
    }

    fn times(&self) {
        if let Some(first) = self.costs.first_round {
            println!(
                "  first round complete after {:.0} s, all {} rounds after {:.0} s",
                first.as_secs_f64(),
                self.costs.rounds,
                self.costs.total.as_secs_f64()
            );
        }
    }

    fn adapter(&self) {
        let adapter: PathBuf = self.federation_dir.adapter();
        let (base, labels) = (&self.corpus.model, self.job.model.labels.len());
        println!("\nThe adapter is in {}. In Python, with transformers and peft:\n", adapter.display());
        println!("  from transformers import AutoModelForSequenceClassification; from peft import PeftModel");
        println!(
            "  base = AutoModelForSequenceClassification.from_pretrained({:?}, num_labels={labels})",
            base.display()
        );
        println!("  model = PeftModel.from_pretrained(base, {:?})", adapter.display());
    }
}

/// What one silo would send per round with both LoRA matrices in f32, no masking and no framing.
fn lora_bytes(layout: &AdapterLayout) -> usize {
    let both = |m: &blindsum_adapter::Module| layout.rank() * (m.in_features + m.out_features);
    4 * layout.modules().iter().map(both).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_earlier_runs_is_what_they_gave_and_what_the_page_says() {
        let page = include_str!("../../docs/results.md");
        for (name, [a, b, c]) in EARLIER_RUNS {
            let apart =
                [a, b, c].iter().copied().fold(f64::MIN, f64::max) - [a, b, c].iter().copied().fold(f64::MAX, f64::min);
            assert!(HOW_FAR.contains(&format!("{apart:.1}")), "{name}: {apart}");
            let row = format!("| {name} | {a:.1}, {b:.1}, {c:.1} | {apart:.1} points |");
            assert!(page.contains(&row), "docs/results.md lacks {row}");
        }
    }
}
