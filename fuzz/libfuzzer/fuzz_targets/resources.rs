//! See `heddle_fuzz`, target `resources`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("resources", bytes));
