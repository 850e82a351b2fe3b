//! Copies of a delivery that say what happened to it: the dead letter, and the one that waits for another try.
//!
//! Body, properties and header table are those that came, type for type. What would make the broker treat the copy in
//! a way of its own is moved aside under names of ours: an expiration (it would cut the wait short), a user id (the broker
//! compares it with our connection's), `CC` and `BCC` (it would be delivered to them again) and the broker's own
//! records of dead-lettering.

use std::time::SystemTime;

use crate::{
    delivery::{Delivery, Properties, Table, Value},
    escape::escape,
    outcome::{Failure, Publication, strip_reserved},
};

use super::ladder::{RETRY_EXCHANGE, Rung};

/// The most bytes of an error's text in a header.
const ERROR_BYTES_MAX: usize = 1024;
/// The most bytes of a copy's properties. A content header must fit one frame (128 KiB by default in RabbitMQ), or the
/// broker closes the connection; a delivery's own may have filled nearly all of it.
pub(super) const PROPERTIES_BYTES_MAX: usize = 120 * 1024;

const ATTEMPTS: &str = "x-wabbit-attempts";
const QUEUE: &str = "x-wabbit-queue";
const EXCHANGE: &str = "x-wabbit-exchange";
const ROUTING_KEY: &str = "x-wabbit-routing-key";
const FIRST_FAILURE: &str = "x-wabbit-first-failure";
const EXPIRATION: &str = "x-wabbit-expiration";
const USER_ID: &str = "x-wabbit-user-id";

/// Headers of the broker or the publisher that a copy carries under another name.
pub(super) const MOVED: &[(&str, &str)] = &[
    ("CC", "x-wabbit-cc"),
    ("BCC", "x-wabbit-bcc"),
    ("x-death", "x-wabbit-x-death"),
    ("x-first-death-exchange", "x-wabbit-x-first-death-exchange"),
    ("x-first-death-queue", "x-wabbit-x-first-death-queue"),
    ("x-first-death-reason", "x-wabbit-x-first-death-reason"),
];

/// What a quorum queue notes on the messages that it delivers again, how often that was: it says nothing on another
/// queue.
pub(super) const COUNTS: &[&str] = &["x-delivery-count", "x-acquired-count"];

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
    let mut properties = copied(delivery, failure, origin, delivery.attempt);
    properties.headers.push(("x-wabbit-reason".to_owned(), Value::text(failure.kind.as_str())));
    // A dead letter is there to be looked at later, so it outlives a restart of the broker.
    properties.delivery_mode = Some(2);
    shrink(&mut properties);
    Publication { exchange: String::new(), routing_key: queue.to_owned(), body: delivery.body.clone(), properties }
}

/// The copy of a failed delivery that waits on this rung for another try. Nothing where it would not fit a frame: the
/// next try is to see all of the message. `counted` says whether this try was one of its attempts.
pub fn retry(
    delivery: &Delivery,
    failure: &Failure,
    origin: Origin<'_>,
    rung: Rung,
    counted: bool,
) -> Option<Publication> {
    let attempts = if counted { delivery.attempt } else { delivery.attempt.saturating_sub(1) };
    let properties = copied(delivery, failure, origin, attempts);
    let (exchange, routing_key) = (rung.name(), delivery.queue.to_string());
    let fits = properties.encoded_len() <= PROPERTIES_BYTES_MAX;
    fits.then(|| Publication { exchange, routing_key, body: delivery.body.clone(), properties })
}

