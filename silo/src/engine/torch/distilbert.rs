//! DistilBERT, as Hugging Face's `DistilBertForSequenceClassification` computes it with dropout off (Sanh et al. 2019):
//! BERT's encoder under other names, without token types and pooler.
//!
//! Contract: equal to Hugging Face within 1e-4 in f32 (golden tests).

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::Result;
use super::builder::{Builder, Place};
use super::checkpoint::{Checkpoint, Contents};
use super::encoder::{Encoder, LayerPaths};
use super::head::Activation;
use super::lora::{Loras, cast};
use super::model::{Model, Pass};
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

const CONTENTS: Contents =
    Contents { prefix: "distilbert.", parts: &["embeddings.", "transformer."], ignored: &[], hints: &[] };

/// The frozen base model.
pub(super) struct DistilBert {
    encoder: Encoder,
}

impl DistilBert {
    /// Reads every weight.
    pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Self> {
        let encoder = checkpoint
            .read(&CONTENTS, layout.shape().family, |reader| Builder::new(reader, layout, place).encoder(&LAYER))?;
        Ok(DistilBert { encoder })
    }
}

impl Model for DistilBert {
    fn share(&self) -> Box<dyn Model> {
        Box::new(DistilBert { encoder: self.encoder.share() })
    }

    fn place(&self) -> Place {
        self.encoder.place()
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

    /// The encoder's output for the first token.
    fn finish(&self, x: &Tensor, _: &mut Loras) -> Result<Tensor> {
        cast(x, Kind::Float)
    }

    fn head_activation(&self) -> Activation {
        Activation::Relu
    }
}
