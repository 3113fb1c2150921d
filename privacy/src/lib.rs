//! Differential privacy as mathematics: accountant, calibration, Poisson sampler, noise.
//!
//! ```text
//! plan: ε, δ, steps, expected batch ─┐
//! this silo: n records ──────────────┴─► SiloPrivacy { q, noise_multiplier }
//!                                             │
//!    each step: PoissonSampler ─► (clipped sum of gradients) ─► gaussian::add_noise
//!                                             │
//!    each round: rdp::epsilon(q, noise_multiplier, steps so far, δ) ─► ledger
//! ```
//!
//! Contract: pure functions of their arguments; randomness comes in as a [`CryptoRng`](rand_core::CryptoRng), no file,
//! clock or log is touched. Adjacent data sets differ by one record added or removed. Where arithmetic fails, ε is
//! infinite, never small.

pub mod gaussian;
mod plan;
pub mod rdp;
mod sampler;

pub use plan::{DeriveError, SiloPrivacy};
pub use sampler::{PoissonSampler, SamplerError};
