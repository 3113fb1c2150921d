//! The agent service of one organisation: policy, data, training engine, privacy, journal, ledger.

pub mod data;
pub mod engine;
pub mod local;
