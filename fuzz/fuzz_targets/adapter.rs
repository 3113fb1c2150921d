//! See `blindsum_fuzz::adapter::files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::adapter::files(bytes));
