//! See `heddle_fuzz`, target `dns_query`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("dns_query", bytes));
