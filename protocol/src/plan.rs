//! The plan: what a job means for this roster and this base model, derived by every silo and the coordinator alike.
//!
//! Contract: a plan is a pure function of job, roster and adapter layout. Nothing in it comes from the coordinator, so
//! that an opening that differs in any parameter is refused (SA-10, SA-14).
//!
//! **Coordinate bound.** The fixed point needs one public bound per coordinate. The default is a worst case: the L2 bound
//! of the whole update used for each single coordinate.
//! - SGD with record-DP: `lr · (steps · C + 6 · √steps · σ_max · C / batch)`: in each step the clipped gradients of the
//!   expected batch, divided by it, have an L2 norm of at most the clip norm C; noise enters each coordinate of a step
//!   with σ·C/batch, independent over steps, and six standard deviations are kept. A Poisson batch larger than expected
//!   with all gradients aligned in one coordinate can exceed this: what exceeds is clipped, and the count of clipped
//!   coordinates travels in the sum.
//! - SGD without DP: `lr · steps · max_grad_norm`.
//! - AdamW: `lr · steps · max(1, (1−β1)/√(1−β2))`, the bound on Adam's effective step of Kingma & Ba (ICLR 2015, §2.1);
//!   there is no weight decay.
//!
//! `lr` is the largest of any round: `training.learning_rate` ([`LearningRate`](adapter::training::LearningRate)).
//!
//! It is coarse (a vector of norm C rarely puts it all in one coordinate); `aggregation.coordinate_bound` overrides it.

use std::sync::Arc;

pub use blindsum_adapter::RoundKind;
use blindsum_adapter::training::{ADAM, Optimizer, Protection};
use blindsum_adapter::{self as adapter, AdapterLayout, LayoutError, StateLayout};
use blindsum_crypto::{Context, Digest, Params, Quorum, QuorumError, Roster, Segment, VerifySum};

use crate::job::{Job, JobError, MetricsMode};
use crate::message::AttemptId;

/// Standard deviations of the noise that the coordinate bound leaves room for: beyond it lies one value in 5·10⁸.
pub const NOISE_TAIL: f64 = 6.0;

/// A job on a roster and a base model.
#[derive(Debug, Clone)]
pub struct Plan {
    job: Job,
    job_digest: Digest,
    federation_id: String,
    roster_hash: Digest,
    roster_version: u32,
    state: StateLayout,
    a_hashes: Vec<[u8; 32]>,
    coordinate_bound: f64,
    /// Of rounds that train B.
    train: Params,
    train_a: Params,
    evaluate: Params,
}

impl Plan {
    /// Derives the plan.
    ///
    /// # Errors
    /// A [`JobError`] that names the key where the job does not fit the roster or the adapter.
    pub fn derive(job: &Job, roster: &Roster, layout: &AdapterLayout) -> Result<Plan, JobError> {
        of_one_federation(job, roster)?;
        if layout.lora() != &job.lora || layout.task() != job.model.task() {
            let problem = "is not what the adapter was laid out from";
            return Err(JobError::new("lora", problem, "lay the adapter out from this job"));
        }
        let aggregation = &job.aggregation;
        let quorum = quorum(job, roster)?;
        let n = quorum.n;
        let coordinate_bound = aggregation.coordinate_bound.unwrap_or_else(|| worst_case(job));
        if !(coordinate_bound.is_finite() && coordinate_bound < f64::from(f32::MAX)) {
            let problem = format!("would be {coordinate_bound} by the worst case of this job");
            return Err(JobError::new("aggregation.coordinate_bound", problem, "lower the learning rate"));
        }
        let metrics = Segment::counts("metrics", metrics_len(aggregation.metrics), n);
        let segments = |kind: RoundKind| {
            let mut segments = Vec::new();
            for (name, length) in layout.segments(kind) {
                let length = u32::try_from(length).expect("a layout has at most 2^28 coordinates");
                let segment = Segment::fixed_point(name, length, aggregation.value_bits, coordinate_bound, n);
                segments.push(segment.map_err(|e| {
                    JobError::new("aggregation.value_bits", format!("does not fit {n} silos: {e}"), "lower it")
                })?);
            }
            segments.push(metrics.clone());
            Ok(segments)
        };
        let params = |segments: Vec<Segment>, noise: bool| Params {
            segments,
            quorum,
            noise,
            verify_sum: aggregation.verify_sum,
            training_deadline_ms: u64::from(job.deadlines.training_seconds) * 1000,
            phase_deadline_ms: u64::from(job.deadlines.phase_seconds) * 1000,
        };
        let train = params(segments(layout.training_kind(1))?, job.is_private());
        let train_a = params(segments(RoundKind::TrainA)?, job.is_private());
        let evaluate = params(segments(RoundKind::Evaluate)?, false);
        for params in [&train, &train_a, &evaluate] {
            params.check().map_err(|e| {
                JobError::new("aggregation.value_bits", format!("gives no sound session: {e}"), "lower it")
            })?;
        }
        let state = StateLayout::new(layout.clone(), job.server_step(), job.rounds).map_err(|e| match e {
            LayoutError::Value { value, why, .. } => JobError::new("lora.refresh_rounds", format!("is {value}"), why),
            other => JobError::new("lora", format!("makes a state that is too large: {other}"), "lower r"),
        })?;
        Ok(Plan {
            job_digest: job.digest(),
            federation_id: roster.federation_id().to_owned(),
            roster_hash: roster.hash(),
            roster_version: roster.version(),
            a_hashes: adapter::a_hashes(layout, state.generations()),
            state,
            job: job.clone(),
            coordinate_bound,
            train,
            train_a,
            evaluate,
        })
    }

