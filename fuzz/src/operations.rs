//! How lists of operations are altered: whole operations come, go, move and change in one field, so that the fuzzer does
//! not spend its time on lists that have slipped by a byte.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Bytes of one operation: what, a, b, and three of alteration.
pub const OPERATION: usize = 6;
/// Most operations that a target runs.
pub const MOST: usize = 96;

/// Alters a list behind its first byte, in place: `bytes[..size]`, which may grow to all of `bytes`. The new size.
pub fn mutate(bytes: &mut [u8], size: usize, seed: u32, kinds: u8) -> usize {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(seed));
    let head = bytes[..size].first().copied().unwrap_or(0);
    let head = if rng.random_ratio(1, 32) { rng.random() } else { head };
    let mut list: Vec<[u8; OPERATION]> = bytes[..size].get(1..).unwrap_or_default().as_chunks::<OPERATION>().0.to_vec();
    for _ in 0..rng.random_range(1..=3) {
        alter(&mut list, &mut rng, kinds);
    }
    list.truncate(MOST.min(bytes.len().saturating_sub(1) / OPERATION));
    let altered = [&[head], list.as_flattened()].concat();
    let size = altered.len().min(bytes.len());
    bytes[..size].copy_from_slice(&altered[..size]);
    size
}

fn alter(list: &mut Vec<[u8; OPERATION]>, rng: &mut ChaCha20Rng, kinds: u8) {
    let place = rng.random_range(0..=list.len());
    let inside = place.min(list.len().saturating_sub(1));
    match rng.random_range(0..10) {
        0 | 1 => list.insert(place, operation(rng, kinds)),
        2 if !list.is_empty() => drop(list.remove(inside)),
        3 if !list.is_empty() => list.insert(place, list[inside]),
        4 if list.len() > 1 => {
            let other = rng.random_range(0..list.len());
            list.swap(inside, other);
        }
        // a piece of the list once more, somewhere else
        5 if !list.is_empty() => {
            let end = (inside + rng.random_range(1..=8)).min(list.len());
            let piece = list[inside..end].to_vec();
            let place = rng.random_range(0..=list.len());
            list.splice(place..place, piece);
        }
        6 if !list.is_empty() && rng.random_ratio(1, 8) => list.truncate(inside + 1),
        7 if !list.is_empty() => {
            let tamper = if rng.random() { [0; 3] } else { rng.random::<[u8; 3]>() };
            list[inside][3..].copy_from_slice(&tamper);
        }
        8 | 9 if !list.is_empty() => {
            let field = rng.random_range(0..3);
            list[inside][field] = if field == 0 { rng.random_range(0..kinds) } else { argument(rng) };
        }
        _ => list.push(operation(rng, kinds)),
    }
}

fn argument(rng: &mut ChaCha20Rng) -> u8 {
    if rng.random_ratio(7, 8) { rng.random_range(0..16) } else { rng.random() }
}

fn operation(rng: &mut ChaCha20Rng, kinds: u8) -> [u8; OPERATION] {
    let tamper = if rng.random_ratio(3, 4) { [0; 3] } else { rng.random() };
    let [how, node, with] = tamper;
    [rng.random_range(0..kinds), argument(rng), argument(rng), how, node, with]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stay_whole_and_within_their_bound() {
        let mut bytes = vec![0; 601];
        let (mut size, mut longest) = (0, 0);
        for seed in 0..2000 {
            size = mutate(&mut bytes, size, seed, 16);
            assert!(size <= bytes.len() && (size - 1) % OPERATION == 0);
            longest = longest.max(size);
        }
        assert!(longest > 100, "{longest} bytes at most");
    }
}
