//! Differential privacy as mathematics: accountants, calibration, Poisson sampler, noise.
//!
//! ```text
//! the job: q, noise multiplier, steps, ε, δ ─► Mechanism, the same in every silo
//!                                             │
//!    each step: PoissonSampler ─► (clipped sum of gradients, in integers) ─► noise::RoundedGaussian
//!                                             │
//!    each round: spent(q, noise_multiplier, steps so far, δ) ─► ledger
//!
//! over jobs: Filter, which holds whatever job is chosen after whatever result
//! pld: the same questions, answered nearly exactly, for several phases and for several records of one person
//! ```
//!
//! Contract: pure functions of their arguments; randomness comes in as a [`CryptoRng`](rand_core::CryptoRng), no file,
//! clock or log is touched. Adjacent data sets differ by one record added or removed. Where arithmetic fails, ε is
//! infinite, never small.
//!
//! ```
//! use blindsum_privacy::Mechanism;
//!
//! // silos of about 2,300 rows, 96 of them expected in each of 100 steps, ε = 6 at δ = 1e-5
//! let job = Mechanism::propose(2_300, 96, 100, 6.0, 1e-5)?;
//! assert!(job.spent(50) < job.spent(100) && job.keeps(6.0).is_ok());
//! // what is stated must be kept by the numbers, whoever wrote them
//! assert!(Mechanism::new(job.q, 0.5, 100, 1e-5, job.batch_max)?.keeps(6.0).is_err());
//! # Ok::<(), blindsum_privacy::MechanismError>(())
//! ```

mod filter;
mod mutant;
pub mod noise;
mod plan;
pub mod pld;
pub mod rdp;
mod sampler;
#[cfg(any(test, feature = "teeth"))]
pub mod teeth;

pub use filter::{Filter, FilterCost};
pub use mutant::Mutant;
pub use plan::{Mechanism, MechanismError, counts_noise, spent};
pub use sampler::{PoissonSampler, Rate, SamplerError};
