//! Mask expansion: AES-256-CTR keystreams added to or subtracted from lanes mod 2^32.
//!
//! Contract: a seed is an AES-256 key used for one session only, with a zero IV and a 128-bit big-endian counter
//! (NIST SP 800-38A); coordinate k takes bytes 4k..4k+4 of the keystream as a little-endian u32. The work goes block by
//! block over the accumulator and through all streams for each block, so that the block stays in the first-level cache;
//! a range of coordinates can be done apart from the others, because counter mode seeks.

use crate::kernel::{BLOCK_LANES, Keystreams};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The seed of one mask. Erased on drop, never shown (SA-11).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MaskSeed(pub(crate) [u8; 32]);

impl MaskSeed {
    /// A seed from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> MaskSeed {
        MaskSeed(bytes)
    }
}

impl fmt::Debug for MaskSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskSeed(secret)")
    }
}

/// Whether a mask is added or subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Lanes grow by the keystream.
    Add,
    /// Lanes shrink by the keystream.
    Subtract,
}

impl Sign {
    /// The other one.
    #[must_use]
    pub fn opposite(self) -> Sign {
        match self {
            Sign::Add => Sign::Subtract,
            Sign::Subtract => Sign::Add,
        }
    }
}

/// A mask to apply.
#[derive(Debug, Clone)]
pub struct Stream {
    /// What it expands from.
    pub seed: MaskSeed,
    /// Its sign.
    pub sign: Sign,
}

/// Applies all masks to the coordinates `first_lane..first_lane + acc.len()`, of which `acc` holds the lanes.
pub fn apply_range(acc: &mut [u32], first_lane: usize, streams: &[Stream]) {
    Keystreams::new(streams).apply(acc, first_lane);
}

/// Applies all masks to the whole vector, its coordinates split over `threads` threads of this call's own.
pub fn apply(acc: &mut [u32], streams: &[Stream], threads: usize) {
    let blocks = acc.len().div_ceil(BLOCK_LANES);
    let part = blocks.div_ceil(threads.clamp(1, 64)).max(1) * BLOCK_LANES;
    if part >= acc.len() {
        return apply_range(acc, 0, streams);
    }
    std::thread::scope(|scope| {
        for (i, chunk) in acc.chunks_mut(part).enumerate() {
            scope.spawn(move || apply_range(chunk, i * part, streams));
        }
    });
}
