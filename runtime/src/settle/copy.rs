//! The dead letter: a copy of the delivery that says what happened to it.
//!
//! Body, properties and header table are those that came, type for type. What would make the broker treat the copy in
//! a way of its own is moved aside under names of ours: an expiration (the copy would vanish), a user id (the broker
//! compares it with our connection's), `CC` and `BCC` (it would be delivered to them again) and the broker's own
//! records of dead-lettering.

use std::time::SystemTime;

use crate::{
    delivery::{Delivery, Properties, Table, Value},
    outcome::{Failure, Publication, strip_reserved},
};

/// The most bytes of an error's text in a header.
const ERROR_BYTES_MAX: usize = 1024;
/// The most bytes of a copy's properties. A content header must fit one frame (128 KiB by default in RabbitMQ), or the
/// broker closes the connection; a delivery's own may have filled nearly all of it.
const PROPERTIES_BYTES_MAX: usize = 120 * 1024;

/// Headers of the broker or the publisher that a copy carries under another name.
const MOVED: &[(&str, &str)] = &[
    ("CC", "x-wabbit-cc"),
    ("BCC", "x-wabbit-bcc"),
    ("x-death", "x-wabbit-x-death"),
    ("x-first-death-exchange", "x-wabbit-x-first-death-exchange"),
    ("x-first-death-queue", "x-wabbit-x-first-death-queue"),
    ("x-first-death-reason", "x-wabbit-x-first-death-reason"),
];

/// Who failed, and when.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The worker's name.
    pub worker: &'a str,
    /// `sha256:…` of the plugin.
    pub plugin: &'a str,
    /// When the failure became known.
    pub at: SystemTime,
}

/// The copy of a failed delivery for this dead-letter queue, to be sent through the default exchange.
pub fn dead_letter(delivery: &Delivery, failure: &Failure, origin: Origin<'_>, queue: &str) -> Publication {
    let mut properties = delivery.properties.clone();
    let mut headers = moved_aside(&mut properties);
    let seconds = origin.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = |name: &str, text: &str| (name.to_owned(), Value::text(text));
    headers.extend([
        text("x-wabbit-reason", failure.kind.as_str()),
        text("x-wabbit-error", truncated(&failure.error, ERROR_BYTES_MAX)),
        text("x-wabbit-worker", origin.worker),
        text("x-wabbit-plugin", origin.plugin),
        ("x-wabbit-attempts".to_owned(), Value::I64(delivery.attempt.into())),
        text("x-wabbit-queue", &delivery.queue),
        text("x-wabbit-exchange", &delivery.exchange),
        text("x-wabbit-routing-key", &delivery.routing_key),
        ("x-wabbit-first-failure".to_owned(), Value::Timestamp(seconds)),
        ("x-wabbit-last-failure".to_owned(), Value::Timestamp(seconds)),
    ]);
    properties.headers.append(&mut headers);
    // A dead letter is there to be looked at later, so it outlives a restart of the broker.
    properties.delivery_mode = Some(2);
    shrink(&mut properties);
    Publication { exchange: String::new(), routing_key: queue.to_owned(), body: delivery.body.clone(), properties }
}

/// Takes out what must not stand in a copy under its own name, and gives it back under ours.
fn moved_aside(properties: &mut Properties) -> Table {
    strip_reserved(&mut properties.headers);
    let mut moved = Table::new();
    for (name, value) in std::mem::take(&mut properties.headers) {
        match MOVED.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, ours)) => moved.push(((*ours).to_owned(), value)),
            None => properties.headers.push((name, value)),
        }
    }
    for (ours, text) in
        [("x-wabbit-expiration", properties.expiration.take()), ("x-wabbit-user-id", properties.user_id.take())]
    {
        moved.extend(text.map(|text| (ours.to_owned(), Value::text(text))));
    }
    moved
}

/// Drops the largest headers of a copy that would not fit a frame, and says how many.
fn shrink(properties: &mut Properties) {
    let mut dropped = 0_i64;
    while properties.encoded_len() > PROPERTIES_BYTES_MAX {
        let sizes = properties.headers.iter().map(|(_, value)| value.encoded_len());
        let Some((largest, _)) = sizes.enumerate().max_by_key(|(_, size)| *size) else { return };
        properties.headers.swap_remove(largest);
        dropped += 1;
    }
    if dropped > 0 {
        properties.headers.push(("x-wabbit-headers-dropped".to_owned(), Value::I64(dropped)));
    }
}

