//! The last adopted state on the disk, so that a restarted silo goes on from it instead of fetching every round again.
//!
//! ```text
//! one line of JSON (what follows, with its SHA-256) "\n"  then the whole state, f32 little-endian, in the plan's order
//! ```
//!
//! # Contract
//! The file is replaced as one step: a crash leaves the earlier adapter or the later one. Either is safe: the machine
//! compares what it holds with its journal, and asks the coordinator for the certified results that it lacks. A file
//! that does not match its own hash is refused; it can be removed, since the federation holds the same adapter.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use blindsum_crypto::{Digest, sha256};
use blindsum_files::{ExitCode, Exits, FileError};
use blindsum_protocol::plan::Plan;
use blindsum_protocol::silo::HeldResult;
use serde::{Deserialize, Serialize};

/// Longest first line, bytes.
const MAX_HEADER: usize = 1024;

/// Why a kept adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another job's: the remedy is another folder, since removing the file would lose what is that job's.
    #[error(
        "the kept adapter {path} belongs to another job; name a state_dir of its own for this job, and leave that one as it is"
    )]
    OtherJob {
        /// The file.
        path: PathBuf,
    },
    /// Not an adapter of this version, or damaged.
    #[error("the kept adapter {path}: {problem}; remove the file, and the silo will fetch the adapter again")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Exits for HeldError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: u32,
    job: Digest,
    round: u32,
    result_hash: Digest,
    coordinates: usize,
    sha256: Digest,
}

/// Replaces the kept adapter at `path`; durable on return.
///
/// # Errors
/// The disk's.
pub fn save(path: &Path, job: Digest, held: &HeldResult) -> Result<(), HeldError> {
    let values: Vec<u8> = held.global.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = Header {
        schema: 1,
        job,
        round: held.round,
        result_hash: held.result_hash,
        coordinates: held.global.len(),
        sha256: sha256(&values),
    };
    let mut bytes = serde_json::to_vec(&header).expect("a struct of numbers and strings becomes JSON");
    bytes.push(b'\n');
    bytes.extend_from_slice(&values);
    Ok(blindsum_files::write_atomic(path, &bytes, 0o600)?)
}

/// Reads the kept state of this plan's job; `None` where there is none yet.
///
/// # Errors
/// As [`load`].
pub fn load_for(plan: &Plan, path: &Path) -> Result<Option<HeldResult>, HeldError> {
    let longest = plan.state().len(plan.last_round());
    load(path, plan.job_digest(), longest, |round| plan.state().len(round))
}

/// Reads the kept state of job `job`, which has `len(round)` numbers after round `round` and never more than `longest`;
/// `None` where there is none yet.
///
/// # Errors
/// The disk's, and [`HeldError::Invalid`] for a file that is not what [`save`] wrote for this job.
pub fn load(
    path: &Path,
    job: Digest,
    longest: usize,
    len: impl Fn(u32) -> usize,
) -> Result<Option<HeldResult>, HeldError> {
    let limit = (MAX_HEADER + longest * 4) as u64;
    let bytes = match blindsum_files::read_public(path, limit) {
        Err(FileError::Missing { .. }) => return Ok(None),
        other => other?,
    };
    let invalid = |problem| HeldError::Invalid { path: path.to_owned(), problem };
    let newline = bytes.iter().take(MAX_HEADER).position(|&byte| byte == b'\n');
    let newline = newline.ok_or_else(|| invalid("it has no header"))?;
    let header: Header = serde_json::from_slice(&bytes[..newline]).map_err(|_| invalid("its header is unreadable"))?;
    let values = &bytes[newline + 1..];
    if header.schema != 1 {
        return Err(invalid("it is of another version"));
    }
    if header.job != job {
        return Err(HeldError::OtherJob { path: path.to_owned() });
    }
    let coordinates = len(header.round);
    if header.coordinates != coordinates || values.len() != coordinates * 4 {
        return Err(invalid("its length is not the job's"));
    }
    if header.sha256 != sha256(values) {
        return Err(invalid("it is damaged"));
    }
    let read = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    let global: Arc<[f32]> = values.chunks_exact(4).map(read).collect();
    Ok(Some(HeldResult { round: header.round, result_hash: header.result_hash, global }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> HeldResult {
        HeldResult { round: 3, result_hash: Digest([7; 32]), global: vec![0.5, -0.0, f32::MIN_POSITIVE].into() }
    }

    #[test]
    fn what_was_saved_is_read_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adapter");
        assert_eq!(load(&path, Digest([1; 32]), 3, |_| 3).unwrap(), None);
        save(&path, Digest([1; 32]), &held()).unwrap();
        let read = load(&path, Digest([1; 32]), 3, |_| 3).unwrap().unwrap();
        assert_eq!(
            read.global.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            held().global.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!((read.round, read.result_hash), (3, Digest([7; 32])));
    }

    #[test]
    fn another_job_another_length_and_every_flipped_value_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adapter");
        save(&path, Digest([1; 32]), &held()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(load(&path, Digest([2; 32]), 3, |_| 3).unwrap_err().to_string().contains("another job"));
        assert!(load(&path, Digest([1; 32]), 4, |_| 4).unwrap_err().to_string().contains("length"));
        for at in bytes.len() - 12..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert!(load(&path, Digest([1; 32]), 3, |_| 3).unwrap_err().to_string().contains("damaged"));
        }
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(load(&path, Digest([1; 32]), 3, |_| 3).is_err());
    }
}
