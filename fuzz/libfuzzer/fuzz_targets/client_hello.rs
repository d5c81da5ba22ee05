//! See `heddle_fuzz`, target `client_hello`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("client_hello", bytes));
