//! A silo's part of one round: local steps on its own rows, and what of them leaves the engine.
//!
//! ```text
//! each step:  Poisson sample ─► Σ gradients ─┬─ record-DP: each clipped to C; + round(N(0, (σC)²)), in integers ─┬─► optimiser
//!             of units                       └─ none: ÷ expected batch, bounded by max_grad_norm ───────────────┘
//! ```
//!
//! A unit is one whom privacy protects: a row, or a person with all its rows. It is drawn whole or not, and its gradient,
//! the sum of its rows', is clipped once.
//!
//! Contract: under record-DP the update depends on the training rows only through the noised sums (Abadi et al. 2016),
//! and a sum of integers on a public grid ([`crate::grid`]) moves by at most C with one unit more or less, exactly;
//! the divisor is the public expected batch size, never the count that was drawn. Losses and counts stay in the silo.
//! The optimiser starts afresh in each round, as the job's contract says, so a round is a function of the global
//! adapter, the rows and the randomness: nothing needs saving, and an attempt that is abandoned leaves no trace.

use blindsum_adapter::training::{ADAM, LearningRate, LocalTraining, Optimizer, Protection};
use blindsum_adapter::{Adapter, StateLayout};
use blindsum_files::{ExitCode, Exits};
use blindsum_privacy::noise::{NoiseError, RoundedGaussian};
use blindsum_privacy::{Mechanism, MechanismError, PoissonSampler};
use rand_chacha::ChaCha12Rng;
use rand_core::{CryptoRng, SeedableRng};
use thiserror::Error;

use crate::data::{Example, RowStore};
use crate::{Engine, EngineError, grid, mutants};

/// How rows are protected in each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepPrivacy {
    /// DP-SGD.
    RecordDp {
        /// Probability with which each unit enters a step.
        q: f64,
        /// Standard deviation of the noise on the sum, divided by `clip_norm`.
        noise_multiplier: f64,
        /// L2 bound on each unit's gradient.
        clip_norm: f64,
        /// Most units of a step: a larger draw is cut.
        batch_max: u32,
    },
    /// No noise; secure aggregation alone protects the update.
    None {
        /// L2 bound on each step's mean gradient.
        max_grad_norm: f64,
    },
}

/// What a silo does in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainSpec {
    /// Optimiser steps.
    pub local_steps: u32,
    /// Expected units per step: what each sum of gradients is divided by.
    pub expected_batch: u32,
    /// The optimiser.
    pub optimizer: Optimizer,
    /// Its learning rate in each round.
    pub learning_rate: LearningRate,
    /// Protection of the rows.
    pub privacy: StepPrivacy,
}

impl TrainSpec {
    /// From the job's words; under record-DP also what the whole job spends. Nothing of it depends on a silo's rows.
    ///
    /// # Errors
    /// Where the job's numbers spend more than its ε.
    pub fn derive(job: &LocalTraining) -> Result<(Self, Option<Mechanism>), MechanismError> {
        let batch = job.expected_batch;
        let (privacy, spent) = match job.protection {
            Protection::None { max_grad_norm } => (StepPrivacy::None { max_grad_norm }, None),
            Protection::RecordDp { unit, sampling_rate: q, noise_multiplier, clip_norm, batch_max, epsilon, delta } => {
                let steps = u64::from(job.charged_rounds) * u64::from(job.local_steps);
                let mechanism = Mechanism::new(q, noise_multiplier, steps, delta, batch_max)?.keeps(epsilon)?;
                let mechanism = mechanism.of(unit.noun());
                (StepPrivacy::RecordDp { q, noise_multiplier, clip_norm, batch_max }, Some(mechanism))
            }
        };
        let spec = TrainSpec {
            local_steps: job.local_steps,
            expected_batch: batch,
            optimizer: job.optimizer,
            learning_rate: job.learning_rate,
            privacy,
        };
        Ok((spec, spent))
    }
}

