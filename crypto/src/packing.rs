//! Residues mod 2^b as bytes: b bits per coordinate.
//!
//! Contract: segments start on a byte, bits are little-endian (the first coordinate in the lowest bits of the first byte),
//! padding at a segment's end is zero and checked. `pack` keeps the low b bits of each lane, which is the reduction mod
//! 2^b. The length depends on the parameters only.

use crate::params::{Params, Segment};

/// Why a vector and its parameters do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// Wrong number of coordinates.
    #[error("the vector has {found} coordinates, the session {expected}")]
    Lanes {
        /// By the parameters.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Wrong number of bytes.
    #[error("the packed vector has {found} bytes, the session {expected}")]
    Bytes {
        /// By the parameters.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// Bits set after a segment's last coordinate.
    #[error("the padding bits of segment number {segment} are not zero")]
    Padding {
        /// Position of the segment.
        segment: usize,
    },
}

/// Packs one lane per coordinate, each reduced mod 2^b of its segment.
///
/// # Errors
/// [`PackingError::Lanes`] where `lanes` has another length than the session.
pub fn pack(params: &Params, lanes: &[u32]) -> Result<Vec<u8>, PackingError> {
    if lanes.len() != params.lanes() {
        return Err(PackingError::Lanes { expected: params.lanes(), found: lanes.len() });
    }
    let mut out = Vec::with_capacity(params.packed_bytes());
    for (segment, range) in params.ranges() {
        let (bits, mask) = (u32::from(segment.ring_bits), segment.ring_mask());
        let (mut window, mut filled) = (0u64, 0u32);
        for &lane in &lanes[range] {
            window |= u64::from(lane & mask) << filled;
            filled += bits;
            if filled >= 32 {
                out.extend_from_slice(&(window as u32).to_le_bytes());
                window >>= 32;
                filled -= 32;
            }
        }
        out.extend_from_slice(&window.to_le_bytes()[..filled.div_ceil(8) as usize]);
    }
    Ok(out)
}

/// Unpacks what [`pack`] made, each lane below 2^b of its segment.
///
/// # Errors
/// [`PackingError`] for a wrong length (checked before anything is allocated, SA-12) or padding that is not zero.
pub fn unpack(params: &Params, bytes: &[u8]) -> Result<Vec<u32>, PackingError> {
    check(params, bytes)?;
    let mut lanes = vec![0u32; params.lanes()];
    add_packed(params, bytes, &mut lanes)?;
    Ok(lanes)
}

/// Adds a packed vector to an accumulator, lane by lane mod 2^32 (which is consistent mod 2^b).
///
/// # Errors
/// [`PackingError`] as [`unpack`], or where the accumulator has another length; it is then unchanged.
pub fn add_packed(params: &Params, bytes: &[u8], acc: &mut [u32]) -> Result<(), PackingError> {
    check(params, bytes)?;
    if acc.len() != params.lanes() {
        return Err(PackingError::Lanes { expected: params.lanes(), found: acc.len() });
    }
    let mut rest = bytes;
    for (segment, range) in params.ranges() {
        let (packed, tail) = rest.split_at(segment.packed_bytes());
        rest = tail;
        let (bits, mask) = (u32::from(segment.ring_bits), segment.ring_mask());
        let (words, last) = packed.as_chunks::<4>();
        let mut end = [0u8; 4];
        end[..last.len()].copy_from_slice(last);
        let mut words = words.iter().chain(std::iter::once(&end)).map(|w| u64::from(u32::from_le_bytes(*w)));
        let (mut window, mut filled) = (0u64, 0u32);
        for lane in &mut acc[range] {
            if filled < bits {
                window |= words.next().unwrap_or(0) << filled;
                filled += 32;
            }
            *lane = lane.wrapping_add(window as u32 & mask);
            window >>= bits;
            filled -= bits;
        }
    }
    Ok(())
}

/// Checks the length of a packed vector and that its padding is zero.
///
/// # Errors
/// [`PackingError`] for either.
pub fn check(params: &Params, bytes: &[u8]) -> Result<(), PackingError> {
    if bytes.len() != params.packed_bytes() {
        return Err(PackingError::Bytes { expected: params.packed_bytes(), found: bytes.len() });
    }
    let mut end = 0;
    for (i, segment) in params.segments.iter().enumerate() {
        end += segment.packed_bytes();
        let used = used_bits_of_last_byte(segment);
        if used < 8 && bytes.get(end.wrapping_sub(1)).is_some_and(|last| last >> used != 0) {
            return Err(PackingError::Padding { segment: i });
        }
    }
    Ok(())
}

/// 1..=8.
fn used_bits_of_last_byte(segment: &Segment) -> u32 {
    let bits = u64::from(segment.length) * u64::from(segment.ring_bits);
    (bits.wrapping_sub(1) % 8) as u32 + 1
}
