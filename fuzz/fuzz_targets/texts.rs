//! See `blindsum_fuzz::decode::texts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::decode::texts(bytes));
