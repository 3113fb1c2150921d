//! The facts of the report: from the job and the ledger to named values.

use std::collections::BTreeSet;
use std::path::Path;

use blindsum_adapter::training::Protection;
use blindsum_engine::local::TrainSpec;
use blindsum_privacy::pld::{self, SgdPhase};
use blindsum_privacy::{Mechanism, rdp};
use blindsum_protocol::job::{Job, JobFile, MetricsMode};
use blindsum_service::Document;
use serde_json::Value;

use super::super::error::CommandError;
use crate::agent::took_part;
use crate::config::SiloConfig;
use crate::journal::JournalFile;
use crate::ledger::{Covers, Debit, Ledger};

/// Rows of one person for which the report says what they come to together.
const GROUPS: [u32; 3] = [2, 3, 5];

/// Facts that belong together.
#[derive(Debug)]
pub(super) struct Section {
    pub key: &'static str,
    pub title: &'static str,
    pub facts: Vec<Fact>,
}

/// One fact.
#[derive(Debug)]
pub(super) struct Fact {
    pub key: &'static str,
    pub label: &'static str,
    pub value: Value,
}

impl Fact {
    pub fn text(key: &'static str, label: &'static str, value: impl Into<String>) -> Self {
        Fact { key, label, value: Value::String(value.into()) }
    }

    pub fn number(key: &'static str, label: &'static str, value: impl Into<f64>) -> Self {
        // What is no number (an infinite ε) has no place in JSON, and is no number for people either.
        let value: f64 = value.into();
        let value = serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number);
        Fact { key, label, value }
    }

    fn count(key: &'static str, label: &'static str, value: impl Into<u64>) -> Self {
        Fact { key, label, value: Value::from(value.into()) }
    }

    /// For people.
    pub fn said(&self) -> String {
        match &self.value {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_f64() => number.as_f64().map_or_else(String::new, rounded),
            other => other.to_string(),
        }
    }
}

