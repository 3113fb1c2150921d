//! The coordinator service: QUIC, driver of rounds, durable store.
//!
//! ```text
//! silos ══QUIC══► links ──► driver ──► CoordinatorMachine (blindsum-protocol)
//!                             │  ▲
//!                 store ◄─────┤  └──── work (unmasking) on blocking threads
//!                 output ◄────┘        last/, best/, history.jsonl, evidence/
//! ```
//!
//! Contract: the machine decides, the driver executes its outputs strictly in order, and nothing leaves before what it
//! depends on is in the store. What passes through here are names, times, sizes, masked inputs, the sum and the adapter;
//! a silo's update in clear is never here. [`Coordinator`] is the service as a library; `main.rs` is its command line.
#![forbid(unsafe_code)]

mod check;
pub mod config;
mod driver;
mod error;
mod events;
pub mod evidence;
mod links;
pub mod output;
mod presence;
mod setup;
pub mod store;

pub use check::check;
pub use driver::Coordinator;
pub use error::CoordinatorError;
#[cfg(feature = "harness")]
pub use links::Tap;
pub use setup::{Prepared, announce, prepare};
