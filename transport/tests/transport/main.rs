//! The transport over real sockets of this machine.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod hostile;
mod loopback;
mod refusals;
mod support;
mod wire;
