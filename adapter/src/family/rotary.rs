//! Rotary positions in `config.json`: `rope_theta` and `rope_scaling`, or both in one table `rope_parameters`.
//!
//! Contract: what Transformers computes from the same keys. Where two of them say the same thing differently it takes one
//! without a word; here that is refused with both names.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keys::shown;
use crate::ShapeError;
use crate::decoder::{Rotary, RotaryScaling};

/// Base of the frequencies where the file gives none.
const DEFAULT_THETA: f64 = 10_000.0;

/// The keys at the top of `config.json`.
#[derive(Deserialize)]
pub(super) struct RawRotary {
    rope_theta: Option<f64>,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// A table of settings; older files write `type` for `rope_type`, and some both.
#[derive(Default, Deserialize)]
struct RopeTable {
    #[serde(skip)]
    names: Names,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

/// What its keys are called in messages.
#[derive(Clone, Copy)]
struct Names {
    table: &'static str,
    kind: &'static str,
    theta: &'static str,
    factor: &'static str,
    low: &'static str,
    high: &'static str,
    original: &'static str,
}

const SCALING: Names = Names {
    table: "rope_scaling",
    kind: "rope_scaling.rope_type",
    theta: "rope_scaling.rope_theta",
    factor: "rope_scaling.factor",
    low: "rope_scaling.low_freq_factor",
    high: "rope_scaling.high_freq_factor",
    original: "rope_scaling.original_max_position_embeddings",
};

const PARAMETERS: Names = Names {
    table: "rope_parameters",
    kind: "rope_parameters.rope_type",
    theta: "rope_parameters.rope_theta",
    factor: "rope_parameters.factor",
    low: "rope_parameters.low_freq_factor",
    high: "rope_parameters.high_freq_factor",
    original: "rope_parameters.original_max_position_embeddings",
};

impl Default for Names {
    fn default() -> Self {
        SCALING
    }
}

impl RawRotary {
    /// `positions` stands in for `original_max_position_embeddings` where that is not given.
    pub(super) fn read(self, positions: usize) -> Result<Rotary, ShapeError> {
        // an empty table is none
        let table = |table: &Option<Map<String, Value>>| table.clone().filter(|table| !table.is_empty());
        match (table(&self.rope_scaling), table(&self.rope_parameters)) {
            (None, None) => self.rotary(RopeTable::default(), positions),
            (Some(table), None) => self.rotary(RopeTable::read(SCALING, table)?, positions),
            (None, Some(table)) => self.rotary(RopeTable::read(PARAMETERS, table)?, positions),
            (Some(scaling), Some(parameters)) => {
                let (first, second) = (Value::Object(scaling.clone()), Value::Object(parameters.clone()));
                let rotary = self.rotary(RopeTable::read(SCALING, scaling)?, positions)?;
                if self.rotary(RopeTable::read(PARAMETERS, parameters)?, positions).as_ref() != Ok(&rotary) {
                    return Err(ShapeError::contradiction(("rope_scaling", &first), ("rope_parameters", &second)));
                }
                Ok(rotary)
            }
        }
    }

    fn rotary(&self, table: RopeTable, positions: usize) -> Result<Rotary, ShapeError> {
        let theta = one((table.names.theta, table.rope_theta), ("rope_theta", self.rope_theta))?;
        let theta = theta.unwrap_or(DEFAULT_THETA);
        if !(theta.is_finite() && theta > 1.0) {
            return refuse("rope_theta", theta.to_string(), "a finite number above 1");
        }
        let partial = table.partial_rotary_factor.filter(|&p| p != 1.0).or(self.partial_rotary_factor);
        if let Some(partial) = partial.filter(|&p| p != 1.0) {
            return refuse("partial_rotary_factor", partial.to_string(), "1, or the key left out");
        }
        Ok(Rotary { theta, scaling: table.scaling(self.original_max_position_embeddings, positions)? })
    }
}

impl RopeTable {
    fn read(names: Names, table: Map<String, Value>) -> Result<Self, ShapeError> {
        let name = names.table;
        if let Some((kind, _)) = table.iter().find(|(_, value)| value.is_object()) {
            let value = format!("a table with another in it ({})", shown(&json!(kind)));
            return refuse(name, value, "the same positions in every layer");
        }
        match serde_json::from_value(Value::Object(table)) {
            Ok(table) => Ok(RopeTable { names, ..table }),
            Err(e) => Err(ShapeError::Unreadable(format!("{name}: {e}"))),
        }
    }

    /// `outer`: `original_max_position_embeddings` outside the table.
    fn scaling(&self, outer: Option<f64>, positions: usize) -> Result<RotaryScaling, ShapeError> {
        let names = self.names;
        if let (Some(kind), Some(older)) = (&self.rope_type, &self.older_type)
            && kind != older
        {
            return Err(ShapeError::contradiction((names.kind, &json!(kind)), ("type", &json!(older))));
        }
        let kind = self.rope_type.as_deref().or(self.older_type.as_deref()).unwrap_or("default");
        let number = |key, value: Option<f64>| match value {
            Some(x) if x.is_finite() && x > 0.0 => Ok(x),
            Some(x) => refuse(key, x.to_string(), "a finite number above 0"),
            None => refuse(key, "nothing".to_owned(), "a number: this rope_type needs it"),
        };
        match kind {
            "default" => Ok(RotaryScaling::None),
            "linear" => Ok(RotaryScaling::Linear { factor: number(names.factor, self.factor)? }),
            "llama3" => {
                let inner = (names.original, self.original_max_position_embeddings);
                let original = one(inner, ("original_max_position_embeddings", outer))?;
                let scaling = RotaryScaling::Llama3 {
                    factor: number(names.factor, self.factor)?,
                    low_freq_factor: number(names.low, self.low_freq_factor)?,
                    high_freq_factor: number(names.high, self.high_freq_factor)?,
                    original_positions: original.unwrap_or(positions as f64),
                };
                match scaling {
                    RotaryScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } if high <= low => {
                        refuse(names.high, high.to_string(), "more than low_freq_factor")
                    }
                    fine => Ok(fine),
                }
            }
            other => refuse(names.kind, shown(&json!(other)), "\"default\", \"linear\" and \"llama3\""),
        }
    }
}

/// The number that two keys give, or one of them.
fn one(
    (first, x): (&'static str, Option<f64>),
    (second, y): (&'static str, Option<f64>),
) -> Result<Option<f64>, ShapeError> {
    match (x, y) {
        (Some(x), Some(y)) if x != y => Err(ShapeError::contradiction((first, &json!(x)), (second, &json!(y)))),
        _ => Ok(x.or(y)),
    }
}

fn refuse<T>(key: &'static str, value: String, supported: &'static str) -> Result<T, ShapeError> {
    Err(ShapeError::Unsupported { key, value, supported })
}
