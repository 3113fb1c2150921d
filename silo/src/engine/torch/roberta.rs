//! RoBERTa, as Hugging Face's `RobertaForSequenceClassification` computes it with dropout off (Liu et al. 2019): BERT's
//! encoder without the pooler, with positions of its own.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::Result;
use super::bert::LAYER;
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Builder, Encoder};
use super::head::Activation;
use super::lora::Loras;
use super::model::Model;
use super::packing::Packed;

/// A base checkpoint may hold a pooler, which classification does not use.
const CONTENTS: Contents = Contents { prefix: "roberta.", parts: &["embeddings.", "encoder."], hints: &[] };

/// The frozen base model.
pub(super) struct Roberta {
    encoder: Encoder,
    /// Row of the position embedding for the first token of an example: `pad_token_id + 1`.
    first_position: i64,
    pad_token: i64,
}

impl Roberta {
    /// Reads every weight.
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, kind: Kind) -> Result<Self> {
        let shape = layout.shape();
        let encoder = checkpoint.read(&CONTENTS, |reader| Builder::new(reader, layout, kind).encoder(&LAYER))?;
        let (first_position, pad_token) = (shape.first_position as i64, i64::from(shape.pad_token));
        Ok(Roberta { encoder, first_position, pad_token })
    }

    /// Rows of the position embedding, as `create_position_ids_from_input_ids` makes them: tokens count up from
    /// `first_position`; a padding token, should a text contain one, is passed over and takes the row before that.
    fn positions(&self, packed: &Packed) -> Vec<i64> {
        let mut positions = vec![0; packed.ids.len()];
        for (&start, &length) in packed.starts.iter().zip(&packed.lengths) {
            let mut next = self.first_position;
            let tokens = start..start + length;
            for (position, &id) in positions[tokens.clone()].iter_mut().zip(&packed.ids[tokens]) {
                if id == self.pad_token {
                    *position = self.first_position - 1;
                } else {
                    *position = next;
                    next += 1;
                }
            }
        }
        positions
    }
}

impl Model for Roberta {
    fn share(&self) -> Box<dyn Model> {
        let (first_position, pad_token) = (self.first_position, self.pad_token);
        Box::new(Roberta { encoder: self.encoder.share(), first_position, pad_token })
    }

    fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        self.encoder.module_kinds(modules)
    }

    /// The encoder's output for the first token, `<s>`.
    fn features(&self, packed: &Packed, loras: &mut Loras) -> Result<Tensor> {
        self.encoder.first_tokens(packed, &self.positions(packed), loras)
    }

    fn head_activation(&self) -> Activation {
        Activation::Tanh
    }
}
