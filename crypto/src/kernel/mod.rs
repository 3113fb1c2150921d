//! The inner loops of masking, rounding and the verified sum: one portable version of each, and faster twins for
//! processors that can.
//!
//! ```text
//! Backend::best() ─┬─ Vaes512   AVX-512 and VAES: four AES blocks to a register, eight registers in flight
//!                  ├─ Vaes256   AVX2 and VAES: two blocks to a register
//!                  └─ Portable  the crates `aes` and `ctr`, plain Rust; the twin that tests compare the others with
//! ```
//!
//! Contract: every backend gives the same bits. A keystream is AES-256-CTR with a zero IV and a 128-bit big-endian counter;
//! lane k takes its bytes 4k..4k+4 as a little-endian u32. Keystreams stay in registers in the fast backends; round keys
//! are in memory while a [`Keystreams`] lives and are erased with it (SA-11). Lanes are counted from zero and stay below
//! 2^60. `unsafe` appears in the fast backends only: where a vector is loaded from or stored to an array of its size, and
//! where a function that needs processor features is called after they were detected.

pub(crate) mod bits;
pub(crate) mod blocks;
mod portable;
#[allow(unsafe_code)]
mod quantise;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod schedule;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod vaes256;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod vaes512;

use crate::mask::Stream;
use crate::sketch::ROWS;
pub(crate) use quantise::{Scale, quantise};
use zeroize::Zeroizing;
#[cfg(target_arch = "x86_64")]
use {crate::mask::Sign, schedule::RoundKeys};

/// Lanes that all streams pass over before the next ones: 16 KiB, half of a first-level cache.
pub(crate) const BLOCK_LANES: usize = 16384;

/// Which version of the inner loops runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Plain Rust.
    Portable,
    /// AVX2 and VAES, on x86-64.
    Vaes256,
    /// AVX-512 (F and BW) and VAES, on x86-64.
    Vaes512,
}

impl Backend {
    /// The fastest that this processor has.
    pub fn best() -> Backend {
        [Backend::Vaes512, Backend::Vaes256].into_iter().find(|b| b.is_available()).unwrap_or(Backend::Portable)
    }

    /// All that this processor has, the portable one first.
    pub fn available() -> Vec<Backend> {
        let all = [Backend::Portable, Backend::Vaes256, Backend::Vaes512];
        all.into_iter().filter(|b| b.is_available()).collect()
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Backend::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Backend::Vaes256 => vaes256::Vaes256Cpu::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Backend::Vaes512 => vaes512::Vaes512Cpu::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }
}

/// Signed keystreams, ready to be applied to any range of lanes. Erased on drop.
pub struct Keystreams(ByBackend);

enum ByBackend {
    Portable(Vec<portable::SignedKeystream>, Box<portable::Buffer>),
    #[cfg(target_arch = "x86_64")]
    Vaes256(vaes256::Vaes256Cpu, Vec<(RoundKeys, Sign)>),
    #[cfg(target_arch = "x86_64")]
    Vaes512(vaes512::Vaes512Cpu, Vec<(RoundKeys, Sign)>, Box<vaes512::RoundTable>),
}

impl Keystreams {
    /// Expands the keys of some masks for the fastest backend.
    pub fn new(streams: &[Stream]) -> Keystreams {
        Keystreams::with(Backend::best(), streams)
    }

    /// Expands the keys of some masks for one backend (the portable one where the processor lacks it).
    pub fn with(backend: Backend, streams: &[Stream]) -> Keystreams {
        #[cfg(target_arch = "x86_64")]
        match backend {
            Backend::Vaes512 => {
                if let Some(cpu) = vaes512::Vaes512Cpu::detect() {
                    return Keystreams(ByBackend::Vaes512(cpu, cpu.0.schedules(streams), vaes512::RoundTable::new()));
                }
            }
            Backend::Vaes256 => {
                if let Some(cpu) = vaes256::Vaes256Cpu::detect() {
                    return Keystreams(ByBackend::Vaes256(cpu, cpu.0.schedules(streams)));
                }
            }
            Backend::Portable => {}
        }
        let _ = backend;
        Keystreams(ByBackend::Portable(
            streams.iter().map(portable::SignedKeystream::new).collect(),
            Box::new(Zeroizing::new([0; 4 * BLOCK_LANES])),
        ))
    }

    /// Adds or subtracts every keystream at the lanes `first_lane..first_lane + lanes.len()`.
    pub fn apply(&mut self, lanes: &mut [u32], first_lane: usize) {
        let mut first = first_lane;
        for block in lanes.chunks_mut(BLOCK_LANES) {
            match &mut self.0 {
                ByBackend::Portable(streams, buffer) => streams.iter_mut().for_each(|s| s.apply(buffer, block, first)),
                #[cfg(target_arch = "x86_64")]
                ByBackend::Vaes256(cpu, streams) => {
                    streams.iter().for_each(|(keys, sign)| cpu.apply(keys, *sign, block, first));
                }
                #[cfg(target_arch = "x86_64")]
                ByBackend::Vaes512(cpu, streams, table) => {
                    streams.iter().for_each(|(keys, sign)| cpu.apply(keys, *sign, table, block, first));
                }
            }
            first += block.len();
        }
    }
}

/// Adds to each of 128 sums the lanes that its row selects, mod 2^32: lane k (counted from `first_lane`) goes to row r iff
/// bit r mod 8 of byte ⌊r/8⌋ of block k of AES-256-CTR under `key` (zero IV) is set. The key is public.
pub fn subset_sums(key: &[u8; 32], first_lane: usize, lanes: &[u32], sums: &mut [u32; ROWS]) {
    subset_sums_with(Backend::best(), key, first_lane, lanes, sums);
}

/// [`subset_sums`] on one backend (the portable one where the processor lacks it, or where there is no twin).
pub fn subset_sums_with(backend: Backend, key: &[u8; 32], first_lane: usize, lanes: &[u32], sums: &mut [u32; ROWS]) {
    #[cfg(target_arch = "x86_64")]
    if let (Backend::Vaes512, Some(cpu)) = (backend, vaes512::Vaes512Cpu::detect()) {
        let mut keys = RoundKeys::EMPTY;
        cpu.0.expand(key, &mut keys);
        return cpu.subset_sums(&keys, first_lane as u64, lanes, sums);
    }
    let _ = backend;
    portable::subset_sums(key, first_lane, lanes, sums);
}
