//! The verified sum: what lets a silo check S against the masked inputs without seeing them.
//!
//! ```text
//! rows key = H("rows"; T3, H(S))            known only once S is fixed
//! row r    = a random subset of the coordinates: one bit per coordinate from AES-256-CTR under the rows key
//! sketch i = for each segment and row, Σ y_i[k] over k in row r, mod 2^b, signed by silo i
//! accept   if Σ_i sketch i = rows · (S + masks of the revealed secrets)
//! ```
//!
//! Contract: where every sketch is that of the masked input that its silo sent, a sum that differs from Σ y in any coordinate
//! passes with probability 2^−128 per try, since each of the [`ROWS`] rows keeps or cancels the difference with a fair coin
//! that falls after the sum was fixed. A survivor that colludes with the coordinator can sign a sketch of an input that it
//! never sent; against that, [`crate::VerifySum::Inputs`] shows the masked inputs themselves. A sketch is a linear function
//! of a masked input: to whoever lacks the masks it says nothing that the sum does not. What is checked against what stands
//! in [`crate::verify::sum`].

use crate::hash::{Digest, Hasher};
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::kernel;
use crate::labels::Label;
use crate::packing::{self, PackingError};
use crate::params::Params;
use crate::shamir::SecretScalar;
use crate::{Advert, ShareHeader};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Rows of the check: a false sum passes with probability 2^−ROWS.
pub const ROWS: usize = 128;

/// One silo's signed subset sums. Unverified until [`crate::verify::sketch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// The silo.
    pub silo: SiloId,
    /// [`ROWS`] sums per segment, in the order of the segments, each below 2^b.
    pub values: Vec<u32>,
    /// Over T3, H(S) and the values under `ctx`.
    pub signature: Signature,
}

impl Sketch {
    /// Signs the subset sums of this silo's masked input, made with [`subset_sums`] under the rows of T3 and H(S).
    pub fn sign(
        identity: &IdentityKey,
        ctx: &Digest,
        silo: SiloId,
        t3: &Digest,
        sum_hash: &Digest,
        values: Vec<u32>,
    ) -> Sketch {
        let signature = identity.sign(Label::Sketch, ctx, silo, &[&t3.0, &sum_hash.0, &values_hash(&values).0]);
        Sketch { silo, values, signature }
    }
}

/// Hash over subset sums.
pub(crate) fn values_hash(values: &[u32]) -> Digest {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Hasher::new(Label::SketchValues).field(&bytes).finish()
}

/// A rebuilt secret as the coordinator opens it to the silos: `b` of a survivor, σ of a dropped silo. Its bytes are a
/// canonical scalar or refused. Erased on drop, never shown (SA-11).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpenedSecret(pub(crate) [u8; 32]);

impl OpenedSecret {
    pub(crate) fn new(secret: &SecretScalar) -> OpenedSecret {
        OpenedSecret(secret.0.to_bytes())
    }
}

impl fmt::Debug for OpenedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenedSecret(secret)")
    }
}

/// What a sum is checked with, besides S itself and the survivor list. Unverified until [`crate::verify::sum`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumProof {
    /// U1's adverts, ascending.
    pub adverts: Vec<Advert>,
    /// U2's headers, ascending.
    pub headers: Vec<ShareHeader>,
    /// One rebuilt secret per silo of U2, ascending: `b` of survivors, σ of dropped silos.
    pub secrets: Vec<OpenedSecret>,
    /// The survivors' sketches, ascending.
    pub sketches: Vec<Sketch>,
    /// Survivors without a sketch (all of them under [`crate::VerifySum::Inputs`]), ascending: their masked inputs travel whole beside S.
    pub opened: Vec<SiloId>,
}

/// The subset sums of one vector of lanes: [`ROWS`] per segment, each mod 2^b. `threads` share the coordinates.
///
/// # Errors
/// [`PackingError::Lanes`] where `lanes` has another length than the session.
pub fn subset_sums(params: &Params, key: &Digest, lanes: &[u32], threads: usize) -> Result<Vec<u32>, PackingError> {
    if lanes.len() != params.lanes() {
        return Err(PackingError::Lanes { expected: params.lanes(), found: lanes.len() });
    }
    let mut values = Vec::with_capacity(ROWS * params.segments.len());
    for (segment, range) in params.ranges() {
        let part = range.len().div_ceil(threads.clamp(1, 64)).max(PART_LANES);
        let mut sums = [0u32; ROWS];
        std::thread::scope(|scope| {
            let parts = lanes[range.clone()].chunks(part).enumerate();
            let first = |i: usize| range.start + i * part;
            let running: Vec<_> =
                parts.map(|(i, lanes)| scope.spawn(move || add_range(key, first(i), lanes))).collect();
            for thread in running {
                let sum = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                sums.iter_mut().zip(sum).for_each(|(a, b)| *a = a.wrapping_add(b));
            }
        });
        values.extend(sums.map(|sum| sum & segment.ring_mask()));
    }
    Ok(values)
}

/// As [`subset_sums`], of a packed vector.
///
/// # Errors
/// [`PackingError`] where the bytes are not one of these parameters.
pub fn subset_sums_of(params: &Params, key: &Digest, packed: &[u8], threads: usize) -> Result<Vec<u32>, PackingError> {
    subset_sums(params, key, &packing::unpack(params, packed)?, threads)
}

/// Adds subset sums up, each mod 2^b.
pub fn add(params: &Params, total: &mut [u32], values: &[u32]) {
    let masks = params.segments.iter().flat_map(|s| [s.ring_mask(); ROWS]);
    for ((total, value), mask) in total.iter_mut().zip(values).zip(masks) {
        *total = total.wrapping_add(*value) & mask;
    }
}

/// Fewest coordinates worth a thread.
const PART_LANES: usize = 1024;

/// Coordinate k takes bytes 16k..16k+16 of the keystream (AES-256-CTR, zero IV); row r has it iff bit r % 8 of byte r / 8
/// is set. The key is public.
fn add_range(key: &Digest, first_lane: usize, lanes: &[u32]) -> [u32; ROWS] {
    let mut sums = [0u32; ROWS];
    kernel::subset_sums(&key.0, first_lane, lanes, &mut sums);
    sums
}
