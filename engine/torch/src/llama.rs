//! Llama, Mistral and Qwen2, as Hugging Face's `LlamaForCausalLM` and its relatives compute them with dropout off
//! (Touvron et al. 2023; Jiang et al. 2023; Yang et al. 2024). What differs between them is in the shape: biases, windows.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;

use super::Result;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::decoder::{Decoder, DecoderLayer, FeedForward, Qkv};

/// Older files hold the rotary frequencies too, which follow from the configuration.
const CONTENTS: Contents = Contents {
    prefix: "model.",
    parts: &["embed_tokens.", "layers.", "norm."],
    ignored: &[".rotary_emb.inv_freq"],
    hints: &[],
};

/// Reads every weight.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Decoder> {
    checkpoint.read(&CONTENTS, layout.shape().family, |reader| {
        let mut builder = Builder::new(reader, layout, place);
        builder.decoder("embed_tokens", "", layer, |builder| builder.rms_norm("norm"))
    })
}

fn layer(builder: &mut Builder, i: usize) -> Result<DecoderLayer> {
    let shape = builder.shape();
    let biases = builder.settings()?.biases;
    let (hidden, inner, per_head) = (shape.hidden, shape.intermediate, shape.head_width());
    let (queries, keys) = (shape.heads * per_head, shape.kv_heads() * per_head);
    let path = |part: &str| format!("layers.{i}.{part}");
    Ok(DecoderLayer {
        attention_norm: builder.rms_norm(&path("input_layernorm"))?,
        attention: Qkv::Apart {
            query: builder.linear(&path("self_attn.q_proj"), hidden, queries, biases.qkv)?,
            key: builder.linear(&path("self_attn.k_proj"), hidden, keys, biases.qkv)?,
            value: builder.linear(&path("self_attn.v_proj"), hidden, keys, biases.qkv)?,
        },
        attention_output: builder.linear(&path("self_attn.o_proj"), queries, hidden, biases.output)?,
        feed_forward_norm: builder.rms_norm(&path("post_attention_layernorm"))?,
        feed_forward: FeedForward::Gated {
            gate: builder.linear(&path("mlp.gate_proj"), hidden, inner, biases.feed_forward)?,
            up: builder.linear(&path("mlp.up_proj"), hidden, inner, biases.feed_forward)?,
            down: builder.linear(&path("mlp.down_proj"), inner, hidden, biases.feed_forward)?,
        },
    })
}
