//! The durable store: every record that the round machine wants kept, in order, in one SQLite file.
//!
//! WAL with `synchronous = FULL`: when [`Store::append`] returns, the record survives a crash of the machine, not only of
//! the process. A restart reads all records back in order and hands them to the machine, which goes on from there. Once
//! a round is certified, what was needed only to finish it is deleted in the same transaction.
//!
//! # Contract
//! - One process per store (the state directory is locked), one job per store: the job's digest is checked at opening.
//! - What is stored are public facts and *masked* inputs: nothing here is a silo's update in clear.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use blindsum_crypto::{Digest, SiloId};
use blindsum_protocol::codec;
use blindsum_protocol::coordinator::StoreRecord;
use blindsum_protocol::message::{AttemptId, Payload};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

/// The longest body, bytes: a masked input of the largest adapter at 32 bits.
const MAX_BODY: usize = codec::HARD_LIMIT;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or the disk.
    #[error("the store {path}: {source}")]
    Sqlite {
        /// The store.
        path: PathBuf,
        /// What SQLite said ("database or disk is full" among others).
        source: rusqlite::Error,
    },
    /// The file could not be made.
    #[error("the store {path}: {source}")]
    Io {
        /// The store.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another job's store.
    #[error("the store {path} belongs to job {found}, not to job {expected}: give each job its own state_dir")]
    OtherJob {
        /// The store.
        path: PathBuf,
        /// Whose it is.
        found: Digest,
        /// Who asks.
        expected: Digest,
    },
    /// Damage.
    #[error("the store {path} is damaged: {detail}. Restore it as it was, or start a new job with a new state_dir")]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// The open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Connection,
}

impl Store {
    /// Opens or begins the store of the job with digest `job`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(path: &Path, job: Digest) -> Result<Self, StoreError> {
        // Made before SQLite opens it, so that it never exists with a wider mode.
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(sqlite)?;
        let store = Self { path: path.to_owned(), connection };
        store.prepare().map_err(sqlite)?;
        let check: String =
            store.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if check != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), detail: check });
        }
        match owner(&store.connection, path)? {
            None => {
                let begin = "INSERT INTO about (key, value) VALUES ('job', ?1)";
                store.connection.execute(begin, [job.to_string()]).map_err(sqlite)?;
            }
            Some(found) if found != job => {
                return Err(StoreError::OtherJob { path: path.to_owned(), found, expected: job });
            }
            Some(_) => {}
        }
        Ok(store)
    }

    /// Refuses the store at `path` where it is another job's, or none; writes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(path: &Path, job: Digest) -> Result<(), StoreError> {
        if !path.exists() {
            return Ok(());
        }
        let sqlite = |source| StoreError::Sqlite { path: path.to_owned(), source };
        // Immutable: SQLite then makes no files of its own beside it. What a crash left in them is read at the start.
        let escaped = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags).map_err(sqlite)?;
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'about'", [], |row| row.get(0))
            .map_err(sqlite)?;
        if tables == 0 {
            return Ok(());
        }
        match owner(&connection, path)? {
            Some(found) if found != job => Err(StoreError::OtherJob { path: path.to_owned(), found, expected: job }),
            _ => Ok(()),
        }
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.pragma_update(None, "trusted_schema", false)?;
        self.connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS records
                 (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, body BLOB NOT NULL, whose TEXT) STRICT;",

        )
    }

    /// Keeps one record; when this returns it is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn append(&mut self, record: &StoreRecord) -> Result<(), StoreError> {
        let body = codec::encode(record).map_err(|e| StoreError::Damaged {
            path: self.path.clone(),
            detail: format!("a record has no encoding: {e}"),
        })?;
        self.write(kind(record), whose(record), &body)
            .map_err(|source| StoreError::Sqlite { path: self.path.clone(), source })
    }

    fn write(&mut self, kind: &str, whose: Option<String>, body: &[u8]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute("INSERT INTO records (kind, whose, body) VALUES (?1, ?2, ?3)", (kind, whose, body))?;
        if kind == "marks" {
            let number = transaction.last_insert_rowid();
            transaction.execute("DELETE FROM records WHERE kind = 'marks' AND number < ?1", [number])?;
        }
        if kind == "certified" {
            transaction.execute(
                "DELETE FROM records WHERE kind NOT IN ('result', 'certified', 'guilty', 'restored', 'marks')",
                [],
            )?;
        }
        transaction.commit()
    }

    /// The masked inputs of an attempt that these silos sent, in this order; one at a time is decoded.
    ///
    /// # Errors
    /// The disk's, and [`StoreError::Damaged`] for one that is not there or cannot be read.
    pub fn masked(&self, at: AttemptId, silos: &[SiloId]) -> Result<Vec<(SiloId, Payload)>, StoreError> {
        let read = |silo: SiloId| {
            let body: Option<Vec<u8>> = self
                .connection
                .query_row("SELECT body FROM records WHERE whose = ?1", [masked_of(at, silo)], |row| row.get(0))
                .optional()
                .map_err(|source| StoreError::Sqlite { path: self.path.clone(), source })?;
            match body.map(|body| codec::decode(&body, MAX_BODY)) {
                Some(Ok(StoreRecord::Masked { payload, .. })) => Ok((silo, payload)),
                _ => Err(StoreError::Damaged {
                    path: self.path.clone(),
                    detail: format!("the masked input of silo {silo} in {at} is missing or unreadable"),
                }),
            }
        };
        silos.iter().map(|&silo| read(silo)).collect()
    }

    /// All records, oldest first.
    ///
    /// # Errors
    /// The disk's, and [`StoreError::Damaged`] for a record that cannot be read.
    pub fn records(&self) -> Result<Vec<StoreRecord>, StoreError> {
        let sqlite = |source| StoreError::Sqlite { path: self.path.clone(), source };
        let mut statement =
            self.connection.prepare("SELECT number, body FROM records ORDER BY number").map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
            let number: i64 = row.get(0).map_err(sqlite)?;
            let body = row.get_ref(1).map_err(sqlite)?;
            let record = body
                .as_blob()
                .map_err(|e| e.to_string())
                .and_then(|body| codec::decode(body, MAX_BODY).map_err(|e| e.to_string()));
            records.push(record.map_err(|error| StoreError::Damaged {
                path: self.path.clone(),
                detail: format!("record {number}: {error}"),
            })?);
        }
        Ok(records)
    }
}

