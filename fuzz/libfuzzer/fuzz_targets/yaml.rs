//! See `heddle_fuzz`, target `yaml`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("yaml", bytes));
