//! One backward pass over a batch, and from it the sum of its examples' gradients, each clipped on its own.
//!
//! The per-example gradient of an adapted layer's A or B is a product of two matrices over the example's own tokens
//! ([`super::lora`]); that of a layer of the head is `dy ⊗ x`, so its norm needs no matrix ([`super::head`]).

use std::ops::Range;

use blindsum_adapter::{Adapter, Phase};
use tch::{Kind, Reduction, Tensor};

use super::head::{Head, Passed};
use super::lora::{Loras, Rows, Taken, cast};
use super::packing::{Limits, Packed, pack};
use super::{Result, Worker, torch_error, values};
use crate::data::Example;

/// Factor on a clipped gradient that keeps its norm at or below the clip after f32 rounding.
const ROUNDING_MARGIN: f64 = 1.0 - 1e-6;

/// A micro-batch after its backward pass.
struct Backward {
    packed: Packed,
    /// The gradients of what is trained in the adapted layers, in the order of the pass.
    products: Vec<Product>,
    /// Layers of a trained head, inputs without history, `y` replaced by its gradient; empty where the head is frozen.
    head: Vec<Passed>,
    losses: Vec<f32>,
}

/// A gradient `leftᵀ·right`, where an example's own is that of its own rows; f32 without history.
struct Product {
    /// Where it lies in the adapter's values.
    range: Range<usize>,
    left: Tensor,
    right: Tensor,
    /// What the rows are.
    rows: Rows,
}

/// What one worker's share of a batch contributes.
pub(super) struct Share {
    /// Sum of the (clipped) gradients, in the adapter's layout; zero where nothing is trained.
    pub sum: Vec<f32>,
    /// Index in the batch, loss, and norm before clipping (0 without a clip) of each example.
    pub seen: Vec<(usize, f32, f64)>,
}

impl Worker {
    pub(super) fn sum_gradients(
        &self,
        adapter: Adapter<'_>,
        phase: Phase,
        batch: &[&Example],
        parts: Vec<Packed>,
        clip: Option<f64>,
    ) -> Result<Share> {
        let mut share = Share { sum: vec![0.0; adapter.values.len()], seen: Vec::with_capacity(batch.len()) };
        let mut loras = Loras::new(&self.layout, &self.a, adapter, Some(phase))?;
        let head = self.head(adapter)?;
        for packed in parts {
            let back = self.backward(&mut loras, &head, packed, batch)?;
            let norms = {
                let _guard = tch::no_grad_guard();
                match clip {
                    None => {
                        self.add_plain(&back, &mut share.sum)?;
                        vec![0.0; back.losses.len()]
                    }
                    Some(clip) => self.add_clipped(&back, clip, &mut share.sum)?,
                }
            };
            let members = &back.packed.members;
            if members.len() > 1 && norms.iter().any(|n| !n.is_finite()) {
                // nothing was added: neighbours in a row can catch each other's overflow, so each goes alone
                for &i in members {
                    let alone = pack(&[batch[i]], Limits::ALONE);
                    let alone = self.sum_gradients(adapter, phase, &[batch[i]], alone, clip)?;
                    share.seen.extend(alone.seen.iter().map(|&(_, loss, norm)| (i, loss, norm)));
                    share.sum.iter_mut().zip(alone.sum).for_each(|(sum, x)| *sum += x);
                }
                continue;
            }
            let seen = members.iter().zip(&back.losses).zip(&norms);
            share.seen.extend(seen.map(|((&i, &loss), &norm)| (i, loss, norm)));
        }
        Ok(share)
    }

