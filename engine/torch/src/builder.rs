//! Reads a model's parts from its checkpoint: linear layers that know whether they are adapted, norms, tables.

use blindsum_adapter::{AdapterLayout, BaseShape};
use tch::{Device, Kind, Tensor};

use super::checkpoint::Reader;
use super::lora::{Linear, cast};
use super::norm::Norm;
use super::{Result, torch_error};

/// Where a model lies and how it computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// Number format of the large matrix products.
    pub kind: Kind,
    /// Processor or graphics card.
    pub device: Device,
}

impl Place {
    /// `tensor` on the device, its format as it is.
    pub(super) fn put(&self, tensor: &Tensor) -> Result<Tensor> {
        on(tensor, self.device)
    }
}

/// `tensor` on this device; itself where it is there already.
pub(super) fn on(tensor: &Tensor, device: Device) -> Result<Tensor> {
    if tensor.device() == device {
        return Ok(tensor.shallow_clone());
    }
    tensor.f_to_device_(device, tensor.kind(), true, false).map_err(torch_error)
}

/// Reads layers by their path and knows which are adapted.
pub(super) struct Builder<'a, 'b> {
    reader: &'a mut Reader<'b>,
    layout: &'a AdapterLayout,
    place: Place,
}

impl<'a, 'b> Builder<'a, 'b> {
    pub(super) fn new(reader: &'a mut Reader<'b>, layout: &'a AdapterLayout, place: Place) -> Self {
        Builder { reader, layout, place }
    }

    pub(super) fn shape(&self) -> &'a BaseShape {
        self.layout.shape()
    }

    pub(super) fn layout(&self) -> &'a AdapterLayout {
        self.layout
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The layer at `path` without the family's prefix, in the model's format.
    pub(super) fn linear(&mut self, path: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        self.linear_in(path, inputs, outputs, bias, self.place.kind)
    }

    /// The same, computing in `kind`.
    pub(super) fn linear_in(
        &mut self,
        path: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
        kind: Kind,
    ) -> Result<Linear> {
        let name = format!("{path}.weight");
        let weight = if self.shape().family.stores_transposed() {
            let stored = self.reader.tensor(&name, &[inputs, outputs])?;
            stored.f_transpose(0, 1).and_then(|t| t.f_contiguous()).map_err(torch_error)?
        } else {
            self.reader.tensor(&name, &[outputs, inputs])?
        };
        let bias = if bias { Some(self.reader.tensor(&format!("{path}.bias"), &[outputs])?) } else { None };
        let full = format!("{}.{path}", self.shape().family.prefix());
        let module = self.layout.modules().iter().position(|m| m.path == full);
        let put = |t: Tensor| self.place.put(&cast(&t, kind)?);
        Ok(Linear::new(put(weight)?, bias.map(put).transpose()?, module))
    }

    /// A layer norm, in f32.
    pub(super) fn layer_norm(&mut self, path: &str) -> Result<Norm> {
        let (hidden, eps) = (self.shape().hidden, self.shape().norm_eps);
        let weight = self.place.put(&self.reader.tensor(&format!("{path}.weight"), &[hidden])?)?;
        let bias = self.place.put(&self.reader.tensor(&format!("{path}.bias"), &[hidden])?)?;
        Ok(Norm::Layer { weight, bias, eps })
    }

    /// A root-mean-square norm, in the model's format.
    pub(super) fn rms_norm(&mut self, path: &str) -> Result<Norm> {
        let (hidden, eps) = (self.shape().hidden, self.shape().norm_eps);
        let weight = self.reader.tensor(&format!("{path}.weight"), &[hidden])?;
        Ok(Norm::Rms { weight: self.place.put(&cast(&weight, self.place.kind)?)?, eps })
    }

    /// A table of which tokens take rows, `[rows, hidden]`, in the model's format.
    pub(super) fn table(&mut self, path: &str, rows: usize) -> Result<Tensor> {
        let table = self.reader.tensor(&format!("{path}.weight"), &[rows, self.shape().hidden])?;
        self.place.put(&cast(&table, self.place.kind)?)
    }

    /// Whether the file holds a table at `path`.
    pub(super) fn has_table(&self, path: &str) -> bool {
        self.reader.holds(&format!("{path}.weight"))
    }

    /// Whether it holds one outside the family's prefix.
    pub(super) fn has_outer_table(&self, path: &str) -> bool {
        self.reader.holds_outer(&format!("{path}.weight"))
    }

    /// A matrix outside the family's prefix, `[rows, hidden]`, in the model's format: `lm_head`.
    pub(super) fn outer_table(&mut self, path: &str, rows: usize) -> Result<Tensor> {
        let table = self.reader.outer_tensor(&format!("{path}.weight"), &[rows, self.shape().hidden])?;
        self.place.put(&cast(&table, self.place.kind)?)
    }
}
