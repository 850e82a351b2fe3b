//! What is wrong with a file: each problem with its place, shown to a person with the line that it is about, or handed
//! to a program as rows.

use std::{fmt, ops::Range, path::Path};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

/// A line longer than this is named and not shown.
const SHOWN_LINE_BYTES_MAX: usize = 1000;

/// One thing that is wrong, in words that say what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Lower case, without a full stop, literals in backticks.
    pub message: String,
    /// The fix, where it is known.
    pub hint: Option<String>,
    /// Where in the file; none where the problem is with the file as a whole.
    pub place: Option<Place>,
}

/// A place in a file. It carries the line, so that showing it needs no second look at a file that may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, without its end; none where it is too long to be shown or may hold a password.
    pub text: Option<String>,
    /// The bytes of the line that the problem is about.
    pub marked: Range<usize>,
}

/// How problems are shown to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Characters alone, for logs, pipes and tests.
    Plain,
    /// With the escape sequences of a terminal.
    Coloured,
}

/// A problem as a program reads it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The file's path.
    pub file: String,
    /// Counted from 1.
    pub line: Option<usize>,
    /// In characters, counted from 1.
    pub column: Option<usize>,
    /// See [`Problem::message`].
    pub message: String,
    /// See [`Problem::hint`].
    pub hint: Option<String>,
}

/// All problems of a file, one paragraph each, for a person to read.
pub fn render(path: &Path, problems: &[Problem], style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let path = path.display().to_string();
    let shown = problems.iter().map(|problem| renderer.render(&[problem.group(&path)]) + "\n");
    // The renderer shows most control characters as pictures, and lets these pass; to some terminals one is an escape.
    shown.collect::<Vec<_>>().join("\n").replace(|c| matches!(c, '\u{80}'..='\u{9f}'), "\u{fffd}")
}

/// All problems of a file, one row each, for a program to read.
pub fn rows(path: &Path, problems: &[Problem]) -> Vec<Row> {
    let row = |problem: &Problem| Row {
        file: path.display().to_string(),
        line: problem.place.as_ref().map(|place| place.line),
        column: problem.place.as_ref().map(|place| place.column),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    };
    problems.iter().map(row).collect()
}

impl Problem {
    /// A problem of the file as a whole, until it is given a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None }
    }

    /// With the fix.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// With its place.
    pub fn at(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }

    fn group<'p>(&'p self, path: &'p str) -> Group<'p> {
        let title = Level::ERROR.primary_title(&self.message);
        let group = match &self.place {
            Some(Place { line, text: Some(text), marked, .. }) => {
                let mark = AnnotationKind::Primary.span(marked.clone());
                title.element(Snippet::source(text).path(path).line_start(*line).annotation(mark))
            }
            Some(place) => title.element(Origin::path(path).line(place.line).char_column(place.column)),
            None => title.element(Origin::path(path)),
        };
        let hint = self.hint.as_deref().map(normalize_untrusted_str);
        group.elements(hint.map(|hint| Level::HELP.with_name("hint").message(hint)))
    }
}

/// The message and the hint, without the place.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl Place {
    /// Where a span of bytes begins. A span over several lines is marked on the first of them.
    pub fn of(text: &str, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let (before, after) = text.split_at_checked(start).unwrap_or((text, ""));
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = after.find('\n').map_or(text.len(), |newline| start + newline);
        let line = text.get(line_start..line_end).unwrap_or_default().trim_end_matches('\r');

        let marked_start = (start - line_start).min(line.len());
        let marked_end = line.floor_char_boundary(span.end.saturating_sub(line_start)).max(marked_start);
        Self {
            line: 1 + before.matches('\n').count(),
            column: 1 + line.get(..marked_start).map_or(0, |before| before.chars().count()),
            text: (line.len() <= SHOWN_LINE_BYTES_MAX && !may_hold_password(line)).then(|| line.to_owned()),
            marked: marked_start..marked_end,
        }
    }
}

/// Whether a line has something like `//user:password@host`, also where it is so misspelt that it is no URL, or the
/// `secrets` of a manifest, where somebody may have written them out.
fn may_hold_password(line: &str) -> bool {
    if line.contains("secrets") {
        return true;
    }
    let before_host = line.rsplit_once('@').is_some_and(|(before, _)| before.contains(':'));
    let after_host = |after: &str| {
        let after_v6 = after.rsplit_once(']').map_or(after, |(_, rest)| rest);
        after_v6.split_once(':').is_some_and(|(_, port)| !begins_with_port(port))
    };
    // A line may have several URLs, each of which ends with its text.
    let texts = line.split("://").skip(1).map(|after| after.split_once('"').map_or(after, |(text, _)| text));
    before_host || texts.into_iter().any(after_host)
}

