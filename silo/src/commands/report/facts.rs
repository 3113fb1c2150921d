//! The facts of the report: from the job and the ledger to named values.

use blindsum_adapter::training::{PrivacyUnit, Protection};
use blindsum_engine::local::TrainSpec;
use blindsum_privacy::pld::{self, SgdPhase};
use blindsum_privacy::{Mechanism, counts_noise, rdp};
use blindsum_protocol::job::{Job, JobFile, MetricsMode};
use blindsum_protocol::silo::JournalEntry;
use blindsum_service::Document;
use serde_json::Value;

use super::super::error::CommandError;
use crate::agent::{Known, counts_change, measurements, read_journal, took_part};
use crate::config::SiloConfig;
use crate::journal::JournalFile;
use crate::ledger::{Debit, Ledger, LedgerError, OverJobs, Purpose, Spending};

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

/// What the report is made from.
struct Recorded<'a> {
    config: &'a SiloConfig,
    job: &'a Job,
    ledger: Option<&'a Ledger>,
    took_part: bool,
}

impl Recorded<'_> {
    fn number(&self, purpose: Purpose) -> Option<usize> {
        self.ledger?.find(self.job.digest(), &self.config.name, purpose)
    }

    fn spending(&self, purpose: Purpose) -> Option<&Spending> {
        self.ledger?.spendings().get(self.number(purpose)?)
    }

    fn debits(&self) -> &[Debit] {
        self.spending(Purpose::Training).map_or(&[], |spending| &spending.debits)
    }
}

/// All sections.
///
/// # Errors
/// A job or a ledger that cannot be read, a ledger that knows less than the silo does.
pub(super) fn facts(config: &SiloConfig) -> Result<Vec<Section>, CommandError> {
    let document = Document::read(&config.job)?;
    let job = document.checked(JobFile::checked)?;
    let (spec, mechanism) =
        TrainSpec::derive(&job.local_training()).map_err(|e| document.wrong("privacy.epsilon", e))?;
    let path = config.state_dir.join("journal");
    let bodies = JournalFile::look(&path)?;
    let entries = read_journal(&path, &bodies)?;
    if let Some(JournalEntry::Begin { job_digest: found, .. }) = entries.first()
        && *found != job.digest()
    {
        let what = format!(
            "{} is of job {found}, but {} is job {}: name the job that this state_dir belongs to",
            path.display(),
            config.job.display(),
            job.digest()
        );
        return Err(CommandError::Usage(what));
    }
    let took_part = took_part(&bodies);
    let limit = OverJobs { max_epsilon: config.policy.max_epsilon, delta: config.policy.max_delta };
    let ledger = match (&mechanism, &config.ledger_dir) {
        (None, _) => None,
        (Some(_), None) => return Err(LedgerError::NotNamed("ledger_dir").into()),
        // Zero may be said only where nothing can have been spent.
        (Some(_), Some(dir)) => {
            Known::new(&config.state_dir, &job, &entries)?.look(dir, limit, job.digest(), &config.name)?
        }
    };
    let found = Recorded { config, job: &job, ledger: ledger.as_ref(), took_part };
    let mut sections = vec![about(&found)];
    match (&mechanism, job.protection()) {
        (Some(mechanism), Protection::RecordDp { unit, clip_norm, epsilon, .. }) => {
            sections.push(protected(&found, unit));
            sections.push(how(&job, mechanism, (unit, clip_norm), spec.local_steps));
            sections.push(spent(&found, mechanism, unit, epsilon));
            sections.push(over_jobs(&found, unit)?);
            sections.push(held_out(&found, unit, epsilon, mechanism.delta)?);
            sections.push(groups(mechanism, unit));
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
    sections.push(left(&found));
    if mechanism.is_some() {
        sections.push(not_covered(&found));
        sections.push(verify());
    }
    Ok(sections)
}

fn about(found: &Recorded) -> Section {
    let Recorded { config, job, ledger, took_part } = found;
    let state = if *took_part { "this silo took part in rounds" } else { "this silo has taken part in no round yet" };
    let ledger = match (ledger, &config.ledger_dir) {
        (Some(ledger), _) => format!(
            "{}, ledger {}: every line follows from the one before, and it holds all that journal and mark of this silo know",
            ledger.path().display(),
            ledger.id()
        ),
        (None, Some(dir)) => format!("none yet in {}", dir.display()),
        (None, None) => "none".to_owned(),
    };
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
            Fact::text("ledger", "Ledger", ledger),
            Fact::text("version", "Made by", concat!("blindsum-silo ", env!("CARGO_PKG_VERSION"))),
        ],
    }
}

