//! AVX-512 and VAES: four AES blocks (16 lanes) to a register, eight registers in flight.
//!
//! ```text
//! counter, 16 bytes, big-endian:   0 … 0  b12 b13 b14 b15      256 blocks (a run) differ in b15 only
//! after round 1                    b15 has reached one column of four; bytes 0, 5 and 10 are what it is mixed with
//! after round 2                    each column took one byte from that column:  state = base(run) ⊕ table[b15]
//! ```
//!
//! So the first two of fourteen rounds cost one XOR, where the table (4 KiB, made for each block of lanes) depends on the
//! key alone: bytes 0, 5 and 10 are zero below block 2^40 (after Bernstein and Schwabe, INDOCRYPT 2008, and Park and Lee,
//! CHES 2018). Places in the table are counters, which are public.
//!
//! Contract: whoever holds a [`Vaes512Cpu`] has found the processor to have the features; every entry asks for one. Round keys
//! and states fill 23 of 32 registers, so that no keystream reaches memory, except where a range does not start or end with
//! a register; that buffer is erased.

use super::schedule::{self, RoundKeys};
use crate::mask::Sign;
use crate::sketch::ROWS;
use std::arch::x86_64::*;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Lanes16 of one register.
const LANES: usize = 16;
/// Registers in flight: VAESENC takes four cycles, and one starts in each.
const WIDE: usize = 8;
/// Registers of one run: 256 blocks.
const RUN: usize = 64;
/// From here on a counter reaches byte 10, and the table does not hold.
const TABLE_ENDS: u64 = (1 << 40) / 4;

type Lanes16 = [u32; LANES];
type Keys = [__m512i; 15];

/// Proof that this processor has AVX-512 (F, BW), VAES and AES-NI.
#[derive(Clone, Copy)]
pub(super) struct Vaes512Cpu(pub(super) schedule::AesCpu);

/// What two rounds make of the low counter byte, under the key in use. Erased on drop (SA-11).
#[repr(align(64))]
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct RoundTable([Lanes16; RUN]);

impl RoundTable {
    pub(super) fn new() -> Box<RoundTable> {
        Box::new(RoundTable([[0; LANES]; RUN]))
    }
}

impl Vaes512Cpu {
    pub(super) fn detect() -> Option<Vaes512Cpu> {
        let wide = is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw");
        schedule::AesCpu::detect().filter(|_| wide).map(Vaes512Cpu)
    }

    /// Applies one keystream to lanes that start at any place. The table is scratch.
    pub(super) fn apply(
        self,
        keys: &RoundKeys,
        sign: Sign,
        table: &mut RoundTable,
        lanes: &mut [u32],
        first_lane: usize,
    ) {
        // SAFETY: `self` proves that the processor has these features.
        unsafe {
            match sign {
                Sign::Add => apply::<false>(keys, &mut table.0, lanes, first_lane),
                Sign::Subtract => apply::<true>(keys, &mut table.0, lanes, first_lane),
            }
        }
    }

    /// [`super::subset_sums`].
    pub(super) fn subset_sums(self, keys: &RoundKeys, first_lane: u64, lanes: &[u32], sums: &mut [u32; ROWS]) {
        // SAFETY: `self` proves that the processor has these features.
        unsafe { subset_sums(keys, first_lane, lanes, sums) }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(from: &Lanes16) -> __m512i {
    // SAFETY: the pointer is that of an array of 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(to: &mut Lanes16, value: __m512i) {
    // SAFETY: the pointer is that of an array of 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
}

/// Each round key four times over.
#[target_feature(enable = "avx512f")]
#[inline]
fn broadcast(keys: &RoundKeys) -> Keys {
    let mut wide = [_mm512_setzero_si512(); 15];
    for (wide, key) in wide.iter_mut().zip(&keys.0) {
        *wide = _mm512_broadcast_i32x4(_mm_set_epi64x(key[1] as i64, key[0] as i64));
    }
    wide
}

/// The counters `block + first .. block + first + 4` (or `block` four times, where `step` is 0) behind the first key.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn counters(keys: &Keys, block: u64, first: i64, step: i64) -> __m512i {
    // the low 64 bits, in the byte order of this machine until the shuffle; the high ones are zero
    let (a, b, c, d) = (first, first + step, first + 2 * step, first + 3 * step);
    let counters = _mm512_add_epi64(_mm512_set1_epi64(block as i64), _mm512_set_epi64(d, 0, c, 0, b, 0, a, 0));
    let swap = _mm512_broadcast_i32x4(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1));
    _mm512_xor_si512(_mm512_shuffle_epi8(counters, swap), keys[0])
}

