//! Linear layers, frozen or adapted, and what a forward pass leaves behind for the gradients of A and B.
//!
//! An adapted layer computes `y = x·W0ᵀ + b + h·(s·B)ᵀ` with `h = x·Aᵀ` and `s = lora_alpha / r`. One backward pass gives
//! `dL/dy` for every token of every example at once. Over one example's tokens alone, the gradient of its B is then
//! `s · dyᵀ·h` and that of its A is `(dy·sB)ᵀ·x`, because neither enters anywhere else. So per-example gradients cost one
//! small matrix product per layer and matrix on top of an ordinary backward pass.
//!
//! Folded parts of an adapter (`lora.refresh_rounds`) stand before the newest in A's rows and B's columns, exactly as in
//! the export; the newest is the last r of them, and all that is trained.

use blindsum_adapter::{Adapter, AdapterLayout, RoundKind};
use tch::{Kind, Tensor};

use super::builder::on;
use super::{Result, matrix, torch_error};

/// What the rows of a layer's input stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowsAre {
    /// One per token of the packed layout.
    Tokens,
    /// One per example, in the packed order.
    Examples,
}

/// An adapted layer's part in the backward pass.
pub(super) struct Taken {
    /// Index of the module in the layout.
    pub module: usize,
    /// `x·Aᵀ`, `[rows, r]`, without history; where B is trained.
    pub h: Option<Tensor>,
    /// The layer's input `[rows, in]`, without history; where A is trained.
    pub x: Option<Tensor>,
    /// The layer's output `[rows, out]`, with history.
    pub y: Tensor,
    /// What its rows are.
    pub rows: RowsAre,
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
    pub(super) fn forward(&self, x: &Tensor, loras: &mut Loras, rows: RowsAre) -> Result<Tensor> {
        let mut y = x.f_linear(&self.weight, self.bias.as_ref()).map_err(torch_error)?;
        let Some(module) = self.module else { return Ok(y) };
        let h = x.f_linear(&loras.a[module], None::<&Tensor>).map_err(torch_error)?;
        // in place: nothing keeps a linear layer's output for its own backward pass
        y = loras.b[module].f_transpose(0, 1).and_then(|b| y.f_addmm_(&h, &b)).map_err(torch_error)?;
        if let Some((kind, taken)) = &mut loras.taken {
            let newest = |h: Tensor| h.f_narrow(1, h.size()[1] - loras.rank, loras.rank);
            let h = kind.trains_b().then(|| h.f_detach().and_then(newest)).transpose().map_err(torch_error)?;
            let x = kind.trains_a().then(|| x.f_detach()).transpose().map_err(torch_error)?;
            taken.push(Taken { module, h, x, y: y.shallow_clone(), rows });
        }
        Ok(y)
    }
}

/// The adapter during one call of the engine.
pub(super) struct Loras {
    rank: i64,
    /// A of each module `[generations·r, in]`, in the layer's number format.
    a: Vec<Tensor>,
    /// `s·B` of each module `[out, generations·r]`, in the layer's number format.
    b: Vec<Tensor>,
    /// What is trained, and where adapted layers leave their part; `None` where no gradient is wanted.
    taken: Option<(RoundKind, Vec<Taken>)>,
}

impl Loras {
    /// Takes A and B from `adapter`, which fits the layout; A from `frozen` `[generations·r or more, in]` where it is not
    /// among the values.
    pub(super) fn new(
        layout: &AdapterLayout,
        frozen: &[Tensor],
        adapter: Adapter<'_>,
        gradient: Option<RoundKind>,
    ) -> Result<Self> {
        let scaling = layout.lora().scaling();
        let (mut a, mut b) = (Vec::with_capacity(frozen.len()), Vec::with_capacity(frozen.len()));
        for (i, (module, frozen)) in layout.modules().iter().zip(frozen).enumerate() {
            let stack = adapter.b_stack(layout, i);
            let rows = stack.len() / module.out_features;
            a.push(match layout.a_range(i) {
                Some(range) => {
                    let a = matrix(&adapter.values[range], &[rows, module.in_features])?;
                    on(&cast(&a, frozen.kind())?, frozen.device())?
                }
                None => frozen.f_narrow(0, 0, rows as i64).map_err(torch_error)?,
            });
            let values = matrix(&stack, &[module.out_features, rows])?.f_mul_scalar(scaling).map_err(torch_error)?;
            // a leaf, so that every adapted output has a history down to its own layer
            let leaf = on(&cast(&values, frozen.kind())?, frozen.device())?;
            b.push(leaf.f_set_requires_grad(gradient.is_some()).map_err(torch_error)?);
        }
        Ok(Loras { rank: layout.rank() as i64, a, b, taken: gradient.map(|kind| (kind, Vec::new())) })
    }

    /// `s·B` of a module whose A is trained, `[out, r]`, without history.
    pub(super) fn b(&self, module: usize) -> Result<Tensor> {
        self.b[module].f_detach().map_err(torch_error)
    }

    /// What the forward passes since the last call left behind.
    pub(super) fn take(&mut self) -> Vec<Taken> {
        self.taken.as_mut().map(|(_, taken)| std::mem::take(taken)).unwrap_or_default()
    }
}

/// `tensor` in another number format; itself where it has it already.
pub(super) fn cast(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    tensor.f_to_dtype(kind, false, false).map_err(torch_error)
}
