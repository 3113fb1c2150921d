//! `deadlines.release_seconds`, proposed: an update that is held back for longer than training ever takes leaves at a
//! time that shows nothing of what was drawn.
//!
//! ```text
//! seconds of the largest step (given, or timed here) × local_steps × 1.25, rounded up ─► ≤ deadlines.training_seconds
//! ```
//!
//! Contract: what is timed is a step of the job as training takes it, noise and optimiser included, on a batch of
//! `batch_max` units of which every row is as long as the job allows; no row of an organisation is read.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use blindsum_adapter::training::{PrivacyUnit, Protection};
use blindsum_adapter::{StateLayout, TaskKind};
use blindsum_engine::EngineSettings;
use blindsum_engine::data::Example;
use blindsum_engine::local::{LocalError, LocalTrainer, StepPrivacy, TrainSpec, os_rng};
use blindsum_protocol::job::{Job, JobFile};
use blindsum_service::{Document, say};
use blindsum_torch::{FrozenParts, TorchEngine};

use super::base_and_layout;
use super::error::CommandError;

/// What is added for everything that is not a step, and for a machine that has more to do.
const MARGIN: f64 = 1.25;
/// After so long somebody who waits hears for what.
const SILENCE: Duration = Duration::from_secs(2);

/// The proposal for steps of so many seconds.
///
/// # Errors
/// Where the job allows less than that.
pub(super) fn release_seconds(document: &Document, job: &JobFile, step_seconds: f64) -> Result<u32, CommandError> {
    let (steps, allowed) = (job.training.local_steps, job.deadlines.training_seconds);
    let needed = (f64::from(steps) * step_seconds * MARGIN).ceil();
    if needed > f64::from(allowed) {
        let problem = format!(
            "is {allowed}, but {steps} steps of {step_seconds:.3} s and a quarter more are {needed} s: allow so many, or \
             let the job take fewer steps, smaller batches or shorter texts"
        );
        return Err(document.wrong("deadlines.training_seconds", problem).into());
    }
    Ok(needed as u32)
}

/// Seconds of the job's largest step on this machine.
///
/// # Errors
/// Where job, base model or engine are not as they should be.
pub(super) fn timed(job: &Job, model: &Path, settings: EngineSettings) -> Result<f64, CommandError> {
    let (model, layout) = base_and_layout(job, model)?;
    let (spec, _) = TrainSpec::derive(&job.local_training()).map_err(LocalError::from)?;
    let (StepPrivacy::RecordDp { batch_max, noise_multiplier, clip_norm, .. }, Protection::RecordDp { unit, .. }) =
        (spec.privacy, job.protection())
    else {
        return Err(CommandError::Usage("--model: a job without privacy has no largest step".to_owned()));
    };
    let rows_each = match unit {
        PrivacyUnit::Record => 1,
        PrivacyUnit::Person { rows_max } => rows_max,
    };
    let (tokens, vocab) = (job.model.max_sequence_tokens, model.shape().vocab as u32);
    let row = |unit: u32, row: u32| {
        let ids = (0..tokens).map(|place| (unit * 31 + row * 7 + place) % vocab).collect();
        match job.model.task {
            TaskKind::SequenceClassification => Example::labelled(ids, 0),
            TaskKind::CausalLm => Example::text(ids, 0),
        }
    };
    let units: Vec<Vec<Example>> = (0..batch_max).map(|i| (0..rows_each).map(|k| row(i, k)).collect()).collect();
    let state = StateLayout::new(layout, job.server_step(), job.rounds)?;
    let frozen = FrozenParts::from_seed(state.layout());
    let mut engine = TorchEngine::open(&model.weights(), state.layout(), &frozen, settings)?;
    // every unit is drawn
    let privacy = StepPrivacy::RecordDp { q: 1.0, noise_multiplier, clip_norm, batch_max };
    let trainer = LocalTrainer::new(units, TrainSpec { local_steps: 1, privacy, ..spec })?;
    let (now, mut rng) = (state.initial(), os_rng()?);
    let word = format!("# timing a step of {} rows of {tokens} tokens ...", trainer.records());
    unless_done(SILENCE, &word, || {
        let started = Instant::now();
        trainer.round(&mut engine, 1, state.adapter(&now), &mut rng, &mut |_| true)?;
        Ok(started.elapsed().as_secs_f64())
    })
}

/// Does something, and says `word` where it takes longer than `silence`.
fn unless_done<T>(silence: Duration, word: &str, what: impl FnOnce() -> T) -> T {
    let (done, wait) = channel::<()>();
    std::thread::scope(move |scope| {
        scope.spawn(move || {
            if wait.recv_timeout(silence) == Err(RecvTimeoutError::Timeout) {
                say(word);
            }
        });
        let result = what();
        drop(done);
        result
    })
}
