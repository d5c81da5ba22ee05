//! See `heddle_fuzz`, target `chunked_body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("chunked_body", bytes));
