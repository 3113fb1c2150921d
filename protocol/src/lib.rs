//! What travels and when: the job, messages, codec, limits, and the two machines of a round.
//!
//! ```text
//! job.toml ─► Job ─┐
//! roster ──────────┼─► Plan ─► SiloMachine         CoordinatorMachine ─► RoundReport
//! AdapterLayout ───┘             ▲   │  SiloMessage   ▲   │
//!                                │   └───────────────►┘   │
//!                                └────────────────────────┘ CoordinatorMessage
//! ```
//!
//! **Machines are sans-io.** They hold no socket, file, thread or clock. A driver feeds them and executes what they put
//! out, strictly in order:
//!
//! | call | silo | coordinator |
//! |---|---|---|
//! | `new` | `(SiloSetup, Box<dyn CryptoRng + Send>, now_ms)` | `(CoordinatorSetup, now_ms)` |
//! | link | `handle_connected(now_ms)`, `handle_disconnected(now_ms)` | the same with `(SiloId, now_ms)` |
//! | message | `handle_message(Envelope<CoordinatorMessage>, now_ms)` | `handle_message(SiloId, Envelope<SiloMessage>, now_ms)` |
//! | training | `handle_trained(TrainOutcome, now_ms)` | |
//! | work | `handle_work_done(SiloWorkDone, now_ms)` | `handle_work_done(CoordinatorWorkDone, now_ms)` |
//! | store | | `handle_fetched(AttemptId, Vec<(SiloId, Payload)>, now_ms)` |
//! | time | `poll_timeout() -> Option<u64>`, `handle_timeout(now_ms)` | the same |
//! | output | `poll_output() -> Option<SiloOutput>` until `None` | `poll_output() -> Option<CoordinatorOutput>` until `None` |
//!
//! `now_ms` is any clock that does not run backwards, in milliseconds; after a restart it may begin anew. `Journal` and
//! `Store` outputs must be durable before a later output is executed. Work is run on a blocking thread and its outcome
//! handed back; several can be in flight. No call panics on what a peer sent.
//!
//! Invariants are cited as `SA-01` … `SA-16`, scenarios that show them are in `tests/`.
#![forbid(unsafe_code)]

pub mod codec;
pub mod coordinator;
pub mod evidence;
pub mod job;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod plan;
pub mod server;
pub mod silo;
mod step;

pub use job::{Job, JobError, JobFile};
pub use limits::{Limits, Wire};
pub use message::{AttemptId, CoordinatorMessage, Envelope, Payload, SiloMessage};
pub use metrics::{HeldOut, HeldOutCounts};
pub use plan::{Plan, RoundKind};