/// Makes of a copy that comes back from its wait what the message was, with the number of its try. Whatever did not
/// come that way is left alone, so that what a publisher writes into these headers counts for nothing.
pub fn restore(delivery: &mut Delivery) {
    let came_back = delivery.exchange == RETRY_EXCHANGE
        && *delivery.routing_key == *delivery.queue
        && text(&delivery.properties, QUEUE).as_deref() == Some(&delivery.queue);
    if !came_back {
        return;
    }
    let Delivery { properties, exchange, routing_key, attempt, .. } = delivery;
    if let Some(Value::I64(failed)) = properties.header(ATTEMPTS) {
        *attempt = u32::try_from(*failed).unwrap_or(u32::MAX).saturating_add(1);
    }
    *exchange = text(properties, EXCHANGE).unwrap_or_default();
    *routing_key = text(properties, ROUTING_KEY).unwrap_or_default();
    properties.expiration = text(properties, EXPIRATION);
    properties.user_id = text(properties, USER_ID);
    // What stands there under the broker's names is its record of the wait.
    properties.headers.retain(|(name, _)| !MOVED.iter().any(|(theirs, _)| theirs == name));
    for (name, _) in &mut properties.headers {
        if let Some((theirs, _)) = MOVED.iter().find(|(_, ours)| ours == name) {
            (*theirs).clone_into(name);
        }
    }
}

fn text(properties: &Properties, name: &str) -> Option<String> {
    match properties.header(name) {
        Some(Value::Text(text)) => String::from_utf8(text.clone()).ok(),
        _ => None,
    }
}

/// The properties of a copy, with the record of the failure.
fn copied(delivery: &Delivery, failure: &Failure, origin: Origin<'_>, attempts: u32) -> Properties {
    let mut properties = delivery.properties.clone();
    let seconds = origin.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Only a retry of ours has failed before.
    let first = match properties.header(FIRST_FAILURE) {
        Some(Value::Timestamp(first)) if delivery.attempt > 1 => *first,
        _ => seconds,
    };
    let mut headers = moved_aside(&mut properties);
    let text = |name: &str, text: &str| (name.to_owned(), Value::text(text));
    headers.extend([
        text("x-wabbit-id", &format!("{:016x}", fastrand::u64(..))),
        text("x-wabbit-error", &shown(&failure.error)),
        text("x-wabbit-worker", origin.worker),
        text("x-wabbit-plugin", origin.plugin),
        (ATTEMPTS.to_owned(), Value::I64(attempts.into())),
        text(QUEUE, &delivery.queue),
        text(EXCHANGE, &delivery.exchange),
        text(ROUTING_KEY, &delivery.routing_key),
        (FIRST_FAILURE.to_owned(), Value::Timestamp(first)),
        ("x-wabbit-last-failure".to_owned(), Value::Timestamp(seconds)),
    ]);
    properties.headers.append(&mut headers);
    properties
}

