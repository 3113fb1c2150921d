//! Local training without its arithmetic: an organisation's rows, a base model's directory, a round's steps, and what they
//! ask of an engine.
//!
//! ```text
//! rows.jsonl / .csv / .tsv ─► Reading ─► RowStore ──┐
//! job's training words ─► TrainSpec ────────────────┴─► LocalTrainer::round ─► LocalUpdate
//! model directory ─► ModelDir: shape, hashes, paths          │
//!                                                            └─► Engine (blindsum-torch is one): gradients, logits
//! ```
//!
//! Contract: nothing here knows libtorch, sockets, threads or the protocol; what was agreed on comes in as
//! [`blindsum_adapter::training`], and only [`local::LocalUpdate::values`] may leave the organisation.

pub mod data;
mod engine;
pub mod grid;
mod hash;
pub mod local;
pub mod model;
mod mutants;
mod settings;

pub use engine::{ClippedSum, Engine, EngineError, Evaluation, GradientSum, Outcome, best, each_alone, evaluate};
pub use hash::sha256_of;
pub use settings::{ComputeDevice, EngineSettings, Precision};