/// A number to at most five places, small ones with an exponent.
fn rounded(x: f64) -> String {
    if x != 0.0 && x.abs() < 1e-3 {
        return format!("{x:e}");
    }
    let text = format!("{x:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// All sections.
///
/// # Errors
/// A job or a ledger that cannot be read, or a ledger of another job.
pub(super) fn facts(config: &SiloConfig) -> Result<Vec<Section>, CommandError> {
    let document = Document::read(&config.job)?;
    let job = document.checked(JobFile::checked)?;
    let (spec, mechanism) =
        TrainSpec::derive(&job.local_training()).map_err(|e| document.wrong("privacy.epsilon", e))?;
    let path = config.state_dir.join("ledger.jsonl");
    let recorded = Ledger::recorded(&path)?;
    if let Some((covers, _)) = recorded.as_ref().filter(|(covers, _)| covers.job != job.digest()) {
        let what = format!(
            "{} is of job {}, but {} is job {}: name the job that this state_dir belongs to",
            path.display(),
            covers.job,
            config.job.display(),
            job.digest()
        );
        return Err(CommandError::Usage(what));
    }
    let took_part = took_part(&JournalFile::look(&config.state_dir.join("journal"))?);
    // Zero may be said only where nothing can have been spent.
    Ledger::not_lost(&path, took_part && mechanism.is_some())?;
    let mut sections = vec![about(config, &job, &path, took_part)];
    match (&mechanism, job.protection()) {
        (Some(mechanism), Protection::RecordDp { clip_norm, epsilon, .. }) => {
            sections.push(protected(recorded.as_ref().map(|(covers, _)| covers), config.policy.max_epsilon));
            sections.push(how(&job, mechanism, clip_norm, spec.local_steps));
            sections.push(spent(mechanism, epsilon, recorded.as_ref()));
            sections.push(groups(mechanism));
        }
        _ => sections.push(Section {
            key: "mechanism",
            title: "How they are protected",
            facts: vec![Fact::text(
                "mechanism",
                "Mechanism",
                "none: the job says privacy.mode = \"none\". Secure aggregation hides each update from the coordinator; the sum \
                 and the adapter may reveal records, and nothing bounds it",
            )],
        }),
    }
    sections.push(left(&job, recorded.as_ref(), took_part));
    if mechanism.is_some() {
        sections.push(not_covered(&job));
    }
    Ok(sections)
}

fn about(config: &SiloConfig, job: &Job, ledger: &Path, took_part: bool) -> Section {
    let state = if took_part { "this silo took part in rounds" } else { "this silo has taken part in no round yet" };
    Section {
        key: "about",
        title: "Whose report this is",
        facts: vec![
            Fact::text("silo", "Silo", &config.name),
            Fact::text("federation", "Federation", &job.federation),
            Fact::text("job", "Job", &job.name),
            Fact::text("job_digest", "Digest of the job", job.digest().to_string()),
            Fact::count("rounds", "Training rounds of the job", job.rounds),
            Fact::text("state", "State", format!("{state}, says the journal in {}", config.state_dir.display())),
            Fact::text("ledger", "Ledger", ledger.display().to_string()),
        ],
    }
}

fn protected(covers: Option<&Covers>, max_epsilon: f64) -> Section {
    let mut facts = vec![
        Fact::text("privacy_unit", "Privacy unit", "one row of the training file"),
        Fact::text("adjacency", "Neighbours", "two training files of which one has one row more (add or remove)"),
        Fact::text(
            "trust_model",
            "Whom it holds against",
            "the coordinator, the other silos, and everybody who gets a sum or an adapter, together: this silo adds the whole \
             noise before anything leaves it. Not against whoever reads this silo's own machine",
        ),
    ];
    facts.push(Fact::text("max_epsilon", "This organisation's own limit", format!("ε ≤ {max_epsilon}")));
    if let Some(covers) = covers {
        facts.push(Fact::text("train_file", "Training file", &covers.train_file));
        facts.push(Fact::text("train_sha256", "Its SHA-256", covers.train_sha256.to_string()));
        facts.push(Fact::count("records", "Rows in it (stays here)", covers.records));
    }
    Section { key: "protected", title: "What is protected", facts }
}

fn how(job: &Job, mechanism: &Mechanism, clip_norm: f64, local_steps: u32) -> Section {
    Section {
        key: "mechanism",
        title: "How they are protected",
        facts: vec![
            Fact::text(
                "mechanism",
                "Mechanism",
                "DP-SGD (Abadi et al. 2016): Poisson-subsampled Gaussian on gradients clipped row by row, summed as integers on a \
                 grid of clip norm / 2^24; the noise is a Gaussian rounded to that grid, sampled exactly",
            ),
            Fact::number("sampling_rate", "Sampling rate q", mechanism.q),
            Fact::number("noise_multiplier", "Noise multiplier σ", mechanism.noise_multiplier),
            Fact::number("clip_norm", "Clip norm C (L2, all values)", clip_norm),
            Fact::count("divisor", "Divisor of each step's sum", job.training.expected_batch_examples),
            Fact::count("batch_max", "Largest batch", mechanism.batch_max),
            Fact::count("local_steps", "Steps of a training", local_steps),
            Fact::count("trainings", "Trainings that ε covers", job.charged_rounds()),
            Fact::text(
                "public",
                "Where the numbers come from",
                "the job, the same in every silo; none is computed from this silo's rows",
            ),
            Fact::text(
                "post_processing",
                "After the noise",
                "optimiser, rounding, masks, sum, server step: post-processing",
            ),
        ],
    }
}

fn spent(mechanism: &Mechanism, stated: f64, recorded: Option<&(Covers, Vec<Debit>)>) -> Section {
    let debits = recorded.map_or(&[][..], |(_, debits)| debits);
    let steps = debits.iter().fold(0u64, |sum, debit| sum.saturating_add(debit.steps));
    let rounds: BTreeSet<u32> = debits.iter().map(|debit| debit.round).collect();
    let Mechanism { q, noise_multiplier, delta, .. } = *mechanism;
    let main = mechanism.main_delta();
    let by_rdp = |steps| rdp::epsilon(q, noise_multiplier, steps, main);
    Section {
        key: "spent",
        title: "What is spent on each row",
        facts: vec![
            Fact::number("delta", "δ", delta),
            Fact::number("epsilon_stated", "ε that the job states", stated),
            Fact::number("epsilon_job", "ε of the whole job", mechanism.epsilon()),
            Fact::number("epsilon_job_rdp", "the same by Rényi accounting", by_rdp(mechanism.steps)),
            Fact::number("epsilon_spent", "ε spent so far", mechanism.spent(steps)),
            Fact::number("epsilon_spent_rdp", "the same by Rényi accounting", by_rdp(steps)),
            Fact::count("debits", "Debits in the ledger", debits.len() as u64),
            Fact::count("repeated", "of them for repeated attempts", (debits.len() - rounds.len()) as u64),
            Fact::text(
                "accountant",
                "Accountant",
                "privacy loss distribution with connected dots (Doroshenko et al. 2022), never above Rényi accounting (Mironov et \
                 al. 2019; Canonne et al. 2020); both bound ε from above. Poisson sampling is what is done, not an assumption",
            ),
            Fact::text(
                "composition",
                "Other jobs on these rows",
                "not counted here: each job has its own ledger, and what they spend adds up",
            ),
        ],
    }
}

fn groups(mechanism: &Mechanism) -> Section {
    let phase = SgdPhase { q: mechanism.q, sigma: mechanism.noise_multiplier, steps: mechanism.steps };
    let epsilon = |k| pld::group_epsilon(&[phase], k, mechanism.main_delta());
    let keys = ["epsilon_2", "epsilon_3", "epsilon_5"];
    let labels = ["ε for 2 rows of one person", "ε for 3 rows", "ε for 5 rows"];
    let facts = GROUPS.into_iter().zip(keys).zip(labels).map(|((k, key), label)| Fact::number(key, label, epsilon(k)));
    Section { key: "groups", title: "Where one person has several rows (whole job, same δ)", facts: facts.collect() }
}

fn left(job: &Job, recorded: Option<&(Covers, Vec<Debit>)>, took_part: bool) -> Section {
    let updates = match (job.is_private(), recorded) {
        (true, recorded) => {
            Fact::count("updates", "Noised updates at most", recorded.map_or(0, |(_, d)| d.len()) as u64)
        }
        (false, _) if took_part => {
            Fact::text("updates", "Updates", "without noise, one for each round of which the journal knows")
        }
        (false, _) => Fact::text("updates", "Updates", "none yet"),
    };
    let time = match job.deadlines.release_seconds {
        Some(seconds) => {
            format!("{seconds} s after it was asked for, or a multiple: the log says where training took longer")
        }
        None => "when it is ready: how long it took follows how many tokens were drawn".to_owned(),
    };
    let held_out = match job.aggregation.metrics {
        MetricsMode::HeldOut => "held-out rows and how many of them were right, inside the sum, without noise",
        MetricsMode::Off => "none",
    };
    Section {
        key: "left",
        title: "What left this silo",
        facts: vec![
            updates,
            Fact::text("form", "In which form", "masked: the coordinator sees only the sum over at least m silos"),
            Fact::text("sizes", "Sizes", "the same in every silo and round, whatever the rows are"),
            Fact::text("time", "When an update leaves", time),
            Fact::text("held_out_counts", "Counts of held-out rows", held_out),
        ],
    }
}

fn not_covered(job: &Job) -> Section {
    let mut facts = Vec::new();
    if job.aggregation.metrics == MetricsMode::HeldOut {
        facts.push(Fact::text(
            "held_out",
            "Held-out rows",
            "their counts carry no noise; what stays the same over rounds can be computed by whoever sees two sums whose silos \
             differ by this one. aggregation.metrics = \"off\" sends none",
        ));
    }
    facts.push(Fact::text("tuning", "Tuning", "rates and settings that were chosen by looking at results"));
    facts.push(Fact::text("participation", "Taking part", "that this silo took part, when, and from which address"));
    facts.push(Fact::text("base_model", "The base model", "what it learned before"));
    facts.push(Fact::text("bad_luck", "Bad luck", "δ is the probability with which the bound may fail"));
    Section { key: "not_covered", title: "What ε does not cover", facts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_with_the_places_that_matter() {
        for (value, said) in [(5.0, "5"), (5.25, "5.25"), (0.671524, "0.67152"), (1e-5, "1e-5"), (0.0, "0")] {
            assert_eq!(Fact::number("x", "x", value).said(), said);
        }
        assert_eq!(Fact::number("x", "x", f64::INFINITY).said(), "inf");
        assert_eq!(Fact::count("x", "x", 7u32).said(), "7");
    }
}
