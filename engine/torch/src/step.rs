//! One backward pass over a micro-batch, and the sum of its examples' gradients.
//!
//! The gradient of an adapted layer's A or B is a product of two matrices over tokens ([`super::lora`]), that of a layer of
//! the head one over examples ([`super::head`]). Over all of them at once it is the sum; over each example's own it is what
//! [`super::clipped`] clips.

use std::ops::Range;

use blindsum_adapter::{Adapter, RoundKind};
use blindsum_engine::data::{Example, Target};
use tch::{Kind, Reduction, Tensor};

use super::head::{HeadLayers, Passed};
use super::lora::{Loras, RowsAre, Taken, cast};
use super::packing::Packed;
use super::{Result, Worker, indices, model, next_token, torch_error, values};

/// A micro-batch after its backward pass.
pub(super) struct Backward {
    pub packed: Packed,
    /// The gradients of what is trained in the adapted layers.
    pub products: Vec<Product>,
    /// Layers of a trained head, inputs without history, `y` replaced by its gradient; empty where the head is frozen.
    pub head: Vec<Passed>,
    /// Loss of each member, f32; what comes after is nobody's.
    pub losses: Tensor,
}

/// A gradient `narrowᵀ·wide` `[r, width]`, where an example's own is that of its own rows; f32 without history. In this
/// order the product is five times as fast on a processor as with the wide matrix first.
pub(super) struct Product {
    /// Where it lies in the adapter's values.
    pub range: Range<usize>,
    /// `[rows, r]`
    pub narrow: Tensor,
    /// `[rows, width]`
    pub wide: Tensor,
    /// What the rows are.
    pub rows: RowsAre,
    /// Whether it lies there turned, `[width, r]`.
    pub turned: bool,
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
    /// Sum of the gradients, in the adapter's layout; zero where nothing is trained.
    pub sum: Vec<f32>,
    /// Index in the batch and loss of each example.
    pub losses: Vec<(usize, f32)>,
}

impl Worker {
    pub(super) fn sum_gradients(
        &self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        batch: &[&Example],
        parts: Vec<Packed>,
    ) -> Result<WorkerShare> {
        let mut losses = Vec::new();
        // on the device until the end: the host waits for it once in a micro-batch
        let sum = [adapter.values.len() as i64];
        let sum = Tensor::f_zeros(sum, (Kind::Float, self.device())).map_err(torch_error)?;
        let mut loras = Loras::new(&self.layout, &self.a, adapter, Some(kind))?;
        let head = self.head(adapter)?;
        for packed in parts {
            let back = self.backward(&mut loras, &head, packed, batch)?;
            let _guard = tch::no_grad_guard();
            self.add_plain(&back, &sum)?;
            losses.extend(back.packed.members.iter().copied().zip(values(&back.losses)?));
        }
        Ok(WorkerShare { sum: values(&sum)?, losses })
    }

    /// Forward and backward; all numbers that leave are without history.
    pub(super) fn backward(
        &self,
        loras: &mut Loras,
        head: &HeadLayers,
        packed: Packed,
        batch: &[&Example],
    ) -> Result<Backward> {
        match self.gradient_checkpointing {
            false => self.backward_at_once(loras, head, packed, batch),
            true => self.backward_by_layers(loras, head, packed, batch),
        }
    }

    /// With the activations of all layers at the same time.
    fn backward_at_once(
        &self,
        loras: &mut Loras,
        head: &HeadLayers,
        packed: Packed,
        batch: &[&Example],
    ) -> Result<Backward> {
        let features = model::forward(&*self.model, &packed, loras)?;
        let Top { total, losses, mut head } = self.top(&features, head, &packed, batch)?;
        let mut layers = loras.take();
        let places = layers.iter_mut().map(|l| &mut l.y).chain(head.iter_mut().map(|l| &mut l.y));
        replace_by_gradients(&total, places.collect())?;
        Ok(Backward { packed, products: self.products(layers, loras)?, head, losses })
    }

    /// By one layer at a time: the first pass keeps each layer's input only, and the layer is computed again
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
        let mut targets: Vec<i64> = packed.members.iter().map(label).collect();
        targets.resize(features.size()[0] as usize, 0);
        let targets = indices(&targets, self.device())?;
        let (logits, mut head) = head.forward(features)?;
        if self.layout.head_ranges().is_none() {
            head.clear();
        }
        for layer in &mut head {
            layer.x = layer.x.f_detach().map_err(torch_error)?;
        }
        let losses =
            logits.f_cross_entropy_loss(&targets, None::<&Tensor>, Reduction::None, -100, 0.0).map_err(torch_error)?;
        let own = losses.f_narrow(0, 0, packed.starts.len() as i64);
        let total = own.and_then(|own| own.f_sum(None)).map_err(torch_error)?;
        Ok(Top { total, losses: losses.f_detach().map_err(torch_error)?, head })
    }

    /// Adds the gradients of all members at once: one matrix product each.
    fn add_plain(&self, back: &Backward, sum: &Tensor) -> Result<()> {
        for Product { range, narrow, wide, turned, .. } in &back.products {
            let gradient = narrow.f_transpose(0, 1).and_then(|narrow| narrow.f_mm(wide));
            let laid = gradient.and_then(|g| if *turned { g.f_transpose(0, 1) } else { Ok(g) });
            accumulate(sum, range.clone(), &laid.map_err(torch_error)?)?;
        }
        let Some(ranges) = self.layout.head_ranges() else { return Ok(()) };
        for (layer, part) in back.head.iter().zip(self.layout.head_parts()) {
            let weight = layer.y.f_transpose(0, 1).and_then(|d| d.f_mm(&layer.x)).map_err(torch_error)?;
            accumulate(sum, shifted(part.weight, ranges.weight.start), &weight)?;
            if layer.bias {
                accumulate(sum, shifted(part.bias, ranges.bias.start), &column_sums(&layer.y)?)?;
            }
        }
        Ok(())
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

pub(super) fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

fn column_sums(matrix: &Tensor) -> Result<Tensor> {
    matrix.f_sum_dim_intlist([0i64].as_slice(), false, None).map_err(torch_error)
}
