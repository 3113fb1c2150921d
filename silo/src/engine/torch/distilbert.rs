//! DistilBERT, as Hugging Face's `DistilBertForSequenceClassification` computes it with dropout off (Sanh et al. 2019):
//! BERT's encoder under other names, without token types and pooler.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::Result;
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Builder, Encoder, LayerPaths};
use super::head::Activation;
use super::lora::Loras;
use super::model::Model;
use super::packing::Packed;

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

const CONTENTS: Contents = Contents { prefix: "distilbert.", parts: &["embeddings.", "transformer."], hints: &[] };

/// The frozen base model.
pub(super) struct DistilBert {
    encoder: Encoder,
}

impl DistilBert {
    /// Reads every weight.
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, kind: Kind) -> Result<Self> {
        let encoder = checkpoint.read(&CONTENTS, |reader| Builder::new(reader, layout, kind).encoder(&LAYER))?;
        Ok(DistilBert { encoder })
    }
}

impl Model for DistilBert {
    fn share(&self) -> Box<dyn Model> {
        Box::new(DistilBert { encoder: self.encoder.share() })
    }

    fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        self.encoder.module_kinds(modules)
    }

    /// The encoder's output for the first token, `[CLS]`.
    fn features(&self, packed: &Packed, loras: &mut Loras) -> Result<Tensor> {
        self.encoder.first_tokens(packed, &packed.positions, loras)
    }

    fn head_activation(&self) -> Activation {
        Activation::Relu
    }
}
