//! Every backend against the portable one, and that one against the definition.

use super::*;
use crate::mask::{MaskSeed, Sign};
use aes::Aes256Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use proptest::prelude::*;

/// One AES block by the definition: the counter as 16 big-endian bytes, encrypted.
fn block(key: &[u8; 32], counter: u128) -> [u8; 16] {
    let mut block = counter.to_be_bytes().into();
    Aes256Enc::new(key.into()).encrypt_block(&mut block);
    block.into()
}

fn keystream_lane(key: &[u8; 32], lane: usize) -> u32 {
    let block = block(key, lane as u128 / 4);
    u32::from_le_bytes(std::array::from_fn(|i| block[lane % 4 * 4 + i]))
}

fn streams() -> impl Strategy<Value = Vec<Stream>> {
    let stream = (any::<[u8; 32]>(), any::<bool>()).prop_map(|(key, add)| Stream {
        seed: MaskSeed::from_bytes(key),
        sign: if add { Sign::Add } else { Sign::Subtract },
    });
    prop::collection::vec(stream, 0..20)
}

/// Anywhere, and astride the places where a counter of 8, 16, 32 or 40 bits would wrap (of AES blocks, or of lanes).
fn first_lane() -> impl Strategy<Value = usize> {
    let wraps = prop::sample::select(vec![0u32, 6, 8, 14, 16, 30, 32, 40]);
    prop_oneof![
        0usize..10_000,
        (wraps, 0usize..1500).prop_map(|(bits, before)| (4usize << bits).saturating_sub(before))
    ]
}

fn lanes(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![prop::collection::vec(any::<u32>(), 0..200), prop::collection::vec(any::<u32>(), 0..most)]
}

#[test]
fn the_best_backend_is_available_and_each_is_tested_here() {
    let all = Backend::available();
    assert_eq!(all[0], Backend::Portable);
    assert!(all.contains(&Backend::best()));
    println!("backends tested on this processor: {all:?}");
}

#[test]
fn counters_carry_out_of_every_byte() {
    let streams = [Stream { seed: MaskSeed::from_bytes([9; 32]), sign: Sign::Add }];
    for bits in [8, 16, 24, 32, 40, 48] {
        let wrap = 4usize << bits; // the lane at which the counter's low bits are zero again
        for first in [wrap.saturating_sub(20_000), wrap.saturating_sub(3_001), wrap - 1, wrap] {
            let mut expected = vec![0; 25_000];
            Keystreams::with(Backend::Portable, &streams).apply(&mut expected, first);
            for lane in [first, wrap - 1, wrap, wrap + 1].into_iter().filter(|lane| *lane >= first) {
                assert_eq!(expected[lane - first], keystream_lane(&[9; 32], lane));
            }
            for backend in Backend::available() {
                let mut found = vec![0; expected.len()];
                Keystreams::with(backend, &streams).apply(&mut found, first);
                assert!(found == expected, "{backend:?} from {first}");
            }
        }
    }
}

proptest! {
    #[test]
    fn every_backend_applies_the_same_keystreams(streams in streams(), first in first_lane(), start in lanes(9000)) {
        let mut expected = start.clone();
        Keystreams::with(Backend::Portable, &streams).apply(&mut expected, first);
        for backend in Backend::available() {
            let mut found = start.clone();
            Keystreams::with(backend, &streams).apply(&mut found, first);
            prop_assert!(found == expected, "{:?}, {} lanes from {}", backend, start.len(), first);
        }
    }

    #[test]
    fn keystreams_are_those_of_the_definition(key: [u8; 32], first in first_lane(), length in 0usize..100) {
        for sign in [Sign::Add, Sign::Subtract] {
            let streams = [Stream { seed: MaskSeed::from_bytes(key), sign }];
            for backend in Backend::available() {
                let mut found = vec![5u32; length];
                Keystreams::with(backend, &streams).apply(&mut found, first);
                for (i, lane) in found.into_iter().enumerate() {
                    let k = keystream_lane(&key, first + i);
                    let expected = if sign == Sign::Add { 5u32.wrapping_add(k) } else { 5u32.wrapping_sub(k) };
                    prop_assert_eq!(lane, expected);
                }
            }
        }
    }

    #[test]
    fn a_range_may_be_done_in_parts(streams in streams(), first in first_lane(), start in lanes(600), cut: prop::sample::Index) {
        for backend in Backend::available() {
            let (mut whole, mut parts) = (start.clone(), start.clone());
            Keystreams::with(backend, &streams).apply(&mut whole, first);
            let cut = cut.index(start.len() + 1);
            let mut keystreams = Keystreams::with(backend, &streams);
            keystreams.apply(&mut parts[cut..], first + cut);
            keystreams.apply(&mut parts[..cut], first);
            prop_assert_eq!(&whole, &parts);
        }
    }

    #[test]
    fn subset_sums_are_those_of_the_definition(
        key: [u8; 32], first in first_lane(), lanes in lanes(300), before in any::<u32>(),
    ) {
        let mut expected = [before; ROWS];
        for (i, lane) in lanes.iter().enumerate() {
            let bits = block(&key, (first + i) as u128);
            for (row, sum) in expected.iter_mut().enumerate() {
                if bits[row / 8] >> (row % 8) & 1 == 1 {
                    *sum = sum.wrapping_add(*lane);
                }
            }
        }
        for backend in Backend::available() {
            let mut sums = [before; ROWS];
            subset_sums_with(backend, &key, first, &lanes, &mut sums);
            prop_assert_eq!(sums, expected, "{:?}", backend);
        }
    }

    #[test]
    fn subset_sums_may_be_done_in_parts(key: [u8; 32], first in first_lane(), lanes in lanes(5000), cut: prop::sample::Index) {
        let cut = cut.index(lanes.len() + 1);
        let mut whole = [0; ROWS];
        subset_sums_with(Backend::Portable, &key, first, &lanes, &mut whole);
        for backend in Backend::available() {
            let mut parts = [0; ROWS];
            subset_sums_with(backend, &key, first + cut, &lanes[cut..], &mut parts);
            subset_sums_with(backend, &key, first, &lanes[..cut], &mut parts);
            prop_assert_eq!(parts, whole, "{:?}", backend);
        }
    }
}
