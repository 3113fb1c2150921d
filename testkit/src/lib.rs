//! What tests of several crates share.
//!
//! ```text
//! setup    roster, job text, plan and identity keys of a federation; numbers in place of training
//! cluster  that federation in memory: real machines, queues for a network, virtual time, faults as closures
//! ops      faults, lies and misdeeds as data      script, bend, library  carry one out on a message or a process
//! liar     the coordinator that lies              mind     what it knows
//! rogue    silos that misbehave                   scripted one that deals wrongly, from its keys up
//! simulate runs one list of operations            checks, judge  what must be true after it
//! mint     authority, certificates and roster in memory: certificates in a repository expire
//! enrol    the same on disk, by the steps that people take
//! documented  the commands of the docs, typed on machines that are folders
//! models   a tiny model of each family by formula       bert     a tiny BERT that knows sixty words
//! ```
//!
//! Contract: a dev-dependency, of tests, benches and fuzz targets only; no program has it (`.ci/purity`). Nothing here
//! opens a socket or waits, and nothing needs libtorch. A step that fails panics: it runs inside a test. Checks of the
//! protocol are on; a crate whose tests switch them off asks for the feature `teeth` of that crate itself.
// what cannot fail here is a bug of the test; names say what a test reads
#![allow(clippy::unwrap_used, missing_docs)]
#![forbid(unsafe_code)]

pub mod bend;
pub mod bert;
pub mod checks;
pub mod cluster;
pub mod documented;
pub mod enrol;
pub mod judge;
pub mod liar;
pub mod library;
pub mod mind;
pub mod mint;
pub mod models;
pub mod ops;
pub mod rogue;
pub mod script;
pub mod scripted;
pub mod setup;
pub mod simulate;

pub use setup::{DP, NONE, Setup, boxed_rng, job_text, layout, rng};
