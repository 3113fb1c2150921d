//! BERT with its pooler, as Hugging Face's `BertForSequenceClassification` computes it with dropout off (Devlin et al.
//! 2019).
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::Kind;

use super::Result;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Encoder, LayerPaths, Own, Positions};
use super::head::HeadActivation;

/// RoBERTa has the same.
pub(super) const LAYER: LayerPaths = LayerPaths {
    layers: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    intermediate: "intermediate.dense",
    output: "output.dense",
    output_norm: "output.LayerNorm",
};

const CONTENTS: Contents = Contents {
    prefix: "bert.",
    parts: &["embeddings.", "encoder.", "pooler."],
    ignored: &[],
    hints: &[(
        "pooler.",
        "the checkpoint was saved without its pooler, which BertForSequenceClassification needs: save the model with it \
         (Hugging Face: BertModel with add_pooling_layer=True)",
    )],
};

/// Reads every weight.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Encoder> {
    let hidden = layout.hidden();
    checkpoint.read(&CONTENTS, layout.shape().family, |reader| {
        let mut builder = Builder::new(reader, layout, place);
        let pooler = Some(builder.linear_in("pooler.dense", hidden, hidden, true, Kind::Float)?);
        builder.encoder(&LAYER, Own { positions: Positions::Places, pooler, head_activation: HeadActivation::None })
    })
}
