//! The tests of the protocol as one program: real machines of both sides, queues for a network, virtual time.
//!
//! `cargo test --release -p blindsum-protocol --test protocol schedules::` runs one module. Tests that switch checks off are
//! a program of their own (`teeth`). What these share is in `testkit/`.
#![allow(clippy::unwrap_used)] // a failed step fails the test

mod crashes;
mod evidence;
mod fuzzed;
mod job;
mod lies;
mod links;
mod methods;
mod plan;
mod reproductions;
mod restored;
mod retry;
mod rounds;
mod scenarios_lies;
mod scenarios_network;
mod scenarios_silos;
mod scenarios_sizes;
mod schedules;
mod sums;
mod tamper;
