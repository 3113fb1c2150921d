//! Reads the tensors of a base model from `model.safetensors`, memory-mapped, and checks them by name and shape.
//!
//! Contract: names are those of Hugging Face's model with or without the family's prefix (`bert.`), layer norms also
//! under their old names `gamma` and `beta`; integer tensors (`position_ids`) and the heads of other tasks (`cls.…`,
//! `classifier.…`) are skipped; whatever else lies inside the encoder and is not read is an error, since it would
//! change the model.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use blindsum_adapter::Family;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::torch_error;
use crate::engine::EngineError;

/// What a family's checkpoint holds.
pub(super) struct Contents {
    /// Stands before every name of the encoder, unless the encoder was saved by itself: `bert.`, say.
    pub prefix: &'static str,
    /// Beginnings of the names (without prefix) that belong to the model; nothing of these may be left unread.
    pub parts: &'static [&'static str],
    /// Ends of the names of tensors that belong to the model but follow from its configuration.
    pub ignored: &'static [&'static str],
    /// What to say where a tensor whose name begins so is missing.
    pub hints: &'static [(&'static str, &'static str)],
}

/// The mapped bytes of a `model.safetensors`.
pub(super) struct Checkpoint {
    path: PathBuf,
    map: Mmap,
}

impl Checkpoint {
    /// Maps the file; its contents are looked at by [`read`](Self::read).
    #[allow(unsafe_code)]
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let failed = |e: std::io::Error| EngineError::Model(format!("{}: {e}", path.display()));
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the file is the silo's own base model and is only read; changing it under a running program is
        // outside what any reader of a mapped file can defend against, and the operator's documentation says so.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Checkpoint { path: path.to_owned(), map })
    }

    /// Reads tensors through `build`, then checks that nothing of the encoder was left unread.
    pub(super) fn read<T>(
        &self,
        contents: &'static Contents,
        family: Family,
        build: impl FnOnce(&mut Reader) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let tensors = SafeTensors::deserialize(&self.map)
            .map_err(|e| EngineError::Model(format!("{}: not a safetensors file: {e}", self.path.display())))?;
        let prefixed = tensors.names().iter().any(|n| n.starts_with(contents.prefix));
        let prefix = if prefixed { contents.prefix } else { "" };
        let mut reader = Reader { path: &self.path, tensors, contents, family, prefix, read: HashSet::new() };
        let built = build(&mut reader)?;
        reader.check_all_read()?;
        Ok(built)
    }
}

/// Hands out tensors by name and remembers which.
pub(super) struct Reader<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    contents: &'static Contents,
    family: Family,
    prefix: &'static str,
    read: HashSet<String>,
}

impl Reader<'_> {
    /// The tensor `name` (without prefix) as f32, of exactly this shape.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        self.read_tensor(self.prefix, name, shape)
    }

    /// The same for a tensor that stands beside what the prefix names.
    pub(super) fn outer_tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        self.read_tensor("", name, shape)
    }

    fn read_tensor(&mut self, prefix: &str, name: &str, shape: &[usize]) -> Result<Tensor, EngineError> {
        let path = self.path.display();
        let full = self.find(prefix, name).ok_or_else(|| {
            let full = format!("{prefix}{name}");
            let hint = match self.contents.hints.iter().find(|(start, _)| name.starts_with(start)) {
                Some((_, hint)) => (*hint).to_owned(),
                None => {
                    format!("the file must hold every weight of the {} model that config.json describes", self.family())
                }
            };
            EngineError::Model(format!("{path}: the tensor {full:?} is missing; {hint}"))
        })?;
        let view = self.tensors.tensor(&full).map_err(|e| EngineError::Model(format!("{path}: {full}: {e}")))?;
        if view.shape() != shape {
            let found = view.shape();
            let message = format!("{path}: {full} has shape {found:?}, config.json makes it {shape:?}");
            return Err(EngineError::Model(message));
        }
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            other => {
                let message = format!("{path}: {full} is stored as {other:?}; supported: F32, F16, BF16, F64");
                return Err(EngineError::Model(message));
            }
        };
        let size: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &size, kind).map_err(torch_error)?;
        self.read.insert(full);
        tensor.f_to_dtype(Kind::Float, false, false).map_err(torch_error)
    }

    /// The family's `model_type`.
    fn family(&self) -> &'static str {
        self.family.model_type()
    }

    /// The name under which the file holds `name`.
    fn find(&self, prefix: &str, name: &str) -> Option<String> {
        let full = format!("{prefix}{name}");
        let old = full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        [full, old].into_iter().find(|n| self.tensors.tensor(n).is_ok())
    }

    fn check_all_read(&self) -> Result<(), EngineError> {
        let mut names = self.tensors.names();
        names.sort_unstable();
        for name in names {
            let inner = name.strip_prefix(self.prefix).unwrap_or(name);
            let integer = self
                .tensors
                .tensor(name)
                .is_ok_and(|view| !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64));
            let ours = self.contents.parts.iter().any(|part| inner.starts_with(part));
            let ignored = integer || self.contents.ignored.iter().any(|end| inner.ends_with(end));
            if ours && !ignored && !self.read.contains(name) {
                return Err(EngineError::Model(format!(
                    "{}: the tensor {name:?} is not part of the {} model that config.json describes; supported: \
                     as many layers as are stored, and the settings that config.json can name",
                    self.path.display(),
                    self.family()
                )));
            }
        }
        Ok(())
    }
}
