//! Linear layers, frozen or adapted, and what a forward pass leaves behind for the gradient of B.
//!
//! An adapted layer computes `y = x·W0ᵀ + b + h·(s·B)ᵀ` with `h = x·Aᵀ` and `s = lora_alpha / r`. One backward pass gives
//! `dL/dy` for every token of every example at once; the gradient of B for one example is then `s · dyᵀ·h` over that
//! example's tokens alone, because B enters nowhere else. So per-example gradients cost one small matrix product per
//! layer on top of an ordinary backward pass.

use blindsum_adapter::AdapterLayout;
use tch::{Kind, Tensor};

use super::builder::on;
use super::{Result, torch_error};

/// What the rows of a layer's input stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// One per token of the packed layout.
    Tokens,
    /// One per example, in the packed order.
    Examples,
}

/// An adapted layer's part in the backward pass.
pub(super) struct Taken {
    /// Index of the module in the layout.
    pub module: usize,
    /// `x·Aᵀ`, `[rows, r]`, without history.
    pub h: Tensor,
    /// The layer's output `[rows, out]`, with history.
    pub y: Tensor,
    /// What its rows are.
    pub rows: Rows,
}

/// A layer's frozen weights.
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    /// Index of the module in the layout, if adapted.
    module: Option<usize>,
}

impl Linear {
    /// `weight` `[out, in]` and `bias` `[out]` in the format and on the device where the layer computes.
    pub(super) fn new(weight: Tensor, bias: Option<Tensor>, module: Option<usize>) -> Self {
        Linear { weight, bias, module }
    }

    /// The same weights for another thread.
    pub(super) fn share(&self) -> Self {
        let bias = self.bias.as_ref().map(Tensor::shallow_clone);
        Linear { weight: self.weight.shallow_clone(), bias, module: self.module }
    }

    /// Number format of input and output.
    pub(super) fn kind(&self) -> Kind {
        self.weight.kind()
    }

    pub(super) fn module(&self) -> Option<usize> {
        self.module
    }

    /// Applies the layer to `x` `[rows, in]`.
    pub(super) fn forward(&self, x: &Tensor, loras: &mut Loras, rows: Rows) -> Result<Tensor> {
        let mut y = x.f_linear(&self.weight, self.bias.as_ref()).map_err(torch_error)?;
        let Some(module) = self.module else { return Ok(y) };
        let h = x.f_linear(&loras.a[module], None::<&Tensor>).map_err(torch_error)?;
        // in place: nothing keeps a linear layer's output for its own backward pass
        y = loras.b[module].f_transpose(0, 1).and_then(|b| y.f_addmm_(&h, &b)).map_err(torch_error)?;
        if let Some(taken) = &mut loras.taken {
            let h = h.f_detach().map_err(torch_error)?;
            taken.push(Taken { module, h, y: y.shallow_clone(), rows });
        }
        Ok(y)
    }
}

/// The adapter during one call of the engine.
pub(super) struct Loras<'a> {
    /// A of each module `[r, in]`, in the layer's number format.
    a: &'a [Tensor],
    /// `s·B` of each module `[out, r]`, in the layer's number format.
    b: Vec<Tensor>,
    /// Where adapted layers leave their part; `None` where no gradient is wanted.
    taken: Option<Vec<Taken>>,
}

impl<'a> Loras<'a> {
    /// Takes B from the flat `adapter`.
    pub(super) fn new(layout: &AdapterLayout, a: &'a [Tensor], adapter: &[f32], gradient: bool) -> Result<Self> {
        let scaling = layout.lora().scaling();
        let mut b = Vec::with_capacity(a.len());
        for (i, a) in a.iter().enumerate() {
            let size = [layout.modules()[i].out_features as i64, layout.rank() as i64];
            let values = Tensor::f_from_slice(&adapter[layout.b_range(i)]).map_err(torch_error)?;
            let values = values.f_view(size).and_then(|t| t.f_mul_scalar(scaling)).map_err(torch_error)?;
            // a leaf, so that every adapted output has a history down to its own layer
            let values = on(&cast(&values, a.kind())?, a.device())?;
            b.push(values.f_set_requires_grad(gradient).map_err(torch_error)?);
        }
        Ok(Loras { a, b, taken: gradient.then(Vec::new) })
    }

    /// What the forward passes since the last call left behind.
    pub(super) fn take(&mut self) -> Vec<Taken> {
        self.taken.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// `tensor` in another number format; itself where it has it already.
pub(super) fn cast(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    tensor.f_to_dtype(kind, false, false).map_err(torch_error)
}