fn protected(found: &Recorded, unit: PrivacyUnit) -> Section {
    let (whom, neighbours) = match unit {
        PrivacyUnit::Record => ("one row of the training file", "one row"),
        PrivacyUnit::Person { .. } => ("one person with all its rows", "one person with all its rows"),
    };
    let neighbours = format!("two training files of which one has {neighbours} more (add or remove)");
    let mut facts =
        vec![Fact::text("privacy_unit", "Privacy unit", whom), Fact::text("adjacency", "Neighbours", neighbours)];
    if let PrivacyUnit::Person { rows_max } = unit {
        let column = found.config.data.unit_column.as_deref().unwrap_or("none named");
        facts.push(Fact::text("unit_column", "Column that says whose a row is", column));
        facts.push(Fact::count("rows_max_per_unit", "Most rows of one person that count", rows_max));
    }
    facts.extend([
        Fact::text(
            "setting",
            "Setting",
            "differential privacy of each silo's own rows, by the silo itself: it trains on them in clear and adds the whole noise \
             before anything leaves it (local in the federation, central in the organisation)",
        ),
        Fact::text(
            "trust_model",
            "Whom it holds against",
            "the coordinator, the other silos, and everybody who gets a sum or an adapter, together. Not against whoever reads this \
             silo's own machine",
        ),
        Fact::text(
            "data_access",
            "Which accesses are covered",
            "training and the counts of held-out rows, repeated attempts included. Reading, checking and tokenising rows gives \
             nothing away: what they find stays in this silo's log",
        ),
        Fact::text(
            "output",
            "What is released",
            "the update of each training, and so each sum and adapter made from it",
        ),
    ]);
    let max_epsilon = found.config.policy.max_epsilon;
    let limit = format!("ε ≤ {max_epsilon} for any {unit}, over all jobs (policy.max_epsilon)");
    facts.push(Fact::text("max_epsilon", "This organisation's own limit", limit));
    if let Some(Spending { account, .. }) = found.spending(Purpose::Training) {
        facts.push(Fact::text("train_file", "Training file", &account.file));
        facts.push(Fact::count("units", "Privacy units in it (stays here)", account.units));
        facts.push(Fact::text("tags_sha256", "SHA-256 of their tags", account.tags.to_string()));
    }
    Section { key: "protected", title: "What is protected", facts }
}

