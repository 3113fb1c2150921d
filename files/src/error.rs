//! Why a file cannot be used: one sentence each, with the remedy.

use std::io;
use std::path::{Path, PathBuf};

use crate::exit::{ExitCode, Exits};

/// Why a file could not be used; the text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file or folder does not exist.
    #[error("{path} does not exist: {remedy}", path = .path.display())]
    Missing {
        /// the file
        path: PathBuf,
        /// what to do
        remedy: &'static str,
    },
    /// Others than the owner may read or write it.
    #[error(
        "{path} has mode {mode:04o}, so that others on this machine may use it: run `chmod {wanted:o} {path}`{}",
        if *wanted == 0o600 { ", and replace the key if somebody may have read it" } else { "" },
        path = .path.display()
    )]
    Exposed {
        /// the file or folder
        path: PathBuf,
        /// its permission bits
        mode: u32,
        /// the permission bits that are accepted
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "{path} belongs to user {owner}, and this program runs as user {runs_as}: run it as that user, or `chown` the folder",
        path = .path.display()
    )]
    ForeignOwner {
        /// the folder
        path: PathBuf,
        /// whose it is
        owner: u32,
        /// who asks
        runs_as: u32,
    },
    /// It exists already and is not overwritten.
    #[error("{path} exists already and is not overwritten: move it away first, or choose another folder", path = .path.display())]
    Exists {
        /// the file
        path: PathBuf,
    },
    /// A device, a pipe or a link: a new file would take its place, and reading it might wait for ever.
    #[error("{path} is no ordinary file but a device, a pipe or a link: name an ordinary one", path = .path.display())]
    NotOrdinary {
        /// what lies there
        path: PathBuf,
    },
    /// It is larger than anything that belongs there.
    #[error("{path} is larger than {limit} bytes: this is not the file that is expected here", path = .path.display())]
    TooLarge {
        /// the file
        path: PathBuf,
        /// the limit in bytes
        limit: u64,
    },
    /// The disk or the quota is full.
    #[error("the disk is full: {path} could not be written; nothing was replaced. Free space and start again", path = .path.display())]
    DiskFull {
        /// the file
        path: PathBuf,
    },
    /// A folder stands where a file belongs.
    #[error("{path} is a folder, and a file is expected here: name a file", path = .path.display())]
    Folder {
        /// the folder
        path: PathBuf,
    },
    /// A file stands where a folder belongs.
    #[error("{path} is no folder, or a part of it is none: check the path", path = .path.display())]
    NoFolder {
        /// the path
        path: PathBuf,
    },
    /// The folder that a file is to be written into does not exist.
    #[error("the folder {path} does not exist: make it first", path = .path.display())]
    NoSuchFolder {
        /// the folder
        path: PathBuf,
    },
    /// The user that runs this program may not use it.
    #[error(
        "cannot {action} {path}: this user may not. Run the command as the user that owns it, or have its owner give \
         it to you (`chown`)",
        path = .path.display()
    )]
    Denied {
        /// what was tried
        action: &'static str,
        /// the file or folder
        path: PathBuf,
    },
    /// Anything else that the operating system reports.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// what was tried
        action: &'static str,
        /// the file
        path: PathBuf,
        /// the operating system's error
        source: io::Error,
    },
}

impl FileError {
    /// Sorts an operating-system error that `action` on `path` met.
    pub fn from_io(action: &'static str, path: &Path, source: io::Error) -> FileError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => FileError::Missing { path, remedy: "check the path" },
            io::ErrorKind::AlreadyExists => FileError::Exists { path },
            io::ErrorKind::IsADirectory => FileError::Folder { path },
            io::ErrorKind::NotADirectory => FileError::NoFolder { path },
            io::ErrorKind::PermissionDenied => FileError::Denied { action, path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::DiskFull { path },
            _ => FileError::Io { action, path, source },
        }
    }

    /// Sorts an operating-system error that writing `path` met: what is missing then is its folder.
    pub(crate) fn unwritten(path: &Path, source: io::Error) -> FileError {
        match FileError::from_io("write", path, source) {
            FileError::Missing { path, .. } => FileError::NoSuchFolder { path: folder_of(&path).to_path_buf() },
            other => other,
        }
    }

    /// Replaces the general remedy of a missing file with `remedy`.
    #[must_use]
    pub fn or_missing(self, remedy: &'static str) -> FileError {
        match self {
            FileError::Missing { path, .. } => FileError::Missing { path, remedy },
            other => other,
        }
    }
}

/// The folder that holds `path`; a bare name lies in the current one.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Exits for FileError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
}
