//! Rotary positions in `config.json`: `rope_theta` and `rope_scaling`, or both in one table `rope_parameters`.

use serde::Deserialize;

use crate::ShapeError;
use crate::decoder::{Rotary, RotaryScaling};

/// Base of the frequencies where the file gives none.
const DEFAULT_THETA: f64 = 10_000.0;

/// The keys at the top of `config.json`.
#[derive(Deserialize)]
pub(super) struct RawRotary {
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeTable>,
    rope_parameters: Option<RopeTable>,
    partial_rotary_factor: Option<f64>,
}

/// A table of settings; older files write `type` for `rope_type`.
#[derive(Deserialize)]
struct RopeTable {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl RawRotary {
    /// `positions` stands in for `original_max_position_embeddings` where that is not given.
    pub(super) fn read(self, positions: usize) -> Result<Rotary, ShapeError> {
        let table = self.rope_parameters.or(self.rope_scaling);
        let theta = table.as_ref().and_then(|t| t.rope_theta).or(self.rope_theta).unwrap_or(DEFAULT_THETA);
        if !(theta.is_finite() && theta > 1.0) {
            return refuse("rope_theta", theta.to_string(), "a finite number above 1");
        }
        let partial = table.as_ref().and_then(|t| t.partial_rotary_factor).or(self.partial_rotary_factor);
        if let Some(partial) = partial.filter(|&p| p != 1.0) {
            return refuse("partial_rotary_factor", partial.to_string(), "1, or the key left out");
        }
        let scaling = match &table {
            None => RotaryScaling::None,
            Some(table) => table.scaling(positions)?,
        };
        Ok(Rotary { theta, scaling })
    }
}

impl RopeTable {
    fn scaling(&self, positions: usize) -> Result<RotaryScaling, ShapeError> {
        let kind = self.rope_type.as_deref().unwrap_or("default");
        let number = |key, value: Option<f64>| match value {
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            Some(x) => refuse(key, x.to_string(), "a finite number above 0"),
            None => refuse(key, "nothing".to_owned(), "a number: this rope_type needs it"),
        };
        match kind {
            "default" => Ok(RotaryScaling::None),
            "linear" => Ok(RotaryScaling::Linear { factor: number("rope_scaling.factor", self.factor)? }),
            "llama3" => {
                let scaling = RotaryScaling::Llama3 {
                    factor: number("rope_scaling.factor", self.factor)?,
                    low_freq_factor: number("rope_scaling.low_freq_factor", self.low_freq_factor)?,
                    high_freq_factor: number("rope_scaling.high_freq_factor", self.high_freq_factor)?,
                    original_positions: self.original_max_position_embeddings.unwrap_or(positions as f64),
                };
                match scaling {
                    RotaryScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } if high <= low => {
                        refuse("rope_scaling.high_freq_factor", high.to_string(), "more than low_freq_factor")
                    }
                    fine => Ok(fine),
                }
            }
            other => {
                let value = format!("{:?}", other.chars().take(64).collect::<String>());
                refuse("rope_scaling.rope_type", value, "\"default\", \"linear\" and \"llama3\"")
            }
        }
    }
}

fn refuse<T>(key: &'static str, value: String, supported: &'static str) -> Result<T, ShapeError> {
    Err(ShapeError::Unsupported { key, value, supported })
}
