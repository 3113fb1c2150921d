//! What stops the agent: sorted by who can mend it.

use std::path::PathBuf;

use blindsum_adapter::provenance::ClaimError;
use blindsum_certs::error::CertsError;
use blindsum_engine::EngineError;
use blindsum_engine::data::DataError;
use blindsum_engine::local::LocalError;
use blindsum_engine::model::ModelError;
use blindsum_files::{ExitCode, Exits, FileError, StateError};
use blindsum_protocol::AttemptId;
use blindsum_service::{ConfigError, LostThread};
use blindsum_transport::TransportError;

use crate::agent::held::HeldError;
use crate::journal::JournalError;
use crate::ledger::LedgerError;
use crate::policy::PolicyError;
use crate::unit::UnitError;

/// Why the agent does not start or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Name, certificate, identity key and roster do not belong together.
    #[error("{0}")]
    Identity(String),
    /// A TOML file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Keys and certificates.
    #[error(transparent)]
    Credentials(#[from] CertsError),
    /// A file of the data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The base model's directory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The column that says whose each row is.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The organisation does not accept the job.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The privacy ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The journal's file.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What the journal says.
    #[error("{path}: {problem}")]
    State {
        /// The file of the state directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The journal is not the one that this silo last wrote.
    #[error(
        "the state directory is an old copy, or a new one: a {what} of {at} bears this silo's signature, but its journal \
         does not hold it. Put the directory back as it was when this silo last ran. If that is lost, stop this silo for \
         good: what it signed is no longer known, and voting twice could give its update away. To take part in another \
         job it needs a new identity in the roster (docs/operations.md)"
    )]
    Restored {
        /// The attempt.
        at: AttemptId,
        /// What was signed.
        what: &'static str,
    },
    /// The kept adapter.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// Any other file or folder.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The adapter for `output_dir` could not be written.
    #[error(transparent)]
    Adapter(#[from] blindsum_adapter::peft::PeftError),
    /// The folder for the adapter is another job's.
    #[error(transparent)]
    Output(#[from] ClaimError),
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateError),
    /// The connection to the coordinator: not reached, refused, or closed for good.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The coordinator ended the job before this silo had all of its results.
    #[error(
        "the coordinator says that the job is over, but this silo holds result {held} of {last} only. If the coordinator \
         still runs, start this silo again; else ask whoever runs it for the adapter's files"
    )]
    Unfinished {
        /// Newest result held.
        held: u32,
        /// The job's last.
        last: u32,
    },
    /// The rows cannot be trained on as the job says, its privacy included.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// A thread of this program ended in a way that it never should.
    #[error(transparent)]
    Fault(#[from] LostThread),
    /// A bug of this program.
    #[error("internal error: {0}. This is a bug; please report it with the log")]
    Internal(String),
}

impl Exits for AgentError {
    fn exit_code(&self) -> ExitCode {
        match self {
            AgentError::File(e) => e.exit_code(),
            AgentError::Credentials(e) => e.exit_code(),
            AgentError::Identity(_) => ExitCode::Identity,
            AgentError::Data(e) => e.exit_code(),
            AgentError::Model(e) => e.exit_code(),
            AgentError::Engine(e) => e.exit_code(),
            AgentError::Local(e) => e.exit_code(),
            AgentError::Unit(e) => e.exit_code(),
            AgentError::Policy(e) => e.exit_code(),
            AgentError::Ledger(e) => e.exit_code(),
            AgentError::Journal(e) => e.exit_code(),
            AgentError::Held(e) => e.exit_code(),
            AgentError::Files(e) => e.exit_code(),
            AgentError::Adapter(e) => e.exit_code(),
            AgentError::State { .. } | AgentError::Restored { .. } => ExitCode::Storage,
            AgentError::StateDir(e) => e.exit_code(),
            AgentError::Output(e) => e.exit_code(),
            AgentError::Transport(e) => e.exit_code(),
            AgentError::Unfinished { .. } => ExitCode::Network,
            AgentError::Fault(_) | AgentError::Internal(_) => ExitCode::Internal,
        }
    }
}
