//! Whole federations of the shipped programs.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod documented;
