//! libFuzzer for `wabbit_fuzz::plugin`.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| wabbit_fuzz::plugin(data));

// Plugins are kept as text, and what is mutated is what it stands for.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let assembled = data.get(..size).map(wabbit_fuzz::assembled);
    let size = match &assembled {
        Some(bytes) if bytes.len() <= max_size.min(data.len()) => {
            data.iter_mut().zip(&**bytes).for_each(|(to, from)| *to = *from);
            bytes.len()
        }
        _ => size,
    };
    fuzzer_mutate(data, size, max_size)
});
