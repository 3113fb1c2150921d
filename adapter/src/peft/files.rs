//! Files replaced whole or not at all, and read up to a bound.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use super::PeftError;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> PeftError + '_ {
    move |source| PeftError::Io { path: path.to_owned(), source }
}

/// Makes `dir` and what is missing above it.
pub(super) fn create_dir(dir: &Path) -> Result<(), PeftError> {
    fs::create_dir_all(dir).map_err(io(dir))
}

/// Writes `bytes` to a hidden file beside `dir/name`, syncs it and renames it into place. One writer per directory.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), PeftError> {
    let aside = dir.join(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // Best effort: what matters is that the file in place is untouched.
        let _ = fs::remove_file(&aside);
        return Err(io(&aside)(error));
    }
    let target = dir.join(name);
    fs::rename(&aside, &target).map_err(io(&target))
}

/// Makes the renames in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), PeftError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io(dir))
}

/// Reads a file of at most `max` bytes; a longer one is refused before it takes memory.
pub(super) fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, PeftError> {
    let file = File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    if length > max {
        return Err(PeftError::invalid(path, format!("it has {length} bytes, at most {max} are expected")));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may grow while it is read: one byte over the bound is enough to tell.
    file.take(max + 1).read_to_end(&mut bytes).map_err(io(path))?;
    if bytes.len() as u64 > max {
        return Err(PeftError::invalid(path, format!("it grew beyond {max} bytes while it was read")));
    }
    Ok(bytes)
}
