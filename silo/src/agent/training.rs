//! One round's work on this silo's own rows: debit the ledger, measure, train.
//!
//! ```text
//! debit (fsync) ─► held-out counts of the global adapter, noised ─► debit (fsync) ─► local steps ─► update
//! ```
//!
//! # Contract
//! Runs on a thread for blocking work. With differential privacy, nothing is computed from rows before their debit
//! is on the disk; what a cancelled or failed round has been charged stays charged. Losses and counts of training
//! rows come from them without noise: with differential privacy they are not logged, without it at `debug` only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blindsum_adapter::Adapter;
use blindsum_engine::data::{Example, RowStore};
use blindsum_engine::local::{LocalError, LocalTrainer, StepPrivacy, TrainSpec, os_rng};
use blindsum_engine::{self as engine, Engine, EngineError};
use blindsum_protocol::HeldOutCounts;
use blindsum_protocol::job::MetricsMode;
use blindsum_protocol::plan::Plan;
use blindsum_protocol::silo::{MeasuredUpdate, TrainRequest};
use rand::CryptoRng;
use tracing::{debug, info, warn};

use crate::agent::allowance::{self, Allowance};
use crate::agent::doing::StepCount;
use crate::agent::error::AgentError;
use crate::mutant::SiloMutant;

/// Held-out rows looked at between two looks at the cancel flag.
const CHUNK: usize = 256;

/// How long a thread that holds an update back sleeps between two looks at the cancel flag.
const NAP: Duration = Duration::from_millis(50);

/// How a request ended.
pub(crate) enum Trained {
    /// With an update.
    Update(MeasuredUpdate),
    /// It cannot be done; says why.
    Failed(AgentError),
    /// The ledger cannot be written: the agent must end, as with its journal.
    Fatal(AgentError),
    /// It was cancelled.
    Cancelled,
}

/// Engine, rows and accounts of this silo.
pub(crate) struct Trainer {
    plan: Arc<Plan>,
    engine: Box<dyn Engine + Send>,
    local: LocalTrainer,
    held_out: RowStore,
    allowance: Option<Allowance>,
}

impl Trainer {
    pub fn new(
        plan: Arc<Plan>,
        engine: Box<dyn Engine + Send>,
        (train, held_out): (RowStore, RowStore),
        spec: TrainSpec,
        allowance: Option<Allowance>,
    ) -> Result<Self, AgentError> {
        let local = LocalTrainer::new(train, spec)?;
        Ok(Self { plan, engine, local, held_out, allowance })
    }

    /// Does what the machine asks for.
    pub fn run(&mut self, request: &TrainRequest, cancel: &AtomicBool, steps: &StepCount) -> Trained {
        match self.update(request, cancel, steps) {
            Ok(update) => Trained::Update(update),
            Err(AgentError::Local(LocalError::Stopped)) => Trained::Cancelled,
            Err(AgentError::Ledger(error)) if !error.spent_up() => Trained::Fatal(error.into()),
            Err(error) => Trained::Failed(error),
        }
    }

    /// Waits until an update that was asked for at `asked` may leave: training takes longer the more rows and tokens were
    /// drawn, and counting the more are held out, so that the time at which an update leaves would tell. False when
    /// cancelled meanwhile: then it may not leave.
    pub fn hold_back(&self, request: &TrainRequest, asked: Instant, cancel: &AtomicBool) -> bool {
        let Some(every) = self.plan.job().deadlines.release_seconds else { return true };
        if SiloMutant::NoReleaseTime.lives() {
            return true;
        }
        let (every, elapsed) = (Duration::from_secs(u64::from(every)), asked.elapsed());
        let release = release(elapsed, every);
        if release > every {
            warn!(
                event = "late_release",
                round = request.at.round,
                attempt = request.at.attempt,
                "training took {:.1} s, longer than deadlines.release_seconds = {}: the update leaves at {} s, which shows the \
                 others that it was long. Agree on a longer one, or use a faster machine",
                elapsed.as_secs_f64(),
                every.as_secs(),
                release.as_secs()
            );
        }
        hold_until(asked + release, cancel)
    }