/// Takes out what must not stand in a copy under its own name, and gives it back under ours.
fn moved_aside(properties: &mut Properties) -> Table {
    strip_reserved(&mut properties.headers);
    properties.headers.retain(|(name, _)| !COUNTS.contains(&name.as_str()));
    let mut moved = Table::new();
    for (name, value) in std::mem::take(&mut properties.headers) {
        match MOVED.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, ours)) => moved.push(((*ours).to_owned(), value)),
            None => properties.headers.push((name, value)),
        }
    }
    for (ours, text) in [(EXPIRATION, properties.expiration.take()), (USER_ID, properties.user_id.take())] {
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

/// An error's text for a header: whoever prints it has nothing that acts upon a terminal.
fn shown(error: &str) -> String {
    let mut error = escape(truncated(error, ERROR_BYTES_MAX).as_bytes());
    error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
    error
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
        headers.push(("X-Wabbit-Error".into(), Value::text("forged")));
        let copy = copy(Properties { headers, ..Properties::default() }, "real");
        assert!(copy.properties.headers.starts_with(&mine));
        let is_error = |name: &str| name.eq_ignore_ascii_case("x-wabbit-error");
        let errors = copy.properties.headers.iter().filter(|(name, _)| is_error(name)).count();
        assert_eq!((errors, header(&copy, "x-wabbit-error")), (1, Some(&Value::text("real"))));
    }

    #[test]
    fn its_error_acts_upon_no_terminal() {
        let error = |text: &str| match header(&copy(Properties::default(), text), "x-wabbit-error") {
            Some(Value::Text(text)) => String::from_utf8(text.clone()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(error("no\n\x1b[2J hay\u{202e}"), "no\\n\\u{1b}[2J hay\\u{202e}");
        let long = error(&"\x07".repeat(100_000));
        assert!(long.starts_with("\\u{7}\\u{7}") && long.len() == ERROR_BYTES_MAX, "{} bytes", long.len());
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
    fn a_retry_comes_back_as_it_was() {
        let headers: Table = vec![
            ("i8".into(), Value::I8(-1)),
            ("CC".into(), Value::Array(vec![Value::text("q")])),
            ("x-death".into(), Value::Array(vec![Value::Table(vec![("count".into(), Value::I64(3))])])),
        ];
        let count = ("x-delivery-count".to_owned(), Value::I64(2));
        let properties = Properties {
            headers,
            expiration: Some("1000".into()),
            user_id: Some("guest".into()),
            delivery_mode: Some(1),
            ..Properties::default()
        };
        let mut delivery = Delivery {
            body: b"b".to_vec(),
            properties: properties.clone(),
            exchange: "order".into(),
            routing_key: "order.notify".into(),
            queue: "q".into(),
            redelivered: false,
            attempt: 1,
        };
        delivery.properties.headers.push(count);
        let failure = Failure::new(FailureKind::Trap, "boom");
        for attempt in 1..5 {
            assert_eq!((delivery.attempt, delivery.exchange.as_str()), (attempt, "order"));
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(attempt.into());
            let rung = Rung::of(std::time::Duration::from_secs(1));
            let copy = retry(&delivery, &failure, Origin { worker: "w", plugin: "sha256:00", at }, rung, true).unwrap();
            assert_eq!((copy.exchange.as_str(), copy.routing_key.as_str()), (rung.name().as_str(), "q"));
            assert_eq!((&copy.properties.expiration, &copy.properties.user_id), (&None, &None));
            assert_eq!(copy.properties.header(FIRST_FAILURE), Some(&Value::Timestamp(1)));
            // The broker sends it on through the exchange for retries, and adds its record.
            let mut properties = copy.properties;
            assert!(properties.header("x-death").is_none());
            properties.headers.push(("x-death".into(), Value::Array(vec![])));
            properties.headers.push(("x-first-death-queue".into(), Value::text(rung.name())));
            let (exchange, routing_key) = (RETRY_EXCHANGE.to_owned(), copy.routing_key);
            delivery = Delivery { properties, exchange, routing_key, attempt: 1, ..delivery };
            restore(&mut delivery);
        }
        strip_reserved(&mut delivery.properties.headers);
        assert_eq!(delivery.routing_key, "order.notify");
        assert_eq!(delivery.properties, properties);
    }

    #[test]
    fn forged_headers_count_for_nothing() {
        let headers: Table = vec![
            (QUEUE.into(), Value::text("q")),
            (ATTEMPTS.into(), Value::I64(4)),
            (EXCHANGE.into(), Value::text("elsewhere")),
        ];
        let delivery = Delivery {
            body: vec![],
            properties: Properties { headers, ..Properties::default() },
            exchange: "order".into(),
            routing_key: "q".into(),
            queue: "q".into(),
            redelivered: false,
            attempt: 1,
        };
        let mut restored = delivery.clone();
        restore(&mut restored);
        assert_eq!(restored, delivery);
    }

    #[test]
    fn what_would_not_fit_a_frame_does_not_wait_on_the_ladder() {
        let waits = |bytes: usize| {
            let headers = vec![("large".to_owned(), Value::text("x".repeat(bytes)))];
            let delivery = Delivery {
                body: vec![],
                properties: Properties { headers, ..Properties::default() },
                exchange: String::new(),
                routing_key: "q".into(),
                queue: "q".into(),
                redelivered: false,
                attempt: 1,
            };
            let origin = Origin { worker: "w", plugin: "sha256:00", at: SystemTime::UNIX_EPOCH };
            retry(&delivery, &Failure::new(FailureKind::Trap, "x"), origin, Rung::of(std::time::Duration::ZERO), true)
                .is_some()
        };
        assert!(waits(100 << 10) && !waits(125 << 10));
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