    /// Forward and backward; all numbers that leave are f32 and without history.
    fn backward(&self, loras: &mut Loras, head: &Head, packed: Packed, batch: &[&Example]) -> Result<Backward> {
        let targets: Vec<i64> = packed.members.iter().map(|&i| i64::from(batch[i].label)).collect();
        let targets = Tensor::f_from_slice(&targets).map_err(torch_error)?;
        let (logits, mut head) = head.forward(&self.model.features(&packed, loras)?)?;
        if self.layout.head_ranges().is_none() {
            head.clear();
        }
        let losses =
            logits.f_cross_entropy_loss(&targets, None::<&Tensor>, Reduction::None, -100, 0.0).map_err(torch_error)?;
        let mut layers = loras.take();
        let outputs: Vec<&Tensor> = layers.iter().map(|l| &l.y).chain(head.iter().map(|l| &l.y)).collect();
        let loss = losses.f_sum(None).map_err(torch_error)?;
        let gradients = Tensor::f_run_backward(&[loss], &outputs, false, false).map_err(torch_error)?;
        let places = layers.iter_mut().map(|l| &mut l.y).chain(head.iter_mut().map(|l| &mut l.y));
        for (place, gradient) in places.zip(gradients) {
            *place = gradient;
        }
        for layer in &mut head {
            layer.x = layer.x.f_detach().map_err(torch_error)?;
        }
        let mut products = Vec::with_capacity(layers.len());
        for layer in layers {
            self.products(layer, loras, &mut products)?;
        }
        Ok(Backward { packed, products, head, losses: values(&losses.f_detach().map_err(torch_error)?)? })
    }

    /// What is trained in an adapted layer, whose `y` is by now its gradient.
    fn products(&self, layer: Taken, loras: &Loras, products: &mut Vec<Product>) -> Result<()> {
        let Taken { module, h, x, y, rows } = layer;
        let dy = cast(&y, Kind::Float)?;
        if let Some(h) = h {
            let right = cast(&h, Kind::Float)?.f_mul_scalar(self.layout.lora().scaling()).map_err(torch_error)?;
            products.push(Product { range: self.layout.b_range(module), left: dy.shallow_clone(), right, rows });
        }
        if let (Some(x), Some(range)) = (x, self.layout.a_range(module)) {
            let left = dy.f_mm(&cast(&loras.b(module)?, Kind::Float)?).map_err(torch_error)?;
            products.push(Product { range, left, right: cast(&x, Kind::Float)?, rows });
        }
        Ok(())
    }

    /// Adds the unclipped gradients: one matrix product each.
    fn add_plain(&self, back: &Backward, sum: &mut [f32]) -> Result<()> {
        for Product { range, left, right, .. } in &back.products {
            let gradient = left.f_transpose(0, 1).and_then(|left| left.f_mm(right)).map_err(torch_error)?;
            accumulate(&mut sum[range.clone()], &gradient)?;
        }
        self.add_head(back, None, sum)
    }

    /// Adds the gradients of a trained head, each example's times its factor if there are `factors` `[examples]`.
    fn add_head(&self, back: &Backward, factors: Option<&Tensor>, sum: &mut [f32]) -> Result<()> {
        let Some(ranges) = self.layout.head_ranges() else { return Ok(()) };
        for (layer, part) in back.head.iter().zip(self.layout.head_parts()) {
            let dy = match factors {
                None => layer.y.shallow_clone(),
                Some(factors) => factors.f_unsqueeze(1).and_then(|f| layer.y.f_mul(&f)).map_err(torch_error)?,
            };
            let weight = dy.f_transpose(0, 1).and_then(|d| d.f_mm(&layer.x)).map_err(torch_error)?;
            accumulate(&mut sum[ranges.weight.clone()][part.weight], &weight)?;
            accumulate(&mut sum[ranges.bias.clone()][part.bias], &column_sums(&dy)?)?;
        }
        Ok(())
    }

