//! The agent service of one organisation: policy, data, training engine, privacy, journal, ledger.

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
