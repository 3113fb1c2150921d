//! One backward pass over a batch, and from it the sum of its examples' gradients, each clipped on its own.
//!
//! The per-example gradient of an adapted layer's A or B is a product of two matrices over the example's own tokens
//! ([`super::lora`]); that of a layer of the head is `dy ⊗ x`, so its norm needs no matrix ([`super::head`]).

use std::ops::Range;

use blindsum_adapter::{Adapter, RoundKind};
use blindsum_engine::data::{Example, Target};
use tch::{Kind, Reduction, Tensor};

use super::builder::on;
use super::head::{HeadLayers, Passed};
use super::lora::{Loras, RowsAre, Taken, cast};
use super::packing::{Packed, RowLimits, pack};
use super::{Result, Worker, indices, model, next_token, torch_error, values};

/// Factor on a clipped gradient that keeps its norm at or below the clip after f32 rounding.
const ROUNDING_MARGIN: f64 = 1.0 - 1e-6;

/// A micro-batch after its backward pass.
struct Backward {
    packed: Packed,
    /// The gradients of what is trained in the adapted layers.
    products: Vec<Product>,
    /// Layers of a trained head, inputs without history, `y` replaced by its gradient; empty where the head is frozen.
    head: Vec<Passed>,
    /// Loss of each member, f32 `[members]`.
    losses: Tensor,
}

/// A gradient `narrowᵀ·wide` `[r, width]`, where an example's own is that of its own rows; f32 without history. In this
/// order the product is five times as fast on a processor as with the wide matrix first.
struct Product {
    /// Where it lies in the adapter's values.
    range: Range<usize>,
    /// `[rows, r]`
    narrow: Tensor,
    /// `[rows, width]`
    wide: Tensor,
    /// What the rows are.
    rows: RowsAre,
    /// Whether it lies there turned, `[width, r]`.
    turned: bool,
}

impl Product {
    /// A gradient `[r, width]` as it lies among the values.
    fn laid(&self, gradient: Tensor) -> Result<Tensor> {
        if self.turned { gradient.f_transpose(0, 1).map_err(torch_error) } else { Ok(gradient) }
    }
}

/// The end of a forward pass.
struct Top {
    /// A scalar whose gradient with respect to the features is that of the sum of the losses.
    total: Tensor,
    losses: Tensor,
    head: Vec<Passed>,
}

/// What one worker's share of a batch contributes.
pub(super) struct WorkerShare {
    /// Sum of the (clipped) gradients, in the adapter's layout; zero where nothing is trained.
    pub sum: Vec<f32>,
    /// Index in the batch, loss, and norm before clipping (0 without a clip) of each example.
    pub seen: Vec<(usize, f32, f64)>,
}

impl Worker {
    pub(super) fn sum_gradients(
        &self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        batch: &[&Example],
        parts: Vec<Packed>,
        clip: Option<f64>,
    ) -> Result<WorkerShare> {
        let numbers = adapter.values.len();
        let mut seen = Vec::with_capacity(batch.len());
        // on the device until the end: the host waits for it once in a micro-batch
        let sum = Tensor::f_zeros([numbers as i64], (Kind::Float, self.device())).map_err(torch_error)?;
        let mut rest: Vec<f32> = Vec::new();
        let mut loras = Loras::new(&self.layout, &self.a, adapter, Some(kind))?;
        let head = self.head(adapter)?;
        for packed in parts {
            let back = match self.gradient_checkpointing {
                false => self.backward(&mut loras, &head, packed, batch)?,
                true => self.backward_by_layers(&mut loras, &head, packed, batch)?,
            };
            let (losses, norms) = {
                let _guard = tch::no_grad_guard();
                match clip {
                    None => {
                        self.add_plain(&back, &sum)?;
                        (values(&back.losses)?, vec![0.0; back.packed.members.len()])
                    }
                    Some(clip) => self.add_clipped(&back, clip, &sum)?,
                }
            };
            let members = &back.packed.members;
            if members.len() > 1 && norms.iter().any(|n| !n.is_finite()) {
                // nothing was added: neighbours in a row can catch each other's overflow, so each goes alone
                for &i in members {
                    let alone = pack(&[batch[i]], RowLimits::ALONE);
                    let alone = self.sum_gradients(adapter, kind, &[batch[i]], alone, clip)?;
                    seen.extend(alone.seen.iter().map(|&(_, loss, norm)| (i, loss, norm)));
                    rest.resize(numbers, 0.0);
                    rest.iter_mut().zip(alone.sum).for_each(|(sum, x)| *sum += x);
                }
                continue;
            }
            seen.extend(members.iter().zip(losses).zip(norms).map(|((&i, loss), norm)| (i, loss, norm)));
        }
        let mut sum = values(&sum)?;
        sum.iter_mut().zip(rest).for_each(|(sum, x)| *sum += x);
        Ok(WorkerShare { sum, seen })
    }

