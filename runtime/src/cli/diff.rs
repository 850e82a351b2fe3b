//! Differences, for a person and for a program.

use std::{env, fmt::Write as _, io::IsTerminal as _};

use serde_json::{Value as Json, json};

use crate::{
    escape::escape,
    scenario::{Difference, Side},
};

/// Lines of one side that are shown.
const LINES_MAX: usize = 40;
/// Characters of one line that are shown.
const LINE_CHARS_MAX: usize = 400;

/// How differences are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Diff {
    coloured: bool,
}

impl Diff {
    /// With colours on a terminal, unless `NO_COLOR` says otherwise.
    pub(super) fn new() -> Self {
        Self {
            coloured: std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// A word that tells good from bad.
    pub(super) fn word(self, word: &str, good: bool) -> String {
        let colour = if good { 32 } else { 31 };
        if self.coloured { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    /// All differences, each below the field that it is of.
    pub(super) fn show(self, differences: &[Difference], indent: usize) -> String {
        let mut shown = String::new();
        let blanks = " ".repeat(indent);
        for Difference { path, expected, got } in differences {
            let _ = writeln!(shown, "{blanks}{}", escape(path.as_bytes()));
            for (sign, good, line) in lines(expected, got) {
                let line = self.word(&format!("{sign} {line}"), good);
                let _ = writeln!(shown, "{blanks}  {line}");
            }
        }
        shown
    }
}

/// The lines of both sides, `-` for what was expected and `+` for what came.
fn lines(expected: &Side, got: &Side) -> Vec<(char, bool, String)> {
    let (mut before, mut after) = (texts(expected), texts(got));
    let mut rows = Vec::new();
    let count = |mut pairs: Box<dyn Iterator<Item = (&String, &String)> + '_>| {
        let mut same = 0;
        while pairs.next().is_some_and(|(a, b)| a == b) {
            same += 1;
        }
        same
    };
    // Of long texts only the lines that differ.
    let head = count(Box::new(before.iter().zip(&after)));
    let tail = count(Box::new(before.iter().skip(head).rev().zip(after.iter().skip(head).rev())));
    let cut = |lines: &mut Vec<String>| {
        lines.truncate(lines.len() - tail);
        lines.drain(..head);
    };
    cut(&mut before);
    cut(&mut after);
    let same = |count: usize| (' ', true, format!("({count} lines are the same)"));
    if head > 0 {
        rows.push(same(head));
    }
    for (sign, good, lines) in [('-', true, before), ('+', false, after)] {
        let more = lines.len().saturating_sub(LINES_MAX);
        rows.extend(lines.into_iter().take(LINES_MAX).map(|line| (sign, good, short(&line))));
        if more > 0 {
            rows.push((sign, good, format!("({more} more lines)")));
        }
    }
    if tail > 0 {
        rows.push(same(tail));
    }
    rows
}

/// One side, line by line: a text of several lines as it is, all else as JSON.
fn texts(side: &Side) -> Vec<String> {
    match side {
        Side::Value(Json::String(text)) if text.contains('\n') => {
            let mut lines: Vec<_> = text.split('\n').map(|line| escape(line.as_bytes())).collect();
            if lines.last().is_some_and(String::is_empty) {
                lines.pop();
            } else {
                lines.push("(no line end)".into());
            }
            lines
        }
        Side::Value(value @ (Json::Object(_) | Json::Array(_))) => match serde_json::to_string_pretty(value) {
            Ok(text) if value.to_string().len() > 100 => text.lines().map(|line| escape(line.as_bytes())).collect(),
            _ => vec![escape(value.to_string().as_bytes())],
        },
        other => vec![escape(other.to_string().as_bytes())],
    }
}

fn short(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// A difference for a program: what is not there is left out, what is said in words is a text.
pub(super) fn json_of(difference: &Difference) -> Json {
    let mut fields = serde_json::Map::from_iter([("path".to_owned(), json!(difference.path))]);
    for (name, side) in [("expected", &difference.expected), ("got", &difference.got)] {
        match side {
            Side::Nothing => {}
            Side::Value(value) => _ = fields.insert(name.into(), value.clone()),
            Side::Words(words) => _ = fields.insert(format!("{name}_words"), json!(words)),
        }
    }
    Json::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: Side, got: Side, shown: &[&str]) {
        let difference = Difference { path: "a".into(), expected, got };
        let text = Diff { coloured: false }.show(&[difference], 2);
        assert_eq!(text.lines().collect::<Vec<_>>(), shown);
    }

    #[test]
    fn differences_are_shown() {
        let value = |json: Json| Side::Value(json);
        check(value(json!(1)), value(json!("1")), &["  a", "    - 1", "    + \"1\""]);
        check(value(json!({ "b": 1 })), Side::Nothing, &["  a", "    - {\"b\":1}", "    + (nothing)"]);
        check(
            value(json!("one\ntwo\nthree\n")),
            value(json!("one\n2\nthree\n")),
            &["  a", "      (1 lines are the same)", "    - two", "    + 2", "      (1 lines are the same)"],
        );
        check(
            value(json!("x\u{1b}[31m")),
            Side::Words("y\u{9b}".into()),
            &["  a", "    - \"x\\u001b[31m\"", "    + y\\u{9b}"],
        );
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = |word: &str, count| Side::Value(json!(format!("{word}\n").repeat(count)));
        let difference = Difference { path: "a".into(), expected: long("x", 100), got: long(&"y".repeat(1000), 1) };
        let text = Diff { coloured: false }.show(&[difference], 0);
        assert_eq!(text.lines().count(), 1 + LINES_MAX + 1 + 1);
        assert!(text.contains("(60 more lines)") && text.contains(&format!("{}…", "y".repeat(LINE_CHARS_MAX))));
    }

    #[test]
    fn a_program_reads_both_sides() {
        let difference = Difference { path: "a".into(), expected: Side::Nothing, got: Side::Words("x".into()) };
        assert_eq!(json_of(&difference), json!({ "path": "a", "got_words": "x" }));
    }
}
