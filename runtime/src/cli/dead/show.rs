//! `wabbit dead show`: letters, read and given back.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use clap::Args;
use serde_json::{Value as Json, json};

use super::{ID, print, queue_name, waiting, with_broker};
use crate::{
    amqp::Letters,
    cli::{Failed, SettingsArgs, settings},
    delivery::{Delivery, Value, json::to_json},
    escape::escape,
};

/// Of a body, so many bytes are shown.
const PREVIEW_BYTES_MAX: usize = 1024;
/// What is told of a letter, with the header that says it.
const FIELDS: &[(&str, &str)] = &[
    ("id", ID),
    ("reason", "x-wabbit-reason"),
    ("error", "x-wabbit-error"),
    ("attempts", "x-wabbit-attempts"),
    ("worker", "x-wabbit-worker"),
    ("plugin", "x-wabbit-plugin"),
    ("queue", "x-wabbit-queue"),
    ("exchange", "x-wabbit-exchange"),
    ("routing-key", "x-wabbit-routing-key"),
];

#[derive(Args)]
pub(super) struct Show {
    /// The dead-letter queue
    #[arg(value_parser = queue_name)]
    queue: String,
    /// At most so many letters
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Show {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let Self { queue, limit, json, settings: args } = self;
        with_broker(&settings(&args.overrides())?, async |session| {
            let count = waiting(&session, &queue).await?;
            let letters = Letters::open(&session, &queue).await?;
            let now = SystemTime::now();
            let mut found = Vec::new();
            // Held until all are read: what is given back at once would be the next again.
            for number in 0..count.min(limit) {
                let Some(received) = letters.next().await? else { break };
                if json {
                    found.push(as_json(&received.delivery, now));
                } else {
                    let gap = if number > 0 { "\n" } else { "" };
                    print(&format!("{gap}{}", as_text(&received.delivery, now)))?;
                }
            }
            letters.close().await?;
            if json {
                print(&format!("{}\n", json!({ "queue": queue, "messages": count, "letters": found })))?;
            } else if count > limit {
                eprintln!("{limit} of {count} letters; hint: `--limit` shows more");
            }
            Ok(())
        })
    }
}

/// Seconds since the epoch, at which it failed last.
fn failed_at(letter: &Delivery) -> Option<u64> {
    match letter.properties.header("x-wabbit-last-failure") {
        Some(Value::Timestamp(seconds)) => Some(*seconds),
        _ => None,
    }
}

/// How long ago it failed; zero where a clock goes wrong.
fn age(letter: &Delivery, now: SystemTime) -> Option<Duration> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    failed_at(letter).map(|at| Duration::from_secs(now.saturating_sub(at)))
}

fn as_json(letter: &Delivery, now: SystemTime) -> Json {
    let header = |name: &str| letter.properties.header(name).map_or(Json::Null, to_json);
    let mut json: serde_json::Map<_, _> =
        FIELDS.iter().map(|(field, name)| (field.replace('-', "_"), header(name))).collect();
    let (kind, body) = preview(&letter.body);
    json.extend([
        ("last_failure".to_owned(), json!(failed_at(letter))),
        ("age_seconds".to_owned(), json!(age(letter, now).map(|age| age.as_secs()))),
        ("body_bytes".to_owned(), json!(letter.body.len())),
        (kind.to_owned(), json!(body)),
    ]);
    json.into()
}

/// Lines of a name and what it is; `-` for what is not known.
fn as_text(letter: &Delivery, now: SystemTime) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| _ = writeln!(text, "{name:<11}  {}", escape(value.as_bytes()));
    for (field, name) in FIELDS {
        let value = match letter.properties.header(name) {
            None => "-".to_owned(),
            Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(value) => to_json(value).to_string(),
        };
        line(field, &value);
        if *field == "attempts" {
            let age = age(letter, now).map(|age| humantime::format_duration(age).to_string());
            line("age", age.as_deref().unwrap_or("-"));
        }
    }
    let (kind, body) = preview(&letter.body);
    let kind = if kind == "base64" { ", as base64" } else { "" };
    let more = if letter.body.len() > PREVIEW_BYTES_MAX { " \u{2026}" } else { "" };
    line("body", &format!("{} bytes{kind}: {body}{more}", letter.body.len()));
    text
}

/// The beginning of a body, and whether it is `text` or `base64`.
fn preview(body: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(body) {
        Ok(text) => {
            let end = text.floor_char_boundary(PREVIEW_BYTES_MAX);
            ("text", text.get(..end).unwrap_or_default().to_owned())
        }
        Err(_) => {
            let start = body.get(..PREVIEW_BYTES_MAX).unwrap_or(body);
            ("base64", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, start))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Properties;

    fn letter(headers: &[(&str, Value)], body: &[u8]) -> Delivery {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Delivery {
            body: body.to_vec(),
            properties: Properties { headers, ..Properties::default() },
            exchange: String::new(),
            routing_key: "work.dead".into(),
            queue: "work.dead".into(),
            redelivered: false,
            attempt: 1,
        }
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let known = [
            ("x-wabbit-error", Value::text("a\x1b[31mb\nc")),
            ("x-wabbit-attempts", Value::I64(2)),
            ("x-wabbit-last-failure", Value::Timestamp(910)),
        ];
        let letter = letter(&known, b"x\ty");
        let text = "id           -\nreason       -\nerror        a\\u{1b}[31mb\\nc\nattempts     2\n\
                    age          1m 30s\n\
                    worker       -\nplugin       -\nqueue        -\nexchange     -\nrouting-key  -\n\
                    body         3 bytes: x\\ty\n";
        assert_eq!(as_text(&letter, now), text);
        let json = as_json(&letter, now);
        for (key, value) in [
            ("id", Json::Null),
            ("routing_key", Json::Null),
            ("error", json!("a\x1b[31mb\nc")),
            ("attempts", json!(2)),
            ("age_seconds", json!(90)),
            ("last_failure", json!(910)),
            ("body_bytes", json!(3)),
            ("text", json!("x\ty")),
        ] {
            assert_eq!(json.get(key), Some(&value), "{key}");
        }
        // A clock that goes wrong.
        assert_eq!(age(&letter, SystemTime::UNIX_EPOCH), Some(Duration::ZERO));
    }

    #[test]
    fn bodies_are_bounded() {
        let (kind, text) = preview("\u{e9}".repeat(10_000).as_bytes());
        assert_eq!((kind, text.len()), ("text", PREVIEW_BYTES_MAX));
        let (kind, text) = preview(&[0xff; 10_000]);
        assert_eq!((kind, text.len()), ("base64", PREVIEW_BYTES_MAX.div_ceil(3) * 4));
        assert_eq!(preview(b"\xff"), ("base64", "/w==".to_owned()));
        assert!(as_text(&letter(&[], &[b'x'; 2000]), SystemTime::UNIX_EPOCH).ends_with("x \u{2026}\n"));
    }
}
