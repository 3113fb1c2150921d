//! Next-token prediction: the loss of each example and its gradient with respect to the last hidden states, without
//! keeping the logits.
//!
//! The output matrix is frozen, so the gradient of the loss at a token is `(softmax − onehot)·W`, which is computed for a
//! few tokens at a time: the logits of a whole micro-batch, tokens × vocabulary, never exist. Contract: the loss of an
//! example is the mean over its own predicted tokens, never across examples; a prompt's tokens are not predicted.

use blindsum_engine::data::Example;
use tch::{Kind, Tensor};

use super::builder::on;
use super::lora::cast;
use super::packing::Packed;
use super::{Result, indices, torch_error};

/// Logits that exist at a time (64 MB of f32).
const LOGITS: usize = 1 << 24;

/// Rows of a product, at most, where an example's numbers must not depend on others.
const APART: usize = 64;

/// What predicting the tokens of one micro-batch gave.
pub(super) struct Predicted {
    /// Mean cross-entropy over the predicted tokens of each member or empty slot, f32; 0 where there are none.
    pub losses: Tensor,
    /// Predicted tokens of each member.
    pub counted: Vec<u32>,
    /// Of them, those with the largest logit, f32 `[members]`; filled in only without a gradient.
    pub correct: Tensor,
    /// Gradient of the sum of the losses with respect to the hidden states, in their shape and format, where wanted.
    pub gradient: Option<Tensor>,
}

/// Predicts from `hidden` `[tokens, hidden]` by `output` `[vocab, hidden]`.
pub(super) fn predict(
    hidden: &Tensor,
    output: &Tensor,
    packed: &Packed,
    batch: &[&Example],
    with_gradient: bool,
) -> Result<Predicted> {
    let hidden = hidden.f_detach().map_err(torch_error)?;
    let members = packed.starts.len();
    let (mut rows, mut targets, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut counted = vec![0u32; members];
    for (slot, &i) in packed.members.iter().enumerate() {
        for t in batch[i].predicted() {
            rows.push((packed.starts[slot] + t - 1) as i64);
            targets.push(i64::from(batch[i].ids[t]));
            owners.push(slot as i64);
            counted[slot] += 1;
        }
    }
    let device = hidden.device();
    let none = || Tensor::f_zeros([members as i64], (Kind::Float, device)).map_err(torch_error);
    let (mut losses, mut correct) = (none()?, none()?);
    let mut gradient = match with_gradient {
        true => Some(hidden.f_zeros_like().map_err(torch_error)?),
        false => None,
    };
    let step = (LOGITS / output.size()[0].max(1) as usize).max(16);
    // where an example's numbers must not depend on others, every product has the same shape, and its last row, with which
    // vector instructions may deal apart, is nobody's
    let shape = packed.apart.then(|| step.min(APART));
    let step = shape.map_or(step, |rows| rows - 1);
    for start in (0..rows.len()).step_by(step) {
        let part = start..(start + step).min(rows.len());
        let (own, fill) = (part.len() as i64, shape.map_or(0, |rows| rows - part.len()));
        let filled = |mut of: Vec<i64>| {
            of.resize(of.len() + fill, 0);
            indices(&of, device)?.f_unsqueeze(1).map_err(torch_error)
        };
        let (at, target) = (indices(&rows[part.clone()], device)?, filled(targets[part.clone()].to_vec())?);
        let owner = indices(&owners[part.clone()], device)?;
        let weight = |&slot: &i64| 1.0 / counted[slot as usize].max(1) as f32;
        let mut weights: Vec<f32> = owners[part].iter().map(weight).collect();
        weights.resize(weights.len() + fill, 0.0);
        let weights = on(&Tensor::f_from_slice(&weights).map_err(torch_error)?, device)?;
        let logits = hidden
            .f_index_select(0, &at)
            .and_then(|h| h.f_constant_pad_nd([0, 0, 0, fill as i64]))
            .and_then(|h| h.f_linear(output, None::<&Tensor>));
        let mut logits = cast(&logits.map_err(torch_error)?, Kind::Float)?;
        let all = logits.f_logsumexp([1i64], true).map_err(torch_error)?;
        let mut add_losses = || {
            let loss = all.f_sub(&logits.f_gather(1, &target, false)?)?.f_squeeze_dim(1)?;
            losses.f_index_add_(0, &owner, &loss.f_mul(&weights)?.f_narrow(0, 0, own)?)
        };
        let _ = add_losses().map_err(torch_error)?;
        match &mut gradient {
            None => {
                let right = logits.f_argmax(1, true).and_then(|best| best.f_eq_tensor(&target)).map_err(torch_error)?;
                let right = cast(&right, Kind::Float)?.f_squeeze_dim(1).map_err(torch_error)?;
                let _ = correct.f_index_add_(0, &owner, &right).map_err(torch_error)?;
            }
            Some(gradient) => {
                let mut add = || {
                    let weights = weights.f_unsqueeze(1)?;
                    logits = logits.f_sub_(&all)?.f_exp_()?;
                    let minus = target.f_ones_like()?.f_to_dtype(Kind::Float, false, false)?.f_neg()?;
                    logits = logits.f_scatter_add_(1, &target, &minus)?.f_mul_(&weights)?;
                    let back = logits.f_to_dtype(output.kind(), false, false)?.f_mm(output)?.f_narrow(0, 0, own)?;
                    gradient.f_index_add_(0, &at, &back)
                };
                let _ = add().map_err(torch_error)?;
            }
        }
    }
    Ok(Predicted { losses, counted, correct, gradient })
}
