//! See `blindsum_fuzz::verify::run`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::verify::run(bytes));
