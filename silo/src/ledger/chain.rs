//! The ledger's file: lines that hang on each other, appended under a lock by whichever process of the organisation spends.
//!
//! ```text
//! {…,"chain":"<hex>"}    chain = HMAC-SHA256(key, chain before, the line up to here)
//! ```
//!
//! Contract: a line is on the disk when [`Lines::append`] returns. A last line that was cut off by a crash is removed by
//! the next writer: its debit was never acknowledged. One that lacks nothing but its end gets it. Any other line that does
//! not follow from the one before is refused, and so is a file that became shorter or another one while it is open.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::entry::LedgerEntry;
use super::error::LedgerError;
use super::tags::TagKey;

/// The most bytes of a ledger that are read: a million debits, so that a wrong file does not fill the memory.
const MAX_BYTES: u64 = 512 << 20;
/// What every chain begins with.
pub(super) const START: [u8; 32] = [0; 32];
const LINK: &str = ",\"chain\":\"";

/// An open ledger file and where it was read to.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
    key: TagKey,
    /// After each line.
    links: Vec<[u8; 32]>,
    /// Bytes of them.
    sound: u64,
    /// Bytes of a torn last line that were cut off.
    cut_bytes: u64,
    /// A line may have been written in part: another one after it would make the file unreadable.
    broken: bool,
}

impl Lines {
    /// Opens the file at `path`; `writes` also makes it.
    pub fn open(path: &Path, key: TagKey, writes: bool) -> Result<Self, LedgerError> {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(writes).create(writes).mode(0o600).open(path);
        let file = opened.map_err(|source| LedgerError::Io { path: path.to_owned(), source })?;
        let (path, links) = (path.to_owned(), Vec::new());
        Ok(Lines { path, file, key, links, sound: 0, cut_bytes: 0, broken: false })
    }

    /// Waits until no other process writes.
    pub fn lock(&self) -> Result<(), LedgerError> {
        self.file.lock().map_err(|source| LedgerError::Io { path: self.path.clone(), source })
    }

    /// Lets the others write.
    pub fn unlock(&self) {
        // What cannot be unlocked is unlocked when the process ends.
        let _ = self.file.unlock();
    }