fn begins_with_port(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    (1..=5).contains(&(text.len() - rest.len())) && !rest.starts_with(|c: char| c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |text: &str, span: Range<usize>, line, column, shown: &str, marked: Range<usize>| {
            let expected = Place { line, column, text: Some(shown.to_owned()), marked };
            assert_eq!(Place::of(text, span.clone()), expected, "{text:?} {span:?}");
        };
        check("a = 1", 4..5, 1, 5, "a = 1", 4..5);
        check("a = 1\nb = 2\n", 10..11, 2, 5, "b = 2", 4..5);
        check("a = 1\r\nb = 2\r\n", 7..8, 2, 1, "b = 2", 0..1);
        check("ü = 1", 3..4, 1, 3, "ü = 1", 3..4);
        // In the middle of a character, over several lines, at the end and beyond it.
        check("ü = 1", 1..2, 1, 1, "ü = 1", 0..2);
        check("a = [\n1,\n]", 4..10, 1, 5, "a = [", 4..5);
        check("a\r\n", 1..2, 1, 2, "a", 1..1);
        check("a\n", 2..2, 2, 1, "", 0..0);
        check("", 7..9, 1, 1, "", 0..0);
    }

    #[test]
    fn lines_with_a_password_are_not_shown() {
        let hidden = [
            r#"url = "amqp://guest:secret@host""#,
            r#"url = "amqp:guest:secret@host""#,
            r#"url = "guest:secret@host""#,
            r#"url = "amqp://guest:secret""#,
            r#"url = "amqp://guest:secret\u0040host""#,
            r#"url = "amqp://guest:12secret""#,
            r#"url = "amqp://guest:123456""#,
            r#"amqp = { url = "amqp://guest:se/cr@et@host:5672", ca = 1 }"#,
        ];
        let shown =
            [r#"url = "amqp://host:5672/shop""#, r#"url = "amqps://[::1]/""#, r#"from = "shop@example.com""#, ""];
        for line in hidden {
            assert_eq!(Place::of(line, 0..1).text, None, "{line}");
        }
        for line in shown {
            assert_eq!(Place::of(line, 0..1).text.as_deref(), Some(line));
        }
    }

    #[test]
    fn shown_plain_and_coloured() {
        let place = Place::of("x = 1\nprefech = 3", 6..13);
        let problems = [
            Problem::new("unknown key `prefech`").hint("did you mean `prefetch`?").at(Some(place)),
            Problem::new("`plugin` is missing"),
        ];
        let path = Path::new("manifests/a.toml");
        let plain = render(path, &problems, Style::Plain);
        let expected = [
            "error: unknown key `prefech`",
            " --> manifests/a.toml:2:1",
            "  |",
            "2 | prefech = 3",
            "  | ^^^^^^^",
            "  |",
            "  = hint: did you mean `prefetch`?",
            "",
            "error: `plugin` is missing",
            "--> manifests/a.toml",
            "",
        ];
        assert_eq!(plain, expected.join("\n"));
        assert!(render(path, &problems, Style::Coloured).contains("\u{1b}["));
    }

    #[test]
    fn what_a_file_says_cannot_reach_the_terminal() {
        let text = "a\u{1b}[31m = \u{7}\u{202e}\u{9b}31m 1";
        let problem = Problem::new(text).hint(text).at(Some(Place::of(text, 0..3)));
        let shown = render(Path::new("a.toml"), &[problem], Style::Plain);
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}', '\u{9b}']), "{shown:?}");
    }

    #[test]
    fn rows_for_programs() {
        let problems = [Problem::new("no").at(Some(Place::of("a\nb", 2..3))), Problem::new("file").hint("fix")];
        let json = serde_json::to_value(rows(Path::new("m/a.toml"), &problems)).unwrap();
        let expected = serde_json::json!([
            {"file": "m/a.toml", "line": 2, "column": 1, "message": "no", "hint": null},
            {"file": "m/a.toml", "line": null, "column": null, "message": "file", "hint": "fix"},
        ]);
        assert_eq!(json, expected);
    }
}