/// The first two rounds.
#[target_feature(enable = "vaes,avx512f")]
#[inline]
fn two_rounds(keys: &Keys, state: __m512i) -> __m512i {
    _mm512_aesenc_epi128(_mm512_aesenc_epi128(state, keys[1]), keys[2])
}

/// The rounds from `FROM` on, one after the other over all registers.
#[target_feature(enable = "vaes,avx512f")]
#[inline]
fn rounds<const FROM: usize, const N: usize>(keys: &Keys, state: &mut [__m512i; N]) {
    for key in &keys[FROM..14] {
        for s in state.iter_mut() {
            *s = _mm512_aesenc_epi128(*s, *key);
        }
    }
    for s in state.iter_mut() {
        *s = _mm512_aesenclast_epi128(*s, keys[14]);
    }
}

/// The blocks with counters `block..block + 4N`.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
#[inline]
fn keystream<const N: usize>(keys: &Keys, block: u64) -> [__m512i; N] {
    let mut state = [_mm512_setzero_si512(); N];
    for (i, s) in state.iter_mut().enumerate() {
        *s = counters(keys, block, 4 * i as i64, 1);
    }
    rounds::<1, N>(keys, &mut state);
    state
}

#[target_feature(enable = "avx512f")]
#[inline]
fn combine<const SUBTRACT: bool, const N: usize>(lanes: &mut [Lanes16; N], keystream: &[__m512i; N]) {
    for (lanes, k) in lanes.iter_mut().zip(keystream) {
        let old = load(lanes);
        store(lanes, if SUBTRACT { _mm512_sub_epi32(old, *k) } else { _mm512_add_epi32(old, *k) });
    }
}

#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn apply<const SUBTRACT: bool>(keys: &RoundKeys, table: &mut [Lanes16; RUN], lanes: &mut [u32], first_lane: usize) {
    let (mut register, before) = ((first_lane / LANES) as u64, first_lane % LANES);
    // lanes before the first whole register, then registers up to a group of eight
    let (head, lanes) = lanes.split_at_mut(lanes.len().min((LANES - before) % LANES));
    partial::<SUBTRACT>(keys, head, before, register);
    register += u64::from(before > 0);
    let (registers, tail) = lanes.as_chunks_mut::<LANES>();
    let lead = registers.len().min((WIDE - register as usize % WIDE) % WIDE);
    let (lead, registers) = registers.split_at_mut(lead);
    singly::<SUBTRACT>(keys, lead, register);
    register += lead.len() as u64;
    let (mut groups, rest) = registers.as_chunks_mut::<WIDE>();
    let after = register + (WIDE * groups.len()) as u64;
    if groups.len() >= 2 * RUN / WIDE && after < TABLE_ENDS {
        fill(keys, table);
        while !groups.is_empty() {
            let start = register as usize % RUN;
            let (run, others) = groups.split_at_mut(groups.len().min((RUN - start) / WIDE));
            with_table::<SUBTRACT>(keys, &table.as_chunks::<WIDE>().0[start / WIDE..], run, register - start as u64);
            register += (WIDE * run.len()) as u64;
            groups = others;
        }
    }
    grouped::<SUBTRACT>(keys, groups, register);
    singly::<SUBTRACT>(keys, rest, after);
    partial::<SUBTRACT>(keys, tail, 0, after + rest.len() as u64);
}

// Each of the following makes its own registers of the keys and is not inlined: held across calls, they would be put on
// the stack, where nobody erases them.

