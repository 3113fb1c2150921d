//! Mistral (Jiang et al. 2023), as Hugging Face's `MistralConfig` names its parts: Llama's layers with a sliding window in
//! every one; with `layer_types`, in those that the list names, as Hugging Face's `Ministral` has them: its
//! `AutoModel…` takes such a file for one.

use serde_json::{Map, Value};

use super::llama::LlamaConfig;
use super::{parse, windows};
use crate::decoder::Biases;
use crate::shape::Dimensions;
use crate::{Family, ShapeError};

/// `num_key_value_heads` where the file has no such key.
const DEFAULT_KEY_HEADS: usize = 8;

pub(super) fn read(mut config: Map<String, Value>) -> Result<Dimensions, ShapeError> {
    config.entry("num_key_value_heads").or_insert(DEFAULT_KEY_HEADS.into());
    let mut dimensions = parse::<LlamaConfig>(config.clone())?.dimensions(Family::Mistral)?;
    let window = windows::read(config, dimensions.layers, |_| true)?;
    if let Some(decoder) = &mut dimensions.decoder {
        // Mistral's layers have no biases, whatever the file says of them
        decoder.biases = Biases { qkv: false, output: false, feed_forward: false };
        decoder.window = window;
    }
    Ok(dimensions)
}
