//! A masked input made block by block: rounding, masks and packing one after the other while a block's lanes are in the
//! second-level cache, so that no vector is written but the one to send.
//!
//! Contract: the bytes are those of [`crate::fixed_point::encode`], [`crate::mask::apply`] and [`crate::packing::pack`], one
//! after the other. Lanes on the way are erased (SA-11).

use super::{BLOCK_LANES, Keystreams, bits};
use crate::fixed_point::{self, EncodeError, Quantiser, Rounding};
use crate::mask::Stream;
use crate::packing::PackingError;
use crate::params::{Params, Segment};
use zeroize::Zeroizing;

/// The coordinates of one segment.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// Residues, encoded before.
    Lanes(&'a [u32]),
    /// Reals of a fixed-point segment, to be rounded by a key of their own.
    Reals(&'a [f32], &'a Rounding),
}

/// Part of one segment: where it starts in the session and in the segment, what to read and where to write.
struct Block<'a> {
    segment: &'a Segment,
    first_lane: usize,
    first_value: usize,
    values: Values<'a>,
    out: &'a mut [u8],
}

/// Masks a copy of the lanes and packs it, as [`crate::mask::apply`] and [`crate::packing::pack`] do one after the other.
/// `threads` threads of this call's own share the blocks.
///
/// # Errors
/// [`PackingError::Lanes`] where `lanes` has another length than the session.
pub fn mask_and_pack(
    params: &Params,
    lanes: &[u32],
    streams: &[Stream],
    threads: usize,
) -> Result<Vec<u8>, PackingError> {
    if lanes.len() != params.lanes() {
        return Err(PackingError::Lanes { expected: params.lanes(), found: lanes.len() });
    }
    let values: Vec<Values<'_>> = params.ranges().map(|(_, range)| Values::Lanes(&lanes[range])).collect();
    Ok(run(params, &values, streams, threads))
}

