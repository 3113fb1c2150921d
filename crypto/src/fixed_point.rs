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

use crate::kernel::{self, Backend, Keystreams, Scale};
use crate::mask::{MaskSeed, Sign, Stream};
use crate::params::{Segment, SegmentKind};
use rand_core::CryptoRng;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use crate::params::ring_bits_for;

/// Coordinates rounded at a time.
const CHUNK: usize = 2048;

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

/// What the values of one segment are rounded by: an AES-256-CTR key, of whose keystream each value takes a word. The same
/// values and key give the same integers, so that a silo that must mask again may keep these instead of the integers. For
/// one vector only. Erased on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Rounding([u8; 32]);

impl Rounding {
    /// A new key: 32 bytes of `rng`.
    pub fn draw(rng: &mut (impl CryptoRng + ?Sized)) -> Rounding {
        let mut rounding = Rounding([0; 32]);
        rng.fill_bytes(&mut rounding.0);
        rounding
    }
}

impl fmt::Debug for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rounding(secret)")
    }
}

/// Encodes reals for a fixed-point segment and appends them to `out` as residues mod 2^b, rounded by a key that is drawn
/// from `rng` ([`Rounding::draw`]).
///
/// # Errors
/// [`EncodeError`] for a wrong length or kind, NaN or infinity; `out` is then unchanged.
pub fn encode(
    values: &[f32],
    segment: &Segment,
    rng: &mut (impl CryptoRng + ?Sized),
    out: &mut Vec<u32>,
) -> Result<Saturation, EncodeError> {
    check_reals(values, segment)?;
    let mut encoder = Quantiser::new(segment, &Rounding::draw(rng))?;
    out.reserve(values.len());
    let mut saturated = 0;
    for (chunk, values) in values.chunks(CHUNK).enumerate() {
        let encoded = out.len();
        out.resize(encoded + values.len(), 0);
        saturated += encoder.encode(values, chunk * CHUNK, &mut out[encoded..]);
    }
    Ok(Saturation { saturated })
}

/// How many values [`encode`] would clip, without encoding anything.
///
/// # Errors
/// As [`encode`].
pub fn check(values: &[f32], segment: &Segment) -> Result<Saturation, EncodeError> {
    let bound = check_reals(values, segment)?;
    let beyond =
        |values: &[f32]| values.iter().fold(0u32, |n, &v| n.wrapping_add(u32::from(f64::from(v).abs() > bound)));
    Ok(Saturation { saturated: values.chunks(CHUNK).map(|chunk| u64::from(beyond(chunk))).sum() })
}

/// Kind, length, and that every value is finite. Gives the bound.
pub(crate) fn check_reals(values: &[f32], segment: &Segment) -> Result<f64, EncodeError> {
    let SegmentKind::FixedPoint { bound, .. } = segment.kind else {
        return Err(EncodeError::Kind(segment.name.clone()));
    };
    check_length(values.len(), segment)?;
    // all of a chunk, which the compiler makes vectors of; one by one where it holds a bad value
    let mut chunks = values.chunks(CHUNK).enumerate();
    match chunks.find(|(_, chunk)| !chunk.iter().fold(true, |good, v| good & v.is_finite())) {
        None => Ok(bound),
        Some((chunk, values)) => {
            let index = chunk * CHUNK + values.iter().take_while(|v| v.is_finite()).count();
            Err(EncodeError::NotFinite { segment: segment.name.clone(), index })
        }
    }
}

/// Rounds values that [`check_reals`] has seen, from any place of the segment on.
pub(crate) struct Quantiser {
    backend: Backend,
    scale: Scale,
    keystream: Keystreams,
    words: Zeroizing<[u32; CHUNK]>,
}

impl Quantiser {
    /// # Errors
    /// [`EncodeError::Kind`] for a segment of counts.
    pub(crate) fn new(segment: &Segment, rounding: &Rounding) -> Result<Quantiser, EncodeError> {
        let SegmentKind::FixedPoint { bound, .. } = segment.kind else {
            return Err(EncodeError::Kind(segment.name.clone()));
        };
        Ok(Quantiser {
            backend: Backend::best(),
            scale: Scale { bound, top: segment.max_magnitude(), mask: segment.ring_mask() },
            keystream: Keystreams::new(&[Stream { seed: MaskSeed::from_bytes(rounding.0), sign: Sign::Add }]),
            words: Zeroizing::new([0; CHUNK]),
        })
    }

