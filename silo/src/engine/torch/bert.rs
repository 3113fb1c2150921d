//! BERT with its pooler, as Hugging Face's `BertForSequenceClassification` computes it with dropout off (Devlin et al.
//! 2019).
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Encoder, LayerPaths};
use super::lora::{Linear, Loras, Rows, cast};
use super::model::{Model, Pass};
use super::packing::Packed;
use super::{Result, torch_error};

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

/// The frozen base model.
pub(super) struct Bert {
    encoder: Encoder,
    pooler: Linear,
}

impl Bert {
    /// Reads every weight; the pooler stays f32.
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Self> {
        let hidden = layout.hidden();
        checkpoint.read(&CONTENTS, layout.shape().family, |reader| {
            let mut builder = Builder::new(reader, layout, place);
            let encoder = builder.encoder(&LAYER)?;
            Ok(Bert { encoder, pooler: builder.linear_in("pooler.dense", hidden, hidden, true, Kind::Float)? })
        })
    }
}

impl Model for Bert {
    fn share(&self) -> Box<dyn Model> {
        Box::new(Bert { encoder: self.encoder.share(), pooler: self.pooler.share() })
    }

    fn place(&self) -> Place {
        self.encoder.place()
    }

    fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        let mut kinds = vec![self.place().kind; modules];
        if let Some(i) = self.pooler.module() {
            kinds[i] = self.pooler.kind();
        }
        kinds
    }

    fn begin<'a>(&self, packed: &'a Packed) -> Result<Pass<'a>> {
        self.encoder.begin(packed)
    }

    fn embed(&self, pass: &Pass) -> Result<Tensor> {
        self.encoder.embed(pass.packed, &pass.packed.positions)
    }

    fn layers(&self) -> usize {
        self.encoder.layers()
    }

    fn layer(&self, i: usize, x: &Tensor, pass: &Pass, loras: &mut Loras) -> Result<Tensor> {
        self.encoder.layer(i, x, pass, loras)
    }

    /// The pooler's output.
    fn finish(&self, x: &Tensor, loras: &mut Loras) -> Result<Tensor> {
        let x = cast(x, Kind::Float)?;
        self.pooler.forward(&x, loras, Rows::Examples)?.f_tanh().map_err(torch_error)
    }
}
