//! BERT with its pooler, as Hugging Face's `BertForSequenceClassification` computes it with dropout off (Devlin et al.
//! 2019).
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Builder, Encoder, LayerPaths};
use super::head::Activation;
use super::lora::{Linear, Loras, Rows};
use super::model::Model;
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
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, kind: Kind) -> Result<Self> {
        let hidden = layout.hidden();
        checkpoint.read(&CONTENTS, |reader| {
            let mut builder = Builder::new(reader, layout, kind);
            let encoder = builder.encoder(&LAYER)?;
            Ok(Bert { encoder, pooler: builder.linear("pooler.dense", hidden, hidden, Kind::Float)? })
        })
    }
}

impl Model for Bert {
    fn share(&self) -> Box<dyn Model> {
        Box::new(Bert { encoder: self.encoder.share(), pooler: self.pooler.share() })
    }

    fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        let mut kinds = self.encoder.module_kinds(modules);
        if let Some(i) = self.pooler.module() {
            kinds[i] = self.pooler.kind();
        }
        kinds
    }

    /// The pooler's output.
    fn features(&self, packed: &Packed, loras: &mut Loras) -> Result<Tensor> {
        let x = self.encoder.first_tokens(packed, &packed.positions, loras)?;
        self.pooler.forward(&x, loras, Rows::Examples)?.f_tanh().map_err(torch_error)
    }

    fn head_activation(&self) -> Activation {
        Activation::None
    }
}
