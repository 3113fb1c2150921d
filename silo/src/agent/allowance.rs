//! What this silo may spend of the organisation's budget in this job: an account for its training rows, one for its
//! held-out rows, in the ledger that all jobs of the organisation share.
//!
//! ```text
//! job, policy, rows ─► Uses ─► Allowance::open: does the ledger know all that journal and mark know? ─► accounts
//!                                     │
//!                each round: debit ─► mark in the state directory ─► then the rows are touched
//! ```
//!
//! Contract: when a debit returns, ledger and mark are on the disk. Counts of held-out rows get Gaussian noise that their
//! own account is charged for; where that account has nothing left, no counts leave.

use std::path::{Path, PathBuf};

use blindsum_adapter::TaskKind;
use blindsum_adapter::training::{PrivacyUnit, Protection};
use blindsum_crypto::Digest;
use blindsum_engine::data::Identity;
use blindsum_engine::local::LocalError;
use blindsum_privacy::noise::RoundedGaussian;
use blindsum_privacy::{Mechanism, counts_noise};
use blindsum_protocol::HeldOutCounts;
use blindsum_protocol::job::{Job, MetricsMode};
use blindsum_protocol::plan::Plan;
use blindsum_protocol::silo::JournalEntry;
use rand::CryptoRng;

use crate::agent::data::Rows;
use crate::agent::error::AgentError;
use crate::config::SiloConfig;
use crate::ledger::{Account, LEDGER_FILE, Ledger, LedgerError, LedgerMark, MARK_FILE, OverJobs, Purpose, Spent};
use crate::mutant::SiloMutant;

/// What a job does with this silo's rows.
pub(crate) struct Uses {
    /// Its folder.
    ledger_dir: PathBuf,
    limit: OverJobs,
    training: Account,
    held_out: Option<(Account, RoundedGaussian)>,
}

impl Uses {
    /// What is charged; nothing where the job has no privacy.
    ///
    /// # Errors
    /// Where no ledger is named.
    pub fn of(
        config: &SiloConfig,
        plan: &Plan,
        rows: &Rows,
        privacy: Option<Mechanism>,
    ) -> Result<Option<Self>, AgentError> {
        let job = plan.job();
        let (Some(privacy), Protection::RecordDp { epsilon, delta, .. }) = (privacy, job.protection()) else {
            return Ok(None);
        };
        let Some(ledger_dir) = config.ledger_dir.clone() else {
            return Err(LedgerError::NotNamed("ledger_dir").into());
        };
        let account = |purpose, file: &Path, units: usize| Account {
            job: plan.job_digest(),
            job_name: job.name.clone(),
            federation: job.federation.clone(),
            silo: config.name.clone(),
            purpose,
            file: file.display().to_string(),
            units: units as u64,
            tags: Digest([0; 32]),
            sampling_rate: privacy.q,
            noise_multiplier: privacy.noise_multiplier,
            steps: privacy.steps,
            epsilon_limit: epsilon,
            delta,
            time_unix_seconds: 0,
        };
        let training = account(Purpose::Training, &config.data.train, rows.train.units());
        let counted = job.aggregation.metrics == MetricsMode::HeldOut;
        let held_out = match (&rows.held_out, &config.data.held_out) {
            // An empty file too: zeros without noise would say that it is.
            (Some(data), Some(file)) if counted => {
                let (noise_multiplier, noise) = held_out_noise(job)?;
                let account = account(Purpose::HeldOut, file, data.units());
                let steps = u64::from(measurements(job));
                Some((Account { sampling_rate: 1.0, noise_multiplier, steps, ..account }, noise))
            }
            _ => None,
        };
        let limit = OverJobs { max_epsilon: config.policy.max_epsilon, delta: config.policy.max_delta };
        Ok(Some(Uses { ledger_dir, limit, training, held_out }))
    }

