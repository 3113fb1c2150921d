//! GPT-2 (Radford et al. 2019), as Hugging Face's `GPT2Config` and `GPT2LMHeadModel` name its parts: layer norms before
//! each block, a table of positions, one layer for query, key and value together.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::llama::OneOrMore;
use super::{default_initializer_range, parse, token};
use crate::decoder::{Activation, Biases, DecoderShape};
use crate::shape::{ConfigKeys, Dimensions};
use crate::{BaseShape, Family, Module, ShapeError};

/// Linear layers inside `transformer.h.<i>`, in order.
pub(super) const LAYER: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

const KEYS: ConfigKeys = ConfigKeys {
    hidden: "n_embd",
    layers: "n_layer",
    intermediate: "n_inner",
    heads: "n_head",
    heads_must_divide: "it must divide n_embd",
    positions: "n_positions",
    norm_eps: "layer_norm_epsilon",
};

/// The keys of `config.json` that are read, with the defaults of Hugging Face's `GPT2Config`.
#[derive(Deserialize)]
struct Gpt2Config {
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    vocab_size: usize,
    n_positions: usize,
    #[serde(default = "default_layer_norm_epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default = "default_initializer_range")]
    initializer_range: f64,
    pad_token_id: Option<i64>,
    eos_token_id: Option<OneOrMore>,
    #[serde(default = "default_activation")]
    activation_function: String,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn default_layer_norm_epsilon() -> f64 {
    1e-5
}
fn default_activation() -> String {
    "gelu_new".to_owned()
}
fn yes() -> bool {
    true
}

pub(super) fn read(config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    let raw: Gpt2Config = parse(config)?;
    let activation = match raw.activation_function.as_str() {
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "gelu" => Activation::Gelu,
        other => {
            let value = format!("{:?}", other.chars().take(64).collect::<String>());
            let supported = "\"gelu_new\", \"gelu_pytorch_tanh\" and \"gelu\"";
            return Err(ShapeError::Unsupported { key: "activation_function", value, supported });
        }
    };
    let decoder = DecoderShape {
        kv_heads: raw.n_head,
        head_width: raw.n_embd.checked_div(raw.n_head).unwrap_or(0),
        rotary: None,
        window: None,
        biases: Biases { qkv: true, output: true, feed_forward: true },
        activation,
        tied_embeddings: raw.tie_word_embeddings,
        end_tokens: raw.eos_token_id.map_or_else(Vec::new, OneOrMore::all),
    };
    Ok(Dimensions {
        family: Family::Gpt2,
        keys: KEYS,
        hidden: raw.n_embd,
        layers: raw.n_layer,
        intermediate: raw.n_inner.unwrap_or(4usize.saturating_mul(raw.n_embd)),
        heads: raw.n_head,
        vocab: raw.vocab_size,
        position_rows: raw.n_positions,
        first_position: 0,
        token_types: None,
        norm_eps: raw.layer_norm_epsilon,
        initializer_range: raw.initializer_range,
        pad_token: token(raw.pad_token_id),
        decoder: Some(decoder),
    })
}

/// By layer.
pub(super) fn linear_layers(shape: &BaseShape) -> Vec<Module> {
    let (h, m) = (shape.hidden, shape.intermediate);
    let sizes = [(h, 3 * h), (h, h), (h, m), (m, h)];
    let layer = |i: usize| {
        LAYER.into_iter().zip(sizes).map(move |(name, (in_features, out_features))| Module {
            path: format!("transformer.h.{i}.{name}"),
            in_features,
            out_features,
        })
    };
    (0..shape.layers).flat_map(layer).collect()
}
