//! Tensors as they lie in a mapped file: bytes, number format, shape. Nothing is copied here.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use blindsum_engine::EngineError;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::super::{Result, torch_error};
use super::bin;

/// One file of a checkpoint, mapped.
pub(super) struct Mapped {
    pub path: PathBuf,
    map: Mmap,
}

/// How a tensor's numbers are stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Format {
    /// Floating-point numbers that the engine reads.
    Float(Kind),
    /// Anything else, by its name: integers, say.
    Other(String),
}

/// A tensor in a mapped file.
#[derive(Clone, Debug)]
pub(super) struct Stored<'a> {
    /// The file it lies in.
    pub file: &'a Path,
    pub format: Format,
    pub shape: Vec<usize>,
    /// From its first number on.
    pub bytes: &'a [u8],
    /// Numbers to go on by in each dimension; `None` is row-major without gaps.
    pub strides: Option<Vec<usize>>,
}

/// Every tensor of a checkpoint by its name in the file.
pub(super) type Table<'a> = BTreeMap<String, Stored<'a>>;

impl Mapped {
    /// Maps the file; its contents are looked at by [`table`](Self::table).
    #[allow(unsafe_code)]
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| EngineError::Model(format!("{}: {e}", path.display()));
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the file is the silo's own base model and is only read; changing it under a running program is
        // outside what any reader of a mapped file can defend against, and the operator's documentation says so.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Mapped { path: path.to_owned(), map })
    }

    /// What lies in it.
    pub(super) fn table(&self) -> Result<Table<'_>> {
        let wrong = |problem: String| EngineError::Model(format!("{}: {problem}", self.path.display()));
        if self.path.extension().is_some_and(|e| e == "bin") {
            return bin::table(&self.path, &self.map).map_err(wrong);
        }
        let tensors = SafeTensors::deserialize(&self.map).map_err(|e| wrong(format!("not a safetensors file: {e}")))?;
        let entry = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let format = match view.dtype() {
                Dtype::F32 => Format::Float(Kind::Float),
                Dtype::F16 => Format::Float(Kind::Half),
                Dtype::BF16 => Format::Float(Kind::BFloat16),
                Dtype::F64 => Format::Float(Kind::Double),
                other => Format::Other(format!("{other:?}")),
            };
            // the view borrows from `tensors`, its data from the file
            let start = view.data().as_ptr() as usize - self.map.as_ptr() as usize;
            let bytes = &self.map[start..start + view.data().len()];
            (name, Stored { file: &self.path, format, shape: view.shape().to_vec(), bytes, strides: None })
        };
        Ok(tensors.tensors().into_iter().map(entry).collect())
    }
}

impl Stored<'_> {
    /// A copy of the numbers in their own format; `kind` is that format's.
    pub(super) fn copy(&self, kind: Kind) -> Result<Tensor> {
        let signed = |numbers: &[usize]| numbers.iter().map(|&n| n as i64).collect::<Vec<_>>();
        let shape = signed(&self.shape);
        let Some(strides) = &self.strides else {
            return Tensor::f_from_data_size(self.bytes, &shape, kind).map_err(torch_error);
        };
        let numbers = self.bytes.len() / kind.elt_size_in_bytes();
        Tensor::f_from_data_size(self.bytes, &[numbers as i64], kind)
            .and_then(|t| t.f_as_strided(&shape, signed(strides), 0)?.f_contiguous())
            .map_err(torch_error)
    }
}
