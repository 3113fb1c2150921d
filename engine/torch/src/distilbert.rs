//! DistilBERT, as Hugging Face's `DistilBertForSequenceClassification` computes it with dropout off (Sanh et al. 2019):
//! BERT's encoder under other names, without token types and pooler.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;

use super::Result;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Encoder, LayerPaths, Own, Positions};
use super::head::HeadActivation;

const LAYER: LayerPaths = LayerPaths {
    layers: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    intermediate: "ffn.lin1",
    output: "ffn.lin2",
    output_norm: "output_layer_norm",
};

const CONTENTS: Contents =
    Contents { prefix: "distilbert.", parts: &["embeddings.", "transformer."], ignored: &[], hints: &[] };

/// Reads every weight.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Encoder> {
    let own = Own { positions: Positions::Places, pooler: None, head_activation: HeadActivation::Relu };
    let family = layout.shape().family;
    checkpoint.read(&CONTENTS, family, |reader| Builder::new(reader, layout, place).encoder(&LAYER, own))
}