    /// Reads what came since it was last read. Without the lock, a last line without an end is somebody's who is writing.
    pub fn news(&mut self) -> Result<Vec<LedgerEntry>, LedgerError> {
        let (path, io) = (self.path.clone(), |source| LedgerError::Io { path: self.path.clone(), source });
        let gone = |what| LedgerError::RolledBack { path: path.clone(), what };
        let open = self.file.metadata().map_err(io)?;
        let there = std::fs::metadata(&self.path).map_err(io)?;
        if (open.dev(), open.ino()) != (there.dev(), there.ino()) {
            return Err(gone("it was replaced by another file while it was open".to_owned()));
        }
        if open.len() < self.sound {
            let what = format!("it became shorter while it was open: {} bytes, {} before", open.len(), self.sound);
            return Err(gone(what));
        }
        if open.len() > MAX_BYTES {
            return Err(LedgerError::Damaged { path, line: 1, what: "the file is larger than any ledger" });
        }
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.sound)).map_err(io)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let mut entries = Vec::new();
        // Until all of it is read: what was read before a wrong line is not given to the caller.
        let broken = std::mem::replace(&mut self.broken, true);
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else { break };
            let number = self.links.len() + 1;
            let wrong = |what| LedgerError::Damaged { path: path.clone(), line: number, what };
            let before = self.links.last().copied().unwrap_or(START);
            let (entry, link) = parse(text).ok_or_else(|| wrong("it is no line of a ledger"))?;
            if self.key.link(&before, entry) != link {
                return Err(wrong("it does not follow from the lines before: one of them was changed or is missing"));
            }
            let whole = [entry, b"}"].concat();
            entries.push(serde_json::from_slice(&whole).map_err(|_| wrong("it is of another version"))?);
            self.links.push(link);
            self.sound += line.len() as u64;
        }
        self.broken = broken;
        Ok(entries)
    }

    /// Whether something without an end stands behind the last line.
    pub fn unfinished(&self) -> Result<bool, LedgerError> {
        let length = self.file.metadata().map_err(|source| LedgerError::Io { path: self.path.clone(), source })?.len();
        Ok(length > self.sound)
    }

    /// Lets nothing more be written.
    pub fn give_up(&mut self) {
        self.broken = true;
    }

    /// Removes a torn last line, or ends one that only lacks its end: true, and [`news`](Self::news) has it then. The caller
    /// has the lock, and `news` comes before.
    pub fn cut(&mut self) -> Result<bool, LedgerError> {
        let io = |source| LedgerError::Io { path: self.path.clone(), source };
        let mut file = &self.file;
        let mut torn = Vec::new();
        file.seek(SeekFrom::Start(self.sound)).map_err(io)?;
        file.take(MAX_BYTES).read_to_end(&mut torn).map_err(io)?;
        if torn.is_empty() {
            return Ok(false);
        }
        let before = self.links.last().copied().unwrap_or(START);
        // Editors and copies may take the end of a file away; a line that follows was written by somebody who spent.
        let whole = parse(&torn).is_some_and(|(entry, link)| self.key.link(&before, entry) == link);
        if whole {
            file.write_all(b"\n").map_err(io)?;
        } else {
            self.file.set_len(self.sound).map_err(io)?;
            self.cut_bytes += torn.len() as u64;
        }
        self.sync()?;
        Ok(whole)
    }

    /// What was read is on the disk when this returns, whoever wrote it.
    pub fn sync(&self) -> Result<(), LedgerError> {
        self.file.sync_all().map_err(|source| LedgerError::Io { path: self.path.clone(), source })
    }

    /// Writes a line; it is on the disk when this returns. The caller has the lock, and [`news`](Self::news) comes before.
    pub fn append(&mut self, entry: &LedgerEntry) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io { path: self.path.clone(), source };
        if self.broken {
            return Err(io(std::io::Error::other("an earlier line could not be read or written; start again")));
        }
        let text = serde_json::to_string(entry).map_err(|e| io(e.into()))?;
        let text = text.strip_suffix('}').unwrap_or(&text);
        let link = self.key.link(&self.links.last().copied().unwrap_or(START), text.as_bytes());
        let line = format!("{text}{LINK}{}\"}}\n", hex::encode(link));
        self.broken = true;
        self.file.seek(SeekFrom::Start(self.sound)).map_err(io)?;
        self.file.write_all(line.as_bytes()).map_err(io)?;
        self.file.sync_all().map_err(io)?;
        self.broken = false;
        self.links.push(link);
        self.sound += line.len() as u64;
        Ok(())
    }

    /// After each line.
    pub fn links(&self) -> &[[u8; 32]] {
        &self.links
    }

    /// Bytes of an unfinished last line that were cut off; 0 after a clean end.
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }
}

/// The line without its link, up to its last brace, and the link.
fn parse(line: &[u8]) -> Option<(&[u8], [u8; 32])> {
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, link) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    let entry = rest.strip_suffix(LINK.as_bytes())?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(link, &mut bytes).ok()?;
    Some((entry, bytes))
}

#[cfg(test)]
impl Lines {
    /// Makes the disk refuse: writes go to a handle that cannot write, `partial` stands at the end of the file.
    pub(super) fn break_disk(&mut self, partial: &[u8]) -> File {
        self.file.seek(SeekFrom::Start(self.sound)).expect("the disk of the tests");
        self.file.write_all(partial).expect("the disk of the tests");
        std::mem::replace(&mut self.file, File::open(&self.path).expect("the ledger"))
    }

    /// The disk is back.
    pub(super) fn mend_disk(&mut self, file: File) {
        self.file = file;
    }
}
