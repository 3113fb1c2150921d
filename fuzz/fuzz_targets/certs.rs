//! See `blindsum_fuzz::certs::files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blindsum_fuzz::certs::files(bytes));
