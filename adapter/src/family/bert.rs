//! BERT (Devlin et al. 2019), as Hugging Face's `BertConfig` and `BertForSequenceClassification` name its parts.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{check_activation, default_activation, default_initializer_range, parse, stacked, token};
use crate::shape::{ConfigKeys, Dimensions};
use crate::{BaseShape, Family, Module, ShapeError};

/// Linear layers inside `encoder.layer.<i>`, in order.
pub(super) const LAYER: [&str; 6] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

const KEYS: ConfigKeys = ConfigKeys {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    intermediate: "intermediate_size",
    heads: "num_attention_heads",
    heads_must_divide: "it must divide hidden_size",
    positions: "max_position_embeddings",
    norm_eps: "layer_norm_eps",
};

/// The keys of `config.json` that are read, with the defaults of Hugging Face's `BertConfig` where a model may omit
/// them. `RobertaConfig` has the same keys.
#[derive(Deserialize)]
pub(super) struct BertConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_token_types")]
    type_vocab_size: usize,
    #[serde(default = "default_layer_norm_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_initializer_range")]
    initializer_range: f64,
    pad_token_id: Option<i64>,
    #[serde(default = "default_activation")]
    hidden_act: String,
}

fn default_token_types() -> usize {
    2
}
fn default_layer_norm_eps() -> f64 {
    1e-12
}

impl BertConfig {
    /// Checks the settings; `default_pad` where the file names no padding token.
    pub(super) fn dimensions(self, family: Family, default_pad: i64) -> Result<Dimensions, ShapeError> {
        check_activation("hidden_act", &self.hidden_act)?;
        Ok(Dimensions {
            family,
            keys: KEYS,
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            intermediate: self.intermediate_size,
            heads: self.num_attention_heads,
            vocab: self.vocab_size,
            position_rows: self.max_position_embeddings,
            first_position: 0,
            token_types: Some(self.type_vocab_size),
            norm_eps: self.layer_norm_eps,
            initializer_range: self.initializer_range,
            pad_token: token(Some(self.pad_token_id.unwrap_or(default_pad))),
            decoder: None,
        })
    }
}

pub(super) fn read(config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    parse::<BertConfig>(config)?.dimensions(Family::Bert, 0)
}

/// By layer, last the pooler.
pub(super) fn linear_layers(shape: &BaseShape) -> Vec<Module> {
    let (h, m) = (shape.hidden, shape.intermediate);
    let mut layers = stacked("bert.encoder.layer", shape.layers, LAYER, h, m);
    layers.push(Module { path: "bert.pooler.dense".to_owned(), in_features: h, out_features: h });
    layers
}