    fn update(
        &mut self,
        request: &TrainRequest,
        cancel: &AtomicBool,
        progress: &StepCount,
    ) -> Result<MeasuredUpdate, AgentError> {
        let go_on = || !cancel.load(Ordering::Relaxed);
        let (round, attempt) = (request.at.round, request.at.attempt);
        // the machine hands out states of this plan only
        let plan = Arc::clone(&self.plan);
        let adapter = plan.state().adapter(&request.global);
        let mut rng = os_rng()?;
        let held_out = self.held_out_counts((round, attempt), adapter, &mut rng, &go_on)?;
        if !request.kind.trains() {
            return Ok(MeasuredUpdate { update: Vec::new(), held_out });
        }
        if !go_on() {
            return Err(LocalError::Stopped.into());
        }
        let steps = self.local.spec().local_steps;
        if !SiloMutant::DebitAfterTraining.lives() {
            self.debit(round, attempt, u64::from(steps))?;
        }
        info!(event = "training", round, attempt, steps, "round {round}: training {steps} steps");
        let started = Instant::now();
        let mut before_step = |done: u32| {
            debug!(event = "training_step", round, attempt, done, steps, "step");
            progress.set(done);
            go_on()
        };
        let local = self.local.round(&mut *self.engine, round, adapter, &mut rng, &mut before_step)?;
        if SiloMutant::DebitAfterTraining.lives() {
            self.debit(round, attempt, u64::from(steps))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        match self.local.spec().privacy {
            StepPrivacy::RecordDp { .. } => debug!(event = "trained", round, attempt, seconds, "trained"),
            StepPrivacy::None { .. } => debug!(
                event = "trained",
                round,
                attempt,
                seconds,
                drawn = local.drawn,
                empty_batches = local.empty_batches,
                mean_loss = local.mean_loss,
                "trained; these numbers come from training rows and stay here"
            ),
        }
        Ok(MeasuredUpdate { update: local.values, held_out })
    }

    /// Writes the debit and says what is spent.
    fn debit(&mut self, round: u32, attempt: u32, steps: u64) -> Result<(), AgentError> {
        let Some(allowance) = &mut self.allowance else { return Ok(()) };
        let spent = allowance.train(round, attempt, steps)?;
        let (account, limit) = (allowance.account(), allowance.ledger().limit());
        info!(
            event = "ledger",
            round,
            attempt,
            steps,
            epsilon_so_far = spent.in_job,
            epsilon_over_jobs = spent.over_jobs,
            delta = account.delta,
            "round {round}: ε so far {:.4} of the job's {:.4} at δ = {:e}; over all jobs {:.4} of {:.4}",
            spent.in_job,
            account.epsilon_limit,
            account.delta,
            spent.over_jobs,
            limit.max_epsilon
        );
        Ok(())
    }

    /// Held-out counts that may leave: with noise where the job has privacy, none where they cannot be charged for.
    fn held_out_counts(
        &mut self,
        (round, attempt): (u32, u32),
        global: Adapter<'_>,
        rng: &mut impl CryptoRng,
        go_on: &dyn Fn() -> bool,
    ) -> Result<HeldOutCounts, AgentError> {
        if self.plan.job().aggregation.metrics == MetricsMode::Off {
            return Ok(HeldOutCounts::default());
        }
        if let StepPrivacy::None { .. } = self.local.spec().privacy {
            return self.measure(global, go_on);
        }
        let Some(allowance) = &mut self.allowance else { return Ok(HeldOutCounts::default()) };
        match allowance.count(round, attempt) {
            Ok(Some(_)) if SiloMutant::ExactCounts.lives() => self.measure(global, go_on),
            Ok(Some(noise)) => Ok(allowance::noised(self.measure(global, go_on)?, &noise, rng)?),
            Ok(None) => Ok(HeldOutCounts::default()),
            Err(error) if error.spent_up() => {
                warn!(event = "no_counts", round, attempt, "this silo sends no held-out counts: {error}");
                Ok(HeldOutCounts::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Held-out counts of the adapter that the round starts from.
    fn measure(&mut self, global: Adapter<'_>, go_on: &dyn Fn() -> bool) -> Result<HeldOutCounts, AgentError> {
        let mut counts = HeldOutCounts::default();
        for start in (0..self.held_out.len()).step_by(CHUNK) {
            if !go_on() {
                return Err(LocalError::Stopped.into());
            }
            let end = (start + CHUNK).min(self.held_out.len());
            let chunk: Vec<Example> = (start..end).map(|i| self.held_out.get(i)).collect();
            let examples: Vec<&Example> = chunk.iter().collect();
            let result = engine::evaluate(&mut *self.engine, global, &examples)?;
            let count = |n: u64| u32::try_from(n).map_err(|_| EngineError::Argument("too many held-out rows".into()));
            counts.examples = counts.examples.saturating_add(count(result.counted)?);
            counts.correct = counts.correct.saturating_add(count(result.correct)?);
        }
        Ok(counts)
    }
}

/// When an update leaves that took `elapsed`, both from when it was asked for: at the next multiple of `every`.
fn release(elapsed: Duration, every: Duration) -> Duration {
    let multiples = elapsed.as_nanos().div_ceil(every.as_nanos().max(1)).max(1);
    every.saturating_mul(u32::try_from(multiples).unwrap_or(u32::MAX))
}

/// Whether the time came before the flag.
fn hold_until(time: Instant, cancel: &AtomicBool) -> bool {
    while !cancel.load(Ordering::Relaxed) {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(NAP));
    }
    false
}

#[cfg(test)]
mod tests;
