//! What needs whole processes: signals.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod processes;
