//! The round keys of AES-256, made with AES-NI.
//!
//! Contract: whoever holds a [`AesCpu`] has found the processor to have AES-NI. Keys are filled in place and erased on drop
//! (SA-11).

use crate::mask::{Sign, Stream};
use std::arch::x86_64::*;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The 15 round keys (FIPS 197 §5.2). Erased on drop (SA-11).
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct RoundKeys(pub(super) [[u64; 2]; 15]);

impl RoundKeys {
    /// To be filled in place, so that no copy is left on a stack.
    pub(super) const EMPTY: RoundKeys = RoundKeys([[0; 2]; 15]);
}

/// Proof that this processor has AES-NI.
#[derive(Clone, Copy)]
pub(super) struct AesCpu(());

impl AesCpu {
    pub(super) fn detect() -> Option<AesCpu> {
        (is_x86_feature_detected!("aes") && is_x86_feature_detected!("avx")).then_some(AesCpu(()))
    }

    /// The round keys and signs of some streams.
    pub(super) fn schedules(self, streams: &[Stream]) -> Vec<(RoundKeys, Sign)> {
        let mut all: Vec<(RoundKeys, Sign)> = streams.iter().map(|s| (RoundKeys::EMPTY, s.sign)).collect();
        for ((keys, _), stream) in all.iter_mut().zip(streams) {
            self.expand(&stream.seed.0, keys);
        }
        all
    }

    /// The round keys of one AES-256 key.
    pub(super) fn expand(self, key: &[u8; 32], keys: &mut RoundKeys) {
        // SAFETY: `self` proves that the processor has AES-NI.
        unsafe { expand(key, keys) }
    }
}

/// FIPS 197 §5.2, with the processor's help for S-box and round constant.
#[target_feature(enable = "aes,avx")]
fn expand(key: &[u8; 32], keys: &mut RoundKeys) {
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|b| key[8 * i + b])) as i64;
    let (mut even, mut odd) = (_mm_set_epi64x(word(1), word(0)), _mm_set_epi64x(word(3), word(2)));
    keys.0[0] = words(even);
    keys.0[1] = words(odd);
    macro_rules! double_round {
        ($round:literal, $rcon:literal) => {
            even = _mm_xor_si128(prefix_xor(even), _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$rcon>(odd)));
            keys.0[$round] = words(even);
            if $round < 14 {
                odd = _mm_xor_si128(prefix_xor(odd), _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(even)));
                keys.0[$round + 1 - $round / 14] = words(odd);
            }
        };
    }
    double_round!(2, 0x01);
    double_round!(4, 0x02);
    double_round!(6, 0x04);
    double_round!(8, 0x08);
    double_round!(10, 0x10);
    double_round!(12, 0x20);
    double_round!(14, 0x40);
}

/// Word i becomes the XOR of words 0..=i.
#[target_feature(enable = "avx")]
fn prefix_xor(v: __m128i) -> __m128i {
    let v = _mm_xor_si128(v, _mm_slli_si128::<4>(v));
    _mm_xor_si128(v, _mm_slli_si128::<8>(v))
}

#[target_feature(enable = "avx")]
fn words(v: __m128i) -> [u64; 2] {
    [_mm_cvtsi128_si64(v) as u64, _mm_cvtsi128_si64(_mm_unpackhi_epi64(v, v)) as u64]
}
