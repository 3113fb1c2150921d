//! The part of a file's rows, or persons, that an organisation brings in.
//!
//! Contract: whether one is brought in follows from its identity and the key alone, so that it is the same at every start
//! and whatever else stands in the file; rows of one identity come in together.

use sha2::{Digest, Sha256};

use super::Identity;

/// A part, chosen once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainShare {
    part: f64,
    key: [u8; 32],
}

impl TrainShare {
    /// About `part` of all, above 0 and at most 1; another key chooses others.
    pub fn new(part: f64, key: [u8; 32]) -> Self {
        TrainShare { part, key }
    }

    /// Whether this one is brought in.
    pub(super) fn has(&self, identity: Identity) -> bool {
        let hasher = Sha256::new_with_prefix(b"blindsum share 1\n").chain_update(self.key).chain_update(identity.0);
        let hash: [u8; 32] = hasher.finalize().into();
        let number = hash.iter().take(8).fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        // 53 bits: exact, and below 1
        ((number >> 11) as f64) < self.part * (1u64 << 53) as f64
    }

    pub(super) fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&self.part.to_le_bytes());
        bytes[8..].copy_from_slice(&self.key);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_so_many_are_brought_in_and_more_where_the_part_is_larger() {
        let all: Vec<Identity> = (0..10_000).map(|i| Identity::of_person(&i.to_string())).collect();
        let chosen =
            |part, key| all.iter().map(|&who| TrainShare::new(part, [key; 32]).has(who)).collect::<Vec<bool>>();
        let count = |chosen: &[bool]| chosen.iter().filter(|&&is| is).count();
        let third = chosen(1.0 / 3.0, 1);
        assert!(count(&third).abs_diff(3333) < 5 * 47, "{}", count(&third));
        let half = chosen(0.5, 1);
        assert!(third.iter().zip(&half).all(|(third, half)| *half || !third), "whoever is in a third is in a half");
        assert_eq!(count(&chosen(1.0, 1)), 10_000);
        let both = third.iter().zip(chosen(1.0 / 3.0, 2)).filter(|(a, b)| **a && *b).count();
        assert!(both.abs_diff(1111) < 5 * 32, "another key, others: {both}");
    }
}
