//! RoBERTa, as Hugging Face's `RobertaForSequenceClassification` computes it with dropout off (Liu et al. 2019): BERT's
//! encoder without the pooler, with positions of its own.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;

use super::Result;
use super::bert::LAYER;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Encoder, Own, Positions};
use super::head::HeadActivation;

/// A base checkpoint may hold a pooler, which classification does not use.
const CONTENTS: Contents =
    Contents { prefix: "roberta.", parts: &["embeddings.", "encoder."], ignored: &[], hints: &[] };

/// Reads every weight.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Encoder> {
    let shape = layout.shape();
    let (first, pad_token) = (shape.first_position as i64, i64::from(shape.pad_token.unwrap_or(1)));
    let own =
        Own { positions: Positions::From { first, pad_token }, pooler: None, head_activation: HeadActivation::Tanh };
    checkpoint.read(&CONTENTS, shape.family, |reader| Builder::new(reader, layout, place).encoder(&LAYER, own))
}
