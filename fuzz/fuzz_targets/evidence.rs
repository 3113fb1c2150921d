//! See `blindsum_fuzz::evidence::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::evidence::run(bytes));
