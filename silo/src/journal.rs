//! The journal file: what this silo has promised, on the disk before anyone hears of it.
//!
//! The protocol forgives no second vote and no second reveal for one attempt (SA-07), also not after a crash; so every
//! entry is framed, chained and fsynced before the driver goes on to the next output of the machine.
//!
//! ```text
//! "blindsum-journal-1\n"  then per entry:
//! length u32 LE | check: 8 bytes of SHA-256(previous chain, length) | chain: 32 bytes | body
//! ```
//! The check over the length tells a record that a crash cut short (its header is sound, its body ends with the file)
//! from a damaged one: only the former may be cut off, because only it was never acknowledged.
//!
//! # Contract
//! - [`JournalFile::append`] returns after fsync. After an error the journal is closed for good: what reached the disk is
//!   known again only after opening it anew.
//! - A torn tail is cut off at opening and reported in [`Opened::cut_bytes`]; any other damage is refused.
//! - Bodies hold secret shares: file mode 0600, buffers are wiped when dropped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use blindsum_files::{ExitCode, Exits};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ledger::sync_parent;

const MAGIC: &[u8] = b"blindsum-journal-1\n";
const HEADER: usize = 4 + 8 + 32;
/// The longest body, bytes: shares and signatures of a thousand silos take less than half of it.
pub const MAX_BODY: usize = 4 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk.
    #[error("the journal {path}: {source}")]
    Io {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Damage that a crash does not explain.
    #[error(
        "the journal {path} is damaged in entry {entry} ({detail}). It records which votes this silo has cast; voting \
         twice could give its update away, so it will not guess. Restore the file as it was when the silo last ran; or \
         take no further part in this job (a new job starts with a new state_dir)"
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Number of the entry, from 1.
        entry: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// An entry beyond [`MAX_BODY`], or an earlier error.
    #[error("the journal {path}: {detail}")]
    Unusable {
        /// The journal.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

impl Exits for JournalError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Storage
    }
}

/// A journal as found on the disk.
#[derive(Debug)]
pub struct Opened {
    /// Ready for appending.
    pub journal: JournalFile,
    /// The bodies, oldest first.
    pub bodies: Vec<Zeroizing<Vec<u8>>>,
    /// Bytes of an unfinished last record that were cut off; 0 after a clean end.
    pub cut_bytes: u64,
}

/// What lies behind the first line of a journal.
struct Scan {
    chain: [u8; 32],
    bodies: Vec<Zeroizing<Vec<u8>>>,
    /// Bytes of the file up to the end of the last whole record.
    sound: u64,
    cut_bytes: u64,
}

/// Reads the records of a file of `file_length` bytes from behind its first line.
fn scan(file: &mut File, file_length: u64, path: &Path) -> Result<Scan, JournalError> {
    let io = |source| JournalError::Io { path: path.to_owned(), source };
    let damaged = |entry, detail| JournalError::Damaged { path: path.to_owned(), entry, detail };
    let mut chain: [u8; 32] = Sha256::digest(MAGIC).into();
    let mut bodies = Vec::new();
    let mut sound = MAGIC.len() as u64;
    let mut cut_bytes = 0;
    while sound < file_length {
        let entry = bodies.len() as u64 + 1;
        let left = file_length - sound;
        if left < HEADER as u64 {
            cut_bytes = left;
            break;
        }
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(io)?;
        let (length, check, next) = split(&header);
        if check != length_check(&chain, length) {
            return Err(damaged(entry, "its header does not follow from the entry before"));
        }
        if length as usize > MAX_BODY {
            return Err(damaged(entry, "it is longer than any entry can be"));
        }
        if left - (HEADER as u64) < u64::from(length) {
            cut_bytes = left;
            break;
        }
        let mut body = Zeroizing::new(vec![0; length as usize]);
        file.read_exact(&mut body).map_err(io)?;
        if next != link(&chain, &body) {
            return Err(damaged(entry, "its body does not match its hash"));
        }
        chain = next;
        sound += HEADER as u64 + u64::from(length);
        bodies.push(body);
    }
    Ok(Scan { chain, bodies, sound, cut_bytes })
}

/// The open journal file.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    chain: [u8; 32],
    length: u64,
    broken: bool,
}

impl JournalFile {
    /// Opens or begins the journal at `path`, checking the whole chain.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] unless the file is a chain of sound records, the last of which may be cut short.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let file_length = file.metadata().map_err(io)?.len();
        let damaged = |entry, detail| JournalError::Damaged { path: path.to_owned(), entry, detail };
        let mut magic = Vec::new();
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(io)?;
        if magic != MAGIC {
            // A crash while the file was made leaves a prefix of the first line, and no entry.
            if !MAGIC.starts_with(&magic) {
                return Err(damaged(0, "it is not a journal of this version"));
            }
            file.set_len(0).map_err(io)?;
            file.seek(SeekFrom::Start(0)).map_err(io)?;
            file.write_all(MAGIC).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_parent(path).map_err(io)?;
        }

        let Scan { chain, bodies, sound, cut_bytes } = scan(&mut file, file_length, path)?;
        if cut_bytes > 0 {
            file.set_len(sound).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let length = bodies.len() as u64;
        Ok(Opened { journal: Self { path: path.to_owned(), file, chain, length, broken: false }, bodies, cut_bytes })
    }

