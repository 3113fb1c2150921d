//! The program `blindsum-silo` as people run it.
#![allow(clippy::unwrap_used)]

mod commands;
mod program;
