//! See `blindsum_fuzz::decode::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::decode::store(bytes));
