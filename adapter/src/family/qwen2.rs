//! Qwen2 and Qwen2.5 (Yang et al. 2024), as Hugging Face's `Qwen2Config` names their parts: Llama's layers with a bias on
//! query, key and value, and a sliding window from some layer on where the file asks for one.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::llama::LlamaConfig;
use super::{parse, windows};
use crate::decoder::Biases;
use crate::shape::Dimensions;
use crate::{Family, ShapeError};

/// `num_key_value_heads` where the file has no such key.
const DEFAULT_KEY_HEADS: usize = 32;

#[derive(Deserialize)]
struct Qwen2Window {
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "default_first_layer")]
    max_window_layers: usize,
}

fn default_first_layer() -> usize {
    28
}

pub(super) fn read(mut config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    config.entry("num_key_value_heads").or_insert(DEFAULT_KEY_HEADS.into());
    let mut dimensions = parse::<LlamaConfig>(config.clone())?.dimensions(Family::Qwen2)?;
    let raw: Qwen2Window = parse(config.clone())?;
    if !raw.use_sliding_window {
        config.insert("sliding_window".to_owned(), Value::Null);
    }
    let window = windows::read(config, dimensions.layers, |i| i >= raw.max_window_layers)?;
    if let Some(decoder) = &mut dimensions.decoder {
        decoder.biases = Biases { qkv: true, output: false, feed_forward: false };
        decoder.window = window;
    }
    Ok(dimensions)
}
