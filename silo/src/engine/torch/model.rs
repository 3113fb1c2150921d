//! The base model by its family: what the engine asks of each, and the only place that lists them.

use blindsum_adapter::{AdapterLayout, Family};
use tch::{Kind, Tensor};

use super::Result;
use super::bert::Bert;
use super::checkpoint::Checkpoint;
use super::distilbert::DistilBert;
use super::head::Activation;
use super::lora::Loras;
use super::packing::Packed;
use super::roberta::Roberta;

/// A frozen base model, from tokens to the input of the classification head.
pub(super) trait Model: Send {
    /// The same model for another thread: handles to the same memory.
    fn share(&self) -> Box<dyn Model>;

    /// Number format of each of the layout's `modules`.
    fn module_kinds(&self, modules: usize) -> Vec<Kind>;

    /// The head's input for each packed example, f32 `[examples, hidden]`.
    fn features(&self, packed: &Packed, loras: &mut Loras) -> Result<Tensor>;

    /// What stands between the head's layers, if it has several.
    fn head_activation(&self) -> Activation;
}

/// Reads every weight of the family that the layout's shape names; `kind` is the number format of the large matrix
/// products.
///
/// # Errors
/// Names the tensor that is missing, has another shape, or is not part of the model.
pub(super) fn load(checkpoint: &Checkpoint, layout: &AdapterLayout, kind: Kind) -> Result<Box<dyn Model>> {
    Ok(match layout.shape().family {
        Family::Bert => Box::new(Bert::load(checkpoint, layout, kind)?),
        Family::Roberta => Box::new(Roberta::load(checkpoint, layout, kind)?),
        Family::DistilBert => Box::new(DistilBert::load(checkpoint, layout, kind)?),
    })
}
