//! Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024), as Hugging Face's `LlamaConfig` and `LlamaForCausalLM`
//! name its parts: RMS norms before each block, rotary positions, a gated feed-forward layer.
//!
//! Mistral and Qwen2 have the same layers under the same names; their files say what differs in `config.json`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::rotary::RawRotary;
use super::{default_initializer_range, parse, token};
use crate::decoder::{Activation, Biases, DecoderShape};
use crate::shape::{ConfigKeys, Dimensions};
use crate::{BaseShape, Family, Module, ShapeError};

/// Linear layers inside `model.layers.<i>`, in order.
pub(super) const LAYER: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

const KEYS: ConfigKeys = ConfigKeys {
    hidden: "hidden_size",
    layers: "num_hidden_layers",
    intermediate: "intermediate_size",
    heads: "num_attention_heads",
    heads_must_divide: "it must divide hidden_size, or head_dim must be given",
    positions: "max_position_embeddings",
    norm_eps: "rms_norm_eps",
};

/// The keys of `config.json` that Llama, Mistral and Qwen2 share, with the defaults of Hugging Face where a model may
/// omit them.
#[derive(Deserialize)]
pub(super) struct LlamaConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_rms_norm_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_initializer_range")]
    initializer_range: f64,
    pad_token_id: Option<i64>,
    eos_token_id: Option<OneOrMore>,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(flatten)]
    rotary: RawRotary,
}

/// `eos_token_id`: a number, or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(u32),
    More(Vec<u32>),
}

impl OneOrMore {
    pub(super) fn all(self) -> Vec<u32> {
        match self {
            OneOrMore::One(id) => vec![id],
            OneOrMore::More(ids) => ids,
        }
    }
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}
fn default_activation() -> String {
    "silu".to_owned()
}

impl LlamaConfig {
    /// Checks the settings; each family adds what is its own.
    pub(super) fn dimensions(self, family: Family) -> Result<Dimensions, ShapeError> {
        if self.hidden_act != "silu" {
            let value = format!("{:?}", self.hidden_act.chars().take(64).collect::<String>());
            return Err(ShapeError::Unsupported { key: "hidden_act", value, supported: "\"silu\"" });
        }
        let head_width = match self.head_dim {
            Some(width) => width,
            None if self.num_attention_heads == 0 || !self.hidden_size.is_multiple_of(self.num_attention_heads) => {
                let (key, value) = (KEYS.heads, self.num_attention_heads);
                return Err(ShapeError::Dimension { key, value, why: KEYS.heads_must_divide });
            }
            None => self.hidden_size / self.num_attention_heads,
        };
        let decoder = DecoderShape {
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_width,
            rotary: Some(self.rotary.read(self.max_position_embeddings)?),
            window: None,
            biases: Biases { qkv: self.attention_bias, output: self.attention_bias, feed_forward: self.mlp_bias },
            activation: Activation::Silu,
            tied_embeddings: self.tie_word_embeddings,
            end_tokens: self.eos_token_id.map_or_else(Vec::new, OneOrMore::all),
        };
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
            token_types: None,
            norm_eps: self.rms_norm_eps,
            initializer_range: self.initializer_range,
            pad_token: token(self.pad_token_id),
            decoder: Some(decoder),
        })
    }
}

pub(super) fn read(config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    parse::<LlamaConfig>(config)?.dimensions(Family::Llama)
}

/// By layer, for all three families.
pub(super) fn linear_layers(shape: &BaseShape) -> Vec<Module> {
    let (h, m, d) = (shape.hidden, shape.intermediate, shape.head_width());
    let (queries, keys) = (shape.heads * d, shape.kv_heads() * d);
    let sizes = [(h, queries), (h, keys), (h, keys), (queries, h), (h, m), (h, m), (m, h)];
    let layer = |i: usize| {
        LAYER.into_iter().zip(sizes).map(move |(name, (in_features, out_features))| Module {
            path: format!("model.layers.{i}.{name}"),
            in_features,
            out_features,
        })
    };
    (0..shape.layers).flat_map(layer).collect()
}
