//! `pytorch_model.bin`: the zip archive that `torch.save` writes for a state dict.
//!
//! ```text
//! <name>/data.pkl    which tensor is which part of which storage (pickle)
//! <name>/data/0 …    the storages, uncompressed, so that they are read where they are mapped
//! <name>/byteorder   "little", since torch 2.1
//! ```
//!
//! Files of older versions of torch are no archives, and are refused. libtorch's own reader (`tch::Tensor::loadz_multi`) takes plain dictionaries only and refuses the ordered one of
//! `module.state_dict()`, which is what these files hold. Contract: nothing in a file is carried out ([`pickle`]), and no
//! tensor reaches beyond its storage.

use std::io::{Cursor, Read};
use std::path::Path;

use tch::Kind;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, View};
use super::stored::{Format, Stored, Table};

/// What to do about a file that is not read.
const REMEDY: &str = "convert it once with Python: import torch, safetensors.torch as s; \
    s.save_file({k: v.clone().contiguous() for k, v in torch.load('pytorch_model.bin', weights_only=True).items()}, \
    'model.safetensors')";

/// The tensors of the mapped file at `path`.
///
/// # Errors
/// Says what is wrong and how to convert the file.
pub(super) fn table<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<Table<'a>, String> {
    read(path, bytes).map_err(|problem| format!("{problem}; {REMEDY}"))
}

fn read<'a>(path: &'a Path, bytes: &'a [u8]) -> Result<Table<'a>, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|e| format!("not a file of torch.save since torch 1.6, which is a zip archive: {e}"))?;
    let roots: Vec<String> =
        archive.file_names().filter_map(|n| n.strip_suffix("data.pkl")).map(str::to_owned).collect();
    let [root] = roots.as_slice() else { return Err("the archive has no data.pkl, or several".to_owned()) };
    if let Ok(mut order) = archive.by_name(&format!("{root}byteorder")) {
        let mut text = String::new();
        order.by_ref().take(16).read_to_string(&mut text).map_err(|e| format!("byteorder: {e}"))?;
        if text.trim() != "little" {
            return Err("the numbers are stored big-endian".to_owned());
        }
    }
    let pickle = stored(bytes, &mut archive, &format!("{root}data.pkl"))?;
    if pickle.len() as u64 > pickle::MAX_BYTES {
        return Err(format!("data.pkl is longer than {} MiB", pickle::MAX_BYTES >> 20));
    }
    let mut table = Table::new();
    for (name, view) in pickle::state_dict(pickle)? {
        let storage = stored(bytes, &mut archive, &format!("{root}data/{}", view.key))?;
        let tensor = tensor(path, storage, view).map_err(|problem| format!("{name:?}: {problem}"))?;
        table.insert(name.to_owned(), tensor);
    }
    Ok(table)
}

/// The bytes of an uncompressed member.
fn stored<'a>(bytes: &'a [u8], archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<&'a [u8], String> {
    let member = archive.by_name(name).map_err(|e| format!("{name} in the archive: {e}"))?;
    if member.compression() != CompressionMethod::Stored {
        return Err(format!("{name} in the archive is compressed"));
    }
    let part = || {
        let start = usize::try_from(member.data_start()).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(member.size()).ok()?)?)
    };
    part().ok_or_else(|| format!("{name} in the archive reaches beyond its end"))
}

/// The tensor in its storage, if it lies inside.
fn tensor<'a>(file: &'a Path, storage: &'a [u8], view: View<'_>) -> Result<Stored<'a>, String> {
    let (format, width) = match view.class {
        "FloatStorage" => (Format::Float(Kind::Float), 4),
        "HalfStorage" => (Format::Float(Kind::Half), 2),
        "BFloat16Storage" => (Format::Float(Kind::BFloat16), 2),
        "DoubleStorage" => (Format::Float(Kind::Double), 8),
        other => (Format::Other(other.to_owned()), 1),
    };
    let View { offset, shape, strides, numbers, .. } = view;
    if let Format::Other(_) = format {
        // never read: integers, say
        return Ok(Stored { file, format, shape, bytes: &[], strides: None });
    }
    let end = if shape.contains(&0) {
        Some(offset)
    } else {
        let last = shape.iter().zip(&strides).try_fold(offset, |at, (n, s)| at.checked_add((n - 1).checked_mul(*s)?));
        last.and_then(|last| last.checked_add(1))
    };
    let fits = |end: usize| end <= numbers && numbers.checked_mul(width).is_some_and(|n| n <= storage.len());
    let Some(end) = end.filter(|&end| fits(end)) else {
        return Err("it reaches beyond its storage".to_owned());
    };
    let mut dense = 1usize;
    let mut row_major = true;
    for (n, stride) in shape.iter().zip(&strides).rev() {
        row_major &= *stride == dense || *n == 1;
        dense = dense.saturating_mul(*n);
    }
    let bytes = &storage[offset * width..end * width];
    Ok(Stored { file, format, shape, bytes, strides: (!row_major).then_some(strides) })
}

#[cfg(test)]
mod tests;