/// Rounds reals, masks and packs: `values` holds one entry per segment. `threads` threads of this call's own share the
/// blocks.
///
/// # Errors
/// [`EncodeError`] for a wrong number of entries or coordinates, reals for a segment of counts, NaN or infinity; nothing is
/// encoded then.
pub fn encode_mask_and_pack(
    params: &Params,
    values: &[Values<'_>],
    streams: &[Stream],
    threads: usize,
) -> Result<Vec<u8>, EncodeError> {
    let missing = |name: &str, expected, found| Err(EncodeError::Length { segment: name.into(), expected, found });
    if values.len() != params.segments.len() {
        return missing("all", params.segments.len(), values.len());
    }
    for (values, segment) in values.iter().zip(&params.segments) {
        match values {
            Values::Lanes(lanes) if lanes.len() == segment.length as usize => {}
            Values::Lanes(lanes) => return missing(&segment.name, segment.length as usize, lanes.len()),
            Values::Reals(reals, _) => {
                fixed_point::check_reals(reals, segment)?;
            }
        }
    }
    Ok(run(params, values, streams, threads))
}

fn run(params: &Params, values: &[Values<'_>], streams: &[Stream], threads: usize) -> Vec<u8> {
    let mut out = vec![0; params.packed_bytes()];
    let mut blocks = blocks(params, values, &mut out);
    let part = blocks.len().div_ceil(threads.clamp(1, 64)).max(1);
    if part >= blocks.len() {
        work(&mut blocks, streams);
    } else {
        std::thread::scope(|scope| {
            for part in blocks.chunks_mut(part) {
                scope.spawn(move || work(part, streams));
            }
        });
    }
    out
}

/// Cuts every segment. A block that is not a segment's last ends on a byte, as its number of lanes is a multiple of eight.
fn blocks<'a>(params: &'a Params, values: &[Values<'a>], mut bytes: &'a mut [u8]) -> Vec<Block<'a>> {
    let mut blocks = Vec::with_capacity(params.lanes() / BLOCK_LANES + params.segments.len());
    for ((segment, range), values) in params.ranges().zip(values) {
        let own = bytes.split_off_mut(..segment.packed_bytes()).unwrap_or_default();
        let cuts = (0..range.len()).step_by(BLOCK_LANES);
        for (first, out) in cuts.zip(own.chunks_mut(BLOCK_LANES / 8 * usize::from(segment.ring_bits))) {
            let cut = first..range.len().min(first + BLOCK_LANES);
            let values = match values {
                Values::Lanes(lanes) => Values::Lanes(&lanes[cut]),
                Values::Reals(reals, rounding) => Values::Reals(&reals[cut], rounding),
            };
            blocks.push(Block { segment, first_lane: range.start + first, first_value: first, values, out });
        }
    }
    blocks
}

fn work(blocks: &mut [Block<'_>], streams: &[Stream]) {
    let mut keystreams = Keystreams::new(streams);
    let mut lanes = Zeroizing::new(vec![0u32; BLOCK_LANES]);
    for Block { segment, first_lane, first_value, values, out } in blocks {
        let lanes = match values {
            Values::Lanes(given) => {
                let lanes = &mut lanes[..given.len()];
                lanes.copy_from_slice(given);
                lanes
            }
            Values::Reals(reals, rounding) => {
                let lanes = &mut lanes[..reals.len()];
                let mut encoder =
                    Quantiser::new(segment, rounding).expect("reals were checked to be of a fixed-point segment");
                encoder.encode(reals, *first_value, lanes);
                lanes
            }
        };
        keystreams.apply(lanes, *first_lane);
        bits::pack(segment.ring_bits, lanes, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{self, MaskSeed, Sign};
    use crate::packing::pack;
    use crate::params::VerifySum;
    use crate::quorum::Quorum;
    use crate::testing::rng;
    use proptest::prelude::*;

    fn params(lengths: [u32; 4], value_bits: u8) -> Params {
        let reals = |name: &str, length, bits| Segment::fixed_point(name, length, bits, 0.5, 16).unwrap();
        let segments = vec![
            reals("a", lengths[0], value_bits),
            Segment::counts("b", lengths[1], 16),
            reals("c", lengths[2], 16),
            reals("d", lengths[3], 23 - value_bits),
        ];
        let quorum = Quorum::derive(16, None, None).unwrap();
        Params {
            segments,
            quorum,
            noise: false,
            verify_sum: VerifySum::Off,
            training_deadline_ms: 1,
            phase_deadline_ms: 1,
        }
    }

    fn reals(length: u32) -> Vec<f32> {
        (0..length).map(|i| (i as f32).sin() * 0.6).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn at_once_is_one_after_the_other(
            lengths in (1u32..50_000, 1u32..100, 1u32..40_000, 1u32..20),
            value_bits in 2u8..=21,
            keys in prop::collection::vec(any::<([u8; 32], bool)>(), 0..4),
            threads in 0usize..5,
            seed: u64,
        ) {
            let p = params([lengths.0, lengths.1, lengths.2, lengths.3], value_bits);
            let sign = |add| if add { Sign::Add } else { Sign::Subtract };
            let stream = |(key, add)| Stream { seed: MaskSeed::from_bytes(key), sign: sign(add) };
            let streams: Vec<Stream> = keys.into_iter().map(stream).collect();
            let counts: Vec<u32> = (0..lengths.1).collect();
            let [a, c, d] = [lengths.0, lengths.2, lengths.3].map(reals);
            let mut lanes = Vec::new();
            fixed_point::encode(&a, &p.segments[0], &mut rng(seed), &mut lanes).unwrap();
            lanes.extend(&counts);
            fixed_point::encode(&c, &p.segments[2], &mut rng(!seed), &mut lanes).unwrap();
            fixed_point::encode(&d, &p.segments[3], &mut rng(seed ^ 1), &mut lanes).unwrap();
            let mut masked = lanes.clone();
            mask::apply(&mut masked, &streams, 1);
            let expected = pack(&p, &masked).unwrap();
            prop_assert!(mask_and_pack(&p, &lanes, &streams, threads).unwrap() == expected);
            let keys = [seed, !seed, seed ^ 1].map(|seed| Rounding::draw(&mut rng(seed)));
            let [a, c, d] = [Values::Reals(&a, &keys[0]), Values::Reals(&c, &keys[1]), Values::Reals(&d, &keys[2])];
            let values = [a, Values::Lanes(&counts), c, d];
            prop_assert!(encode_mask_and_pack(&p, &values, &streams, threads).unwrap() == expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let p = params([5, 3, 4, 2], 16);
        let (key, [a, c, d]) = (Rounding::draw(&mut rng(1)), [5, 4, 2].map(reals));
        let good =
            [Values::Reals(&a, &key), Values::Lanes(&[1, 2, 3]), Values::Reals(&c, &key), Values::Reals(&d, &key)];
        assert_eq!(encode_mask_and_pack(&p, &good, &[], 1).unwrap().len(), p.packed_bytes());
        let with = |place: usize, values| {
            let mut changed = good;
            changed[place] = values;
            encode_mask_and_pack(&p, &changed, &[], 1).unwrap_err()
        };
        assert!(matches!(with(1, Values::Lanes(&[1, 2])), EncodeError::Length { expected: 3, found: 2, .. }));
        assert!(matches!(with(1, Values::Reals(&[0.0; 3], &key)), EncodeError::Kind(_)));
        assert!(matches!(with(0, Values::Reals(&a[1..], &key)), EncodeError::Length { expected: 5, found: 4, .. }));
        assert!(matches!(
            with(2, Values::Reals(&[0.0, f32::NAN, 0.0, 0.0], &key)),
            EncodeError::NotFinite { index: 1, .. }
        ));
        assert!(matches!(encode_mask_and_pack(&p, &good[..3], &[], 1), Err(EncodeError::Length { expected: 4, .. })));
        assert!(matches!(mask_and_pack(&p, &[0; 13], &[], 1), Err(PackingError::Lanes { expected: 14, found: 13 })));
    }
}
