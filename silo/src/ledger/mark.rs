//! What a silo's state directory remembers of the organisation's ledger: how far it was when this silo last spent.
//!
//! Contract: written after each debit and before anything is trained; a ledger that does not hold the line is refused.

use std::path::Path;

use blindsum_crypto::Digest;
use blindsum_files::{FileError, read_public, write_atomic};
use serde::{Deserialize, Serialize};

/// Name of the mark in the state directory.
pub const MARK_FILE: &str = "ledger-mark.json";

/// A line of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerMark {
    /// Which ledger.
    pub ledger: Digest,
    /// Its lines at that time,
    pub lines: usize,
    /// and the link of the last.
    pub link: Digest,
}

impl LedgerMark {
    /// The mark at `path`, if there is one.
    ///
    /// # Errors
    /// The disk's, and a file that is no mark.
    pub fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let bytes = match read_public(path, 4096) {
            Ok(bytes) => bytes,
            Err(FileError::Missing { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let damaged = |e: serde_json::Error| FileError::from_io("read", path, std::io::Error::other(e));
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Writes the mark to `path`.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        let bytes =
            serde_json::to_vec(self).map_err(|e| FileError::from_io("write", path, std::io::Error::other(e)))?;
        write_atomic(path, &bytes, 0o600)
    }
}
