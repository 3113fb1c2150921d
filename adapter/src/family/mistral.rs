//! Mistral (Jiang et al. 2023), as Hugging Face's `MistralConfig` names its parts: Llama's layers with a sliding window in
//! every one.

use serde::Deserialize;

use super::llama::LlamaConfig;
use super::parse;
use crate::decoder::{Biases, Window};
use crate::shape::Dimensions;
use crate::{Family, ShapeError};

#[derive(Deserialize)]
struct MistralWindow {
    /// `null` for none; a file without the key means Hugging Face's default.
    #[serde(default = "default_window")]
    sliding_window: Option<usize>,
}

fn default_window() -> Option<usize> {
    Some(4096)
}

pub(super) fn read(config: &str) -> Result<Dimensions, ShapeError> {
    let mut dimensions = parse::<LlamaConfig>(config)?.dimensions(Family::Mistral)?;
    let window = parse::<MistralWindow>(config)?.sliding_window;
    if let Some(decoder) = &mut dimensions.decoder {
        // Mistral's layers have no biases, whatever the file says of them
        decoder.biases = Biases { qkv: false, output: false, feed_forward: false };
        decoder.window = window.map(|tokens| Window { tokens, first_layer: 0 });
    }
    Ok(dimensions)
}