/// `table[i]` = two rounds of counters 4i..4i+4, less those of counter 0.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
#[inline(never)]
fn fill(keys: &RoundKeys, table: &mut [Lanes16; RUN]) {
    let keys = &broadcast(keys);
    let zero = two_rounds(keys, counters(keys, 0, 0, 0));
    for (block, entry) in (0..).step_by(4).zip(table) {
        store(entry, _mm512_xor_si512(two_rounds(keys, counters(keys, block, 0, 1)), zero));
    }
}

/// Groups of one run, which begins at `register`; the table from the first group's place on.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
#[inline(never)]
fn with_table<const SUBTRACT: bool>(
    keys: &RoundKeys,
    table: &[[Lanes16; WIDE]],
    groups: &mut [[Lanes16; WIDE]],
    register: u64,
) {
    let keys = &broadcast(keys);
    let base = two_rounds(keys, counters(keys, 4 * register, 0, 0));
    for (group, table) in groups.iter_mut().zip(table) {
        let mut state = [base; WIDE];
        for (s, entry) in state.iter_mut().zip(table) {
            *s = _mm512_xor_si512(*s, load(entry));
        }
        rounds::<3, WIDE>(keys, &mut state);
        combine::<SUBTRACT, WIDE>(group, &state);
    }
}

/// Groups where a table does not pay or does not hold.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
#[inline(never)]
fn grouped<const SUBTRACT: bool>(keys: &RoundKeys, groups: &mut [[Lanes16; WIDE]], first: u64) {
    let keys = &broadcast(keys);
    for (register, group) in (first..).step_by(WIDE).zip(groups) {
        combine::<SUBTRACT, WIDE>(group, &keystream::<WIDE>(keys, 4 * register));
    }
}

#[target_feature(enable = "vaes,avx512f,avx512bw")]
#[inline(never)]
fn singly<const SUBTRACT: bool>(keys: &RoundKeys, registers: &mut [Lanes16], first: u64) {
    let keys = &broadcast(keys);
    for (register, lanes) in (first..).zip(registers.as_chunks_mut::<1>().0) {
        combine::<SUBTRACT, 1>(lanes, &keystream::<1>(keys, 4 * register));
    }
}

/// Less than a register of lanes, from its lane `from` on.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn partial<const SUBTRACT: bool>(keys: &RoundKeys, lanes: &mut [u32], from: usize, register: u64) {
    if lanes.is_empty() {
        return;
    }
    let mut buffer = [[0u32; LANES]];
    let place = from..from + lanes.len();
    buffer[0][place.clone()].copy_from_slice(lanes);
    singly::<SUBTRACT>(keys, &mut buffer, register);
    lanes.copy_from_slice(&buffer[0][place]);
    buffer.zeroize();
}

/// Rows 16j..16j+16 are the lanes of register j. A lane is added to all its rows at once: its block's bytes 2j and 2j+1 are
/// the mask of that addition.
#[target_feature(enable = "vaes,avx512f,avx512bw")]
fn subset_sums(keys: &RoundKeys, first_lane: u64, lanes: &[u32], sums: &mut [u32; ROWS]) {
    const GROUP: usize = 4 * WIDE;
    let keys = broadcast(keys);
    let mut rows = [_mm512_setzero_si512(); ROWS / LANES];
    let mut blocks = [[0u32; LANES]; WIDE];
    let mut block = first_lane;
    for group in lanes.chunks(GROUP) {
        for (k, blocks) in keystream::<WIDE>(&keys, block).iter().zip(&mut blocks) {
            store(blocks, *k);
        }
        for (lane, block) in group.iter().zip(blocks.as_flattened().as_chunks::<4>().0) {
            let lane = _mm512_set1_epi32(*lane as i32);
            for (rows, word) in rows.as_chunks_mut::<2>().0.iter_mut().zip(block) {
                rows[0] = _mm512_mask_add_epi32(rows[0], *word as u16, rows[0], lane);
                rows[1] = _mm512_mask_add_epi32(rows[1], (*word >> 16) as u16, rows[1], lane);
            }
        }
        block += GROUP as u64;
    }
    for (row, sums) in rows.iter().zip(sums.as_chunks_mut::<LANES>().0) {
        store(sums, _mm512_add_epi32(load(sums), *row));
    }
}
