//! The crate from outside, as programs have it. What needs its inside is in `src/testing/`.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod erased;
mod shipped;