    /// How the training rows stand or would stand, and whether the whole job may be spent. Writes nothing.
    ///
    /// # Errors
    /// As [`Allowance::open`].
    pub fn look(&self, rows: &Rows, known: &Known) -> Result<Spent, AgentError> {
        let Some(ledger) = known.look(&self.ledger_dir, self.limit, self.training.job, &self.training.silo)? else {
            return Ok(Spent { in_job: 0.0, over_jobs: 0.0 });
        };
        if let (Some((account, _)), Some(held_out)) = (&self.held_out, &rows.held_out) {
            ledger.standing(account, &held_out.identities)?;
        }
        Ok(ledger.standing(&self.training, &rows.train.identities)?)
    }
}

/// What a silo's state directory knows of the organisation's ledger.
pub(crate) struct Known {
    mark: Option<LedgerMark>,
    path: PathBuf,
    /// Attempts (round, attempt) in which an update that was trained went out, by the journal.
    went_out: Vec<(u32, u32)>,
}

impl Known {
    /// From the mark in `state_dir` and the entries of the journal there.
    ///
    /// # Errors
    /// A mark that cannot be read.
    pub fn new(state_dir: &Path, job: &Job, entries: &[JournalEntry]) -> Result<Self, AgentError> {
        let path = state_dir.join(MARK_FILE);
        let masked = entries.iter().filter_map(|entry| match entry {
            JournalEntry::Masked { at } if at.round <= job.rounds => Some((at.round, at.attempt)),
            _ => None,
        });
        Ok(Known { mark: LedgerMark::read(&path)?, path, went_out: masked.collect() })
    }

    /// The ledger in `dir`, which must know all of this of the silo's account; `None` where there is none, and nothing was
    /// spent.
    ///
    /// # Errors
    /// [`LedgerError`]: lost, put back, or another one.
    pub fn look(&self, dir: &Path, limit: OverJobs, job: Digest, silo: &str) -> Result<Option<Ledger>, LedgerError> {
        let Some(ledger) = Ledger::look(dir, limit)? else {
            let nothing = self.mark.is_none() && self.went_out.is_empty();
            if nothing || SiloMutant::LedgerMadeAnew.lives() {
                return Ok(None);
            }
            let beside = self.path.parent().unwrap_or(&self.path).to_owned();
            return Err(LedgerError::Lost { path: dir.join(LEDGER_FILE), beside });
        };
        let account = ledger.find(job, silo, Purpose::Training);
        if SiloMutant::LedgerMadeAnew.lives() {
            return Ok(Some(ledger));
        }
        ledger.remembered(self.mark.as_ref(), &self.path, account, &self.went_out)?;
        Ok(Some(ledger))
    }
}

/// Times that held-out rows are counted in the whole job: at every training and after the last.
pub(crate) fn measurements(job: &Job) -> u32 {
    job.charged_rounds().saturating_add(1)
}

/// Noise on the counts of held-out rows: as a multiple of what a row can change, and as it is drawn. Their counts keep the
/// ε that the job states for training rows.
fn held_out_noise(job: &Job) -> Result<(f64, RoundedGaussian), AgentError> {
    let Protection::RecordDp { epsilon, delta, .. } = job.protection() else {
        return Err(AgentError::Internal("noise was asked for where there is no privacy".into()));
    };
    let multiplier = counts_noise(measurements(job), epsilon, delta).map_err(LocalError::from)?;
    let noise = RoundedGaussian::new(multiplier * counts_change(job));
    Ok((multiplier, noise.map_err(|e| LocalError::Spec(format!("noise on held-out counts: {e}")))?))
}

/// How far one row, or one person with as many as count, moves the two counts (L2): each row by one, or by the tokens that
/// it has at most.
pub(crate) fn counts_change(job: &Job) -> f64 {
    let each = match job.model.task {
        TaskKind::SequenceClassification => 1.0,
        TaskKind::CausalLm => f64::from(job.model.max_sequence_tokens),
    };
    let rows = match job.protection() {
        Protection::RecordDp { unit: PrivacyUnit::Person { rows_max }, .. } => f64::from(rows_max),
        Protection::RecordDp { unit: PrivacyUnit::Record, .. } | Protection::None { .. } => 1.0,
    };
    each * rows * std::f64::consts::SQRT_2
}

/// The open accounts.
#[derive(Debug)]
pub(crate) struct Allowance {
    ledger: Ledger,
    mark: PathBuf,
    training: usize,
    held_out: Option<(usize, RoundedGaussian)>,
}

