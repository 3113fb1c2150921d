//! DistilBERT (Sanh et al. 2019), as Hugging Face's `DistilBertConfig` and `DistilBertForSequenceClassification` name
//! its parts: no token types, no pooler, a head of two layers.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{check_activation, default_activation, default_initializer_range, parse, stacked, token};
use crate::shape::{ConfigKeys, Dimensions};
use crate::{BaseShape, Family, Module, ShapeError};

/// Linear layers inside `transformer.layer.<i>`, in order.
pub(super) const LAYER: [&str; 6] =
    ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"];

const KEYS: ConfigKeys = ConfigKeys {
    hidden: "dim",
    layers: "n_layers",
    intermediate: "hidden_dim",
    heads: "n_heads",
    heads_must_divide: "it must divide dim",
    positions: "max_position_embeddings",
    norm_eps: "layer_norm_eps",
};

/// Hugging Face writes this number in the code of the model, not in its `config.json`.
const LAYER_NORM_EPS: f64 = 1e-12;

/// The keys of `config.json` that are read.
#[derive(Deserialize)]
struct DistilBertConfig {
    dim: usize,
    n_layers: usize,
    hidden_dim: usize,
    n_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_initializer_range")]
    initializer_range: f64,
    pad_token_id: Option<i64>,
    #[serde(default = "default_activation")]
    activation: String,
}

pub(super) fn read(config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    let raw: DistilBertConfig = parse(config)?;
    check_activation("activation", &raw.activation)?;
    Ok(Dimensions {
        family: Family::DistilBert,
        keys: KEYS,
        hidden: raw.dim,
        layers: raw.n_layers,
        intermediate: raw.hidden_dim,
        heads: raw.n_heads,
        vocab: raw.vocab_size,
        position_rows: raw.max_position_embeddings,
        first_position: 0,
        token_types: None,
        norm_eps: LAYER_NORM_EPS,
        initializer_range: raw.initializer_range,
        pad_token: token(Some(raw.pad_token_id.unwrap_or(0))),
        decoder: None,
    })
}

pub(super) fn linear_layers(shape: &BaseShape) -> Vec<Module> {
    stacked("distilbert.transformer.layer", shape.layers, LAYER, shape.hidden, shape.intermediate)
}
