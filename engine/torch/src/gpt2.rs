//! GPT-2, as Hugging Face's `GPT2LMHeadModel` and `GPT2ForSequenceClassification` compute it with dropout off (Radford et
//! al. 2019).
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;

use super::Result;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::decoder::{Decoder, DecoderLayer, FeedForward, Qkv};

/// The published files hold attention masks too.
const CONTENTS: Contents = Contents {
    prefix: "transformer.",
    parts: &["wte.", "wpe.", "h.", "ln_f."],
    ignored: &[".attn.bias", ".attn.masked_bias"],
    hints: &[],
};

/// Reads every weight.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Decoder> {
    checkpoint.read(&CONTENTS, layout.shape().family, |reader| {
        let mut builder = Builder::new(reader, layout, place);
        builder.decoder("wte", "wpe", layer, |builder| builder.layer_norm("ln_f"))
    })
}

fn layer(builder: &mut Builder, i: usize) -> Result<DecoderLayer> {
    let shape = builder.shape();
    let activation = builder.settings()?.activation;
    let (hidden, inner) = (shape.hidden, shape.intermediate);
    let path = |part: &str| format!("h.{i}.{part}");
    Ok(DecoderLayer {
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
