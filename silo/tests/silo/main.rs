//! The program `blindsum-silo` as people run it.
#![allow(clippy::unwrap_used)]

mod commands;
#[path = "../../../engine/tests/engine/models.rs"]
mod models;
mod program;