    /// Adds the clipped gradients and returns the norms before clipping; adds nothing if one of them is not finite.
    fn add_clipped(&self, back: &Backward, clip: f64, sum: &mut [f32]) -> Result<Vec<f64>> {
        let per_product: Vec<Vec<Tensor>> =
            back.products.iter().map(|product| per_example(product, &back.packed)).collect::<Result<_>>()?;
        let mut squares = vec![0.0f64; back.losses.len()];
        for parts in &per_product {
            let norms = parts.iter().map(row_square_norms).collect::<Result<Vec<_>>>()?;
            for (square, part) in squares.iter_mut().zip(norms.into_iter().flatten()) {
                *square += part;
            }
        }
        for layer in &back.head {
            let (d, x) = (row_square_norms(&layer.y)?, row_square_norms(&layer.x)?);
            for ((square, d), x) in squares.iter_mut().zip(d).zip(x) {
                *square += d * (x + 1.0);
            }
        }
        let norms: Vec<f64> = squares.into_iter().map(f64::sqrt).collect();
        if norms.iter().any(|n| !n.is_finite()) {
            return Ok(norms);
        }
        let scale = |norm: f64| if norm > clip { clip / norm * ROUNDING_MARGIN } else { 1.0 };
        let factors: Vec<f32> = norms.iter().map(|&n| scale(n) as f32).collect();
        let factors = Tensor::f_from_slice(&factors).map_err(torch_error)?;
        for (product, parts) in back.products.iter().zip(&per_product) {
            let range = &mut sum[product.range.clone()];
            let mut start = 0;
            for part in parts {
                let n = part.size()[0];
                let weighted = factors.f_narrow(0, start, n).and_then(|f| part.f_transpose(0, 1)?.f_mv(&f));
                accumulate(range, &weighted.map_err(torch_error)?)?;
                start += n;
            }
        }
        self.add_head(back, Some(&factors), sum)?;
        Ok(norms)
    }
}

/// A product's gradient for each example, flattened: parts `[some, left·right]`, together in packed order.
fn per_example(product: &Product, packed: &Packed) -> Result<Vec<Tensor>> {
    let Product { left, right, .. } = product;
    let (l, r) = (left.size()[1], right.size()[1]);
    if product.rows == Rows::Examples {
        let each = left.f_unsqueeze(2).and_then(|left| left.f_mul(&right.f_unsqueeze(1)?)?.f_view([-1, l * r]));
        return Ok(vec![each.map_err(torch_error)?]);
    }
    let mut parts = Vec::new();
    for group in packed.groups() {
        let (n, longest) = (group.len() as i64, packed.lengths[group.start]);
        let mut index = Vec::with_capacity(group.len() * longest);
        let mut real = Vec::with_capacity(group.len() * longest);
        for i in group {
            // past its end an example repeats its first token with zeros on one side
            let (start, length) = (packed.starts[i], packed.lengths[i]);
            index.extend((0..longest).map(|t| (start + if t < length { t } else { 0 }) as i64));
            real.extend((0..longest).map(|t| if t < length { 1f32 } else { 0.0 }));
        }
        let each = || {
            let (index, real) = (Tensor::f_from_slice(&index)?, Tensor::f_from_slice(&real)?.f_unsqueeze(1)?);
            // the narrower side is the cheaper one to mask
            let mask = |t: Tensor, narrow: bool| if narrow { t.f_mul(&real) } else { Ok(t) };
            let left = mask(left.f_index_select(0, &index)?, l < r)?.f_view([n, longest as i64, l])?;
            let right = mask(right.f_index_select(0, &index)?, l >= r)?.f_view([n, longest as i64, r])?;
            left.f_transpose(1, 2)?.f_bmm(&right)?.f_view([n, l * r])
        };
        parts.push(each().map_err(torch_error)?);
    }
    Ok(parts)
}

fn accumulate(sum: &mut [f32], gradient: &Tensor) -> Result<()> {
    for (sum, x) in sum.iter_mut().zip(values(gradient)?) {
        *sum += x;
    }
    Ok(())
}

/// Squared L2 norm of each row.
fn row_square_norms(matrix: &Tensor) -> Result<Vec<f64>> {
    let squares = matrix.f_square().and_then(|s| s.f_sum_dim_intlist([1i64].as_slice(), false, None));
    Ok(values(&squares.map_err(torch_error)?)?.into_iter().map(f64::from).collect())
}

fn column_sums(matrix: &Tensor) -> Result<Tensor> {
    matrix.f_sum_dim_intlist([0i64].as_slice(), false, None).map_err(torch_error)
}
