//! See `heddle_fuzz`, target `http1_request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("http1_request", bytes));
