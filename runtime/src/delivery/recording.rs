//! Deliveries that were recorded: a line of JSON for each, with the time at which it came.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Delivery, json::DeliveryJson};

/// A delivery that came at some time.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Since the Unix epoch; to the millisecond where it was written.
    pub at: Duration,
    /// What came.
    pub delivery: Delivery,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    recorded_at: Cow<'a, str>,
    #[serde(borrow)]
    delivery: DeliveryJson<'a>,
}

/// The line of a delivery, with its end.
///
/// Errors: none of its parts has one; the signature is that of the serializer.
pub fn line(at: SystemTime, delivery: &Delivery) -> serde_json::Result<Vec<u8>> {
    let recorded_at = Cow::Owned(humantime::format_rfc3339_millis(at).to_string());
    let mut line = serde_json::to_vec(&Line { recorded_at, delivery: DeliveryJson::of(delivery) })?;
    line.push(b'\n');
    Ok(line)
}

/// Reads such a line.
///
/// Errors: what is wrong with it.
pub fn parse(line: &[u8]) -> Result<Recorded, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let at = humantime::parse_rfc3339(&line.recorded_at)
        .ok()
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .ok_or_else(|| format!("`{}` is not a time such as `2026-01-01T00:00:00.000Z`", line.recorded_at))?;
    Ok(Recorded { at, delivery: line.delivery.into_delivery("")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Properties, TRANSIENT, Value};

    #[test]
    fn a_delivery_is_read_as_it_was_written() {
        let delivery = Delivery {
            body: b"a\nb".to_vec(),
            properties: Properties {
                headers: vec![("z".into(), Value::I32(1)), ("a".into(), Value::text("x"))],
                delivery_mode: Some(TRANSIENT),
                message_id: Some("7".into()),
                ..Properties::default()
            },
            exchange: "e".into(),
            routing_key: "k".into(),
            queue: "q".into(),
            redelivered: false,
            attempt: 1,
        };
        let at = Duration::from_millis(1_767_225_600_123);
        let text = line(SystemTime::UNIX_EPOCH + at, &delivery).unwrap();
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(parse(text.trim_ascii_end()), Ok(Recorded { at, delivery: delivery.clone() }));
        let binary = Delivery { body: vec![0xff], ..delivery };
        assert_eq!(parse(&line(SystemTime::UNIX_EPOCH + at, &binary).unwrap()).unwrap().delivery, binary);
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for (text, expected) in [
            ("{}", "missing field `recorded_at`"),
            (r#"{"recorded_at":"2026-01-01T00:00:00Z"}"#, "missing field `delivery`"),
            (r#"{"recorded_at":"yesterday","delivery":{}}"#, "`yesterday` is not a time"),
            (r#"{"recorded_at":"2026-01-01T00:00:00Z","delivery":{"a":1}}"#, "unknown field `a`"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
