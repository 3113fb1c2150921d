//! The classification head: one linear layer or two with an activation between, all in f32.
//!
//! A layer's gradient for one example is `dy ⊗ x` with the layer's own input `x`, so its norm needs no matrix: it is
//! `‖dy‖·‖x‖`, and `‖dy‖·√(‖x‖² + 1)` with the bias (Goodfellow 2015).

use blindsum_adapter::{AdapterLayout, HeadRanges};
use tch::{Device, Tensor};

use super::builder::on;
use super::{Result, matrix, torch_error};

/// What stands between two layers of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadActivation {
    /// Nothing: the head is a single layer.
    None,
    Tanh,
    Relu,
}

/// The head of one adapter.
pub(super) struct HeadLayers {
    /// Weight `[out, in]` and bias `[out]`, if any, of each layer; the last gives the logits.
    layers: Vec<(Tensor, Option<Tensor>)>,
    activation: HeadActivation,
}

/// One layer of the head in a forward pass.
pub(super) struct Passed {
    /// The layer's input `[examples, in]`.
    pub x: Tensor,
    /// The layer's output `[examples, out]`, in the backward pass replaced by its gradient.
    pub y: Tensor,
    /// Whether the layer has a bias.
    pub bias: bool,
}

impl HeadLayers {
    /// Takes all the head's weights and biases apart.
    pub(super) fn new(
        layout: &AdapterLayout,
        (weights, biases): (&[f32], &[f32]),
        activation: HeadActivation,
        device: Device,
    ) -> Result<Self> {
        // an empty slice where the numbers do not suffice: `matrix` then refuses it
        let part = |values: &[f32], range| values.get(range).map(<[f32]>::to_vec).unwrap_or_default();
        let read = |(layer, HeadRanges { weight, bias }): (&blindsum_adapter::HeadLayer, HeadRanges)| {
            let weight = on(&matrix(&part(weights, weight), &[layer.out_features, layer.in_features])?, device)?;
            let bias = match layer.bias {
                true => Some(on(&matrix(&part(biases, bias), &[layer.out_features])?, device)?),
                false => None,
            };
            Ok((weight, bias))
        };
        let layers = layout.head_layers().iter().zip(layout.head_parts()).map(read).collect::<Result<_>>()?;
        Ok(HeadLayers { layers, activation })
    }

    /// The same head for another thread, or another call.
    pub(super) fn share(&self) -> Self {
        let layers =
            self.layers.iter().map(|(w, b)| (w.shallow_clone(), b.as_ref().map(Tensor::shallow_clone))).collect();
        HeadLayers { layers, activation: self.activation }
    }

    /// Applies the head to `features` `[examples, in]`; the last layer's output are the logits `[examples, labels]`.
    pub(super) fn forward(&self, features: &Tensor) -> Result<(Tensor, Vec<Passed>)> {
        let mut passed: Vec<Passed> = Vec::with_capacity(self.layers.len());
        let mut x = features.shallow_clone();
        for (i, (weight, bias)) in self.layers.iter().enumerate() {
            if i > 0 {
                x = match self.activation {
                    HeadActivation::None => x,
                    HeadActivation::Tanh => x.f_tanh().map_err(torch_error)?,
                    HeadActivation::Relu => x.f_relu().map_err(torch_error)?,
                };
            }
            let y = x.f_linear(weight, bias.as_ref()).map_err(torch_error)?;
            passed.push(Passed { x, y: y.shallow_clone(), bias: bias.is_some() });
            x = y;
        }
        Ok((x, passed))
    }
}
