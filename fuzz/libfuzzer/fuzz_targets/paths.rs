//! See `heddle_fuzz`, target `paths`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("paths", bytes));
