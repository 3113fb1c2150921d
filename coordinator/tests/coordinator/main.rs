//! The coordinator as its users meet it.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod program;