    /// Forward and backward; all numbers that leave are without history.
    fn backward(&self, loras: &mut Loras, head: &HeadLayers, packed: Packed, batch: &[&Example]) -> Result<Backward> {
        let features = model::forward(&*self.model, &packed, loras)?;
        let Top { total, losses, mut head } = self.top(&features, head, &packed, batch)?;
        let mut layers = loras.take();
        let places = layers.iter_mut().map(|l| &mut l.y).chain(head.iter_mut().map(|l| &mut l.y));
        replace_by_gradients(&total, places.collect())?;
        Ok(Backward { packed, products: self.products(layers, loras)?, head, losses })
    }

    /// The same by one layer at a time: the first pass keeps each layer's input only, and the layer is computed again
    /// when its gradient is due (Chen et al. 2016).
    fn backward_by_layers(
        &self,
        loras: &mut Loras,
        head: &HeadLayers,
        packed: Packed,
        batch: &[&Example],
    ) -> Result<Backward> {
        let model = &*self.model;
        let mut inputs = Vec::with_capacity(model.layers() + 1);
        let (layers, head, losses) = {
            let pass = model.begin(&packed)?;
            {
                let _guard = tch::no_grad_guard();
                inputs.push(model.embed(&pass)?);
                for i in 0..model.layers() {
                    inputs.push(model.layer(i, &inputs[i], &pass, loras)?);
                }
                loras.take();
            }
            let leaf = |x: Option<Tensor>| {
                let x = x.ok_or_else(|| super::EngineError::Argument("a model without layers".to_owned()))?;
                x.f_detach().and_then(|x| x.f_set_requires_grad(true)).map_err(torch_error)
            };
            let mut x = leaf(inputs.pop())?;
            let Top { total, losses, mut head } = self.top(&model.finish(&x, loras)?, head, &packed, batch)?;
            let mut layers = loras.take();
            let places = layers.iter_mut().map(|l| &mut l.y).chain(head.iter_mut().map(|l| &mut l.y));
            replace_by_gradients(&total, places.chain([&mut x]).collect())?;
            for i in (0..model.layers()).rev() {
                let gradient = x;
                x = leaf(inputs.pop())?;
                let y = model.layer(i, &x, &pass, loras)?;
                let mut taken = loras.take();
                let total = y.f_mul(&gradient).and_then(|p| p.f_sum(Kind::Float)).map_err(torch_error)?;
                let places = taken.iter_mut().map(|l| &mut l.y).chain([&mut x]);
                replace_by_gradients(&total, places.collect())?;
                layers.extend(taken);
            }
            (layers, head, losses)
        };
        Ok(Backward { packed, products: self.products(layers, loras)?, head, losses })
    }

    /// What is trained in adapted layers, whose `y` is by now its gradient.
    fn products(&self, layers: Vec<Taken>, loras: &Loras) -> Result<Vec<Product>> {
        let mut products = Vec::with_capacity(layers.len());
        for Taken { module, h, x, y, rows } in layers {
            let dy = cast(&y, Kind::Float)?;
            if let Some(h) = h {
                let narrow = cast(&h, Kind::Float)?.f_mul_scalar(self.layout.lora().scaling()).map_err(torch_error)?;
                let (range, wide) = (self.layout.b_range(module), dy.shallow_clone());
                products.push(Product { range, narrow, wide, rows, turned: true });
            }
            if let (Some(x), Some(range)) = (x, self.layout.a_range(module)) {
                let narrow = dy.f_mm(&cast(&loras.b(module)?, Kind::Float)?).map_err(torch_error)?;
                products.push(Product { range, narrow, wide: cast(&x, Kind::Float)?, rows, turned: false });
            }
        }
        Ok(products)
    }

