//! See `blindsum_fuzz::decode::coordinator_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::decode::coordinator_message(bytes));