/// Why a round's local steps gave no update.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The job's privacy cannot be had with these rows.
    #[error("the job cannot be trained on these rows: {0}")]
    Privacy(#[from] MechanismError),
    /// Numbers left the range of f32.
    #[error("training diverged in local step {step}: lower training.learning_rate")]
    Diverged {
        /// Step of the round, from 1.
        step: u32,
    },
    /// The caller asked to stop.
    #[error("local training was stopped")]
    Stopped,
    /// The spec has no meaning.
    #[error("{0}")]
    Spec(String),
    /// No randomness from the operating system.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(String),
}

impl Exits for LocalError {
    fn exit_code(&self) -> ExitCode {
        match self {
            LocalError::Engine(e) => e.exit_code(),
            LocalError::Privacy(_) => ExitCode::Refused,
            LocalError::Diverged { .. } | LocalError::Stopped | LocalError::Spec(_) => ExitCode::Data,
            LocalError::Randomness(_) => ExitCode::Internal,
        }
    }
}

/// A generator seeded by the operating system, for sampling and noise. Nothing has to draw the same words again, so twelve
/// rounds do (Aumasson, "Too Much Crypto", 2019); what follows from a public seed keeps its twenty.
pub fn os_rng() -> Result<ChaCha12Rng, LocalError> {
    let seeded = ChaCha12Rng::try_from_rng(&mut rand::rngs::SysRng);
    seeded.map(mutants::generator).map_err(|e| LocalError::Randomness(e.to_string()))
}

/// What a round's local steps led to. Only `values` may leave the silo, and only through secure aggregation; the rest
/// is derived from training rows without noise.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalUpdate {
    /// Local minus global adapter, over the values that the round trains, in the layout's order.
    pub values: Vec<f32>,
    /// Steps taken.
    pub steps: u32,
    /// Units drawn over all steps: rows, or persons with several.
    pub drawn: u64,
    /// Their rows.
    pub rows: u64,
    /// Steps whose batch was empty.
    pub empty_batches: u32,
    /// Share of drawn units whose gradient was clipped; 0 without record-DP.
    pub clipped: f64,
    /// Mean cross-entropy over drawn rows before each step; `None` where nothing was drawn.
    pub mean_loss: Option<f64>,
}

impl LocalUpdate {
    /// The update as a sum of one, in the numbers that a server's step takes.
    pub fn sum(&self) -> Vec<f64> {
        self.values.iter().map(|&x| f64::from(x)).collect()
    }
}

/// Trains on one silo's rows.
pub struct LocalTrainer {
    train: RowStore,
    spec: TrainSpec,
    sampler: Option<PoissonSampler>,
    protection: StepProtection,
}

/// What is done to the sum of a step.
enum StepProtection {
    /// Each unit's gradient is clipped onto the grid, and the sum gets noise there.
    Noise { clip_norm: f64, noise: RoundedGaussian },
    /// The mean is bounded.
    Bound { max_grad_norm: f64 },
}

impl LocalTrainer {
    /// Takes the training rows; there may be none, in which case every batch is empty.
    ///
    /// # Errors
    /// If a number of `spec` has no meaning.
    pub fn new(train: impl Into<RowStore>, spec: TrainSpec) -> Result<Self, LocalError> {
        let train = train.into();
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let fine = match spec.privacy {
            StepPrivacy::RecordDp { clip_norm, batch_max, .. } => {
                positive(clip_norm) && batch_max as usize <= grid::MOST_UNITS
            }
            StepPrivacy::None { max_grad_norm } => positive(max_grad_norm),
        };
        if !fine || !positive(spec.learning_rate.peak) || spec.expected_batch == 0 {
            return Err(LocalError::Spec(format!("the numbers of {spec:?} have no meaning")));
        }
        let q = match spec.privacy {
            StepPrivacy::RecordDp { q, .. } => q,
            StepPrivacy::None { .. } => (f64::from(spec.expected_batch) / train.len() as f64).min(1.0),
        };
        let sampler = if train.is_empty() { None } else { Some(PoissonSampler::new(q)) };
        let sampler = sampler.transpose().map_err(|e| LocalError::Spec(e.to_string()))?;
        let protection = match spec.privacy {
            StepPrivacy::RecordDp { noise_multiplier, clip_norm, .. } => {
                let wrong = |e: NoiseError| LocalError::Spec(format!("noise_multiplier {noise_multiplier}: {e}"));
                let noise_multiplier = mutants::noise_multiplier(noise_multiplier, train.len());
                let noise = RoundedGaussian::new(noise_multiplier * f64::from(grid::STEPS)).map_err(wrong)?;
                StepProtection::Noise { clip_norm, noise }
            }
            StepPrivacy::None { max_grad_norm } => StepProtection::Bound { max_grad_norm },
        };
        Ok(LocalTrainer { train, spec, sampler, protection })
    }

