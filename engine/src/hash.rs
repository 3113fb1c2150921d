//! SHA-256 of files of any size.

use std::io::Read;
use std::path::Path;

use blindsum_files::{FileError, open_ordinary};
use sha2::{Digest, Sha256};

/// SHA-256 of the file at `path`, which is read piece by piece.
///
/// # Errors
/// If it cannot be opened or read.
pub fn sha256_of(path: &Path) -> Result<[u8; 32], FileError> {
    let mut file = open_ordinary(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| FileError::from_io("read", path, e))? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}
