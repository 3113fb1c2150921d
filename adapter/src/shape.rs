//! The shape of a base model, read from the `config.json` that Hugging Face keeps beside the weights.
//!
//! Only what the layout and the training engine need is read; other keys are ignored, since the file belongs to the
//! base model and carries much that does not concern us. A setting that would change the computation in a way that the
//! engine does not implement is refused by name.

use serde::Deserialize;
use thiserror::Error;

/// Longest `config.json` that is parsed, in bytes.
const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Largest value of any single dimension; far above every published model, small enough that products fit `usize`.
const MAX_DIMENSION: usize = 1 << 20;

/// Why a base model's `config.json` cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum ShapeError {
    /// Not JSON, a key missing, or a value of the wrong type.
    #[error(
        "config.json of the base model cannot be read: {0}; it must be the file that Hugging Face saves with a model"
    )]
    Unreadable(String),
    /// Another architecture.
    #[error("config.json says model_type \"{0}\", which is not supported; supported: bert")]
    Architecture(String),
    /// A known architecture with a setting that the engine does not compute.
    #[error("config.json sets {key} to {value}, which is not supported; supported: {supported}")]
    Unsupported {
        /// The key in `config.json`.
        key: &'static str,
        /// Its value as written.
        value: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// A dimension that is zero, too large or does not divide.
    #[error("config.json sets {key} to {value}: {why}")]
    Dimension {
        /// The key in `config.json`.
        key: &'static str,
        /// Its value.
        value: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Dimensions and constants of a BERT encoder with a classification head.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseShape {
    /// Width of the residual stream (`hidden_size`).
    pub hidden: usize,
    /// Number of encoder layers (`num_hidden_layers`).
    pub layers: usize,
    /// Width of the feed-forward layer (`intermediate_size`).
    pub intermediate: usize,
    /// Number of attention heads (`num_attention_heads`); divides `hidden`.
    pub heads: usize,
    /// Rows of the word embedding (`vocab_size`).
    pub vocab: usize,
    /// Rows of the position embedding (`max_position_embeddings`): the longest input in tokens.
    pub max_positions: usize,
    /// Rows of the token-type embedding (`type_vocab_size`).
    pub token_types: usize,
    /// ε inside every layer norm (`layer_norm_eps`).
    pub layer_norm_eps: f64,
    /// Standard deviation of the head's initial weights (`initializer_range`).
    pub initializer_range: f64,
    /// Id of the padding token (`pad_token_id`).
    pub pad_token: u32,
}

/// The keys of `config.json` that are read, with the defaults of Hugging Face's `BertConfig` where a model may omit
/// them.
#[derive(Deserialize)]
struct RawConfig {
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
    pad_token_id: Option<u32>,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_positions")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    add_cross_attention: bool,
}

fn default_token_types() -> usize {
    2
}
fn default_layer_norm_eps() -> f64 {
    1e-12
}
fn default_initializer_range() -> f64 {
    0.02
}
fn default_activation() -> String {
    "gelu".to_owned()
}
fn default_positions() -> String {
    "absolute".to_owned()
}

impl BaseShape {
    /// Reads the text of a `config.json`; `model_type` must be `bert`.
    ///
    /// # Errors
    /// Names the key and what is supported where the file is unreadable, of another architecture, or asks for something
    /// that the engine does not compute (another activation, relative positions, a decoder).
    pub fn from_config_json(text: &str) -> Result<Self, ShapeError> {
        #[derive(Deserialize)]
        struct Kind {
            model_type: String,
        }
        if text.len() > MAX_CONFIG_BYTES {
            return Err(ShapeError::Unreadable(format!("{} bytes, at most {MAX_CONFIG_BYTES}", text.len())));
        }
        let unreadable = |e: serde_json::Error| ShapeError::Unreadable(e.to_string());
        let kind: Kind = serde_json::from_str(text).map_err(unreadable)?;
        if kind.model_type != "bert" {
            return Err(ShapeError::Architecture(kind.model_type.chars().take(64).collect()));
        }
        let raw: RawConfig = serde_json::from_str(text).map_err(unreadable)?;
        raw.check_settings()?;
        let shape = BaseShape {
            hidden: raw.hidden_size,
            layers: raw.num_hidden_layers,
            intermediate: raw.intermediate_size,
            heads: raw.num_attention_heads,
            vocab: raw.vocab_size,
            max_positions: raw.max_position_embeddings,
            token_types: raw.type_vocab_size,
            layer_norm_eps: raw.layer_norm_eps,
            initializer_range: raw.initializer_range,
            pad_token: raw.pad_token_id.unwrap_or(0),
        };
        shape.check_dimensions()?;
        Ok(shape)
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.hidden / self.heads
    }

    fn check_dimensions(&self) -> Result<(), ShapeError> {
        let dimensions = [
            ("hidden_size", self.hidden),
            ("num_hidden_layers", self.layers),
            ("intermediate_size", self.intermediate),
            ("num_attention_heads", self.heads),
            ("vocab_size", self.vocab),
            ("max_position_embeddings", self.max_positions),
            ("type_vocab_size", self.token_types),
        ];
        for (key, value) in dimensions {
            if value == 0 || value > MAX_DIMENSION {
                return Err(ShapeError::Dimension { key, value, why: "it must lie between 1 and 1048576" });
            }
        }
        if self.layers > 1000 {
            let (key, value) = ("num_hidden_layers", self.layers);
            return Err(ShapeError::Dimension { key, value, why: "at most 1000 layers are supported" });
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let (key, value) = ("num_attention_heads", self.heads);
            return Err(ShapeError::Dimension { key, value, why: "it must divide hidden_size" });
        }
        Ok(())
    }
}

impl RawConfig {
    fn check_settings(&self) -> Result<(), ShapeError> {
        let refuse = |key, value: String, supported| Err(ShapeError::Unsupported { key, value, supported });
        if self.hidden_act != "gelu" {
            return refuse("hidden_act", format!("{:?}", self.hidden_act), "\"gelu\"");
        }
        if self.position_embedding_type != "absolute" {
            return refuse("position_embedding_type", format!("{:?}", self.position_embedding_type), "\"absolute\"");
        }
        if self.is_decoder || self.add_cross_attention {
            let key = if self.is_decoder { "is_decoder" } else { "add_cross_attention" };
            return refuse(key, "true".to_owned(), "false (an encoder)");
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return refuse("layer_norm_eps", self.layer_norm_eps.to_string(), "a number between 0 and 1");
        }
        if !(self.initializer_range > 0.0 && self.initializer_range < 10.0) {
            return refuse("initializer_range", self.initializer_range.to_string(), "a number between 0 and 10");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minilm() -> serde_json::Value {
        json!({
            "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
            "hidden_size": 384, "initializer_range": 0.02, "intermediate_size": 1536, "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 6,
            "pad_token_id": 0, "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": 30522
        })
    }

    fn read(change: impl FnOnce(&mut serde_json::Value)) -> Result<BaseShape, ShapeError> {
        let mut config = minilm();
        change(&mut config);
        BaseShape::from_config_json(&config.to_string())
    }

    #[test]
    fn reads_a_sentence_transformer() {
        let shape = read(|_| ()).unwrap();
        assert_eq!((shape.hidden, shape.layers, shape.intermediate, shape.heads), (384, 6, 1536, 12));
        assert_eq!((shape.vocab, shape.max_positions, shape.token_types, shape.head_width()), (30522, 512, 2, 32));
        assert_eq!((shape.layer_norm_eps, shape.initializer_range, shape.pad_token), (1e-12, 0.02, 0));
    }

    #[test]
    fn old_configs_may_omit_what_has_a_default() {
        let all = read(|_| ()).unwrap();
        let old = read(|c| {
            for key in ["position_embedding_type", "layer_norm_eps", "pad_token_id", "initializer_range"] {
                c.as_object_mut().unwrap().remove(key);
            }
        });
        assert_eq!(old.unwrap(), all);
    }

    #[test]
    fn another_architecture_is_told_what_is_supported() {
        let error = read(|c| c["model_type"] = json!("roberta")).unwrap_err();
        assert!(error.to_string().contains("\"roberta\"") && error.to_string().contains("supported: bert"), "{error}");
        let unreadable = BaseShape::from_config_json("{").unwrap_err();
        assert!(matches!(unreadable, ShapeError::Unreadable(_)));
    }

    #[test]
    fn settings_that_change_the_computation_are_refused_by_name() {
        for (key, value) in [
            ("hidden_act", json!("relu")),
            ("position_embedding_type", json!("relative_key")),
            ("is_decoder", json!(true)),
            ("add_cross_attention", json!(true)),
            ("layer_norm_eps", json!(0.0)),
        ] {
            let error = read(|c| c[key] = value).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn dimensions_are_bounded() {
        for (key, value) in [
            ("hidden_size", json!(0)),
            ("num_hidden_layers", json!(1001)),
            ("vocab_size", json!(1u64 << 40)),
            ("num_attention_heads", json!(7)),
        ] {
            let error = read(|c| c[key] = value).unwrap_err();
            assert!(matches!(error, ShapeError::Dimension { key: k, .. } if k == key), "{error}");
        }
        assert!(matches!(read(|c| c["hidden_size"] = json!(-1)), Err(ShapeError::Unreadable(_))));
        let long = format!("{}{}", minilm(), " ".repeat(MAX_CONFIG_BYTES));
        assert!(matches!(BaseShape::from_config_json(&long), Err(ShapeError::Unreadable(_))));
    }
}
