//! The inner loops in plain Rust. What the other backends must equal.

use super::{BLOCK_LANES, ROWS};
use crate::mask::{self, Sign};
use aes::Aes256Enc;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use zeroize::Zeroizing;

/// Room for the keystream of a block. Erased on drop.
pub(super) type Buffer = Zeroizing<[u8; 4 * BLOCK_LANES]>;

/// One keystream and its sign.
pub(super) struct SignedKeystream {
    cipher: Ctr128BE<Aes256Enc>,
    sign: Sign,
}

impl SignedKeystream {
    pub(super) fn new(stream: &mask::Stream) -> SignedKeystream {
        SignedKeystream {
            cipher: Ctr128BE::<Aes256Enc>::new(&stream.seed.0.into(), &[0u8; 16].into()),
            sign: stream.sign,
        }
    }

    /// Adds or subtracts the keystream at up to [`BLOCK_LANES`] lanes from `first_lane` on.
    pub(super) fn apply(&mut self, buffer: &mut Buffer, lanes: &mut [u32], first_lane: usize) {
        let bytes = &mut buffer[..4 * lanes.len()];
        self.cipher.seek(4 * first_lane as u64);
        self.cipher.write_keystream(bytes);
        let lanes = lanes.iter_mut().zip(bytes.as_chunks::<4>().0);
        match self.sign {
            Sign::Add => lanes.for_each(|(lane, k)| *lane = lane.wrapping_add(u32::from_le_bytes(*k))),
            Sign::Subtract => lanes.for_each(|(lane, k)| *lane = lane.wrapping_sub(u32::from_le_bytes(*k))),
        }
    }
}

/// Sorts lanes by each byte of their blocks: 16 additions per lane, where one row after the other would take 128.
/// `buckets[j][v]` is the sum of the lanes whose block has the value v at byte j.
pub(super) fn subset_sums(key: &[u8; 32], first_lane: usize, lanes: &[u32], sums: &mut [u32; ROWS]) {
    let mut cipher = Ctr128BE::<Aes256Enc>::new(key.into(), &[0u8; 16].into());
    cipher.seek(16 * first_lane as u128);
    let mut buckets = [[0u32; 256]; 16];
    let mut blocks = [[0u8; 16]; 64];
    for part in lanes.chunks(blocks.len()) {
        cipher.write_keystream(blocks.as_flattened_mut());
        for (lane, block) in part.iter().zip(&blocks) {
            for (bucket, &value) in buckets.iter_mut().zip(block) {
                let sum = &mut bucket[usize::from(value)];
                *sum = sum.wrapping_add(*lane);
            }
        }
    }
    for (row, sum) in sums.iter_mut().enumerate() {
        let values = (0..256).filter(|value| value >> (row % 8) & 1 == 1);
        *sum = values.fold(*sum, |sum, value| sum.wrapping_add(buckets[row / 8][value]));
    }
}
