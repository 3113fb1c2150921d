//! What `make demo` needs: a federation of four institutions on one machine, what it is compared with, and the report.
//!
//! ```text
//! fetch.py ─► corpus ─┬─► federation (processes) ─► watch ─┬─► report
//!                     └─► arms (in this process) ──────────┘
//! ```

pub mod arms;
pub mod bench;
pub mod corpus;
pub mod experiment;
pub mod federation;
pub mod progress;
pub mod report;
pub mod run;
pub mod statistics;
pub mod watch;