    /// Training rows held.
    pub fn records(&self) -> usize {
        self.train.len()
    }

    /// What each round does.
    pub fn spec(&self) -> &TrainSpec {
        &self.spec
    }

    /// Takes the steps of round `round` (from 1) from the adapter `global`.
    ///
    /// `before_step` is called with the number of steps done and may stop the round by returning false. Sampling and
    /// noise come from `rng`: [`os_rng`] for everything that leaves the silo.
    ///
    /// # Errors
    /// If the engine fails, training diverges, or `before_step` stops it.
    pub fn round(
        &self,
        engine: &mut dyn Engine,
        round: u32,
        global: Adapter<'_>,
        rng: &mut impl CryptoRng,
        before_step: &mut dyn FnMut(u32) -> bool,
    ) -> Result<LocalUpdate, LocalError> {
        let kind = engine.layout().training_kind(round);
        let trained = engine.layout().trained(kind);
        let mut local = global.values.to_vec();
        let Some(start) = global.values.get(trained.clone()) else {
            return Err(LocalError::Spec("the adapter is shorter than its layout".to_owned()));
        };
        let mut optimizer = OptimizerState::new(self.spec.optimizer, self.spec.learning_rate.at(round), start.len());
        // the update in f64, so that small steps on large values are not lost one by one
        let mut update = vec![0.0f64; start.len()];
        let (mut drawn, mut rows, mut empty_batches, mut clipped, mut loss) = (0u64, 0u64, 0, 0u64, 0.0f64);
        for step in 0..self.spec.local_steps {
            if !before_step(step) {
                return Err(LocalError::Stopped);
            }
            let mut indices = self.sampler.map(|s| s.sample(self.train.units(), rng)).unwrap_or_default();
            if let StepPrivacy::RecordDp { batch_max, .. } = self.spec.privacy {
                // As good as never: the silo takes part only where this costs a hundredth of δ (`Mechanism::allows`).
                indices.truncate(batch_max as usize);
            }
            let units: Vec<Vec<Example>> = indices.into_iter().map(|i| self.train.unit(i)).collect();
            let units: Vec<&[Example]> = units.iter().map(Vec::as_slice).collect();
            let adapter = Adapter { values: &local, ..global };
            let divisor = mutants::divisor(f64::from(self.spec.expected_batch), units.len());
            let (gradient, losses) = match &self.protection {
                StepProtection::Noise { clip_norm, noise } => {
                    let result = engine.clipped_sum(adapter, kind, &units, *clip_norm)?;
                    clipped += result.norms.iter().filter(|&norm| norm > clip_norm).count() as u64;
                    let mut sum = mutants::sum(result.sum, units.len());
                    for _ in 0..mutants::noises(1, units.len()) {
                        noise.add_to(rng, &mut sum).map_err(|e| LocalError::Spec(e.to_string()))?;
                    }
                    let step = grid::step(*clip_norm) / divisor;
                    (sum.into_iter().map(|z| z as f64 * step).collect(), result.losses)
                }
                StepProtection::Bound { max_grad_norm } => {
                    let result =
                        engine.gradient_sum(adapter, kind, &units.iter().copied().flatten().collect::<Vec<_>>())?;
                    // Only here: under record-DP, giving up because of a loss would tell others of a record that was drawn.
                    if !result.losses.is_empty() && result.losses.iter().all(|loss| !loss.is_finite()) {
                        return Err(LocalError::Diverged { step: step + 1 });
                    }
                    let mean = result.sum.into_iter().map(|x| f64::from(x) / divisor).collect();
                    (bounded(mean, *max_grad_norm), result.losses)
                }
            };
            drawn += units.len() as u64;
            rows += losses.len() as u64;
            empty_batches += u32::from(units.is_empty());
            loss += losses.into_iter().map(f64::from).sum::<f64>();
            optimizer.step(&gradient, &mut update);
            for ((local, start), update) in local[trained.clone()].iter_mut().zip(start).zip(&update) {
                *local = (f64::from(*start) + update) as f32;
            }
            if local.iter().any(|x| !x.is_finite()) {
                return Err(LocalError::Diverged { step: step + 1 });
            }
        }
        let share = |count: u64| if drawn == 0 { 0.0 } else { count as f64 / drawn as f64 };
        Ok(LocalUpdate {
            values: update.into_iter().map(|x| x as f32).collect(),
            steps: self.spec.local_steps,
            drawn,
            rows,
            empty_batches,
            clipped: share(clipped),
            mean_loss: (rows > 0).then(|| loss / rows as f64),
        })
    }
}