    /// From the model's features to the losses.
    fn top(&self, features: &Tensor, head: &HeadLayers, packed: &Packed, batch: &[&Example]) -> Result<Top> {
        if let Some(output) = self.model.output() {
            let found = {
                let _guard = tch::no_grad_guard();
                next_token::predict(features, output, packed, batch, true)?
            };
            let gradient = found.gradient.ok_or_else(|| super::EngineError::Argument("no gradient".to_owned()))?;
            let total = features.f_mul(&gradient).and_then(|p| p.f_sum(Kind::Float)).map_err(torch_error)?;
            return Ok(Top { total, losses: found.losses, head: Vec::new() });
        }
        let label = |&i: &usize| match batch[i].target {
            Target::Label(label) => i64::from(label),
            Target::After(_) | Target::Unknown => 0, // refused before
        };
        let targets = indices(&packed.members.iter().map(label).collect::<Vec<_>>(), self.device())?;
        let (logits, mut head) = head.forward(features)?;
        if self.layout.head_ranges().is_none() {
            head.clear();
        }
        for layer in &mut head {
            layer.x = layer.x.f_detach().map_err(torch_error)?;
        }
        let losses =
            logits.f_cross_entropy_loss(&targets, None::<&Tensor>, Reduction::None, -100, 0.0).map_err(torch_error)?;
        let total = losses.f_sum(None).map_err(torch_error)?;
        Ok(Top { total, losses: losses.f_detach().map_err(torch_error)?, head })
    }

    /// Adds the unclipped gradients: one matrix product each.
    fn add_plain(&self, back: &Backward, sum: &Tensor) -> Result<()> {
        for product in &back.products {
            let Product { narrow, wide, .. } = product;
            let gradient = narrow.f_transpose(0, 1).and_then(|narrow| narrow.f_mm(wide)).map_err(torch_error)?;
            accumulate(sum, product.range.clone(), &product.laid(gradient)?)?;
        }
        self.add_head(back, None, sum)
    }

    /// Adds the gradients of a trained head, each example's times its factor if there are `factors` `[examples]`.
    fn add_head(&self, back: &Backward, factors: Option<&Tensor>, sum: &Tensor) -> Result<()> {
        let Some(ranges) = self.layout.head_ranges() else { return Ok(()) };
        for (layer, part) in back.head.iter().zip(self.layout.head_parts()) {
            let dy = match factors {
                None => layer.y.shallow_clone(),
                Some(factors) => factors.f_unsqueeze(1).and_then(|f| layer.y.f_mul(&f)).map_err(torch_error)?,
            };
            let weight = dy.f_transpose(0, 1).and_then(|d| d.f_mm(&layer.x)).map_err(torch_error)?;
            accumulate(sum, shifted(part.weight, ranges.weight.start), &weight)?;
            if layer.bias {
                accumulate(sum, shifted(part.bias, ranges.bias.start), &column_sums(&dy)?)?;
            }
        }
        Ok(())
    }

    /// Adds the clipped gradients; returns the losses, and the norms before clipping. Adds nothing if one of them is not
    /// finite.
    fn add_clipped(&self, back: &Backward, clip: f64, sum: &Tensor) -> Result<(Vec<f32>, Vec<f64>)> {
        let per_product: Vec<Vec<Tensor>> =
            back.products.iter().map(|product| self.per_example(product, &back.packed)).collect::<Result<_>>()?;
        let members = back.packed.members.len();
        let mut squares = Tensor::f_zeros([members as i64], (Kind::Double, self.device())).map_err(torch_error)?;
        for parts in &per_product {
            let norms = parts.iter().map(row_square_norms).collect::<Result<Vec<_>>>()?;
            if !norms.is_empty() {
                squares = Tensor::f_cat(&norms, 0).and_then(|n| squares.f_add_(&n)).map_err(torch_error)?;
            }
        }
        for layer in &back.head {
            let (d, x) = (row_square_norms(&layer.y)?, row_square_norms(&layer.x)?);
            let bias = f64::from(u8::from(layer.bias));
            squares = x.f_add_scalar(bias).and_then(|x| squares.f_add_(&x.f_mul(&d)?)).map_err(torch_error)?;
        }
        // the one place in a micro-batch where the host waits for the device
        let host =
            Tensor::f_cat(&[&squares, &back.losses.f_to_dtype(Kind::Double, false, false).map_err(torch_error)?], 0);
        let host = on(&host.map_err(torch_error)?, tch::Device::Cpu)?;
        let mut host = Vec::<f64>::try_from(&host).map_err(torch_error)?;
        let losses = host.split_off(members).into_iter().map(|loss| loss as f32).collect();
        let norms: Vec<f64> = host.into_iter().map(f64::sqrt).collect();
        if norms.iter().any(|n| !n.is_finite()) {
            return Ok((losses, norms));
        }
        let scale = |norm: f64| if norm > clip { clip / norm * ROUNDING_MARGIN } else { 1.0 };
        let factors: Vec<f32> = norms.iter().map(|&n| scale(n) as f32).collect();
        let factors = on(&Tensor::f_from_slice(&factors).map_err(torch_error)?, self.device())?;
        for (product, parts) in back.products.iter().zip(&per_product) {
            let shape = [self.layout.rank() as i64, -1];
            let mut start = 0;
            for part in parts {
                let n = part.size()[0];
                let weighted =
                    factors.f_narrow(0, start, n).and_then(|f| part.f_transpose(0, 1)?.f_mv(&f)?.f_view(shape));
                accumulate(sum, product.range.clone(), &product.laid(weighted.map_err(torch_error)?)?)?;
                start += n;
            }
        }
        self.add_head(back, Some(&factors), sum)?;
        Ok((losses, norms))
    }