    /// The entries of the journal at `path`, none where there is no file; writes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(path: &Path) -> Result<Vec<Zeroizing<Vec<u8>>>, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io)?,
        };
        let length = file.metadata().map_err(io)?.len();
        let mut magic = Vec::new();
        (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(io)?;
        if magic == MAGIC {
            return Ok(scan(&mut file, length, path)?.bodies);
        }
        if MAGIC.starts_with(&magic) {
            return Ok(Vec::new());
        }
        let detail = "it is not a journal of this version";
        Err(JournalError::Damaged { path: path.to_owned(), entry: 0, detail })
    }

    /// Appends one entry; when this returns it is on the disk.
    ///
    /// # Errors
    /// The disk's, and for a body beyond [`MAX_BODY`]. After an error every later append fails too.
    pub fn append(&mut self, body: &[u8]) -> Result<(), JournalError> {
        let unusable = |detail: String| JournalError::Unusable { path: self.path.clone(), detail };
        if self.broken {
            return Err(unusable("an earlier entry could not be written; restart the silo".into()));
        }
        if body.len() > MAX_BODY {
            return Err(unusable(format!("an entry of {} bytes is longer than {MAX_BODY}", body.len())));
        }
        // Bounded by MAX_BODY just above.
        let length = body.len() as u32;
        let next = link(&self.chain, body);
        let mut record = Zeroizing::new(Vec::with_capacity(HEADER + body.len()));
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&length_check(&self.chain, length));
        record.extend_from_slice(&next);
        record.extend_from_slice(body);
        self.broken = true;
        let io = |source| JournalError::Io { path: self.path.clone(), source };
        self.file.write_all(&record).map_err(io)?;
        self.file.sync_all().map_err(io)?;
        self.broken = false;
        self.chain = next;
        self.length += 1;
        Ok(())
    }

    /// Entries in the file.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was ever promised.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

fn split(header: &[u8; HEADER]) -> (u32, [u8; 8], [u8; 32]) {
    let (mut length, mut check, mut chain) = ([0; 4], [0; 8], [0; 32]);
    length.copy_from_slice(&header[..4]);
    check.copy_from_slice(&header[4..12]);
    chain.copy_from_slice(&header[12..]);
    (u32::from_le_bytes(length), check, chain)
}

fn length_check(chain: &[u8; 32], length: u32) -> [u8; 8] {
    let digest =
        Sha256::new().chain_update(b"length").chain_update(chain).chain_update(length.to_le_bytes()).finalize();
    let mut check = [0; 8];
    check.copy_from_slice(&digest[..8]);
    check
}

fn link(chain: &[u8; 32], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"body").chain_update(chain).chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn written(bodies: &[&[u8]]) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = JournalFile::open(&path).unwrap().journal;
        bodies.iter().for_each(|body| journal.append(body).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn entries_survive_and_the_file_is_private() {
        let (_dir, path, _) = written(&[b"one", b"", b"three"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut opened = JournalFile::open(&path).unwrap();
        let bodies: Vec<&[u8]> = opened.bodies.iter().map(|body| body.as_slice()).collect();
        assert_eq!(bodies, [b"one".as_slice(), b"", b"three"]);
        assert_eq!((opened.cut_bytes, opened.journal.len()), (0, 3));
        opened.journal.append(b"four").unwrap();
        assert_eq!(JournalFile::open(&path).unwrap().bodies.len(), 4);
    }

    #[test]
    fn every_cut_of_the_last_record_is_a_torn_tail() {
        let (_dir, path, bytes) = written(&[b"one", b"two", b"three"]);
        let last = bytes.len() - HEADER - 5;
        for end in last..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let mut opened = JournalFile::open(&path).unwrap();
            assert_eq!((opened.bodies.len(), opened.cut_bytes), (2, (end - last) as u64), "cut at {end}");
            opened.journal.append(b"again").unwrap();
            assert_eq!(JournalFile::open(&path).unwrap().bodies.len(), 3);
        }
    }

    #[test]
    fn sa_07_every_flipped_bit_is_refused() {
        let (_dir, path, bytes) = written(&[b"one", b"two"]);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                std::fs::write(&path, &flipped).unwrap();
                let error = JournalFile::open(&path).unwrap_err();
                assert!(matches!(error, JournalError::Damaged { .. }), "byte {at} bit {bit}: {error}");
            }
        }
    }

    #[test]
    fn a_removed_or_repeated_record_is_refused() {
        let (_dir, path, bytes) = written(&[b"one", b"two", b"six"]);
        let (start, record) = (MAGIC.len(), HEADER + 3);
        let without: Vec<u8> = [&bytes[..start], &bytes[start + record..]].concat();
        let repeated: Vec<u8> = [&bytes[..start + record], &bytes[start..]].concat();
        for other in [without, repeated] {
            std::fs::write(&path, &other).unwrap();
            assert!(matches!(JournalFile::open(&path), Err(JournalError::Damaged { .. })));
        }
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused() {
        let (_dir, path, _) = written(&[]);
        let mut journal = JournalFile::open(&path).unwrap().journal;
        let error = journal.append(&vec![0; MAX_BODY + 1]).unwrap_err();
        assert!(matches!(error, JournalError::Unusable { .. }), "{error}");
    }
}
