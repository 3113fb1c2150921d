//! A file that is hashed as it is read, and shows how far it was read where that takes long and somebody watches.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

/// A file that takes longer to read shows a progress bar.
const PATIENCE: Duration = Duration::from_secs(2);

/// The file.
pub(super) struct Watched {
    file: File,
    hasher: Sha256,
    bar: Option<ProgressBar>,
    read: u64,
    size: u64,
    since: Instant,
    name: String,
}

/// Size of an ordinary file; opening a pipe would wait for somebody to write into it.
fn ordinary(path: &Path) -> std::io::Result<u64> {
    let meta = std::fs::metadata(path)?;
    if meta.is_file() || meta.is_dir() {
        return Ok(meta.len());
    }
    Err(std::io::Error::other("it is a device or a pipe; rows are read from ordinary files"))
}

impl Watched {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let size = ordinary(path)?;
        let file = File::open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Watched { file, hasher: Sha256::new(), bar: None, read: 0, size, since: Instant::now(), name })
    }

    /// SHA-256 of what was read.
    pub(super) fn sha256(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.read += count as u64;
        if self.bar.is_none() && self.since.elapsed() > PATIENCE && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}, {eta} left");
            let bar = ProgressBar::new(self.size).with_message(format!("reading {}", self.name));
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.read);
        }
        Ok(count)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
