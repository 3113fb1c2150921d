//! What can be wrong with a data file, said without saying what stands in it.
//!
//! Contract: the parsers' own messages quote what they stumble over, so none of them is passed on; what is kept is the
//! file, the line, and a sentence of ours.

use std::io;
use std::path::{Path, PathBuf};

use blindsum_files::{ExitCode, Exits, FileError};
use thiserror::Error;

/// Label names that an error lists; they are the job's, not the record's.
const LABELS_SHOWN: usize = 8;

/// A data file that cannot be used. Shows file, line and remedy, never content.
#[derive(Debug, Error)]
pub enum DataError {
    /// It cannot be opened or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// One row is to blame.
    #[error("{}:{line}: {what}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The file as a whole is not what is needed.
    #[error("{}: {what}", path.display())]
    Whole {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Exits for DataError {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Data
    }
}

impl DataError {
    /// The file cannot be opened or read.
    pub(super) fn file(path: &Path, error: &io::Error) -> Self {
        // only the kind: an error made by a reader of ours could carry anything
        let plain = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        FileError::from_io("read", path, plain).into()
    }

    /// Held-out rows that are the training rows. A link or a copy of another name has the same content.
    pub(super) fn same_rows(train: &Path, held_out: &Path) -> Self {
        let what = format!(
            "the held-out file {} holds the very rows of the training file: measured on them, the stated ε would not hold \
             for what leaves the silo, and the accuracy would mean nothing. Name other rows, or leave held_out out",
            held_out.display()
        );
        DataError::whole(train, what)
    }

    pub(super) fn whole(path: &Path, what: impl Into<String>) -> Self {
        DataError::Whole { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn row(path: &Path, line: u64, what: impl Into<String>) -> Self {
        DataError::Row { path: path.to_owned(), line, what: what.into() }
    }

    pub(super) fn label(path: &Path, line: u64, labels: &[String]) -> Self {
        let shown = labels.iter().take(LABELS_SHOWN).map(|l| format!("{l:?}")).collect::<Vec<_>>().join(", ");
        let more = if labels.len() > LABELS_SHOWN { ", …" } else { "" };
        DataError::row(path, line, format!("the label is none of the job's {} labels: {shown}{more}", labels.len()))
    }

    /// A row without a person.
    pub(super) fn nobody(path: &Path, line: u64, name: &str) -> Self {
        let what = format!(
            "the value of {name:?} is blank: the job protects persons, so every row must say whose it is; give each row of \
             nobody's a value of its own, or take it out"
        );
        DataError::row(path, line, what)
    }

    pub(super) fn column(path: &Path, line: u64, name: &str, found: usize) -> Self {
        let found = match found {
            0 => "no column",
            _ => "more than one column",
        };
        let what = format!("the first line must name the columns and has {found} named {name:?}");
        DataError::row(path, line, what)
    }

    pub(super) fn too_long(path: &Path, line: u64) -> Self {
        let mib = super::MAX_ROW_BYTES >> 20;
        DataError::row(path, line, format!("the row is longer than {mib} MiB (an unclosed quote?)"))
    }

    pub(super) fn not_utf8(path: &Path, line: u64) -> Self {
        DataError::row(path, line, "the row is not UTF-8; convert the file, for example with iconv")
    }
}