impl Allowance {
    /// Opens the accounts, or goes on with them.
    ///
    /// # Errors
    /// [`LedgerError`], each of which means that nothing may be trained.
    pub fn open(uses: Uses, (train, held_out): (&[Identity], &[Identity]), known: Known) -> Result<Self, AgentError> {
        known.look(&uses.ledger_dir, uses.limit, uses.training.job, &uses.training.silo)?;
        let mut ledger = Ledger::open(&uses.ledger_dir, uses.limit)?;
        let training = ledger.admit(uses.training, train)?;
        let open = |(account, noise)| Ok::<_, LedgerError>((ledger.admit(account, held_out)?, noise));
        let held_out = uses.held_out.map(open).transpose()?;
        let allowance = Allowance { ledger, mark: known.path, training, held_out };
        allowance.remember()?;
        Ok(allowance)
    }

    fn remember(&self) -> Result<(), LedgerError> {
        Ok(self.ledger.mark().write(&self.mark)?)
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Of the training rows.
    pub fn account(&self) -> &Account {
        &self.ledger.spendings()[self.training].account
    }

    /// How the training rows stand.
    pub fn spent(&self) -> Spent {
        self.ledger.now(self.training)
    }

    /// Charges the training rows for so many steps and says how they stand then.
    ///
    /// # Errors
    /// As [`Ledger::debit`], and the disk's.
    pub fn train(&mut self, round: u32, attempt: u32, steps: u64) -> Result<Spent, LedgerError> {
        let spent = self.ledger.debit(self.training, round, attempt, steps)?;
        self.remember()?;
        Ok(spent)
    }

    /// Charges the held-out rows for being counted once, and gives the noise for it; none where they may not be counted.
    ///
    /// # Errors
    /// As [`Ledger::debit`], and the disk's.
    pub fn count(&mut self, round: u32, attempt: u32) -> Result<Option<RoundedGaussian>, LedgerError> {
        let Some((account, noise)) = self.held_out else { return Ok(None) };
        self.ledger.debit(account, round, attempt, 1)?;
        self.remember()?;
        Ok(Some(noise))
    }
}

/// Counts with noise: what is below zero or beyond what a count can be is brought back.
pub(crate) fn noised(
    counts: HeldOutCounts,
    noise: &RoundedGaussian,
    rng: &mut impl CryptoRng,
) -> Result<HeldOutCounts, LocalError> {
    let mut values = [i64::from(counts.examples), i64::from(counts.correct)];
    noise.add_to(rng, &mut values).map_err(|e| LocalError::Spec(e.to_string()))?;
    let [examples, correct] = values.map(|value| value.clamp(0, i64::from(u32::MAX)) as u32);
    Ok(HeldOutCounts { examples, correct })
}

#[cfg(test)]
impl Allowance {
    /// Of two training rows and one that is held out, without end.
    pub fn for_tests(dir: &Path) -> Self {
        let limit = OverJobs { max_epsilon: 1e6, delta: 1e-5 };
        let mut ledger = Ledger::open(&dir.join("ledger"), limit).expect("a ledger");
        let account = |purpose, sampling_rate| Account {
            job: Digest([0xaa; 32]),
            job_name: "job".into(),
            federation: "test".into(),
            silo: "silo-0".into(),
            purpose,
            file: "rows.jsonl".into(),
            units: 1,
            tags: Digest([0; 32]),
            sampling_rate,
            noise_multiplier: 1.0,
            steps: 1,
            epsilon_limit: 1e6,
            delta: 1e-5,
            time_unix_seconds: 0,
        };
        let unit = |text| [Identity::of_words([text])];
        let training = ledger.admit(account(Purpose::Training, 0.02), &unit("a row")).expect("an account");
        let counted = ledger.admit(account(Purpose::HeldOut, 1.0), &unit("another")).expect("an account");
        let noise = RoundedGaussian::new(2.0).expect("a standard deviation");
        Allowance { ledger, mark: dir.join(MARK_FILE), training, held_out: Some((counted, noise)) }
    }

    /// Makes the ledger's disk refuse.
    pub fn break_disk(&mut self) {
        self.ledger.break_disk();
    }
}
