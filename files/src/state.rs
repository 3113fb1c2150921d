//! State directories: one folder, one user, one process at a time.
//!
//! Contract: a state directory belongs to one process at a time and to one user; two processes on one journal would
//! break the promise that a silo votes once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::exit::{ExitCode, Exits};
use crate::{FileError, private_dir, read_public};

const LOCK_FILE: &str = "lock";

/// A state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has it.
    #[error(
        "the state directory {} is in use by another process{} (it holds the lock on {}): this service runs already, or \
         another one has its directory. Stop that process first, and never start a second one on a copy of the directory",
        .dir.display(), holder.map(|pid| format!(" {pid}")).unwrap_or_default(), .lock.display()
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The lock file.
        lock: PathBuf,
        /// The process that wrote itself into the lock file.
        holder: Option<u32>,
    },
    /// A file of it cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Exits for StateError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
}

/// A locked state directory; the lock ends with the value or with the process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens `path` (made with mode 0700, or refused when others may enter) and locks it for this process.
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        private_dir(path)?;
        let lock_path = path.join(LOCK_FILE);
        let err = |e| FileError::from_io("lock", &lock_path, e);
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(err)?;
        taken(lock.try_lock(), path, &lock_path)?;
        lock.set_len(0).map_err(err)?;
        writeln!(lock, "{}", std::process::id()).map_err(err)?;
        Ok(StateDir { path: path.to_path_buf(), _lock: lock })
    }

    /// Whether [`open`](Self::open) would have the lock now; writes nothing. Where there is no lock file, nobody has it.
    pub(crate) fn look(path: &Path) -> Result<(), StateError> {
        let lock_path = path.join(LOCK_FILE);
        private_dir(path)?;
        match File::open(&lock_path) {
            Ok(lock) => taken(lock.try_lock_shared(), path, &lock_path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(FileError::from_io("lock", &lock_path, e).into()),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// Says who has the lock that could not be taken.
fn taken(tried: Result<(), TryLockError>, dir: &Path, lock: &Path) -> Result<(), StateError> {
    match tried {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let text = read_public(lock, 64).unwrap_or_default();
            let holder = String::from_utf8_lossy(&text).trim().parse().ok();
            Err(StateError::Held { dir: dir.to_path_buf(), lock: lock.to_path_buf(), holder })
        }
        Err(TryLockError::Error(e)) => Err(FileError::from_io("lock", lock, e).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_state_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let text = StateDir::open(&path).unwrap_err().to_string();
        assert!(text.contains("in use by another process") && text.contains("state/lock"), "{text}");
        assert!(text.contains(&std::process::id().to_string()), "{text}");
        assert_eq!(first.join("journal"), path.join("journal"));
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(StateDir::open(&path).unwrap_err().to_string().contains("chmod 700"));
    }
}
