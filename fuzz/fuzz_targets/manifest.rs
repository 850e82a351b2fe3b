//! libFuzzer for `wabbit_fuzz::manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wabbit_fuzz::manifest(data));
