//! What can go wrong in a command, and how the process ends then.

use blindsum_adapter::LayoutError;
use blindsum_adapter::peft::PeftError;
use blindsum_certs::files::FileError;
use blindsum_privacy::DeriveError;
use blindsum_protocol::JobError;
use blindsum_transport::config::ConfigError;
use blindsum_transport::{ExitCode, Exits};
use thiserror::Error;

use crate::data::DataError;
use crate::engine::EngineError;
use crate::local::LocalError;
use crate::model::ModelError;

/// Why a command ended early.
#[derive(Debug, Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Job(#[from] JobError),
    #[error("job: {0}")]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("this silo cannot train the job alone: {0}")]
    Privacy(#[from] DeriveError),
    #[error(transparent)]
    Adapter(#[from] PeftError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    File(#[from] FileError),
}

impl CommandError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            CommandError::Config(e) => e.exit_code(),
            CommandError::Job(_) | CommandError::Layout(_) | CommandError::Usage(_) => ExitCode::Usage,
            CommandError::Engine(EngineError::Torch(_)) => ExitCode::Internal,
            CommandError::Model(_) | CommandError::Data(_) | CommandError::Engine(_) | CommandError::Local(_) => {
                ExitCode::Data
            }
            CommandError::Privacy(_) => ExitCode::Refused,
            CommandError::Adapter(PeftError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                ExitCode::Data
            }
            CommandError::Adapter(PeftError::Io { .. }) => ExitCode::Storage,
            CommandError::File(e) => e.exit_code(),
            CommandError::Adapter(_) => ExitCode::Data,
        }
    }
}
