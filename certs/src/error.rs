//! What can be wrong with keys, certificates and rosters: one sentence each, with the remedy.

use blindsum_files::{ExitCode, Exits, FileError};

/// The kind of a [`CertsError`], for tests and exit codes; the text is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk or the operating system: full, in the way, unreadable, a folder in the place of a file.
    File,
    /// A key, a certificate or what else says who somebody is does not exist.
    Missing,
    /// Others than its owner may use a key.
    Exposed,
    /// A file or message does not have the format that it should.
    Format,
    /// A name breaks the rules or is not the expected one.
    Name,
    /// A certificate is expired or not valid yet.
    Validity,
    /// A private key and a certificate do not belong together.
    KeyMismatch,
    /// A certificate or list was signed by another authority.
    Untrusted,
    /// A certificate was issued for the other role.
    Role,
    /// A certificate was revoked.
    Revoked,
    /// The operator asked for something that is refused on purpose.
    Refused,
    /// A fault of this program.
    Internal,
}

/// An error of this crate: a kind and one clear sentence.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CertsError {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CertsError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> CertsError {
        CertsError { kind, message: message.into(), source: None }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Puts `what` (a file, a step) before the text.
    #[must_use]
    pub(crate) fn within(mut self, what: impl std::fmt::Display) -> CertsError {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Puts a further sentence behind the text.
    #[must_use]
    pub(crate) fn followed_by(mut self, what: impl std::fmt::Display) -> CertsError {
        self.message = format!("{}; {what}", self.message);
        self
    }
}

impl Exits for CertsError {
    fn exit_code(&self) -> ExitCode {
        match self.kind {
            ErrorKind::File => ExitCode::Storage,
            ErrorKind::Internal => ExitCode::Internal,
            _ => ExitCode::Identity,
        }
    }
}

impl From<FileError> for CertsError {
    fn from(e: FileError) -> CertsError {
        let kind = match e {
            FileError::Missing { .. } => ErrorKind::Missing,
            FileError::Exposed { .. } => ErrorKind::Exposed,
            // A file beyond its limit is another file than the one that was meant: no fault of the disk.
            FileError::TooLarge { .. } => ErrorKind::Format,
            _ => ErrorKind::File,
        };
        CertsError { kind, message: e.to_string(), source: Some(Box::new(e)) }
    }
}

/// Failures of key generation and encoding that no input of ours should cause.
impl From<rcgen::Error> for CertsError {
    fn from(e: rcgen::Error) -> CertsError {
        CertsError::new(ErrorKind::Internal, format!("making a certificate failed: {e}"))
    }
}

/// Short form for constructors below.
pub(crate) fn fail<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, CertsError> {
    Err(CertsError::new(kind, message))
}
