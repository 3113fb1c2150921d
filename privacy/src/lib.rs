//! Differential privacy as mathematics: accountants, calibration, Poisson sampler, noise.
//!
//! ```text
//! plan: ε, δ, steps, expected batch ─┐
//! this silo: n records ──────────────┴─► SiloPrivacy { q, noise_multiplier }
//!                                             │
//!    each step: PoissonSampler ─► (clipped sum of gradients) ─► gaussian::add_noise
//!                                             │
//!    each round: rdp::epsilon(q, noise_multiplier, steps so far, δ) ─► ledger
//!
//! pld: the same questions, answered nearly exactly, for several phases and for several records of one person
//! ```
//!
//! Contract: pure functions of their arguments; randomness comes in as a [`CryptoRng`](rand_core::CryptoRng), no file,
//! clock or log is touched. Adjacent data sets differ by one record added or removed. Where arithmetic fails, ε is
//! infinite, never small.
//!
//! ```
//! use blindsum_privacy::SiloPrivacy;
//!
//! // 2,282 records, 96 of them expected in each of 100 steps, ε = 6 at δ = 1e-5
//! let own = SiloPrivacy::derive(2_282, 96, 100, 6.0, 1e-5)?;
//! assert!(own.spent(50) < own.spent(100) && own.spent(100) <= 6.0);
//! // a batch that is not a small part of the records hides nobody in it
//! assert!(SiloPrivacy::derive(500, 96, 100, 6.0, 1e-5).is_err());
//! # Ok::<(), blindsum_privacy::DeriveError>(())
//! ```

pub mod gaussian;
mod plan;
pub mod pld;
pub mod rdp;
mod sampler;

pub use plan::{DeriveError, SiloPrivacy};
pub use sampler::{PoissonSampler, SamplerError};
