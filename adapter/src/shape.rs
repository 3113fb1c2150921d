//! The shape of a base model, read from the `config.json` that Hugging Face keeps beside the weights.
//!
//! Only what the layout and the training engine need is read. A setting that would change the computation in a way that
//! the engine does not implement is refused by name, and so are two keys that contradict each other. What becomes of
//! each key that Hugging Face Transformers reads is in one table (`family/keys.rs`), which keys a family computes with in
//! [`Family`]'s files.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::family::keys::shown;
use crate::{DecoderShape, Family};

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
    /// No architecture.
    #[error(
        "config.json of the base model has no model_type; add the line \"model_type\": \"…\", with the model's family: \
         {names}",
        names = Family::names()
    )]
    NoArchitecture,
    /// Another architecture.
    #[error("config.json says model_type \"{0}\", which is not supported; supported: {names}", names = Family::names())]
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
    /// Two keys that say the same thing differently.
    #[error(
        "config.json sets {first} to {says} and {second} to {other}, which contradict each other; keep the one that the \
         model was trained with and remove the other"
    )]
    Contradiction {
        /// A key in `config.json`.
        first: String,
        /// Its value.
        says: String,
        /// The other key.
        second: String,
        /// Its value.
        other: String,
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

impl ShapeError {
    /// Two keys with their values.
    pub(crate) fn contradiction((first, says): (&str, &Value), (second, other): (&str, &Value)) -> Self {
        let (says, other) = (shown(says), shown(other));
        ShapeError::Contradiction { first: first.to_owned(), says, second: second.to_owned(), other }
    }
}

/// Dimensions and constants of an encoder or a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseShape {
    /// Which architecture it is (`model_type`).
    pub family: Family,
    /// Width of the residual stream (`hidden_size`; DistilBERT: `dim`; GPT-2: `n_embd`).
    pub hidden: usize,
    /// Number of layers (`num_hidden_layers`; DistilBERT: `n_layers`; GPT-2: `n_layer`).
    pub layers: usize,
    /// Width of the feed-forward layer (`intermediate_size`; DistilBERT: `hidden_dim`; GPT-2: `n_inner`).
    pub intermediate: usize,
    /// Number of attention heads (`num_attention_heads`; DistilBERT: `n_heads`; GPT-2: `n_head`).
    pub heads: usize,
    /// Rows of the word embedding (`vocab_size`).
    pub vocab: usize,
    /// The longest input in tokens: `max_position_embeddings − first_position` (GPT-2: `n_positions`).
    pub max_positions: usize,
    /// Row of the position embedding that the first token of an input takes: 0, RoBERTa `pad_token_id + 1`.
    pub first_position: usize,
    /// Rows of the token-type embedding (`type_vocab_size`); 0 where the family has none.
    pub token_types: usize,
    /// ε inside every norm (`layer_norm_eps`; DistilBERT: always 1e-12; decoders: `rms_norm_eps`, GPT-2:
    /// `layer_norm_epsilon`).
    pub norm_eps: f64,
    /// Standard deviation of the head's initial weights (`initializer_range`).
    pub initializer_range: f64,
    /// Id of the padding token (`pad_token_id`), where there is one.
    pub pad_token: Option<u32>,
    /// What only a decoder has; `None` for an encoder.
    pub decoder: Option<DecoderShape>,
}

/// What a family calls its dimensions in `config.json`.
pub(crate) struct ConfigKeys {
    pub hidden: &'static str,
    pub layers: &'static str,
    pub intermediate: &'static str,
    pub heads: &'static str,
    /// "it must divide …", with the name of `hidden`.
    pub heads_must_divide: &'static str,
    pub positions: &'static str,
    pub norm_eps: &'static str,
}

/// The numbers of a `config.json` before they are checked.
pub(crate) struct Dimensions {
    pub family: Family,
    pub keys: ConfigKeys,
    pub hidden: usize,
    pub layers: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub vocab: usize,
    /// Rows of the position embedding.
    pub position_rows: usize,
    pub first_position: usize,
    /// Rows of the token-type embedding, where the family has one.
    pub token_types: Option<usize>,
    pub norm_eps: f64,
    pub initializer_range: f64,
    pub pad_token: Option<u32>,
    pub decoder: Option<DecoderShape>,
}

