//! Lanes of 1 to 32 bits, packed without gaps: 32 lanes to b words, with every shift known when it is compiled.
//!
//! Contract: bits are little-endian, the first lane in the lowest bits of the first byte. A last group of fewer lanes takes
//! as many bytes as its bits need; the bits left over are zero.

use zeroize::Zeroizing;

/// Lanes of one group. A multiple of them ends on a byte at every width.
const GROUP: usize = 32;

/// Does `$call` with each index of a group. Written out, since the compiler leaves a loop of this length as it is, and then
/// no shift is known.
macro_rules! each_lane {
    ($call:ident) => {
        each_lane!($call: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    ($call:ident: $($i:literal)*) => {$( $call!($i); )*};
}

/// Calls the function for one width.
macro_rules! by_width {
    ($bits:expr, $function:ident($($argument:expr),*)) => {
        by_width!($bits, $function($($argument),*): 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27
            28 29 30 31)
    };
    ($bits:expr, $function:ident $arguments:tt: $($width:literal)*) => {
        match $bits {
            $( $width => $function::<$width> $arguments, )*
            _ => $function::<32> $arguments,
        }
    };
}

/// Packs the low `bits` bits of each lane. `out` has ⌈lanes·bits/8⌉ bytes.
pub(crate) fn pack(bits: u8, lanes: &[u32], out: &mut [u8]) {
    by_width!(bits, pack_width(lanes, out));
}

/// Adds packed lanes to an accumulator mod 2^32. `packed` has ⌈lanes·bits/8⌉ bytes.
pub(crate) fn add(bits: u8, packed: &[u8], acc: &mut [u32]) {
    by_width!(bits, add_width(packed, acc));
}

fn pack_width<const B: usize>(lanes: &[u32], out: &mut [u8]) {
    let (groups, rest) = lanes.as_chunks::<GROUP>();
    let (whole, end) = out.split_at_mut(groups.len() * 4 * B);
    for (group, out) in groups.iter().zip(whole.chunks_exact_mut(4 * B)) {
        pack_group::<B>(group, out);
    }
    if !rest.is_empty() {
        let (mut group, mut bytes) = (Zeroizing::new([0u32; GROUP]), Zeroizing::new([0u8; 4 * GROUP]));
        group[..rest.len()].copy_from_slice(rest);
        pack_group::<B>(&group, &mut bytes[..4 * B]);
        end.copy_from_slice(&bytes[..end.len()]);
    }
}

fn add_width<const B: usize>(packed: &[u8], acc: &mut [u32]) {
    let (groups, rest) = acc.as_chunks_mut::<GROUP>();
    let (whole, end) = packed.split_at(groups.len() * 4 * B);
    for (group, packed) in groups.iter_mut().zip(whole.chunks_exact(4 * B)) {
        add_group::<B>(packed, group);
    }
    if !rest.is_empty() {
        let (mut group, mut bytes) = ([0u32; GROUP], [0u8; 4 * GROUP]);
        group[..rest.len()].copy_from_slice(rest);
        bytes[..end.len()].copy_from_slice(end);
        add_group::<B>(&bytes[..4 * B], &mut group);
        rest.copy_from_slice(&group[..rest.len()]);
    }
}

#[inline(always)]
fn pack_group<const B: usize>(lanes: &[u32; GROUP], out: &mut [u8]) {
    let out = &mut out.as_chunks_mut::<4>().0[..B];
    let mut word = 0u32;
    macro_rules! lane {
        ($i:literal) => {
            let (place, shift, value) = ($i * B / 32, $i * B % 32, lanes[$i] & mask(B));
            word |= value << shift;
            if shift + B >= 32 {
                out[place] = word.to_le_bytes();
                word = if shift + B > 32 { value >> ((32 - shift) % 32) } else { 0 };
            }
        };
    }
    each_lane!(lane);
    let _ = word;
}

#[inline(always)]
fn add_group<const B: usize>(packed: &[u8], acc: &mut [u32; GROUP]) {
    let packed = &packed.as_chunks::<4>().0[..B];
    macro_rules! lane {
        ($i:literal) => {
            let (place, shift) = ($i * B / 32, $i * B % 32);
            let mut value = u32::from_le_bytes(packed[place]) >> shift;
            if shift + B > 32 {
                value |= u32::from_le_bytes(packed[(place + 1) % B]) << ((32 - shift) % 32);
            }
            acc[$i] = acc[$i].wrapping_add(value & mask(B));
        };
    }
    each_lane!(lane);
}

#[inline(always)]
fn mask(bits: usize) -> u32 {
    u32::MAX >> (32 - bits)
}
