//! The stateless pieces of one secure-aggregation session: keys, masks, shares, fixed point, transcript and checks.
//!
//! ```text
//!  advert ─ T1 ─> share ─ T2 ─> bind ─> masked ─> commit ─ T3 ─> reveal ─> unmask ─ S ─> result
//!    P1             P2                    P3        P4             P5                     P6
//! ```
//!
//! Contract: time and randomness are arguments, nothing here waits, reads a file or opens a socket. What a peer sent
//! has a plain serde type (`Advert`, `ShareHeader`, …) and is good for nothing until a function of [`verify`] has turned
//! it into its verified twin, which alone gives access to the next step. Invariants of the protocol are cited as
//! `SA-01` … `SA-16` in comments and test names. No function panics on what a peer sent.
//!
//! What it comes to, with two silos and the one mask between them:
//!
//! ```
//! use blindsum_crypto::mask::{MaskSeed, Sign, Stream, apply};
//! use blindsum_crypto::{Segment, fixed_point};
//! use rand_core::SeedableRng;
//!
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let segment = Segment::fixed_point("lora_B", 2, 16, 1.0, 4)?;
//! let seed = MaskSeed::from_bytes([7; 32]);
//! let mut sum = [0u32; 2];
//! for (update, sign) in [([0.25, -0.5], Sign::Add), ([0.5, 0.125], Sign::Subtract)] {
//!     let mut input = Vec::new();
//!     fixed_point::encode(&update, &segment, &mut rng, &mut input)?;
//!     apply(&mut input, &[Stream { seed: seed.clone(), sign }], 1);
//!     // all that the coordinator gets of this silo is `input`
//!     sum.iter_mut().zip(input).for_each(|(sum, lane)| *sum = sum.wrapping_add(lane));
//! }
//! let sum = fixed_point::decode_sum(&sum, &segment);
//! assert!((sum[0] - 0.75).abs() < 1e-4 && (sum[1] + 0.375).abs() < 1e-4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(unsafe_code)]

mod bytes;
mod merkle;

pub mod advert;
pub mod commit;
pub mod complaint;
pub mod context;
pub mod evidence;
pub mod fixed_point;
pub mod hash;
pub mod identity;
pub mod kernel;
pub mod keys;
pub mod labels;
pub mod mask;
pub mod masked;
pub mod packing;
pub mod params;
pub mod quorum;
pub mod result;
pub mod reveal;
pub mod roster;
pub mod shamir;
pub mod share;
pub mod sketch;
#[cfg(any(test, feature = "teeth"))]
pub mod teeth;
pub mod transcript;
pub mod unmask;
pub mod verify;

pub use advert::{Advert, JournalMark};
pub use commit::{AbandonCertificate, AbandonVote, CommitCertificate, CommitVote, SurvivorList};
pub use complaint::Complaint;
pub use context::Context;
pub use evidence::{Evidence, Fault};
pub use hash::{Digest, Hasher, sha256};
pub use identity::{IdentityKey, IdentityPublic, Signature, SiloId};
pub use labels::Label;
pub use masked::MaskedHeader;
pub use params::{Params, Segment, SegmentKind, VerifySum};
pub use quorum::{Quorum, QuorumError};
pub use result::{ResultCertificate, ResultVote};
pub use reveal::{PendingReveal, Reveal, RevealedShare};
pub use roster::{Roster, RosterEntry, RosterError};
pub use share::{Dealing, Delivery, SealedBundle, ShareHeader};
pub use sketch::{OpenedSecret, Sketch, SumProof};
pub use verify::VerifyError;

#[cfg(test)]
mod testing;