impl BaseShape {
    /// Reads the text of a `config.json`; `model_type` must be that of a [`Family`].
    ///
    /// # Errors
    /// Names the key and what is supported where the file is unreadable, of another architecture, or asks for something
    /// that the engine does not compute (another activation, relative positions, another kind of rotary scaling).
    pub fn from_config_json(text: &str) -> Result<Self, ShapeError> {
        if text.len() > MAX_CONFIG_BYTES {
            return Err(ShapeError::Unreadable(format!("{} bytes, at most {MAX_CONFIG_BYTES}", text.len())));
        }
        let config: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| ShapeError::Unreadable(e.to_string()))?;
        let family = match config.get("model_type") {
            None | Some(Value::Null) => return Err(ShapeError::NoArchitecture),
            Some(Value::String(name)) => {
                Family::of(name).ok_or_else(|| ShapeError::Architecture(name.chars().take(64).collect()))?
            }
            Some(other) => return Err(ShapeError::Architecture(shown(other))),
        };
        family.read(config)?.check()
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.decoder.as_ref().map_or(self.hidden / self.heads, |decoder| decoder.head_width)
    }

    /// Heads of keys and values: fewer than `heads` with grouped-query attention.
    pub fn kv_heads(&self) -> usize {
        self.decoder.as_ref().map_or(self.heads, |decoder| decoder.kv_heads)
    }

    /// Rows of the position embedding (`max_position_embeddings`).
    pub fn position_rows(&self) -> usize {
        self.first_position + self.max_positions
    }
}

impl Dimensions {
    fn check(self) -> Result<BaseShape, ShapeError> {
        let wrong = |key, value, why| Err(ShapeError::Dimension { key, value, why });
        let dimensions = [
            (self.keys.hidden, self.hidden),
            (self.keys.layers, self.layers),
            (self.keys.intermediate, self.intermediate),
            (self.keys.heads, self.heads),
            ("vocab_size", self.vocab),
            (self.keys.positions, self.position_rows),
            ("type_vocab_size", self.token_types.unwrap_or(1)),
        ];
        for (key, value) in dimensions {
            if value == 0 || value > MAX_DIMENSION {
                return wrong(key, value, "it must lie between 1 and 1048576");
            }
        }
        if self.layers > 1000 {
            return wrong(self.keys.layers, self.layers, "at most 1000 layers are supported");
        }
        match &self.decoder {
            None if !self.hidden.is_multiple_of(self.heads) => {
                return wrong(self.keys.heads, self.heads, self.keys.heads_must_divide);
            }
            None => {}
            Some(decoder) => decoder.check(self.hidden, self.heads, self.vocab, &self.keys)?,
        }
        if self.first_position >= self.position_rows {
            let why = "it must exceed pad_token_id + 1, the place of an input's first token";
            return wrong("max_position_embeddings", self.position_rows, why);
        }
        let refuse =
            |key, value: f64, supported| Err(ShapeError::Unsupported { key, value: value.to_string(), supported });
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return refuse(self.keys.norm_eps, self.norm_eps, "a number between 0 and 1");
        }
        if !(self.initializer_range > 0.0 && self.initializer_range < 10.0) {
            return refuse("initializer_range", self.initializer_range, "a number between 0 and 10");
        }
        Ok(BaseShape {
            family: self.family,
            hidden: self.hidden,
            layers: self.layers,
            intermediate: self.intermediate,
            heads: self.heads,
            vocab: self.vocab,
            max_positions: self.position_rows - self.first_position,
            first_position: self.first_position,
            token_types: self.token_types.unwrap_or(0),
            norm_eps: self.norm_eps,
            initializer_range: self.initializer_range,
            pad_token: self.pad_token,
            decoder: self.decoder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minilm() -> Value {
        json!({
            "architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
            "hidden_size": 384, "initializer_range": 0.02, "intermediate_size": 1536, "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 6,
            "pad_token_id": 0, "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": 30522
        })
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<BaseShape, ShapeError> {
        let mut config = minilm();
        change(&mut config);
        BaseShape::from_config_json(&config.to_string())
    }

    #[test]
    fn reads_a_sentence_transformer() {
        let shape = read(|_| ()).unwrap();
        assert_eq!((shape.hidden, shape.layers, shape.intermediate, shape.heads), (384, 6, 1536, 12));
        assert_eq!((shape.vocab, shape.max_positions, shape.token_types, shape.head_width()), (30522, 512, 2, 32));
        assert_eq!((shape.norm_eps, shape.initializer_range, shape.pad_token), (1e-12, 0.02, Some(0)));
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
        let error = read(|c| c["model_type"] = json!("deberta")).unwrap_err();
        assert!(error.to_string().contains("\"deberta\"") && error.to_string().contains("supported: bert"), "{error}");
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
