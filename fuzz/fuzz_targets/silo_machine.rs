//! See `blindsum_fuzz::silo`.
#![no_main]

use blindsum_fuzz::{operations, silo};

libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed.is_multiple_of(8) {
        return libfuzzer_sys::fuzzer_mutate(bytes, size, max_size);
    }
    operations::mutate(&mut bytes[..max_size], size, seed, silo::What::KINDS)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| silo::run(bytes));