    /// The job.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The job's digest.
    pub fn job_digest(&self) -> Digest {
        self.job_digest
    }

    /// The roster's hash.
    pub fn roster_hash(&self) -> Digest {
        self.roster_hash
    }

    /// The adapter's layout.
    pub fn layout(&self) -> &AdapterLayout {
        self.state.layout()
    }

    /// What the job carries from round to round, and how it moves.
    pub fn state(&self) -> &StateLayout {
        &self.state
    }

    /// n, c, t, q, m.
    pub fn quorum(&self) -> Quorum {
        self.train.quorum
    }

    /// Largest magnitude of one coordinate that the sum carries.
    pub fn coordinate_bound(&self) -> f64 {
        self.coordinate_bound
    }

    /// The parameters of a session of this kind, which is one of the job's.
    pub fn params(&self, kind: RoundKind) -> &Params {
        match kind {
            RoundKind::TrainB | RoundKind::TrainBoth => &self.train,
            RoundKind::TrainA => &self.train_a,
            RoundKind::Evaluate => &self.evaluate,
        }
    }

    /// Number of the last round: the training rounds, and the closing one where metrics are on.
    pub fn last_round(&self) -> u32 {
        self.job.rounds + u32::from(self.job.aggregation.metrics == MetricsMode::HeldOut)
    }

    /// What round `round` (from 1) does; `None` if the job does not have it.
    pub fn kind(&self, round: u32) -> Option<RoundKind> {
        match round {
            0 => None,
            _ if round <= self.job.rounds => Some(self.layout().training_kind(round)),
            _ if round <= self.last_round() => Some(RoundKind::Evaluate),
            _ => None,
        }
    }

    /// What silos check sums against before they sign results (SA-16).
    pub fn verify_sum(&self) -> VerifySum {
        self.train.verify_sum
    }

    /// Coordinates of the metrics segment.
    pub fn metrics_len(&self) -> usize {
        metrics_len(self.job.aggregation.metrics) as usize
    }

    /// The state before round 1 ([`StateLayout`]).
    pub fn initial_global(&self) -> Arc<[f32]> {
        self.state.initial().into()
    }

    /// Hash of base model, layout, A of every generation in use and this state, which must be one of the job's by its
    /// length.
    pub fn model_hash(&self, state: &[f32]) -> Digest {
        let generations = self.state.adapter(state).generations(self.layout()).unwrap_or(1);
        let a_hash = self.a_hashes[generations.min(self.a_hashes.len()) - 1];
        Digest(adapter::model_hash(self.job.base(), self.layout(), a_hash, state))
    }

    /// The context of a session, from what its owner itself holds.
    pub fn context(&self, at: AttemptId, kind: RoundKind, previous_result_hash: Digest, model_hash: Digest) -> Context {
        Context {
            federation_id: self.federation_id.clone(),
            roster_hash: self.roster_hash,
            roster_version: self.roster_version,
            job_digest: self.job_digest,
            round: at.round,
            attempt: at.attempt,
            params_hash: self.params(kind).hash(),
            previous_result_hash,
            model_hash,
        }
    }
}

/// A round by the name that people know it by, in a job of `rounds` training rounds.
pub fn round_name(round: u32, rounds: u32) -> String {
    if round <= rounds { format!("round {round} of {rounds}") } else { "the closing measurement".to_owned() }
}

/// n, c, t, q, m of a job among the silos of a roster; no model is needed.
///
/// # Errors
/// A [`JobError`] that names the key where the job does not fit the roster.
pub fn quorum(job: &Job, roster: &Roster) -> Result<Quorum, JobError> {
    of_one_federation(job, roster)?;
    let n = u16::try_from(roster.len()).expect("a roster has at most 1000 entries");
    Quorum::derive(n, job.aggregation.max_colluders, job.aggregation.min_survivors).map_err(|e| match e {
        QuorumError::Survivors { m, least, n } => {
            let remedy = format!("choose {least} to {n}, or leave it out for the least");
            JobError::new("aggregation.min_survivors", format!("is {m}"), remedy)
        }
        e => JobError::new("aggregation.max_colluders", format!("does not fit: {e}"), "lower it or leave it out"),
    })
}

fn of_one_federation(job: &Job, roster: &Roster) -> Result<(), JobError> {
    if job.federation == roster.federation_id() {
        return Ok(());
    }
    let problem = format!("is {:?}, the roster's is {:?}", job.federation, roster.federation_id());
    Err(JobError::new("federation", problem, "use the job and the roster of one federation"))
}

fn metrics_len(mode: MetricsMode) -> u32 {
    match mode {
        MetricsMode::HeldOut => 6,
        MetricsMode::Off => 2,
    }
}

/// The worst case of one coordinate, as argued above.
fn worst_case(job: &Job) -> f64 {
    let training = &job.training;
    let (rate, steps) = (training.learning_rate, f64::from(training.local_steps));
    match (training.optimizer, job.protection()) {
        (Optimizer::AdamW, _) => rate * steps * ((1.0 - ADAM.beta1) / (1.0 - ADAM.beta2).sqrt()).max(1.0),
        (Optimizer::Sgd, Protection::None { max_grad_norm }) => rate * steps * max_grad_norm,
        (Optimizer::Sgd, Protection::RecordDp { clip_norm, noise_multiplier, .. }) => {
            let batch = f64::from(training.expected_batch_examples);
            let noise = NOISE_TAIL * steps.sqrt() * noise_multiplier * clip_norm / batch;
            rate * (steps * clip_norm + noise)
        }
    }
}
