//! The coordinator's side: the machine, what it exchanges with its driver, and its store.

pub mod api;
mod convict;
mod finish;
mod gather;
mod machine;
mod prove;
mod restore;
mod session;
mod stage;
mod state;
pub mod store;
mod verify;
mod waiting;
pub mod work;

pub use api::{
    Conviction, CoordinatorEvent, CoordinatorOutput, CoordinatorSetup, DisconnectReason, Phase, RoundBytes, RoundReport,
};
pub use machine::CoordinatorMachine;
pub use store::{StoreRecord, StoreReplayError, StoreState, StoredResult};
pub use waiting::Waiting;
pub use work::{CoordinatorWork, CoordinatorWorkDone};
