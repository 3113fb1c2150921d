//! Files with care, state directories with one owner, and how a program ends: what every crate that touches the disk
//! shares.
//!
//! ```text
//! read_public, read_secret ─┐
//! write_new, write_atomic ──┼─► FileError ─► ExitCode
//! private_dir, StateDir ────┘
//! ```
//!
//! Contract: nothing here overwrites a secret; a reader after a crash sees the old content or the new one, never a
//! part; no file is read beyond its limit; every error names the file and the remedy. No thread, clock or runtime is
//! needed. [`exit`] is here because it needs nothing either: each error of the house says beside itself how a program
//! that meets it ends.
//!
//! ```
//! use blindsum_files::{ExitCode, Exits, FileError, read_secret, write_new};
//!
//! let dir = tempfile::tempdir()?;
//! let key = dir.path().join("tls.key");
//! write_new(&key, b"secret", 0o600)?;
//! assert_eq!(read_secret(&key)?.as_slice(), b"secret");
//!
//! let error = write_new(&key, b"another", 0o600).unwrap_err();
//! assert!(matches!(error, FileError::Exists { .. }));
//! assert_eq!(error.exit_code(), ExitCode::Storage);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
pub mod exit;
pub mod probe;
mod state;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use error::folder_of;

pub use error::FileError;
pub use exit::{ExitCode, Exits};
pub use state::{StateDir, StateError};

/// Largest secret file read, in bytes: keys are a few hundred bytes.
pub const SECRET_LIMIT: u64 = 16 * 1024;
/// Largest certificate, roster or revocation list read, in bytes.
pub const PUBLIC_LIMIT: u64 = 1024 * 1024;

/// Opens a file for reading; a device or a pipe is refused, since opening it may wait for ever.
pub fn open_ordinary(path: &Path) -> Result<File, FileError> {
    let meta = fs::metadata(path).map_err(|e| FileError::from_io("open", path, e))?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(FileError::NotOrdinary { path: path.to_path_buf() });
    }
    File::open(path).map_err(|e| FileError::from_io("open", path, e))
}

fn read_limited(file: File, path: &Path, limit: u64, bytes: &mut Vec<u8>) -> Result<(), FileError> {
    file.take(limit + 1).read_to_end(bytes).map_err(|e| FileError::from_io("read", path, e))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(())
}

/// Reads a file that is no secret, at most `limit` bytes.
pub fn read_public(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    read_limited(open_ordinary(path)?, path, limit, &mut bytes)?;
    Ok(bytes)
}

/// Reads a secret of at most [`SECRET_LIMIT`] bytes; refused unless only its owner may read and write it (0600 or
/// less). The mode is taken from the open file, so that it cannot change in between.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let file = open_ordinary(path)?;
    let mode = file.metadata().map_err(|e| FileError::from_io("inspect", path, e))?.permissions().mode() & 0o7777;
    if mode & 0o177 != 0 {
        return Err(FileError::Exposed { path: path.to_path_buf(), mode, wanted: 0o600 });
    }
    // Large enough from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * SECRET_LIMIT as usize));
    read_limited(file, path, SECRET_LIMIT, &mut bytes)?;
    Ok(bytes)
}

/// Creates `path` with permission bits `mode` (0600 for a secret), durable on return; an existing file is refused.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let err = |e| FileError::unwritten(path, e);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(err)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(e) = written {
        // A part of a key is of no use and would block the next try.
        let _ = fs::remove_file(path);
        return Err(err(e));
    }
    sync_parent(path)
}

/// Replaces `path` by `bytes` as one step: temporary file in the same folder, fsync, rename, fsync of the folder.
/// After an error the old content is still there.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
        return Err(FileError::NotOrdinary { path: path.to_path_buf() });
    }
    let err = |e| FileError::unwritten(path, e);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(e) = written {
        let _ = fs::remove_file(&temporary);
        return Err(err(e));
    }
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = folder_of(path);
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| FileError::from_io("sync", parent, e))
}

/// Makes sure that `path` is a folder that only this user may enter: created with 0700, or refused when it is wider or
/// somebody else's.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| FileError::from_io("create the folder", path, e)),
        Err(e) => Err(FileError::from_io("inspect", path, e)),
        Ok(meta) if !meta.is_dir() => Err(FileError::NoFolder { path: path.to_path_buf() }),
        Ok(meta) => {
            let (owner, runs_as) = (meta.uid(), rustix::process::geteuid().as_raw());
            if owner != runs_as {
                return Err(FileError::ForeignOwner { path: path.to_path_buf(), owner, runs_as });
            }
            let mode = meta.permissions().mode() & 0o7777;
            if mode & 0o077 != 0 {
                return Err(FileError::Exposed { path: path.to_path_buf(), mode, wanted: 0o700 });
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tls.key");
        write_new(&path, b"secret", 0o600).unwrap();
        assert_eq!(read_secret(&path).unwrap().as_slice(), b"secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let text = read_secret(&path).unwrap_err().to_string();
        assert!(text.contains("0640") && text.contains("chmod 600"), "{text}");
    }

    #[test]
    fn existing_files_are_kept_and_atomic_writes_replace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_new(&path, b"one", 0o600).unwrap();
        assert!(matches!(write_new(&path, b"two", 0o600), Err(FileError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomic(&path, b"three", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for special in [link.as_path(), Path::new("/dev/null")] {
            assert!(matches!(write_atomic(special, b"four", 0o644), Err(FileError::NotOrdinary { .. })));
            assert!(!fs::symlink_metadata(special).unwrap().is_file(), "it is still what it was");
        }
    }

    #[test]
    fn large_and_missing_files_and_wide_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        write_new(&path, &[0; 33], 0o600).unwrap();
        assert!(matches!(read_public(&path, 32), Err(FileError::TooLarge { .. })));
        assert_eq!(read_public(&path, 33).unwrap().len(), 33);
        assert!(matches!(read_secret(&dir.path().join("none")), Err(FileError::Missing { .. })));

        let state = dir.path().join("x/y");
        private_dir(&state).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private_dir(&state).unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn folders_in_the_place_of_files_and_missing_folders_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert!(matches!(read_public(path, 9), Err(FileError::Folder { .. })));
        assert!(matches!(write_atomic(path, b"x", 0o600), Err(FileError::Folder { .. })));
        for write in [write_new, write_atomic] {
            let text = write(&path.join("none/a"), b"x", 0o600).unwrap_err().to_string();
            assert!(text.ends_with("none does not exist: make it first"), "{text}");
        }
        write_new(&path.join("a"), b"x", 0o600).unwrap();
        assert!(matches!(private_dir(&path.join("a")), Err(FileError::NoFolder { .. })));
        assert!(matches!(write_new(&path.join("a/b"), b"x", 0o600), Err(FileError::NoFolder { .. })));
        let denied = FileError::from_io("open", Path::new("tls.key"), io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().starts_with("cannot open tls.key: this user may not"), "{denied}");
    }

    #[test]
    fn a_full_disk_is_said_in_words() {
        let e = FileError::from_io("write", Path::new("journal"), io::ErrorKind::StorageFull.into());
        assert!(e.to_string().starts_with("the disk is full: journal"), "{e}");
    }
}
