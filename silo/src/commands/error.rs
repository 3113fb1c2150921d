//! What can go wrong in a command, and how the process ends then.

use blindsum_adapter::LayoutError;
use blindsum_adapter::peft::PeftError;
use blindsum_engine::EngineError;
use blindsum_engine::data::DataError;
use blindsum_engine::local::LocalError;
use blindsum_engine::model::ModelError;
use blindsum_files::{ExitCode, Exits, FileError};
use blindsum_privacy::DeriveError;
use blindsum_protocol::JobError;
use blindsum_service::ConfigError;
use thiserror::Error;

/// Why a command ended early.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A configuration or job file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A job changed on the command line.
    #[error(transparent)]
    Job(#[from] JobError),
    /// An adapter that the base model cannot have.
    #[error("job: {0}")]
    Layout(#[from] LayoutError),
    /// The base model's directory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file of rows.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Training.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The job's privacy cannot be had with these rows.
    #[error("this silo cannot train the job alone: {0}")]
    Privacy(#[from] DeriveError),
    /// The adapter's files.
    #[error(transparent)]
    Adapter(#[from] PeftError),
    /// Options that make no sense together.
    #[error("{0}")]
    Usage(String),
    /// Another file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Exits for CommandError {
    fn exit_code(&self) -> ExitCode {
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