fn truncated(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::FailureKind;

    fn copy(properties: Properties, error: &str) -> Publication {
        let delivery = Delivery {
            body: b"\xff".to_vec(),
            properties,
            exchange: "order".into(),
            routing_key: "order.notify".into(),
            queue: "order_notify".into(),
            redelivered: false,
            attempt: 1,
        };
        let origin = Origin { worker: "w", plugin: "sha256:00", at: SystemTime::UNIX_EPOCH };
        dead_letter(&delivery, &Failure::new(FailureKind::Trap, error), origin, "order_notify.dead")
    }

    fn header<'a>(copy: &'a Publication, name: &str) -> Option<&'a Value> {
        copy.properties.header(name)
    }

    #[test]
    fn it_says_what_happened() {
        let copy = copy(Properties { priority: Some(3), kind: Some("t".into()), ..Properties::default() }, "boom");
        assert_eq!((copy.exchange.as_str(), copy.routing_key.as_str()), ("", "order_notify.dead"));
        assert_eq!(copy.body, b"\xff");
        assert_eq!((copy.properties.priority, copy.properties.kind.as_deref()), (Some(3), Some("t")));
        for (name, value) in [
            ("x-wabbit-reason", "trap"),
            ("x-wabbit-error", "boom"),
            ("x-wabbit-worker", "w"),
            ("x-wabbit-plugin", "sha256:00"),
            ("x-wabbit-queue", "order_notify"),
            ("x-wabbit-exchange", "order"),
            ("x-wabbit-routing-key", "order.notify"),
        ] {
            assert_eq!(header(&copy, name), Some(&Value::text(value)), "{name}");
        }
        assert_eq!(header(&copy, "x-wabbit-attempts"), Some(&Value::I64(1)));
    }

    #[test]
    fn headers_keep_their_types_and_forged_ones_go() {
        let mine = vec![
            ("i8".to_owned(), Value::I8(-1)),
            ("nested".to_owned(), Value::Table(vec![("d".into(), Value::Decimal { scale: 1, value: 15 })])),
        ];
        let mut headers = mine.clone();
        headers.push(("x-wabbit-error".into(), Value::text("forged")));
        let copy = copy(Properties { headers, ..Properties::default() }, "real");
        assert!(copy.properties.headers.starts_with(&mine));
        let errors = copy.properties.headers.iter().filter(|(name, _)| name == "x-wabbit-error").count();
        assert_eq!((errors, header(&copy, "x-wabbit-error")), (1, Some(&Value::text("real"))));
    }

    #[test]
    fn what_the_broker_would_act_upon_is_moved_aside() {
        let headers = vec![("CC".into(), Value::Array(vec![Value::text("q")])), ("x-death".into(), Value::Void)];
        let expiration = Some("1000".to_owned());
        let copy =
            copy(Properties { headers, expiration, user_id: Some("guest".into()), ..Properties::default() }, "x");
        assert_eq!((copy.properties.expiration.as_ref(), copy.properties.user_id.as_ref()), (None, None));
        assert_eq!((header(&copy, "CC"), header(&copy, "x-death")), (None, None));
        assert_eq!(header(&copy, "x-wabbit-cc"), Some(&Value::Array(vec![Value::text("q")])));
        assert_eq!(header(&copy, "x-wabbit-expiration"), Some(&Value::text("1000")));
        assert_eq!(header(&copy, "x-wabbit-user-id"), Some(&Value::text("guest")));
    }

    #[test]
    fn it_always_fits_a_frame() {
        let headers =
            vec![("small".to_owned(), Value::I32(1)), ("large".to_owned(), Value::text("x".repeat(127 * 1024)))];
        let copy = copy(Properties { headers, ..Properties::default() }, &"\u{e9}".repeat(100_000));
        assert!(copy.properties.encoded_len() < 128 * 1024);
        assert_eq!(header(&copy, "small"), Some(&Value::I32(1)));
        assert_eq!(header(&copy, "x-wabbit-headers-dropped"), Some(&Value::I64(1)));
        let Some(Value::Text(error)) = header(&copy, "x-wabbit-error") else { panic!("no error") };
        assert_eq!(error.len(), ERROR_BYTES_MAX);
    }
}
