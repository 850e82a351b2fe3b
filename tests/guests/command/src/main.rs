//! A WASI command: a component with `wasi:cli/run` and no handler.

fn main() {}
