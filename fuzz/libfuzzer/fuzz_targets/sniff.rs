//! See `heddle_fuzz`, target `sniff`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heddle_fuzz::run("sniff", bytes));
