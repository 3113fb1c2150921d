//! The agent service of one organisation: policy, data, training engine, privacy, journal, ledger.

/// The libtorch that this was built with.
pub const LIBTORCH_VERSION: &str = env!("BLINDSUM_LIBTORCH");

pub mod agent;
pub mod commands;
pub mod config;
pub mod data;
pub mod engine;
pub mod journal;
pub mod ledger;
pub mod local;
pub mod model;
pub mod policy;
