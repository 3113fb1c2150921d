//! Sliding windows in `config.json`: how wide (`sliding_window`), and in which layers (`layer_types`, or the family's rule).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::keys::shown;
use super::parse;
use crate::ShapeError;
use crate::decoder::Window;

#[derive(Deserialize)]
struct RawWindow {
    /// `null` for none; a file without the key means Hugging Face's default.
    #[serde(default = "default_window")]
    sliding_window: Option<usize>,
    layer_types: Option<Vec<String>>,
}

fn default_window() -> Option<usize> {
    Some(4096)
}

/// `slides`: the layers that have the window where the file has no list.
pub(super) fn read(
    config: Map<String, Value>,
    layers: usize,
    slides: impl Fn(usize) -> bool,
) -> Result<Option<Window>, ShapeError> {
    let raw: RawWindow = parse(config)?;
    let slides: Vec<bool> = match &raw.layer_types {
        // a number of layers beyond all reason is refused with the other dimensions
        None => (0..layers.min(1000)).map(slides).collect(),
        Some(types) if types.len() != layers => {
            let number = json!(types.len());
            return Err(ShapeError::contradiction(
                ("num_hidden_layers", &json!(layers)),
                ("the length of layer_types", &number),
            ));
        }
        Some(types) => types.iter().map(|kind| slides_in(kind)).collect::<Result<_, _>>()?,
    };
    match raw.sliding_window {
        None if raw.layer_types.is_some() && slides.contains(&true) => {
            let listed = json!("sliding_attention");
            Err(ShapeError::contradiction(
                ("layer_types", &listed),
                ("sliding_window (use_sliding_window in a qwen2)", &json!(null)),
            ))
        }
        None => Ok(None),
        Some(tokens) => Ok(slides.contains(&true).then_some(Window { tokens, layers: slides })),
    }
}

/// Whether a layer of this kind has the window; `attention` is an older word for all of it.
fn slides_in(kind: &str) -> Result<bool, ShapeError> {
    match kind {
        "sliding_attention" => Ok(true),
        "full_attention" | "attention" => Ok(false),
        other => {
            let supported = "\"full_attention\" and \"sliding_attention\" for each layer";
            Err(ShapeError::Unsupported { key: "layer_types", value: shown(&json!(other)), supported })
        }
    }
}
