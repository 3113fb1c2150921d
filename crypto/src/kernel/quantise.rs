//! Reals to ring elements, without a branch, so that the compiler makes vectors of it.
//!
//! Contract: one source for every backend; only the instructions that the compiler may use differ. f64 operations round
//! alike everywhere (nothing is fused), so that the integers are the same.

use super::Backend;
#[cfg(target_arch = "x86_64")]
use super::{vaes256, vaes512};

/// 2^52 + 2^51: added to |x| < 2^31 it leaves the nearest integer to x in the low 32 bits of the sum.
const MAGIC: f64 = 6_755_399_441_055_744.0;
const TWO_32: f64 = 4_294_967_296.0;

/// What the values of one segment are scaled by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// C: values beyond it are clipped.
    pub bound: f64,
    /// The integer that C becomes, below 2^23.
    pub top: u32,
    /// 2^b − 1.
    pub mask: u32,
}

/// ⌊x⌋ + 1 where r < (x − ⌊x⌋)·2^32, else ⌊x⌋, for x = v·top/C clipped to ±top; all mod 2^b. Gives the number of values
/// with |v| > C. Values are finite, and the three slices of one length (the shortest counts).
pub(crate) fn quantise(backend: Backend, scale: Scale, values: &[f32], random: &[u32], out: &mut [u32]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    match backend {
        // SAFETY: the processor was found to have AVX-512 F and BW.
        Backend::Vaes512 if vaes512::Vaes512Cpu::detect().is_some() => {
            return unsafe { avx512(scale, values, random, out) };
        }
        // SAFETY: the processor was found to have AVX2.
        Backend::Vaes256 if vaes256::Vaes256Cpu::detect().is_some() => {
            return unsafe { avx2(scale, values, random, out) };
        }
        _ => {}
    }
    let _ = backend;
    plain(scale, values, random, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn avx512(scale: Scale, values: &[f32], random: &[u32], out: &mut [u32]) -> u64 {
    plain(scale, values, random, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(scale: Scale, values: &[f32], random: &[u32], out: &mut [u32]) -> u64 {
    plain(scale, values, random, out)
}

#[inline(always)]
fn plain(Scale { bound, top, mask }: Scale, values: &[f32], random: &[u32], out: &mut [u32]) -> u64 {
    let (limit, bottom) = (f64::from(top), top.wrapping_neg());
    let factor = limit / bound;
    let mut saturated = 0u64;
    for ((&v, &r), out) in values.iter().zip(random).zip(out) {
        let v = f64::from(v);
        // wrapping, as a check for overflow would be a branch
        saturated = saturated.wrapping_add(u64::from(v.abs() > bound));
        let x = (v * factor).clamp(-limit, limit);
        let shifted = x + MAGIC;
        let nearest = shifted - MAGIC;
        let below = nearest > x; // then ⌊x⌋ is one less than the nearest integer
        let floor = nearest - f64::from(u8::from(below));
        let up = f64::from(r) < (x - floor) * TWO_32;
        let rounded = (shifted.to_bits() as u32).wrapping_sub(u32::from(below)).wrapping_add(u32::from(up));
        // at the bound v·factor may miss the largest integer by an ulp: that must not leave a chance of rounding down
        let rounded = if v >= bound { top } else { rounded };
        let rounded = if v <= -bound { bottom } else { rounded };
        *out = rounded & mask;
    }
    saturated
}