/// Whose store it is; `None` where it does not say so yet.
fn owner(connection: &Connection, path: &Path) -> Result<Option<Digest>, StoreError> {
    let found: Option<String> = connection
        .query_row("SELECT value FROM about WHERE key = 'job'", [], |row| row.get(0))
        .optional()
        .map_err(|source| StoreError::Sqlite { path: path.to_owned(), source })?;
    let read = |text: String| {
        text.parse().map_err(|e| StoreError::Damaged {
            path: path.to_owned(),
            detail: format!("it does not say whose it is: {e}"),
        })
    };
    found.map(read).transpose()
}

fn masked_of(at: AttemptId, silo: SiloId) -> String {
    format!("{}/{}/{silo}", at.round, at.attempt)
}

/// By what a record is found again, where it is read back singly.
fn whose(record: &StoreRecord) -> Option<String> {
    match record {
        StoreRecord::Masked { at, header, .. } => Some(masked_of(*at, header.silo)),
        _ => None,
    }
}

fn kind(record: &StoreRecord) -> &'static str {
    match record {
        StoreRecord::Opened { .. } => "opened",
        StoreRecord::Adverts { .. } => "adverts",
        StoreRecord::Dealing { .. } => "dealing",
        StoreRecord::Sharers { .. } => "sharers",
        StoreRecord::Masked { .. } => "masked",
        StoreRecord::List { .. } => "list",
        StoreRecord::Certificate { .. } => "certificate",
        StoreRecord::Abandoned { .. } => "abandoned",
        StoreRecord::Result(_) => "result",
        StoreRecord::Certified { .. } => "certified",
        StoreRecord::Guilty { .. } => "guilty",
        StoreRecord::Restored { .. } => "restored",
        StoreRecord::Marks { .. } => "marks",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use blindsum_crypto::{MaskedHeader, Signature};

    use super::*;

    const JOB: Digest = Digest([0xaa; 32]);

    fn opened(round: u32, attempt: u32) -> StoreRecord {
        StoreRecord::Opened { at: AttemptId { round, attempt } }
    }

    #[test]
    fn records_survive_in_order_and_the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, JOB).unwrap();
        let records = [opened(1, 1), opened(1, 2), opened(1, 5)];
        records.iter().for_each(|record| store.append(record).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mode: String = store.connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        let synchronous: i64 = store.connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        drop(store);
        assert_eq!(Store::open(&path, JOB).unwrap().records().unwrap(), records);
    }

    #[test]
    fn a_certified_round_leaves_results_who_is_guilty_and_the_newest_marks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, JOB).unwrap();
        let body = codec::encode(&opened(1, 1)).unwrap();
        for kind in ["marks", "guilty", "opened", "masked", "result", "marks", "certified", "opened"] {
            store.write(kind, None, &body).unwrap();
        }
        let mut statement = store.connection.prepare("SELECT kind FROM records ORDER BY number").unwrap();
        let kinds: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(kinds, ["guilty", "result", "marks", "certified", "opened"]);
    }

    #[test]
    fn a_masked_input_is_read_back_by_attempt_and_silo() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("store.sqlite"), JOB).unwrap();
        let at = |attempt| AttemptId { round: 1, attempt };
        for attempt in [1, 2] {
            for silo in [0, 3, 11] {
                let (hash, signature) = (Digest([0; 32]), Signature([0; 64]));
                let header = MaskedHeader { silo: SiloId(silo), hash, signature };
                let payload = Payload::new(vec![attempt as u8, silo as u8]);
                store.append(&StoreRecord::Masked { at: at(attempt), header, payload }).unwrap();
            }
        }
        let found = store.masked(at(2), &[SiloId(11), SiloId(0)]).unwrap();
        assert_eq!(found, [(SiloId(11), Payload::new(vec![2, 11])), (SiloId(0), Payload::new(vec![2, 0]))]);
        for (attempt, silo) in [(3, 0), (1, 1)] {
            assert!(matches!(store.masked(at(attempt), &[SiloId(silo)]), Err(StoreError::Damaged { .. })));
        }
    }

    #[test]
    fn another_job_and_an_unreadable_record_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        let mut store = Store::open(&path, JOB).unwrap();
        store.write("opened", None, b"nonsense").unwrap();
        let error = store.records().unwrap_err();
        assert!(error.to_string().contains("record 1"), "{error}");
        assert!(matches!(Store::open(&path, Digest([0xbb; 32])), Err(StoreError::OtherJob { .. })));
        drop(store);
        Store::look(&path, Digest([0xaa; 32])).unwrap();
        assert!(matches!(Store::look(&path, Digest([0xbb; 32])), Err(StoreError::OtherJob { .. })));
        Store::look(&dir.path().join("none.sqlite"), Digest([0xaa; 32])).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "looking leaves no trace");
    }

    #[test]
    fn a_file_that_is_no_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.sqlite");
        std::fs::write(&path, vec![7; 8192]).unwrap();
        assert!(matches!(Store::open(&path, JOB), Err(StoreError::Sqlite { .. })));
    }
}
