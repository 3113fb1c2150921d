//! The agent service of one organisation: policy, data, privacy, journal, ledger, and the commands around them.

pub mod agent;
pub mod commands;
pub mod config;
pub mod journal;
pub mod ledger;
mod mutant;
pub mod policy;
pub mod unit;