    /// A product's gradient for each example, flattened: parts `[some, r·width]`, together in packed order.
    fn per_example(&self, product: &Product, packed: &Packed) -> Result<Vec<Tensor>> {
        let Product { narrow, wide, .. } = product;
        let (r, width) = (narrow.size()[1], wide.size()[1]);
        if product.rows == RowsAre::Examples {
            let each = narrow.f_unsqueeze(2).and_then(|n| n.f_mul(&wide.f_unsqueeze(1)?)?.f_view([-1, r * width]));
            return Ok(vec![each.map_err(torch_error)?]);
        }
        let mut parts = Vec::new();
        for group in packed.groups() {
            let (n, longest) = (group.len() as i64, packed.lengths[group.start]);
            let mut index = Vec::with_capacity(group.len() * longest);
            let mut real = Vec::with_capacity(group.len() * longest);
            for i in group {
                // past its end an example repeats its first token with zeros on the narrow side
                let (start, length) = (packed.starts[i], packed.lengths[i]);
                index.extend((0..longest).map(|t| (start + if t < length { t } else { 0 }) as i64));
                real.extend((0..longest).map(|t| if t < length { 1f32 } else { 0.0 }));
            }
            let index = indices(&index, self.device())?;
            let real = on(&Tensor::f_from_slice(&real).map_err(torch_error)?, self.device())?;
            let each = || {
                let real = real.f_unsqueeze(1)?;
                let narrow = narrow.f_index_select(0, &index)?.f_mul(&real)?.f_view([n, longest as i64, r])?;
                let wide = wide.f_index_select(0, &index)?.f_view([n, longest as i64, width])?;
                narrow.f_transpose(1, 2)?.f_bmm(&wide)?.f_view([n, r * width])
            };
            parts.push(each().map_err(torch_error)?);
        }
        Ok(parts)
    }
}

/// Replaces each tensor by the gradient of `total` with respect to it.
fn replace_by_gradients(total: &Tensor, places: Vec<&mut Tensor>) -> Result<()> {
    let inputs: Vec<&Tensor> = places.iter().map(|place| &**place).collect();
    let gradients = Tensor::f_run_backward(&[total], &inputs, false, false).map_err(torch_error)?;
    for (place, gradient) in places.into_iter().zip(gradients) {
        *place = gradient;
    }
    Ok(())
}

/// Adds a gradient to its place in the sum.
fn accumulate(sum: &Tensor, range: Range<usize>, gradient: &Tensor) -> Result<()> {
    let mut place = sum.f_narrow(0, range.start as i64, range.len() as i64).map_err(torch_error)?;
    gradient.f_reshape([-1]).and_then(|flat| place.f_add_(&flat)).map(|_| ()).map_err(torch_error)
}

fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// Squared L2 norm of each row, f64 `[rows]`.
fn row_square_norms(matrix: &Tensor) -> Result<Tensor> {
    let squares = matrix.f_square().and_then(|s| s.f_sum_dim_intlist([1i64].as_slice(), false, None));
    squares.and_then(|s| s.f_to_dtype(Kind::Double, false, false)).map_err(torch_error)
}

fn column_sums(matrix: &Tensor) -> Result<Tensor> {
    matrix.f_sum_dim_intlist([0i64].as_slice(), false, None).map_err(torch_error)
}