fn how(job: &Job, mechanism: &Mechanism, (unit, clip_norm): (PrivacyUnit, f64), local_steps: u32) -> Section {
    let by = match unit {
        PrivacyUnit::Record => "row by row",
        PrivacyUnit::Person { .. } => "person by person, each the sum over the person's rows",
    };
    Section {
        key: "mechanism",
        title: "How they are protected",
        facts: vec![
            Fact::text(
                "mechanism",
                "Mechanism",
                format!(
                    "DP-SGD (Abadi et al. 2016): Poisson-subsampled Gaussian on gradients clipped {by}, summed as integers on a \
                     grid of clip norm / 2^24; the noise is a Gaussian rounded to that grid, sampled exactly"
                ),
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

fn spent(found: &Recorded, mechanism: &Mechanism, unit: PrivacyUnit, stated: f64) -> Section {
    let spending = found.spending(Purpose::Training);
    let (steps, retries) = spending.map_or((0, 0), |spending| (spending.steps(), spending.retries()));
    let Mechanism { q, noise_multiplier, delta, .. } = *mechanism;
    let main = mechanism.main_delta();
    let by_rdp = |steps| rdp::epsilon(q, noise_multiplier, steps, main);
    Section {
        key: "spent",
        title: match unit {
            PrivacyUnit::Record => "What this job spends on each row",
            PrivacyUnit::Person { .. } => "What this job spends on each person",
        },
        facts: vec![
            Fact::number("delta", "δ", delta),
            Fact::number("epsilon_stated", "ε that the job states", stated),
            Fact::number("epsilon_job", "ε of the whole job", mechanism.epsilon()),
            Fact::number("epsilon_job_rdp", "the same by Rényi accounting", by_rdp(mechanism.steps)),
            Fact::number("epsilon_spent", "ε spent so far", mechanism.spent(steps)),
            Fact::number("epsilon_spent_rdp", "the same by Rényi accounting", by_rdp(steps)),
            Fact::count("debits", "Debits in the ledger", found.debits().len() as u64),
            Fact::count("repeated", "of them for repeated attempts", retries as u64),
            Fact::text(
                "accountant",
                "Accountant",
                "privacy loss distribution with connected dots (Doroshenko et al. 2022), never above Rényi accounting (Mironov et \
                 al. 2019; Canonne et al. 2020); both bound ε from above. Poisson sampling is what is done, not an assumption",
            ),
        ],
    }
}

fn over_jobs(found: &Recorded, unit: PrivacyUnit) -> Result<Section, CommandError> {
    let (worst, shared_said, title, persons) = match unit {
        PrivacyUnit::Record => (
            "ε of the worst row",
            "Rows that other jobs used too",
            "What all jobs of this organisation spend on its rows",
            "",
        ),
        PrivacyUnit::Person { .. } => (
            "ε of the worst person or row",
            "Persons and rows that other jobs used too",
            "What all jobs of this organisation spend on its persons and their rows",
            ". Each person has a tag, and each of its rows: what jobs that protect rows spend is added up for each row by \
             itself, not for a person's rows together",
        ),
    };
    let mut facts = Vec::new();
    if let (Some(ledger), Some(number)) = (found.ledger, found.number(Purpose::Training)) {
        let (spent, shared) = ledger.inspect(number)?;
        let alone = ledger.spendings().iter().filter(|s| s.account.purpose == Purpose::Alone && s.steps() > 0).count();
        facts.push(Fact::number("epsilon_over_jobs", worst, spent.over_jobs));
        facts.push(Fact::count("shared_units", shared_said, shared.number as u64));
        facts.push(Fact::count("accounts", "Accounts in the ledger", ledger.spendings().len() as u64));
        facts.push(Fact::count("tuning_runs", "of them trainings alone (tuning)", alone as u64));
    }
    let composition = format!(
        "unit by unit, by keyed tags, whatever file a row stands in; by a Rényi filter (Feldman and Zrnic 2021), since jobs are chosen \
         after the results of earlier ones. The limit holds at the δ of one job and as much again for the filter{persons}"
    );
    facts.push(Fact::text("composition", "How jobs add up", composition));
    Ok(Section { key: "over_jobs", title, facts })
}

fn held_out(found: &Recorded, unit: PrivacyUnit, epsilon: f64, delta: f64) -> Result<Section, CommandError> {
    let job = found.job;
    let mut facts = Vec::new();
    if job.aggregation.metrics == MetricsMode::Off || found.config.data.held_out.is_none() {
        let none = "this silo counts none: nothing of held-out rows leaves it";
        facts.push(Fact::text("held_out", "Held-out rows", none));
        return Ok(Section { key: "held_out", title: "Held-out rows", facts });
    }
    let (refused, whom) = match unit {
        PrivacyUnit::Record => ("they are training rows too", "these rows"),
        PrivacyUnit::Person { .. } => ("they or their persons are in the training file too", "these persons"),
    };
    let treatment = format!(
        "never trained on, and refused where {refused}. In each round two counts leave inside the sum, rows and how many \
         of them were right, with Gaussian noise that is charged to {whom}"
    );
    facts.push(Fact::text("treatment", "What is done with them", treatment));
    let noise = counts_noise(measurements(job), epsilon, delta)?;
    facts.push(Fact::number("count_noise_multiplier", "Noise multiplier σ", noise));
    facts.push(Fact::number("count_noise", "Standard deviation of each count", noise * counts_change(job)));
    if let (Some(ledger), Some(number)) = (found.ledger, found.number(Purpose::HeldOut)) {
        let (spent, _) = ledger.inspect(number)?;
        let Spending { account, debits } = &ledger.spendings()[number];
        facts.push(Fact::text("held_out_file", "Held-out file", &account.file));
        facts.push(Fact::count("held_out_units", "Privacy units in it (stays here)", account.units));
        facts.push(Fact::count("counted", "Times they were counted", debits.len() as u64));
        facts.push(Fact::number("held_out_epsilon", "ε spent on each of them", spent.in_job));
        facts.push(Fact::number("held_out_over_jobs", "ε of the worst over all jobs", spent.over_jobs));
    }
    Ok(Section { key: "held_out", title: "Held-out rows", facts })
}

fn groups(mechanism: &Mechanism, unit: PrivacyUnit) -> Section {
    let phase = SgdPhase { q: mechanism.q, sigma: mechanism.noise_multiplier, steps: mechanism.steps };
    let epsilon = |k| pld::group_epsilon(&[phase], k, mechanism.main_delta());
    let keys = ["epsilon_2", "epsilon_3", "epsilon_5"];
    let (labels, title) = match unit {
        PrivacyUnit::Record => (
            ["ε for 2 rows of one person", "ε for 3 rows", "ε for 5 rows"],
            "Where one person has several rows (whole job, same δ)",
        ),
        PrivacyUnit::Person { .. } => (
            ["ε for 2 persons", "ε for 3 persons", "ε for 5 persons"],
            "Several persons together, as of one household (whole job, same δ)",
        ),
    };
    let facts = GROUPS.into_iter().zip(keys).zip(labels).map(|((k, key), label)| Fact::number(key, label, epsilon(k)));
    Section { key: "groups", title, facts: facts.collect() }
}

fn left(found: &Recorded) -> Section {
    let job = found.job;
    let updates = match (job.is_private(), found.took_part) {
        (true, _) => Fact::count("updates", "Noised updates at most", found.debits().len() as u64),
        (false, true) => {
            Fact::text("updates", "Updates", "without noise, one for each round of which the journal knows")
        }
        (false, false) => Fact::text("updates", "Updates", "none yet"),
    };
    let time = match job.deadlines.release_seconds {
        Some(seconds) => {
            format!("{seconds} s after it was asked for, or a multiple: the log says where training took longer")
        }
        None => "when it is ready: how long it took follows how many tokens were drawn".to_owned(),
    };
    let held_out = match (job.aggregation.metrics, job.is_private()) {
        (MetricsMode::HeldOut, true) => "held-out rows and how many of them were right, inside the sum, with noise",
        (MetricsMode::HeldOut, false) => "held-out rows and how many of them were right, inside the sum, without noise",
        (MetricsMode::Off, _) => "none",
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

fn not_covered(found: &Recorded) -> Section {
    let mut facts = Vec::new();
    if found.job.deadlines.release_seconds.is_none() {
        let times = "how long each training took, until the job has deadlines.release_seconds";
        facts.push(Fact::text("times", "Times", times));
    }
    facts.push(Fact::text(
        "tuning",
        "Tuning",
        "trainings alone are charged where their --ledger-dir is this ledger; settings chosen by looking at results elsewhere are not",
    ));
    facts.push(Fact::text("participation", "Taking part", "that this silo took part, when, and from which address"));
    facts.push(Fact::text("base_model", "The base model", "what it learned before"));
    facts.push(Fact::text("bad_luck", "Bad luck", "δ is the probability with which the bound may fail"));
    Section { key: "not_covered", title: "What ε does not cover", facts }
}

fn verify() -> Section {
    Section {
        key: "verify",
        title: "How to check this report",
        facts: vec![
            Fact::text(
                "accounting",
                "ε",
                "`blindsum-silo plan JOB` computes it from the job's numbers; any accountant for the Poisson-subsampled Gaussian \
                 mechanism must agree",
            ),
            Fact::text("ledger", "The ledger", "`blindsum-silo budget verify` reads every line, tag and mark again"),
            Fact::text("code", "The code", "docs/privacy.md names the proof and the test of each sentence"),
        ],
    }
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
