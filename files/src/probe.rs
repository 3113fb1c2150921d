//! Whether a folder could be used, found out by trying, without a trace.
//!
//! Contract: what is made to find out is gone again on return. A file system that is full, read-only or somebody else's
//! is told by its own answer, not guessed from permission bits.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::folder_of;
use crate::{FileError, StateDir, StateError};

/// Whether files can be written in `dir`, or `dir` itself could be made.
///
/// # Errors
/// What writing there would have met.
pub fn writable(dir: &Path) -> Result<(), FileError> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => write_in(dir).map_err(|e| FileError::from_io("write into the folder", dir, e)),
        Ok(_) => Err(FileError::from_io("use as a folder", dir, io::ErrorKind::NotADirectory.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = nearest(dir);
            let path = unused(&parent);
            let _ = fs::remove_dir(&path);
            let tried = fs::create_dir(&path).and_then(|()| write_in(&path));
            let _ = fs::remove_dir(&path);
            tried.map_err(|e| FileError::Io { action: "make the folder", path: dir.to_path_buf(), source: e })
        }
        Err(e) => Err(FileError::from_io("inspect", dir, e)),
    }
}

/// Whether [`write_atomic`](crate::write_atomic) could put a file at `path`: its folder is there and can be written.
///
/// # Errors
/// What writing it would have met.
pub fn file(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Err(FileError::Folder { path: path.to_path_buf() }),
        Ok(meta) if !meta.is_file() => return Err(FileError::NotOrdinary { path: path.to_path_buf() }),
        _ => {}
    }
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(FileError::NoSuchFolder { path: folder.to_path_buf() }),
        _ => writable(folder),
    }
}

/// Whether `path` could be opened as a state directory: as [`StateDir::open`], but nothing is made where it is not there.
///
/// # Errors
/// As [`StateDir::open`].
pub fn state_dir(path: &Path) -> Result<(), StateError> {
    if path.exists() {
        StateDir::look(path)?;
    }
    Ok(writable(path)?)
}

/// Writes a page and removes it: an empty file fits on a full disk too.
fn write_in(dir: &Path) -> io::Result<()> {
    let path = unused(dir);
    // What an earlier try left that was killed between its two steps.
    let _ = fs::remove_file(&path);
    let tried = fs::File::create_new(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let _ = fs::remove_file(&path);
    tried
}

/// The nearest folder above `dir` that exists.
fn nearest(dir: &Path) -> PathBuf {
    let above = dir.ancestors().skip(1).find(|path| path.exists() && !path.as_os_str().is_empty());
    above.unwrap_or(Path::new(".")).to_path_buf()
}

fn unused(dir: &Path) -> PathBuf {
    dir.join(format!(".blindsum-check-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_good_place_is_found_good_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        writable(dir.path()).unwrap();
        writable(&dir.path().join("a/b")).unwrap();
        state_dir(&dir.path().join("state")).unwrap();
        assert_eq!(names(dir.path()), 0);
        drop(StateDir::open(&dir.path().join("state")).unwrap());
        let lock = dir.path().join("state/lock");
        fs::write(&lock, "4711\n").unwrap();
        state_dir(&dir.path().join("state")).unwrap();
        assert_eq!(fs::read_to_string(&lock).unwrap(), "4711\n", "who ran last is still known");
        assert_eq!(names(&dir.path().join("state")), 1);
    }

    #[test]
    fn a_bad_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        for place in [file.clone(), file.join("below"), PathBuf::from("/proc/blindsum")] {
            let text = writable(&place).unwrap_err().to_string();
            assert!(text.contains(&place.display().to_string()), "{text}");
        }
        let nowhere = super::file(&dir.path().join("nowhere/answers")).unwrap_err().to_string();
        assert!(nowhere.contains("nowhere does not exist: make it first"), "{nowhere}");
        super::file(&dir.path().join("answers")).unwrap();
        let held = StateDir::open(&dir.path().join("held")).unwrap();
        assert!(matches!(state_dir(held.path()), Err(StateError::Held { .. })));
        let wide = dir.path().join("wide");
        fs::create_dir(&wide).unwrap();
        fs::set_permissions(&wide, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(state_dir(&wide).unwrap_err().to_string().contains("chmod 700"));
        assert_eq!(names(&wide), 0);
    }
}
