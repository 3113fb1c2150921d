//! The base model by its family: what the engine asks of each, and the only place that lists them.
//!
//! ```text
//! begin(packed) ─► embed ─► layer 0 ─► … ─► layer L−1 ─► finish ─► head, or next tokens
//! ```

use blindsum_adapter::{AdapterLayout, Family};
use tch::{Kind, Tensor};

use super::attention::{Kept, Mask, Turn};
use super::builder::Place;
use super::checkpoint::Checkpoint;
use super::head::HeadActivation;
use super::lora::Loras;
use super::packing::Packed;
use super::{Result, bert, distilbert, gpt2, llama, roberta};

/// What a forward pass over one micro-batch needs besides the weights.
pub(super) struct Pass<'a> {
    pub packed: &'a Packed,
    pub mask: Mask,
    /// For layers with a sliding window, where a sequence outgrows it.
    pub window_mask: Option<Mask>,
    /// Rotary positions.
    pub turn: Option<Turn>,
    /// The tokens with which the last layer goes on; all where `None`.
    pub kept: Option<Kept>,
}

/// A frozen base model, from tokens to the input of the classification head or of the output matrix.
pub(super) trait Model: Send {
    /// The same model for another thread: handles to the same memory.
    fn share(&self) -> Box<dyn Model>;

    /// Number format and device.
    fn place(&self) -> Place;

    /// Number format of each of the layout's `modules`.
    fn module_kinds(&self, modules: usize) -> Vec<Kind> {
        vec![self.place().kind; modules]
    }

    /// Masks and positions of one micro-batch.
    fn begin<'a>(&self, packed: &'a Packed) -> Result<Pass<'a>>;

    /// The residual stream before the first layer, `[tokens, hidden]`.
    fn embed(&self, pass: &Pass) -> Result<Tensor>;

    /// Number of layers.
    fn layers(&self) -> usize;

    /// Layer `i` on the residual stream.
    fn layer(&self, i: usize, x: &Tensor, pass: &Pass, loras: &mut Loras) -> Result<Tensor>;

    /// From the last layer to what the head reads, f32 `[examples, hidden]`; where the model continues texts, to what the
    /// output matrix reads, `[tokens, hidden]` in the model's format.
    fn finish(&self, x: &Tensor, loras: &mut Loras) -> Result<Tensor>;

    /// What stands between the head's layers, if it has several.
    fn head_activation(&self) -> HeadActivation {
        HeadActivation::None
    }

    /// The matrix that gives next tokens, `[vocab, hidden]`; `None` for classification.
    fn output(&self) -> Option<&Tensor> {
        None
    }
}

/// The whole forward pass.
pub(super) fn forward(model: &dyn Model, packed: &Packed, loras: &mut Loras) -> Result<Tensor> {
    let pass = model.begin(packed)?;
    let mut x = model.embed(&pass)?;
    for i in 0..model.layers() {
        x = model.layer(i, &x, &pass, loras)?;
    }
    model.finish(&x, loras)
}

/// Reads every weight of the family that the layout's shape names.
///
/// # Errors
/// Names the tensor that is missing, has another shape, or is not part of the model.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, place: Place) -> Result<Box<dyn Model>> {
    Ok(match layout.shape().family {
        Family::Bert => Box::new(bert::load(checkpoint, layout, place)?),
        Family::Roberta => Box::new(roberta::load(checkpoint, layout, place)?),
        Family::DistilBert => Box::new(distilbert::load(checkpoint, layout, place)?),
        Family::Llama | Family::Mistral | Family::Qwen2 => Box::new(llama::load(checkpoint, layout, place)?),
        Family::Gpt2 => Box::new(gpt2::load(checkpoint, layout, place)?),
    })
}
