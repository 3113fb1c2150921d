//! Enrolment as its users meet it: the program in fresh processes.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod documented;
mod mistakes;
mod pipes;
mod program;
mod takeover;