    /// Fills `out` with the residues of the values, the first of which is number `first` of the segment; gives how many
    /// were clipped.
    pub(crate) fn encode(&mut self, values: &[f32], first: usize, out: &mut [u32]) -> u64 {
        let (mut saturated, mut first) = (0, first);
        for (values, out) in values.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
            let words = &mut self.words[..values.len()];
            words.fill(0);
            self.keystream.apply(words, first);
            saturated += kernel::quantise(self.backend, self.scale, values, words, out);
            first += values.len();
        }
        saturated
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keystream, rng};
    use proptest::prelude::*;

    fn segment(length: u32, value_bits: u8, bound: f64, n: u16) -> Segment {
        Segment::fixed_point("s", length, value_bits, bound, n).unwrap()
    }

    fn encode_all(values: &[f32], s: &Segment, seed: u64) -> (Vec<u32>, Saturation) {
        let mut out = Vec::new();
        let saturation = encode(values, s, &mut rng(seed), &mut out).unwrap();
        (out, saturation)
    }

    fn scale(s: &Segment) -> Scale {
        let SegmentKind::FixedPoint { bound, .. } = s.kind else { panic!("reals") };
        Scale { bound, top: s.max_magnitude(), mask: s.ring_mask() }
    }

    /// Rounded by given words instead of a key's.
    fn rounded_by(values: &[f32], words: &[u32], s: &Segment) -> Vec<u32> {
        let mut out = vec![0; values.len()];
        kernel::quantise(Backend::best(), scale(s), values, words, &mut out);
        out
    }

    #[test]
    fn bounds_zero_and_beyond_are_exact_for_every_seed() {
        for bound in [1.0, 0.1, 3.7e-5, 12_345.678, 1e-30, 1e30] {
            for value_bits in [2, 3, 8, 16, 24] {
                let s = segment(6, value_bits, bound, 100);
                let top = s.max_magnitude() as i32;
                let near = bound as f32; // may lie a little above or below the bound
                let over = f64::from(near) > bound;
                let far = near * 2.0;
                for seed in 0..20 {
                    let (out, saturation) = encode_all(&[far, -far, f32::MAX, f32::MIN, 0.0, -0.0], &s, seed);
                    let expected = [top, -top, top, -top, 0, 0].map(|v| v as u32 & s.ring_mask());
                    assert_eq!(out, expected, "bound {bound}, {value_bits} bits");
                    let above = |v: f32| f64::from(v) > bound;
                    let count = 2 * u64::from(above(far)) + 2 * u64::from(above(f32::MAX));
                    assert_eq!(saturation.saturated, count);
                    let (out, _) = encode_all(&[near, -near, 0.0, 0.0, 0.0, 0.0], &s, seed);
                    let off = (out[0] as i32 - top).abs();
                    assert!(off <= i32::from(!over), "{off} steps from the bound");
                }
            }
        }
    }

    #[test]
    fn the_bound_is_exact_where_its_product_with_the_scale_is_not() {
        let mut inexact = 0;
        for i in 1..2000 {
            let bound = i as f32 * 0.37;
            let s = segment(2, 24, f64::from(bound), 16);
            let top = s.max_magnitude() as i32;
            inexact += u32::from(f64::from(bound) * (f64::from(top) / f64::from(bound)) < f64::from(top));
            for worst in [0, u32::MAX] {
                let expected = [top, -top].map(|v| v as u32 & s.ring_mask());
                assert_eq!(rounded_by(&[bound, -bound], &[worst; 2], &s), expected, "bound {bound}");
            }
        }
        assert!(inexact > 0, "no bound of this test needs what it tests");
    }

    #[test]
    fn integers_are_never_moved() {
        // bound = 32767 makes the scale 1: every integer must come out as itself, whatever the randomness
        let s = segment(65_535, 16, 32_767.0, 4);
        let values: Vec<f32> = (-32_767..=32_767).map(|i| i as f32).collect();
        for seed in 0..5 {
            let (out, saturation) = encode_all(&values, &s, seed);
            assert_eq!(saturation.saturated, 0);
            assert_eq!(decode_sum(&out, &s), values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rounding_is_unbiased_and_to_a_neighbour() {
        const N: usize = 200_000;
        let s = segment(N as u32, 16, 32_767.0, 4);
        for x in [0.25f32, -0.25, 7.75, -1000.5, 0.001, -0.001] {
            let (out, _) = encode_all(&vec![x; N], &s, 42);
            let decoded = decode_sum(&out, &s);
            let (low, high) = (f64::from(x.floor()), f64::from(x.floor()) + 1.0);
            assert!(decoded.iter().all(|&v| v == low || v == high));
            let fraction = f64::from(x) - low;
            let deviation = (fraction * (1.0 - fraction) / N as f64).sqrt();
            let mean = decoded.iter().sum::<f64>() / N as f64;
            assert!((mean - f64::from(x)).abs() < 5.0 * deviation, "mean {mean} of {x}");
        }
    }

    #[test]
    fn nan_and_infinity_are_refused_and_change_nothing() {
        let s = segment(3, 16, 1.0, 4);
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut out = vec![7];
            let error = encode(&[0.0, bad, 0.0], &s, &mut rng(1), &mut out).unwrap_err();
            assert_eq!(error, EncodeError::NotFinite { segment: "s".into(), index: 1 });
            assert_eq!(out, [7]);
        }
    }

    #[test]
    fn sa10_n_silos_at_the_bound_sum_exactly_in_the_smallest_ring_and_wrap_in_a_smaller_one() {
        for (n, value_bits) in [(3u16, 2u8), (4, 16), (16, 16), (17, 16), (128, 16), (1000, 16), (1000, 22)] {
            let mut s = segment(2, value_bits, 1.0, n);
            let sum = |s: &Segment| {
                let mut acc = [0u32; 2];
                for seed in 0..n {
                    let (out, _) = encode_all(&[1.0, -1.0], s, u64::from(seed));
                    (0..2).for_each(|i| acc[i] = acc[i].wrapping_add(out[i]) & s.ring_mask());
                }
                decode_sum(&acc, s)
            };
            for (got, expected) in sum(&s).iter().zip([f64::from(n), -f64::from(n)]) {
                assert!((got - expected).abs() < 1e-9 * f64::from(n), "n = {n}: {got}");
            }
            s.ring_bits -= 1;
            assert!((sum(&s)[0] - f64::from(n)).abs() > 0.1, "a smaller ring also holds n = {n}");
        }
    }

    #[test]
    fn counts_travel_as_they_are() {
        let s = Segment::counts("metrics", 3, 1000);
        let SegmentKind::Counts { max_value } = s.kind else { panic!("counts") };
        let mut out = vec![9];
        encode_counts(&[0, 1, max_value], &s, &mut out).unwrap();
        assert_eq!(out, [9, 0, 1, max_value]);
        assert!(u64::from(max_value) * 1000 < 1 << 32);
        assert!(matches!(
            encode_counts(&[0, 0, max_value + 1], &s, &mut out),
            Err(EncodeError::CountTooLarge { index: 2, .. })
        ));
        assert!(matches!(encode_counts(&[0, 0], &s, &mut out), Err(EncodeError::Length { .. })));
        assert!(matches!(encode(&[0.0; 3], &s, &mut rng(1), &mut out), Err(EncodeError::Kind(_))));
        assert!(matches!(encode_counts(&[0; 3], &segment(3, 16, 1.0, 4), &mut out), Err(EncodeError::Kind(_))));
        assert_eq!(out.len(), 4);
        assert_eq!(decode_sum(&[u32::MAX, 0, 5], &s), [4_294_967_295.0, 0.0, 5.0]);
    }

    #[test]
    fn rounding_does_not_depend_on_how_a_vector_is_chunked() {
        let values: Vec<f32> = (0..3 * CHUNK).map(|i| (i as f32).sin()).collect();
        let s = segment(values.len() as u32, 16, 1.0, 4);
        let (whole, _) = encode_all(&values, &s, 3);
        let rounding = Rounding::draw(&mut rng(3));
        let words = keystream(MaskSeed::from_bytes(rounding.0), values.len());
        assert!(rounded_by(&values, &words, &s) == whole);
        let (mut parts, mut first) = (vec![0; values.len()], 0);
        let mut encoder = Quantiser::new(&s, &rounding).unwrap();
        for length in [1, 7, CHUNK - 1, CHUNK + 9, CHUNK - 16] {
            encoder.encode(&values[first..first + length], first, &mut parts[first..first + length]);
            first += length;
        }
        assert!(first == values.len() && whole == parts);
    }

    /// The rule as the module states it, with the standard library's floor.
    fn by_definition(v: f32, r: u32, s: &Segment) -> u32 {
        let (SegmentKind::FixedPoint { bound, .. }, top) = (s.kind, s.max_magnitude() as i32) else { panic!("reals") };
        let v = f64::from(v);
        let x = (v * (f64::from(top) / bound)).clamp(-f64::from(top), f64::from(top));
        let up = f64::from(r) < (x - x.floor()) * 4_294_967_296.0;
        let rounded = x.floor() as i32 + i32::from(up);
        let rounded = if v.abs() < bound { rounded } else { top * v.signum() as i32 };
        rounded as u32 & s.ring_mask()
    }

    #[test]
    fn the_word_that_rounds_up_is_the_last_below_the_fraction() {
        let s = segment(1, 16, 32_767.0, 4);
        for (x, fraction) in [(0.25f32, 1u32 << 30), (-0.25, 3 << 30), (5.5, 1 << 31), (-7.125, 7 << 29)] {
            for (word, up) in [(0, 1), (fraction - 1, 1), (fraction, 0), (fraction + 1, 0), (u32::MAX, 0)] {
                assert_eq!(
                    decode_sum(&rounded_by(&[x], &[word], &s), &s),
                    [f64::from(x.floor()) + f64::from(up)],
                    "{x} by {word}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn every_backend_rounds_by_the_definition(
            pairs in prop::collection::vec((any::<f32>(), -3.0f32..3.0, any::<u32>(), 0u8..4), 0..100),
            value_bits in 2u8..=24,
            bound in prop_oneof![0.001f64..2.0, Just(1.0), Just(8_388_607.0)],
        ) {
            // any finite value, values near the bound, integers and halves
            let values: Vec<f32> = pairs.iter().map(|&(any, near, _, kind)| match kind {
                0 if any.is_finite() => any,
                1 => (near * 100.0).round() / 2.0,
                2 => bound as f32 * near.signum(),
                _ => near,
            }).collect();
            let words: Vec<u32> = pairs.iter().map(|p| p.2).collect();
            let s = segment(values.len().max(1) as u32, value_bits, bound, 16);
            let expected: Vec<u32> = values.iter().zip(&words).map(|(&v, &r)| by_definition(v, r, &s)).collect();
            let saturated = values.iter().filter(|v| f64::from(v.abs()) > bound).count() as u64;
            for backend in Backend::available() {
                let mut out = vec![0; values.len()];
                let counted = kernel::quantise(backend, scale(&s), &values, &words, &mut out);
                prop_assert_eq!(counted, saturated, "{:?}", backend);
                prop_assert_eq!(&out, &expected, "{:?}", backend);
            }
            if !values.is_empty() {
                prop_assert_eq!(check(&values, &s), Ok(Saturation { saturated }));
            }
        }

        #[test]
        fn any_value_comes_back_clipped_and_within_a_step(
            values in prop::collection::vec(-3.0f32..3.0, 1..40),
            value_bits in 2u8..=24,
            bound in 0.001f64..2.0,
            seed: u64,
        ) {
            let s = segment(values.len() as u32, value_bits, bound, 16);
            let (out, saturation) = encode_all(&values, &s, seed);
            let step = bound / f64::from(s.max_magnitude());
            for (&v, back) in values.iter().zip(decode_sum(&out, &s)) {
                let clipped = f64::from(v).clamp(-bound, bound);
                prop_assert!((back - clipped).abs() <= step * (1.0 + 1e-9));
                prop_assert!(back.abs() <= bound * (1.0 + 1e-12));
            }
            let expected = values.iter().filter(|v| f64::from(v.abs()) > bound).count();
            prop_assert_eq!(saturation.saturated, expected as u64);
        }
    }
}