/// A gradient scaled to a norm of at most `most`.
fn bounded(mut gradient: Vec<f64>, most: f64) -> Vec<f64> {
    let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > most {
        gradient.iter_mut().for_each(|x| *x *= most / norm);
    }
    gradient
}

/// Makes the sum of the updates of a round (from 1).
pub type Summing<'a> = dyn FnMut(u32, &[LocalUpdate]) -> Result<Vec<f64>, LocalError> + 'a;

/// Takes every round of a job in one process, from the state before the first to the one after the last: each trainer's
/// local steps, `sum` of what they led to, and the server's step.
///
/// `before_step` is called before each step of each trainer and may stop by returning false.
///
/// # Errors
/// As [`LocalTrainer::round`], and what `sum` refuses.
pub fn whole_job(
    trainers: &[LocalTrainer],
    engine: &mut dyn Engine,
    state: &StateLayout,
    rounds: u32,
    before_step: &mut dyn FnMut() -> bool,
    sum: &mut Summing<'_>,
) -> Result<Vec<f32>, LocalError> {
    let mut rng = os_rng()?;
    let mut now = state.initial();
    for round in 1..=rounds {
        let adapter = state.adapter(&now);
        let took = trainers
            .iter()
            .map(|trainer| trainer.round(engine, round, adapter, &mut rng, &mut |_| before_step()))
            .collect::<Result<Vec<_>, _>>()?;
        now = state.step(&now, &sum(round, &took)?, trainers.len() as u32, round);
    }
    Ok(now)
}

/// An optimiser within one round.
struct OptimizerState {
    kind: Optimizer,
    learning_rate: f64,
    /// Moments of Adam; empty for SGD.
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl OptimizerState {
    fn new(kind: Optimizer, learning_rate: f64, len: usize) -> Self {
        let len = if kind == Optimizer::AdamW { len } else { 0 };
        OptimizerState { kind, learning_rate, first: vec![0.0; len], second: vec![0.0; len], steps: 0 }
    }

    /// Moves `update` by one step: plain SGD, or Adam (Kingma and Ba 2015, algorithm 1) without weight decay.
    fn step(&mut self, gradient: &[f64], update: &mut [f64]) {
        match self.kind {
            Optimizer::Sgd => {
                for (update, g) in update.iter_mut().zip(gradient) {
                    *update -= self.learning_rate * g;
                }
            }
            Optimizer::AdamW => {
                self.steps = self.steps.saturating_add(1);
                let (c1, c2) = (1.0 - ADAM.beta1.powi(self.steps), 1.0 - ADAM.beta2.powi(self.steps));
                let moments = self.first.iter_mut().zip(&mut self.second);
                for ((update, g), (first, second)) in update.iter_mut().zip(gradient).zip(moments) {
                    *first = ADAM.beta1 * *first + (1.0 - ADAM.beta1) * g;
                    *second = ADAM.beta2 * *second + (1.0 - ADAM.beta2) * g * g;
                    *update -= self.learning_rate * (*first / c1) / ((*second / c2).sqrt() + ADAM.epsilon);
                }
            }
        }
    }
}
