//! See `heddle_fuzz`, target `names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("names", bytes));
