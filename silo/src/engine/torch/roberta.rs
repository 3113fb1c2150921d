//! RoBERTa, as Hugging Face's `RobertaForSequenceClassification` computes it with dropout off (Liu et al. 2019): BERT's
//! encoder without the pooler, with positions of its own.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::Result;
use super::bert::LAYER;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::Encoder;
use super::head::Activation;
use super::lora::{Loras, cast};
use super::model::{Model, Pass};
use super::packing::Packed;

/// A base checkpoint may hold a pooler, which classification does not use.
const CONTENTS: Contents =
    Contents { prefix: "roberta.", parts: &["embeddings.", "encoder."], ignored: &[], hints: &[] };

/// The frozen base model.
pub(super) struct Roberta {
    encoder: Encoder,
    /// Row of the position embedding for the first token of an example: `pad_token_id + 1`.
    first_position: i64,
    pad_token: i64,
}

impl Roberta {
    /// Reads every weight.
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Self> {
        let shape = layout.shape();
        let encoder = checkpoint
            .read(&CONTENTS, layout.shape().family, |reader| Builder::new(reader, layout, place).encoder(&LAYER))?;
        let (first_position, pad_token) = (shape.first_position as i64, i64::from(shape.pad_token.unwrap_or(1)));
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

    fn place(&self) -> Place {
        self.encoder.place()
    }

    fn begin<'a>(&self, packed: &'a Packed) -> Result<Pass<'a>> {
        self.encoder.begin(packed)
    }

    fn embed(&self, pass: &Pass) -> Result<Tensor> {
        self.encoder.embed(pass.packed, &self.positions(pass.packed))
    }

    fn layers(&self) -> usize {
        self.encoder.layers()
    }

    fn layer(&self, i: usize, x: &Tensor, pass: &Pass, loras: &mut Loras) -> Result<Tensor> {
        self.encoder.layer(i, x, pass, loras)
    }

    /// The encoder's output for the first token.
    fn finish(&self, x: &Tensor, _: &mut Loras) -> Result<Tensor> {
        cast(x, Kind::Float)
    }

    fn head_activation(&self) -> Activation {
        Activation::Tanh
    }
}
