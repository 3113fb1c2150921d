//! Qwen2 and Qwen2.5 (Yang et al. 2024), as Hugging Face's `Qwen2Config` names their parts: Llama's layers with a bias on
//! query, key and value, and a sliding window from some layer on where the file asks for one.

use serde::Deserialize;

use super::llama::LlamaConfig;
use super::parse;
use crate::decoder::{Biases, Window};
use crate::shape::Dimensions;
use crate::{Family, ShapeError};

#[derive(Deserialize)]
struct Qwen2Window {
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "default_window")]
    sliding_window: Option<usize>,
    #[serde(default = "default_first_layer")]
    max_window_layers: usize,
    layer_types: Option<Vec<String>>,
}

fn default_window() -> Option<usize> {
    Some(4096)
}
fn default_first_layer() -> usize {
    28
}

pub(super) fn read(config: &str) -> Result<Dimensions, ShapeError> {
    let mut dimensions = parse::<LlamaConfig>(config)?.dimensions(Family::Qwen2)?;
    let raw: Qwen2Window = parse(config)?;
    let tokens = raw.sliding_window.filter(|_| raw.use_sliding_window);
    let window = tokens.map(|tokens| Window { tokens, first_layer: raw.max_window_layers });
    if let Some(types) = raw.layer_types {
        let slides = |i: usize| window.is_some_and(|w| i >= w.first_layer);
        let expected = |i: usize| if slides(i) { "sliding_attention" } else { "full_attention" };
        if types.len() != dimensions.layers || types.iter().enumerate().any(|(i, found)| found != expected(i)) {
            let value = "another list".to_owned();
            let supported = "what use_sliding_window and max_window_layers say";
            return Err(ShapeError::Unsupported { key: "layer_types", value, supported });
        }
    }
    if let Some(decoder) = &mut dimensions.decoder {
        decoder.biases = Biases { qkv: true, output: false, feed_forward: false };
        decoder.window = window;
    }
    Ok(dimensions)
}
