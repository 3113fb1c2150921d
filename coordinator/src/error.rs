//! What stops the coordinator: sorted by who can mend it, each with one exit code.

use std::path::{Path, PathBuf};

use blindsum_adapter::peft::PeftError;
use blindsum_adapter::provenance::ClaimError;
use blindsum_certs::error::CertsError;
use blindsum_engine::model::ModelError;
use blindsum_files::{ExitCode, Exits, FileError, StateError};
use blindsum_service::{ConfigError, LostThread};
use blindsum_transport::TransportError;

use crate::store::StoreError;

/// Why the coordinator does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A configuration, roster or job file, or files that do not belong together.
    #[error("{0}")]
    Config(String),
    /// The base model's files are missing or not the job's.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Keys and certificates.
    #[error(transparent)]
    Credentials(#[from] CertsError),
    /// A file or folder.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said ("No space left on device" among others).
        source: std::io::Error,
    },
    /// A file or folder, as the shared helpers say it.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The adapter could not be written.
    #[error(transparent)]
    Adapter(#[from] PeftError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A TOML file.
    #[error(transparent)]
    Toml(#[from] ConfigError),
    /// The folder for the adapter is another job's.
    #[error(transparent)]
    Output(#[from] ClaimError),
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] TransportError),
    /// The job cannot go on without a person.
    #[error("the job cannot go on: {0}")]
    Stuck(String),
    /// A file that should hold evidence.
    #[error("{0}")]
    Malformed(String),
    /// The store lacks what was put out.
    #[error("{0}")]
    Lost(String),
    /// Evidence that convicts nobody.
    #[error("{0}")]
    Evidence(String),
    /// A thread of this program ended in a way that it never should.
    #[error(transparent)]
    Fault(#[from] LostThread),
    /// A bug of this program.
    #[error("internal error: {0}. This is a bug; please report it with the log")]
    Internal(String),
}

impl CoordinatorError {
    pub(crate) fn file(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

impl Exits for CoordinatorError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Toml(_) => ExitCode::Usage,
            Self::Model(e) => e.exit_code(),
            Self::Adapter(e) => e.exit_code(),
            Self::Malformed(_) => ExitCode::Data,
            Self::Credentials(e) => e.exit_code(),
            Self::File { .. } | Self::Files(_) | Self::Store(_) | Self::Lost(_) => ExitCode::Storage,
            Self::StateDir(e) => e.exit_code(),
            Self::Output(e) => e.exit_code(),
            Self::Listen(e) => e.exit_code(),
            Self::Stuck(_) | Self::Evidence(_) => ExitCode::Refused,
            Self::Fault(_) | Self::Internal(_) => ExitCode::Internal,
        }
    }
}
