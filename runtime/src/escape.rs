//! What others wrote, as text that no terminal acts upon.

use std::fmt::Write as _;

/// Control characters are written as escapes, a new line among them.
pub fn escape(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // The second group turns the direction of writing, and so can hide text.
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape(b"a\x1b[31mred\x07\tb\xff\n"), "a\\u{1b}[31mred\\u{7}\\tb\u{fffd}\\n");
        assert_eq!(escape("gr\u{fc}n \u{202e}x".as_bytes()), "gr\u{fc}n \\u{202e}x");
    }
}
