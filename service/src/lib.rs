//! What every program of the house shares: command line, configuration files, exit codes, signals, logs, the run loop.
//!
//! ```text
//! main.rs ─► Program::run ─┬─ LogArgs ─► telemetry
//!                          ├─ Common::load ─► Document ─► configuration, errors with file, line and key
//!                          ├─ task ─► Program::block_on(|stop| …) ─► Ended
//!                          └─ error ─► one sentence on standard error ─► ExitCode
//! ```
//!
//! Contract: whatever happens, a program ends with a code of the one table ([`exit`]), and the sentence that says why
//! reaches standard error, also when the log is filtered away and when a thread panics. Nothing here knows QUIC, the
//! protocol or libtorch. A further program costs a `main.rs` of thirty lines.
#![forbid(unsafe_code)]

pub mod check;
pub mod cli;
pub mod config;
mod heartbeat;
mod program;
pub mod signals;
pub mod telemetry;
mod version;
mod work;

pub use blindsum_files::exit;
pub use blindsum_files::{ExitCode, Exits};
pub use check::Checklist;
pub use cli::{Common, LogArgs, say};
pub use config::{ConfigError, Document};
pub use heartbeat::{Heartbeat, WAITING, WORKING};
pub use program::{Ended, Program};
pub use signals::Stop;
pub use version::version;
pub use work::{LostThread, Work, blocking};
