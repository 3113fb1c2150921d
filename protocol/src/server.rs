//! `[server]` of a job: what everybody does with the mean of the updates.
//!
//! Contract: closed like every table of the job, and a key that does not belong to the chosen optimiser is refused by
//! name, so that no number stands in a job without effect. The formulas are [`ServerStep`]'s.

use blindsum_adapter::ServerStep;
use serde::{Deserialize, Serialize};

use crate::job::JobError;

/// Smallest `tau`: its square still has all its digits in `f32`.
const MIN_TAU: f64 = 1e-12;

/// The table as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSection {
    /// `fedavg` (default), `fedavgm` or `fedadam`.
    #[serde(default)]
    pub optimizer: ServerOptimizer,
    /// η of `fedavgm` (default 1) and `fedadam` (default 0.01), above 0.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// β of `fedavgm`, 0 to below 1 (default 0.9).
    #[serde(default)]
    pub momentum: Option<f64>,
    /// β₁ of `fedadam`, 0 to below 1 (default 0.9).
    #[serde(default)]
    pub beta1: Option<f64>,
    /// β₂ of `fedadam`, 0 to below 1 (default 0.99).
    #[serde(default)]
    pub beta2: Option<f64>,
    /// τ of `fedadam`, 1e-12 to 1 (default 0.001).
    #[serde(default)]
    pub tau: Option<f64>,
}

/// The server optimisers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerOptimizer {
    /// The mean itself.
    #[default]
    FedAvg,
    /// With momentum.
    FedAvgM,
    /// Adam.
    FedAdam,
}

impl ServerSection {
    /// Checks the table.
    pub(crate) fn step(&self) -> Result<ServerStep, JobError> {
        match self.optimizer {
            ServerOptimizer::FedAvg => {
                absent("server.learning_rate", self.learning_rate, "\"fedavgm\" and \"fedadam\"")?;
                absent("server.momentum", self.momentum, "\"fedavgm\"")?;
                self.no_adam()?;
                Ok(ServerStep::FedAvg)
            }
            ServerOptimizer::FedAvgM => {
                self.no_adam()?;
                Ok(ServerStep::FedAvgM {
                    learning_rate: rate(self.learning_rate, 1.0)?,
                    momentum: decay("server.momentum", self.momentum, 0.9)?,
                })
            }
            ServerOptimizer::FedAdam => {
                absent("server.momentum", self.momentum, "\"fedavgm\"")?;
                let tau = self.tau.unwrap_or(1e-3);
                if !(MIN_TAU..=1.0).contains(&tau) {
                    return Err(JobError::new("server.tau", format!("is {tau}"), "choose 1e-12 to 1"));
                }
                Ok(ServerStep::FedAdam {
                    learning_rate: rate(self.learning_rate, 0.01)?,
                    beta1: decay("server.beta1", self.beta1, 0.9)?,
                    beta2: decay("server.beta2", self.beta2, 0.99)?,
                    tau,
                })
            }
        }
    }

    fn no_adam(&self) -> Result<(), JobError> {
        absent("server.beta1", self.beta1, "\"fedadam\"")?;
        absent("server.beta2", self.beta2, "\"fedadam\"")?;
        absent("server.tau", self.tau, "\"fedadam\"")
    }
}

fn absent(key: &'static str, value: Option<f64>, owner: &str) -> Result<(), JobError> {
    match value {
        None => Ok(()),
        Some(_) => Err(JobError::new(key, "is set", format!("remove it: it belongs to server.optimizer = {owner}"))),
    }
}

fn rate(value: Option<f64>, default: f64) -> Result<f64, JobError> {
    let value = value.unwrap_or(default);
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(JobError::new("server.learning_rate", format!("is {value}"), "give a finite number above 0"))
}

fn decay(key: &'static str, value: Option<f64>, default: f64) -> Result<f64, JobError> {
    let value = value.unwrap_or(default);
    if (0.0..1.0).contains(&value) {
        return Ok(value);
    }
    Err(JobError::new(key, format!("is {value}"), "choose 0 or more, below 1"))
}
