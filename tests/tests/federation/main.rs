//! Whole federations over real QUIC on this machine. One test program, since each one links libtorch.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod bytes;
mod cluster;
mod crashes;
mod kills;
mod plaintext;
mod restored;
mod torch;

/// The harness's silo: the agent's library with records and pauses.
const SILO: &str = env!("CARGO_BIN_EXE_blindsum-test-silo");
/// The coordinator's library as a process.
const COORDINATOR: &str = env!("CARGO_BIN_EXE_blindsum-test-coordinator");
