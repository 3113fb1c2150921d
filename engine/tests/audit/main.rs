//! The mechanism audited from outside: what leaves a silo, measured against what the accountant says of it.
//!
//! ```text
//! rows with known gradients ─► the real trainer ─► update ─┬─► steps, canaries, worlds: is it the mechanism that is accounted?
//!                                                          └─► fixed point, masks, sum, decoding ─► variance
//! mutants: each fault of the mechanism lives once, and a check named beside it notices
//! ```
//!
//! Contract: seeds are fixed but for one check of the operating system's; nothing here is flaky. Each check is a function
//! that says its figure or what is wrong, so that the table of mutants runs the very checks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod canaries;
mod known;
mod mutants;
mod rows;
mod statistics;
mod steps;
mod variance;
mod worlds;

/// What a check has found: its figure, or what is wrong.
type Found = Result<String, String>;

/// The figure where it is fine, the fault where it is not.
fn judged(fine: bool, figure: String) -> Found {
    if fine { Ok(figure) } else { Err(figure) }
}
