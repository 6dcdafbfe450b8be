//! `cargo +nightly fuzz run envelope`; what it does with the bytes is in `tests/fuzzed/mod.rs`.
#![no_main]

#[path = "../../tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::envelope(bytes));
