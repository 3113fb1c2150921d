//! A silo's side: the machine, what it exchanges with its driver, and its journal.

pub mod api;
pub mod journal;
mod machine;
mod open;
mod result;
mod session;
mod sketch;
pub(crate) mod verify;
mod vote;
pub mod work;

pub use api::{
    Adoption, AdoptionReport, HeldResult, MeasuredUpdate, SetupError, SiloEvent, SiloOutput, SiloSetup, TrainFailure,
    TrainOutcome, TrainRequest,
};
pub use journal::{JournalEntry, JournalReplayError, JournalState};
pub use machine::SiloMachine;
pub use verify::Inadmissible;
pub use work::{SiloWork, SiloWorkDone};
