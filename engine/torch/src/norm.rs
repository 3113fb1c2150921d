//! The norms of a transformer, with f32 statistics whatever the format of their input.

use tch::Tensor;

use super::{Result, torch_error};

/// A frozen norm over the last dimension.
pub(super) enum Norm {
    /// Layer norm (Ba et al. 2016), weights in f32.
    Layer { weight: Tensor, bias: Tensor, eps: f64 },
    /// Root-mean-square norm (Zhang and Sennrich 2019), weights in the format of its input.
    Rms { weight: Tensor, eps: f64 },
}

impl Norm {
    /// The same norm for another thread.
    pub(super) fn share(&self) -> Self {
        match self {
            Norm::Layer { weight, bias, eps } => {
                Norm::Layer { weight: weight.shallow_clone(), bias: bias.shallow_clone(), eps: *eps }
            }
            Norm::Rms { weight, eps } => Norm::Rms { weight: weight.shallow_clone(), eps: *eps },
        }
    }

    /// Normalises each row of `x` `[rows, width]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Layer { weight, bias, eps } => {
                x.f_layer_norm(weight.size(), Some(weight), Some(bias), *eps, false).map_err(torch_error)
            }
            Norm::Rms { weight, eps } => x.f_rms_norm(&weight.size()[..], Some(weight), *eps).map_err(torch_error),
        }
    }
}
