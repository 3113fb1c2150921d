//! What can go wrong in a command, and how the process ends then.

use blindsum_adapter::LayoutError;
use blindsum_adapter::peft::PeftError;
use blindsum_adapter::provenance::ClaimError;
use blindsum_engine::EngineError;
use blindsum_engine::data::DataError;
use blindsum_engine::local::LocalError;
use blindsum_engine::model::ModelError;
use blindsum_files::{ExitCode, Exits, FileError};
use blindsum_privacy::MechanismError;
use blindsum_protocol::JobError;
use blindsum_service::ConfigError;
use thiserror::Error;

use crate::agent::AgentError;
use crate::journal::JournalError;
use crate::ledger::LedgerError;
use crate::unit::UnitError;

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
    /// Training, the job's privacy included.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The model puts out what is no number.
    #[error(
        "with this adapter the model puts out what is no number{}: it was trained with too large a learning rate; train it again \
         with a smaller one",
        row.map(|row| format!(" (row {row})")).unwrap_or_default()
    )]
    NotANumber {
        /// Row of the file, from 1, where it is known.
        row: Option<usize>,
    },
    /// The privacy ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What the agent keeps.
    #[error(transparent)]
    Agent(Box<AgentError>),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No numbers keep the ε that was asked for.
    #[error("no plan: {0}")]
    Plan(#[from] MechanismError),
    /// The adapter's files.
    #[error(transparent)]
    Adapter(#[from] PeftError),
    /// The folder for the adapter is another job's.
    #[error(transparent)]
    Output(#[from] ClaimError),
    /// The column that says whose each row is.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Options that make no sense together.
    #[error("{0}")]
    Usage(String),
    /// Another file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<AgentError> for CommandError {
    fn from(error: AgentError) -> Self {
        CommandError::Agent(Box::new(error))
    }
}

impl Exits for CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            CommandError::Config(e) => e.exit_code(),
            CommandError::Job(_) | CommandError::Usage(_) | CommandError::Plan(_) => ExitCode::Usage,
            CommandError::Layout(e) => e.exit_code(),
            CommandError::Model(e) => e.exit_code(),
            CommandError::Data(e) => e.exit_code(),
            CommandError::Ledger(e) => e.exit_code(),
            CommandError::Agent(e) => e.exit_code(),
            CommandError::Journal(e) => e.exit_code(),
            CommandError::NotANumber { .. } => ExitCode::Data,
            CommandError::Engine(e) => e.exit_code(),
            CommandError::Local(e) => e.exit_code(),
            CommandError::Adapter(e) => e.exit_code(),
            CommandError::Output(e) => e.exit_code(),
            CommandError::Unit(e) => e.exit_code(),
            CommandError::File(e) => e.exit_code(),
        }
    }
}
