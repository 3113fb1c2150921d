//! Residues mod 2^b as bytes: b bits per coordinate.
//!
//! Contract: segments start on a byte, bits are little-endian (the first coordinate in the lowest bits of the first byte),
//! padding at a segment's end is zero and checked. `pack` keeps the low b bits of each lane, which is the reduction mod
//! 2^b. The length depends on the parameters only.

use crate::kernel::bits;
use crate::params::{Params, Segment};
use crate::verify::Check;

pub use crate::kernel::blocks::{Values, encode_mask_and_pack, mask_and_pack};

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

impl PackingError {
    /// The check that such a vector fails.
    pub fn check(&self) -> Check {
        match self {
            PackingError::Lanes { .. } | PackingError::Bytes { .. } => Check::ExactLength,
            PackingError::Padding { .. } => Check::ZeroPadding,
        }
    }
}

/// Packs one lane per coordinate, each reduced mod 2^b of its segment.
///
/// # Errors
/// [`PackingError::Lanes`] where `lanes` has another length than the session.
pub fn pack(params: &Params, lanes: &[u32]) -> Result<Vec<u8>, PackingError> {
    if lanes.len() != params.lanes() {
        return Err(PackingError::Lanes { expected: params.lanes(), found: lanes.len() });
    }
    let mut out = vec![0; params.packed_bytes()];
    let mut rest = out.as_mut_slice();
    for (segment, range) in params.ranges() {
        let own = rest.split_off_mut(..segment.packed_bytes()).unwrap_or_default();
        bits::pack(segment.ring_bits, &lanes[range], own);
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
        bits::add(segment.ring_bits, packed, &mut acc[range]);
    }
    Ok(())
}

/// Checks the length of a packed vector and that its padding is zero.
///
/// # Errors
/// [`PackingError`] for either.
pub fn check(params: &Params, bytes: &[u8]) -> Result<(), PackingError> {
    if Check::ExactLength.finds(bytes.len() != params.packed_bytes()) {
        return Err(PackingError::Bytes { expected: params.packed_bytes(), found: bytes.len() });
    }
    let mut end = 0;
    for (i, segment) in params.segments.iter().enumerate() {
        end += segment.packed_bytes();
        let used = used_bits_of_last_byte(segment);
        let set = used < 8 && bytes.get(end.wrapping_sub(1)).is_some_and(|last| last >> used != 0);
        if Check::ZeroPadding.finds(set) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{SegmentKind, VerifySum};
    use crate::quorum::Quorum;
    use proptest::prelude::*;

    fn params(segments: &[(u32, u8)]) -> Params {
        let kind = SegmentKind::Counts { max_value: 0 };
        let named = segments.iter().enumerate();
        let segments =
            named.map(|(i, &(length, ring_bits))| Segment { name: format!("s{i}"), length, ring_bits, kind }).collect();
        let quorum = Quorum::derive(3, None, None).unwrap();
        Params {
            segments,
            quorum,
            noise: false,
            verify_sum: VerifySum::Off,
            training_deadline_ms: 1,
            phase_deadline_ms: 1,
        }
    }

    #[test]
    fn bits_are_little_endian_and_segments_start_on_a_byte() {
        let p = params(&[(3, 3), (1, 12), (1, 32)]);
        let packed = pack(&p, &[0b101, 0b011, 0b110, 0xabc, 0x1234_5678]).unwrap();
        assert_eq!(packed, [0b1001_1101, 0b0000_0001, 0xbc, 0x0a, 0x78, 0x56, 0x34, 0x12]);
    }

    #[test]
    fn sa12_wrong_lengths_are_refused() {
        let p = params(&[(5, 20), (2, 32)]);
        let packed = pack(&p, &[1; 7]).unwrap();
        assert_eq!(packed.len(), p.packed_bytes());
        assert!(matches!(pack(&p, &[1; 6]), Err(PackingError::Lanes { expected: 7, found: 6 })));
        for length in [0, packed.len() - 1, packed.len() + 1] {
            let mut other = packed.clone();
            other.resize(length, 0);
            assert!(matches!(unpack(&p, &other), Err(PackingError::Bytes { .. })));
        }
        assert!(matches!(add_packed(&p, &packed, &mut [0; 6]), Err(PackingError::Lanes { .. })));
    }

    proptest! {
        #[test]
        fn round_trip_for_every_width(
            bits in 1u8..=32,
            lanes in prop::collection::vec(any::<u32>(), 1..130),
            bits2 in 1u8..=32,
        ) {
            let p = params(&[(lanes.len() as u32, bits), (lanes.len() as u32, bits2)]);
            let both = [&lanes[..], &lanes[..]].concat();
            let packed = pack(&p, &both).unwrap();
            prop_assert_eq!(packed.len(), p.packed_bytes());
            let masks = [p.segments[0].ring_mask(), p.segments[1].ring_mask()];
            let expected: Vec<u32> =
                both.iter().enumerate().map(|(i, l)| l & masks[usize::from(i >= lanes.len())]).collect();
            prop_assert_eq!(&unpack(&p, &packed).unwrap(), &expected);
            let mut acc = both.clone();
            add_packed(&p, &packed, &mut acc).unwrap();
            let sum: Vec<u32> = both.iter().zip(&expected).map(|(a, b)| a.wrapping_add(*b)).collect();
            prop_assert_eq!(acc, sum);
        }

        #[test]
        fn every_bit_is_where_the_module_says(bits in 1u8..=32, lanes in prop::collection::vec(any::<u32>(), 1..100)) {
            let packed = pack(&params(&[(lanes.len() as u32, bits)]), &lanes).unwrap();
            for (place, byte) in packed.iter().enumerate() {
                for bit in 0..8 {
                    let (lane, of_lane) = ((8 * place + bit) / usize::from(bits), (8 * place + bit) % usize::from(bits));
                    let expected = lanes.get(lane).map_or(0, |lane| lane >> of_lane & 1);
                    prop_assert_eq!(u32::from(byte >> bit & 1), expected);
                }
            }
        }

        #[test]
        fn every_padding_bit_is_checked(bits in 1u8..=32, length in 1u32..40, second in 1u32..10) {
            let p = params(&[(length, bits), (second, 9)]);
            let packed = pack(&p, &vec![u32::MAX; (length + second) as usize]).unwrap();
            unpack(&p, &packed).unwrap();
            let mut end = 0;
            for (i, s) in p.segments.iter().enumerate() {
                end += s.packed_bytes();
                let used = s.length as usize * usize::from(s.ring_bits);
                for bit in used..s.packed_bytes() * 8 {
                    let mut flipped = packed.clone();
                    let place = (end - s.packed_bytes()) * 8 + bit;
                    prop_assert_eq!(flipped[place / 8] >> (place % 8) & 1, 0);
                    flipped[place / 8] ^= 1 << (place % 8);
                    prop_assert_eq!(unpack(&p, &flipped), Err(PackingError::Padding { segment: i }));
                }
            }
        }
    }
}
