//! What others write, and what must hold of it whatever it is. A target is a function of bytes that panics where the
//! host breaks a promise; libFuzzer calls it a million times, `tests/corpus.rs` with what is in `corpus` and its like.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a finding is a panic")]

mod headers;
mod manifest;
mod outcome;
mod plugin;
mod values;

pub use headers::headers;
pub use manifest::manifest;
pub use outcome::outcome;
pub use plugin::{assembled, plugin};

/// A function of bytes that panics where the host breaks a promise.
pub type Target = fn(&[u8]);

/// Every target, by its name, which is that of its folder in `corpus`.
pub const TARGETS: [(&str, Target); 4] =
    [("headers", headers), ("manifest", manifest), ("outcome", outcome), ("plugin", plugin)];

/// Whether a terminal shows the text as it is, line by line.
fn is_harmless(text: &str) -> bool {
    let acts = |c: char| c.is_control() && c != '\n';
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.contains(|c: char| acts(c) || turns(c))
}
