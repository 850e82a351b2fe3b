//! libFuzzer for `wabbit_fuzz::outcome`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wabbit_fuzz::outcome(data));
