//! AVX2 and VAES, for processors without AVX-512: two AES blocks (8 lanes) to a register, eight registers in flight.
//!
//! Contract: whoever holds a [`Vaes256Cpu`] has found the processor to have the features; every entry asks for one. No keystream
//! reaches memory, except where a range does not start or end with a register; that buffer is erased.

use super::schedule::{self, RoundKeys};
use crate::mask::Sign;
use std::arch::x86_64::*;
use zeroize::Zeroize;

/// Lanes8 of one register.
const LANES: usize = 8;
/// Registers in flight: VAESENC takes four cycles, and two start in each.
const WIDE: usize = 8;

type Lanes8 = [u32; LANES];

/// Proof that this processor has AVX2, VAES and AES-NI.
#[derive(Clone, Copy)]
pub(super) struct Vaes256Cpu(pub(super) schedule::AesCpu);

impl Vaes256Cpu {
    pub(super) fn detect() -> Option<Vaes256Cpu> {
        let wide = is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx2");
        schedule::AesCpu::detect().filter(|_| wide).map(Vaes256Cpu)
    }

    /// Applies one keystream to lanes that start at any place.
    pub(super) fn apply(self, keys: &RoundKeys, sign: Sign, lanes: &mut [u32], first_lane: usize) {
        // SAFETY: `self` proves that the processor has these features.
        unsafe {
            match sign {
                Sign::Add => apply::<false>(keys, lanes, first_lane),
                Sign::Subtract => apply::<true>(keys, lanes, first_lane),
            }
        }
    }
}

#[target_feature(enable = "vaes,avx2")]
fn apply<const SUBTRACT: bool>(keys: &RoundKeys, lanes: &mut [u32], first_lane: usize) {
    let (mut register, before) = ((first_lane / LANES) as u64, first_lane % LANES);
    let (head, lanes) = lanes.split_at_mut(lanes.len().min((LANES - before) % LANES));
    partial::<SUBTRACT>(keys, head, before, register);
    register += u64::from(before > 0);
    let (registers, tail) = lanes.as_chunks_mut::<LANES>();
    let (groups, rest) = registers.as_chunks_mut::<WIDE>();
    for group in groups {
        some::<SUBTRACT, WIDE>(keys, group, register);
        register += WIDE as u64;
    }
    for one in rest.as_chunks_mut::<1>().0 {
        some::<SUBTRACT, 1>(keys, one, register);
        register += 1;
    }
    partial::<SUBTRACT>(keys, tail, 0, register);
}

/// Less than a register of lanes, from its lane `from` on.
#[target_feature(enable = "vaes,avx2")]
fn partial<const SUBTRACT: bool>(keys: &RoundKeys, lanes: &mut [u32], from: usize, register: u64) {
    if lanes.is_empty() {
        return;
    }
    let mut buffer = [[0u32; LANES]];
    let place = from..from + lanes.len();
    buffer[0][place.clone()].copy_from_slice(lanes);
    some::<SUBTRACT, 1>(keys, &mut buffer, register);
    lanes.copy_from_slice(&buffer[0][place]);
    buffer.zeroize();
}

#[target_feature(enable = "vaes,avx2")]
#[inline]
fn some<const SUBTRACT: bool, const N: usize>(keys: &RoundKeys, lanes: &mut [Lanes8; N], register: u64) {
    // keys are read anew for each group: kept across groups they would not fit the registers and go to the stack
    let keys = std::hint::black_box(keys);
    let key = |round: usize| {
        let key = keys.0[round];
        _mm256_broadcastsi128_si256(_mm_set_epi64x(key[1] as i64, key[0] as i64))
    };
    // the low 64 bits of a counter, in the byte order of this machine until the shuffle; the high ones are zero
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1));
    let first = _mm256_set1_epi64x((2 * register) as i64);
    let mut state = [_mm256_setzero_si256(); N];
    for (i, s) in state.iter_mut().enumerate() {
        let counter = _mm256_add_epi64(first, _mm256_set_epi64x(2 * i as i64 + 1, 0, 2 * i as i64, 0));
        *s = _mm256_xor_si256(_mm256_shuffle_epi8(counter, swap), key(0));
    }
    for round in 1..14 {
        let key = key(round);
        for s in &mut state {
            *s = _mm256_aesenc_epi128(*s, key);
        }
    }
    for (s, lanes) in state.iter().zip(lanes) {
        let keystream = _mm256_aesenclast_epi128(*s, key(14));
        // SAFETY: the pointers are those of an array of 32 bytes, and the instructions ask for no alignment.
        unsafe {
            let old = _mm256_loadu_si256(lanes.as_ptr().cast());
            let new = if SUBTRACT { _mm256_sub_epi32(old, keystream) } else { _mm256_add_epi32(old, keystream) };
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), new);
        }
    }
}
