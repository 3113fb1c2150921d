//! Real numbers as integers of a ring and back.
//!
//! ```text
//! x ∈ ±C ──·(2^(a−1)−1)/C──> real ──stochastic rounding──> integer ──two's complement──> mod 2^b
//! ```
//!
//! Contract: the sum of the integers of at most n silos decodes exactly (SA-10 makes room for it). Rounding is unbiased:
//! with r uniform in 0..2^32, ⌊x⌋ becomes ⌊x⌋+1 iff r < (x − ⌊x⌋)·2^32, so an integer is never moved (⌊x+u⌋ would move
//! it when x+u rounds up). Arithmetic is f64: after 23 bits of magnitude it keeps 29 of fraction (37 for 16-bit values),
//! where f32 would keep 9 for 16-bit values and bias every rounding by up to 2^−9 of a step. NaN and infinity are refused
//! before anything is encoded.

use crate::params::{Segment, SegmentKind};
use rand_core::CryptoRng;
use zeroize::Zeroize;

pub use crate::params::ring_bits_for;

/// Coordinates rounded per draw of randomness.
const CHUNK: usize = 1024;
const TWO_32: f64 = 4_294_967_296.0;

/// How many values were clipped to the coordinate bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saturation {
    /// Values with |x| > C.
    pub saturated: u64,
}

/// Why values cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// NaN or infinity: training diverged; nothing was encoded.
    #[error("coordinate {index} of segment {segment:?} is not a finite number: the local training has diverged")]
    NotFinite {
        /// Segment.
        segment: String,
        /// Position in the segment.
        index: usize,
    },
    /// A count above the segment's largest.
    #[error("count {index} of segment {segment:?} is above the admitted {max_value}")]
    CountTooLarge {
        /// Segment.
        segment: String,
        /// Position in the segment.
        index: usize,
        /// Largest admitted count.
        max_value: u32,
    },
    /// Wrong number of values.
    #[error("segment {segment:?} has {expected} coordinates, not {found}")]
    Length {
        /// Segment.
        segment: String,
        /// Length by the parameters.
        expected: usize,
        /// Length given.
        found: usize,
    },
    /// Reals for a segment of counts, or the reverse.
    #[error("segment {0:?} holds the other kind of values")]
    Kind(String),
}

/// Encodes reals for a fixed-point segment and appends them to `out` as residues mod 2^b.
///
/// # Errors
/// [`EncodeError`] for a wrong length or kind, NaN or infinity; `out` is then unchanged.
pub fn encode(
    values: &[f32],
    segment: &Segment,
    rng: &mut (impl CryptoRng + ?Sized),
    out: &mut Vec<u32>,
) -> Result<Saturation, EncodeError> {
    let SegmentKind::FixedPoint { bound, .. } = segment.kind else {
        return Err(EncodeError::Kind(segment.name.clone()));
    };
    check_length(values.len(), segment)?;
    if let Some(index) = values.iter().position(|v| !v.is_finite()) {
        return Err(EncodeError::NotFinite { segment: segment.name.clone(), index });
    }
    let top = segment.max_magnitude() as i32;
    let (scale, mask) = (f64::from(top) / bound, segment.ring_mask());
    let mut random = [0u8; 4 * CHUNK];
    let mut saturated = 0u64;
    out.reserve(values.len());
    for chunk in values.chunks(CHUNK) {
        let bytes = &mut random[..4 * chunk.len()];
        rng.fill_bytes(bytes);
        saturated += chunk.iter().map(|&v| u64::from(f64::from(v).abs() > bound)).sum::<u64>();
        out.extend(chunk.iter().zip(bytes.as_chunks::<4>().0).map(|(&v, r)| {
            let v = f64::from(v);
            let x = (v * scale).clamp(-f64::from(top), f64::from(top));
            let whole = x as i32;
            let floor = whole - i32::from(f64::from(whole) > x);
            let up = f64::from(u32::from_le_bytes(*r)) < (x - f64::from(floor)) * TWO_32;
            let rounded = floor + i32::from(up);
            // at the bound v·scale may miss the largest integer by an ulp: that must not leave a chance of rounding down
            let rounded = if v >= bound { top } else { rounded };
            let rounded = if v <= -bound { -top } else { rounded };
            rounded as u32 & mask
        }));
    }
    random.zeroize();
    Ok(Saturation { saturated })
}

/// Appends the counts of a counts segment to `out`.
///
/// # Errors
/// [`EncodeError`] for a wrong length or kind or a count above the segment's largest; `out` is then unchanged.
pub fn encode_counts(values: &[u32], segment: &Segment, out: &mut Vec<u32>) -> Result<(), EncodeError> {
    let SegmentKind::Counts { max_value } = segment.kind else {
        return Err(EncodeError::Kind(segment.name.clone()));
    };
    check_length(values.len(), segment)?;
    if let Some(index) = values.iter().position(|&v| v > max_value) {
        return Err(EncodeError::CountTooLarge { segment: segment.name.clone(), index, max_value });
    }
    out.extend_from_slice(values);
    Ok(())
}

/// The sum over the survivors in the unit of the values (not their mean), from residues mod 2^b. Counts come out exactly.
/// One multiplication per coordinate, the same on every machine.
pub fn decode_sum(sum: &[u32], segment: &Segment) -> Vec<f64> {
    match segment.kind {
        SegmentKind::FixedPoint { bound, .. } => {
            let step = bound / f64::from(segment.max_magnitude());
            let shift = 32 - u32::from(segment.ring_bits.clamp(1, 32));
            sum.iter().map(|&v| f64::from((v << shift) as i32 >> shift) * step).collect()
        }
        SegmentKind::Counts { .. } => sum.iter().map(|&v| f64::from(v & segment.ring_mask())).collect(),
    }
}

fn check_length(found: usize, segment: &Segment) -> Result<(), EncodeError> {
    let expected = segment.length as usize;
    if found == expected {
        return Ok(());
    }
    Err(EncodeError::Length { segment: segment.name.clone(), expected, found })
}
