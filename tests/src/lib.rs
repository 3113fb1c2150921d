//! The harness: whole federations on this machine, with what tests need and products must not have.
//!
//! ```text
//! site     a federation on disk: keys, roster, job, tiny base model, rows, configuration files
//! cluster  coordinator and silos as libraries in one process, over real QUIC     process  the same as real processes
//! engine   a training engine without libtorch, exact on the fixed-point grid     seams    records updates, pauses a silo
//! expect   the plaintext sum over the recorded updates, and comparison
//! stop     names every output of a silo, to kill it there     tap    keeps what the coordinator received
//! promises what a silo promised over all its lives, held against its journal
//! relay    UDP in between, keeping every datagram     scan   looks for plaintext in memory, files and captures
//! unmasked a silo that leaves its masks off: only to show that `scan` would find an update
//! ```
//!
//! Contract: nothing depends on this crate. Updates in clear are written here, by binaries of this crate, and nowhere
//! else. A failed step panics: everything here runs inside a test.
#![allow(clippy::unwrap_used)] // a failed step of the harness fails the test

pub mod cluster;
pub mod engine;
pub mod expect;
pub mod federation;
pub mod process;
pub mod promises;
pub mod relay;
pub mod scan;
pub mod seams;
pub mod site;
pub mod stop;
pub mod tap;
pub mod unmasked;

use std::time::Duration;

/// How long a test waits for anything. Far more than is needed: it only bounds how long a failure takes.
pub const PATIENCE: Duration = Duration::from_secs(90);
