//! libFuzzer for `wabbit_fuzz::headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wabbit_fuzz::headers(data));
