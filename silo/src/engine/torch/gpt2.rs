//! GPT-2, as Hugging Face's `GPT2LMHeadModel` and `GPT2ForSequenceClassification` compute it with dropout off (Radford et
//! al. 2019).
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::{AdapterLayout, Task};

use super::Result;
use super::attention::Heads;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::decoder::{Decoder, FeedForward, Layer, Positions, Qkv};
use super::model::without_decoder;

/// The published files hold attention masks too.
const CONTENTS: Contents = Contents {
    prefix: "transformer.",
    parts: &["wte.", "wpe.", "h.", "ln_f."],
    ignored: &[".attn.bias", ".attn.masked_bias"],
    hints: &[],
};

/// Reads every weight.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Decoder> {
    checkpoint.read(&CONTENTS, layout.shape().family, |reader| build(&mut Builder::new(reader, layout, place)))
}

fn build(builder: &mut Builder) -> Result<Decoder> {
    let (shape, task) = (builder.shape(), builder.layout().task());
    let settings = shape.decoder.as_ref().ok_or_else(without_decoder)?;
    let words = builder.table("wte", shape.vocab)?;
    let output = match task {
        Task::SequenceClassification { .. } => None,
        Task::CausalLm if settings.tied_embeddings => Some(words.shallow_clone()),
        Task::CausalLm => Some(builder.outer_table("lm_head", shape.vocab)?),
    };
    let positions = Positions::new(shape, || builder.table("wpe", shape.position_rows()))?;
    let layers = (0..shape.layers).map(|i| layer(builder, i)).collect::<Result<Vec<_>>>()?;
    Ok(Decoder {
        heads: Heads::of(shape),
        place: builder.place(),
        task,
        pad_token: shape.pad_token,
        window: None,
        positions,
        words,
        layers,
        norm: builder.layer_norm("ln_f")?,
        output,
    })
}

fn layer(builder: &mut Builder, i: usize) -> Result<Layer> {
    let shape = builder.shape();
    let activation = shape.decoder.as_ref().ok_or_else(without_decoder)?.activation;
    let (hidden, inner) = (shape.hidden, shape.intermediate);
    let path = |part: &str| format!("h.{i}.{part}");
    Ok(Layer {
        attention_norm: builder.layer_norm(&path("ln_1"))?,
        attention: Qkv::Together(builder.linear(&path("attn.c_attn"), hidden, 3 * hidden, true)?),
        attention_output: builder.linear(&path("attn.c_proj"), hidden, hidden, true)?,
        feed_forward_norm: builder.layer_norm(&path("ln_2"))?,
        feed_forward: FeedForward::Plain {
            up: builder.linear(&path("mlp.c_fc"), hidden, inner, true)?,
            activation,
            down: builder.linear(&path("mlp.c_proj"), inner, hidden, true)?,
        },
    })
}
