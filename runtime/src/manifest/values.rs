//! The small values of a file, from how a person writes them to how the host uses them, and back for messages.

mod grant;
mod http;

use std::time::Duration;

use bytesize::ByteSize;

use super::report::Problem;

pub use grant::{Pattern, PublishGrant};
pub use http::HttpGrant;
pub(crate) use http::network;

/// AMQP's short strings: names and routing keys.
const SHORT_STRING_BYTES_MAX: usize = 255;
/// More of what a user wrote is not repeated in a message.
const QUOTED_CHARS_MAX: usize = 60;
/// A longer name is not compared with the known ones.
const COMPARED_BYTES_MAX: usize = 64;

/// A duration such as `5s`, `250ms` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, Problem> {
    // The parser panics where the sum of several parts just exceeds what a `Duration` holds: nine digits in a row and
    // a few parts stay far below.
    let digits_in_a_row = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or_default();
    let parsed = if text.len() <= 40 && digits_in_a_row <= 9 { humantime::parse_duration(text).ok() } else { None };
    parsed.ok_or_else(|| {
        Problem::new(format!("{} is not a duration", quoted(text)))
            .hint("write a number with its unit: `\"250ms\"`, `\"5s\"`, `\"2m\"`")
    })
}

/// A number of bytes such as `64MiB`, `1GB` or `4096`.
pub(crate) fn size(text: &str) -> Result<u64, Problem> {
    text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| {
        Problem::new(format!("{} is not a size", quoted(text))).hint("write a number with its unit: `\"64MiB\"`")
    })
}

/// A duration as it is written in a file.
pub(crate) fn show_duration(duration: &Duration) -> String {
    humantime::format_duration(*duration).to_string()
}

/// A number of bytes as it is written in a file.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "passed as a function of a reference")]
pub(crate) fn show_size(bytes: &usize) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| *bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// A routing key: any text that AMQP can carry as a short string.
pub(crate) fn short_string(text: &str) -> Result<String, Problem> {
    let bytes = text.len();
    if bytes > SHORT_STRING_BYTES_MAX {
        let message = format!("longer than AMQP allows: {bytes} bytes, at most {SHORT_STRING_BYTES_MAX}");
        return Err(Problem::new(message));
    }
    Ok(text.to_owned())
}

/// The name of a queue or exchange; empty where AMQP gives that a meaning.
pub(crate) fn name(text: &str) -> Result<String, Problem> {
    // RabbitMQ takes line ends out of a name in silence, and the queue would then be another one.
    if text.chars().any(char::is_control) {
        return Err(Problem::new(format!("{} has control characters", quoted(text))));
    }
    short_string(text)
}

/// The name of something that the host itself declares: RabbitMQ refuses `amq.` names.
pub(crate) fn declared_name(text: &str) -> Result<String, Problem> {
    if text.starts_with("amq.") {
        return Err(Problem::new(format!("{} cannot be declared: `amq.` names are the broker's own", quoted(text))));
    }
    name(text)
}

/// What a user wrote, shortened and in backticks, for a message.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = |c: char| if c == '"' || c == '\'' { c.to_string() } else { c.escape_debug().to_string() };
    let shown: String = text.chars().take(QUOTED_CHARS_MAX).map(escaped).collect();
    let more = if text.chars().nth(QUOTED_CHARS_MAX).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// The hint for a word that is not among the known ones.
pub(crate) fn nearest_or_all(text: &str, known: &[&str]) -> String {
    nearest(text, known).unwrap_or_else(|| match known {
        [] => "none is known here".to_owned(),
        [only] => format!("`{only}` is the only one"),
        [..] => format!("one of `{}`", known.join("`, `")),
    })
}

/// The hint for a misspelt word, if a known one is like it.
pub(crate) fn nearest(text: &str, known: &[&str]) -> Option<String> {
    if text.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let text = text.to_lowercase().replace('_', "-");
    let distances = known.iter().map(|word| (strsim::damerau_levenshtein(&text, word), *word));
    let near = |(distance, word): &(usize, &str)| *distance < word.len() && *distance <= word.len().max(3) / 3;
    distances.min().filter(near).map(|(_, word)| format!("did you mean `{word}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check =
            |text: &str, ms: Option<u64>| assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        check("250ms", Some(250));
        check("5s", Some(5_000));
        check("1.5s", Some(1_500));
        check("1m 30s", Some(90_000));
        check("1h", Some(3_600_000));
        check("5", None);
        check("five seconds", None);
        check("-5s", None);
        check("", None);
        // Too large for a `Duration`, in one part and in several.
        check("999999999999999999999s", None);
        check("18446744073709551615s 1000ms", None);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(size(text).ok(), bytes, "{text}");
        check("64MiB", Some(64 << 20));
        check("64 MiB", Some(64 << 20));
        check("1GB", Some(1_000_000_000));
        check("1.5KiB", Some(1536));
        check("4096", Some(4096));
        check("64 parsecs", None);
        check("-1", None);
        check("", None);
    }

    #[test]
    fn shown_as_they_are_written() {
        let check = |bytes: usize, shown: &str| assert_eq!(show_size(&bytes), shown);
        check(0, "0");
        check(1000, "1000");
        check(64 << 10, "64KiB");
        check(4 << 30, "4GiB");
        check(1536, "1536");
        assert_eq!(show_duration(&Duration::from_secs(90)), "1m 30s");
    }

    #[test]
    fn names() {
        assert_eq!(name("order_notify").unwrap(), "order_notify");
        assert_eq!(name("amq.direct").unwrap(), "amq.direct");
        assert!(declared_name("amq.direct").is_err());
        assert!(name(&"n".repeat(255)).is_ok());
        assert!(name(&"n".repeat(256)).is_err());
        assert!(name("two\nlines").is_err());
        assert!(short_string("two\nlines").is_ok());
    }

    #[test]
    fn what_is_quoted_is_short_and_harmless() {
        assert_eq!(quoted("it's \"so\""), "`it's \"so\"`");
        assert_eq!(quoted("\u{1b}[31m"), "`\\u{1b}[31m`");
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), QUOTED_CHARS_MAX + 3);
    }

    #[test]
    fn near_words() {
        let known = ["prefetch", "concurrency", "order"];
        assert_eq!(nearest("prefech", &known).as_deref(), Some("did you mean `prefetch`?"));
        assert_eq!(nearest("Prefetch", &known).as_deref(), Some("did you mean `prefetch`?"));
        assert_eq!(nearest("oder", &known).as_deref(), Some("did you mean `order`?"));
        assert_eq!(nearest("timeout", &known), None);
        assert_eq!(nearest(&"order".repeat(100), &known), None);
        assert_eq!(nearest("auto_delete", &["auto-delete"]).as_deref(), Some("did you mean `auto-delete`?"));
        assert_eq!(nearest_or_all("x", &["a", "b"]), "one of `a`, `b`");
        assert_eq!(nearest_or_all("x", &["only"]), "`only` is the only one");
        assert_eq!(nearest_or_all("x", &[]), "none is known here");
    }
}
