//! What the rest of the silo asks of a training engine: gradients and logits over plain `f32` vectors.
//!
//! ```text
//! LocalTrainer ──► Engine::clipped_sum(adapter, kind, units, clip)  ──► Σ clipped gradients of the units, as integers
//!              └─► Engine::gradient_sum(adapter, kind, batch)        ──► Σ gradients, without privacy
//! evaluate     ──► Engine::outcomes(adapter, examples)               ──► how well each is answered
//! predict      ──► Engine::logits(adapter, examples)                 ──► one row per example
//! ```
//!
//! Contract: an [`Adapter`] is flat `f32` vectors in the order of [`AdapterLayout`]; the engine keeps no state between
//! calls that changes a result. The engine on libtorch is `blindsum-torch`; the protocol's tests bring one of their own.

use blindsum_adapter::{Adapter, AdapterLayout, RoundKind};
use blindsum_files::{ExitCode, Exits};
use thiserror::Error;

use crate::data::{Example, Target};
#[cfg(doc)]
use crate::grid;

/// Why an engine could not be made or could not compute.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The base model's files are missing, unreadable or of another architecture.
    #[error("{0}")]
    Model(String),
    /// An argument does not fit the model: a bug of the caller, except for examples longer than the model reads.
    #[error("{0}")]
    Argument(String),
    /// libtorch refused an operation (out of memory, for example).
    #[error("libtorch: {0}")]
    Torch(String),
}

impl Exits for EngineError {
    fn exit_code(&self) -> ExitCode {
        match self {
            EngineError::Model(_) | EngineError::Argument(_) => ExitCode::Data,
            EngineError::Torch(_) => ExitCode::Internal,
        }
    }
}

/// What one batch contributes without privacy.
#[derive(Clone, Debug, Default)]
pub struct GradientSum {
    /// Sum over the batch of the gradient of each example's own loss, over the values that the round trains
    /// ([`AdapterLayout::trained`]); zeros for an empty batch.
    pub sum: Vec<f32>,
    /// Cross-entropy of each example, in the order of the batch. Derived from training rows: never leaves the silo.
    pub losses: Vec<f32>,
}

/// What one batch contributes under privacy, before noise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClippedSum {
    /// Sum over the units of each one's own clipped gradient on the [`grid`] of the clip norm, over the values that the
    /// round trains ([`AdapterLayout::trained`]); zeros without units.
    pub sum: Vec<i64>,
    /// Cross-entropy of each example, unit after unit. Derived from training rows: never leaves the silo.
    pub losses: Vec<f32>,
    /// L2 norm of each unit's gradient before clipping, in their order. Derived from training rows: never leaves the
    /// silo.
    pub norms: Vec<f64>,
}

/// A base model with an adapter's layout on top.
pub trait Engine {
    /// The layout that every `adapter` argument must have.
    fn layout(&self) -> &AdapterLayout;

    /// Sums over `batch` the gradient of each example's cross-entropy with respect to what `kind` trains. Where the model
    /// continues texts, an example's cross-entropy is the mean over its own predicted tokens. The order and grouping of
    /// the batch change the result only by rounding.
    fn gradient_sum(
        &mut self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        batch: &[&Example],
    ) -> Result<GradientSum, EngineError>;

    /// Sums over `units` what [`grid::add_clipped`] makes of each one's own gradient, the plain sum of its examples': it is
    /// scaled to an L2 norm over all trained coordinates of at most `clip_norm` (Abadi et al. 2016) and truncated onto the
    /// grid; one that is not finite contributes zero. A unit is all of a batch that belongs to one whom privacy protects:
    /// an example ([`each_alone`]), or those of one person.
    ///
    /// What a unit contributes is bit for bit what it contributes alone, whatever else is in the batch: with the sum of a
    /// batch `S`, `S(D + u) = S(D) + S(u)` in integers, and `‖S(u)‖ ≤ clip_norm`, however many examples `u` has.
    fn clipped_sum(
        &mut self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        units: &[&[Example]],
        clip_norm: f64,
    ) -> Result<ClippedSum, EngineError>;

    /// The classifier's outputs, one row of `labels` numbers for each example, in order; where the model continues texts,
    /// a row of logits for the token after each example's last. What the examples should lead to is not read.
    fn logits(&mut self, adapter: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Vec<f32>>, EngineError>;

    /// How well each example is answered, in order.
    fn outcomes(&mut self, adapter: Adapter<'_>, examples: &[&Example]) -> Result<Vec<Outcome>, EngineError> {
        let logits = self.logits(adapter, examples)?;
        examples.iter().zip(logits).map(|(example, logits)| Outcome::of_logits(example, &logits)).collect()
    }
}

/// Each example as a unit of its own.
pub fn each_alone<'a>(batch: &[&'a Example]) -> Vec<&'a [Example]> {
    batch.iter().map(|example| std::slice::from_ref(*example)).collect()
}

/// How well one example is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Answers looked at: 1 for a label, the predicted tokens of a text.
    pub counted: u32,
    /// Those whose largest logit is the right one.
    pub correct: u32,
    /// Cross-entropy, the mean over what was counted; 0 where nothing was.
    pub loss: f64,
}

impl Outcome {
    /// That of a labelled example.
    ///
    /// # Errors
    /// If the example has no label or one beyond the logits.
    pub fn of_logits(example: &Example, logits: &[f32]) -> Result<Self, EngineError> {
        let label = match example.target {
            Target::Label(label) => label as usize,
            Target::After(_) | Target::Unknown => {
                return Err(EngineError::Argument("an example has no label".to_owned()));
            }
        };
        let Some(&own) = logits.get(label) else {
            return Err(EngineError::Argument(format!("an example has label {label} of {}", logits.len())));
        };
        let top = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
        let rest: f64 = logits.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        let loss = rest.ln() + top - f64::from(own);
        Ok(Outcome { counted: 1, correct: u32::from(best(logits) == label), loss })
    }
}

/// How well an adapter does on held-out examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Examples looked at.
    pub examples: u64,
    /// Answers looked at: as many as examples for labels, else the predicted tokens of all.
    pub counted: u64,
    /// Those whose largest logit is the right one (the first of equals).
    pub correct: u64,
    /// Mean over the examples of each one's cross-entropy; 0 without examples.
    pub mean_loss: f64,
}

impl Evaluation {
    /// Share of correct answers; 0 without any.
    pub fn accuracy(&self) -> f64 {
        if self.counted == 0 { 0.0 } else { self.correct as f64 / self.counted as f64 }
    }
}

/// Evaluates `adapter` on examples.
pub fn evaluate(
    engine: &mut dyn Engine,
    adapter: Adapter<'_>,
    examples: &[&Example],
) -> Result<Evaluation, EngineError> {
    let mut result = Evaluation { examples: examples.len() as u64, ..Evaluation::default() };
    let mut loss = 0.0;
    for outcome in engine.outcomes(adapter, examples)? {
        result.counted += u64::from(outcome.counted);
        result.correct += u64::from(outcome.correct);
        loss += outcome.loss;
    }
    if result.examples > 0 {
        result.mean_loss = loss / result.examples as f64;
    }
    Ok(result)
}

/// Index of the largest logit, the first of equals; 0 for an empty row.
pub fn best(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in logits.iter().enumerate() {
        if *x > logits[best] {
            best = i;
        }
    }
    best
}
