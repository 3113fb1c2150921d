//! How an adapter is trained, in the words of the job: what a silo does in one round, and how its records are protected.
//!
//! ```text
//! job [training], [privacy] ─► LocalTraining ─► local steps
//! ```
//!
//! Contract: plain values that were checked where they were written (the job); nothing here is computed from rows.

mod schedule;

use serde::{Deserialize, Serialize};

pub use schedule::{LearningRate, Schedule};

/// What a silo does in one round, and how often, as everybody agreed on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalTraining {
    /// Optimiser steps per round.
    pub local_steps: u32,
    /// What each step's sum of gradients is divided by.
    pub expected_batch: u32,
    /// The optimiser; its state starts afresh in each round.
    pub optimizer: Optimizer,
    /// The learning rate of every round.
    pub learning_rate: LearningRate,
    /// How records are protected.
    pub protection: Protection,
    /// Trainings that each silo's privacy budget has to cover: the rounds and the spare ones.
    pub charged_rounds: u32,
}

/// Which optimiser runs inside a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Plain stochastic gradient descent, no momentum.
    Sgd,
    /// Adam with the constants [`ADAM`] and no weight decay.
    AdamW,
}

/// The constants of `optimizer = "adamw"`, part of the job's contract because the coordinate bound depends on them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConstants {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// What every silo uses: the values of Kingma & Ba (ICLR 2015).
pub const ADAM: AdamConstants = AdamConstants { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// Whom differential privacy protects: what a step draws, clips and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivacyUnit {
    /// A record, which is one row.
    Record,
    /// A person with all its rows.
    Person {
        /// Most rows of one person that count; at least 1.
        rows_max: u32,
    },
}

impl PrivacyUnit {
    /// In a sentence: a `record`, a `person`.
    pub fn noun(self) -> &'static str {
        match self {
            PrivacyUnit::Record => "record",
            PrivacyUnit::Person { .. } => "person",
        }
    }
}

/// In a sentence: for each `training row`, each `person`.
impl std::fmt::Display for PrivacyUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PrivacyUnit::Record => "training row",
            PrivacyUnit::Person { .. } => "person",
        })
    }
}

/// How records are protected, with exactly the numbers that the mode needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Protection {
    /// DP-SGD.
    RecordDp {
        /// What the numbers below count.
        unit: PrivacyUnit,
        /// Probability with which each unit of every silo enters a step.
        sampling_rate: f64,
        /// Standard deviation of every silo's noise on each step's sum, divided by `clip_norm`.
        noise_multiplier: f64,
        /// L2 bound on each unit's gradient.
        clip_norm: f64,
        /// Most units of a step: a larger draw is cut.
        batch_max: u32,
        /// ε that these come to at most over the whole job, as the job states it.
        epsilon: f64,
        /// δ of the same guarantee.
        delta: f64,
    },
    /// Secure aggregation alone.
    None {
        /// L2 bound on each step's mean gradient.
        max_grad_norm: f64,
    },
}
