//! The way back of a dead letter to the queue that it failed on.
//!
//! Body, properties and the publisher's headers stay as they are. What the host wrote into the copy goes, so that the
//! attempts are counted anew; and what was moved aside is not put back, for the broker would act upon it once more:
//! expire the message at once, refuse a user id that is not ours, deliver to `CC` and `BCC` again, or count an old
//! dead-lettering as one in a circle.

use super::copy::{COUNTS, MOVED, PROPERTIES_BYTES_MAX};
use crate::{
    delivery::{Delivery, Properties, Value},
    outcome::{Publication, SHORT_STRING_MAX, strip_reserved},
};

/// Why a letter stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayed {
    /// It has no `x-wabbit-queue`.
    #[error("it does not say which queue it failed on; hint: choose one with `--to QUEUE`")]
    NoQueue,
    /// It would come back to the queue that it is in.
    #[error("it would go back to the dead-letter queue `{0}` itself; hint: choose another with `--to QUEUE`")]
    Circle(String),
    /// It would not fit a frame together with the host's own header.
    #[error("its properties and headers take {0} bytes, the limit is {PROPERTIES_BYTES_MAX}")]
    TooLarge(usize),
}

/// What is to be published so that a letter is handled again, by the queue that it failed on or by `to` (at most 255
/// bytes). `letter.queue` is the dead-letter queue.
pub fn replay(letter: Delivery, to: Option<&str>) -> Result<Publication, NotReplayed> {
    let target = to.or_else(|| failed_on(&letter.properties)).ok_or(NotReplayed::NoQueue)?.to_owned();
    if target == *letter.queue {
        return Err(NotReplayed::Circle(target));
    }
    let mut properties = letter.properties;
    strip_reserved(&mut properties.headers);
    let brokers = |name: &str| MOVED.iter().any(|(theirs, _)| *theirs == name) || COUNTS.contains(&name);
    properties.headers.retain(|(name, _)| !brokers(name));
    (properties.expiration, properties.user_id) = (None, None);
    match properties.encoded_len() {
        size if size > PROPERTIES_BYTES_MAX => Err(NotReplayed::TooLarge(size)),
        _ => Ok(Publication { exchange: String::new(), routing_key: target, body: letter.body, properties }),
    }
}

fn failed_on(properties: &Properties) -> Option<&str> {
    let Some(Value::Text(name)) = properties.header("x-wabbit-queue") else { return None };
    let name = std::str::from_utf8(name).ok()?;
    (1..=SHORT_STRING_MAX).contains(&name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        delivery::Table,
        outcome::{Failure, FailureKind},
        settle::copy::{Origin, dead_letter},
    };

    fn message(headers: Table) -> Delivery {
        Delivery {
            body: b"\xff".to_vec(),
            properties: Properties {
                headers,
                content_type: Some("text/plain".into()),
                delivery_mode: Some(2),
                priority: Some(3),
                expiration: Some("1000".into()),
                user_id: Some("somebody".into()),
                ..Properties::default()
            },
            exchange: "order".into(),
            routing_key: "order.notify".into(),
            queue: "work".into(),
            redelivered: false,
            attempt: 1,
        }
    }

    /// As it is taken off the dead-letter queue.
    fn letter(message: &Delivery) -> Delivery {
        let origin = Origin { worker: "w", plugin: "sha256:00", at: SystemTime::UNIX_EPOCH };
        let copy = dead_letter(message, &Failure::new(FailureKind::Trap, "boom"), origin, "work.dead");
        Delivery { body: copy.body, properties: copy.properties, queue: copy.routing_key.into(), ..message.clone() }
    }

    #[test]
    fn it_is_the_message_again() {
        let mine = vec![
            ("i8".to_owned(), Value::I8(-1)),
            ("nested".to_owned(), Value::Table(vec![("d".into(), Value::Decimal { scale: 1, value: 15 })])),
        ];
        let mut headers = mine.clone();
        headers.extend([
            ("CC".to_owned(), Value::Array(vec![Value::text("other")])),
            ("x-death".to_owned(), Value::Array(vec![])),
        ]);
        let message = message(headers);
        let again = replay(letter(&message), None).unwrap();
        assert_eq!((again.exchange.as_str(), again.routing_key.as_str()), ("", "work"));
        assert_eq!(again.body, message.body);
        let expected = Properties { headers: mine, expiration: None, user_id: None, ..message.properties };
        assert_eq!(again.properties, expected);
    }

    #[test]
    fn what_the_broker_would_act_upon_goes() {
        // A letter that somebody else put there.
        let headers = [
            ("CC", Value::Array(vec![])),
            ("x-death", Value::Void),
            ("BCC", Value::Void),
            ("x-delivery-count", Value::I64(3)),
            ("kept", Value::Void),
        ];
        let foreign = message(headers.map(|(name, value)| (name.to_owned(), value)).into());
        let again = replay(foreign, Some("other")).unwrap();
        assert_eq!(again.properties.headers, [("kept".to_owned(), Value::Void)]);
        assert_eq!((again.properties.expiration, again.properties.user_id), (None, None));
        assert_eq!(again.routing_key, "other");
    }

    #[test]
    fn some_stay() {
        let check = |letter: Delivery, to: Option<&str>, expected: NotReplayed| {
            assert_eq!(replay(letter, to), Err(expected));
        };
        let queue = |value: Value| message(vec![("x-wabbit-queue".into(), value)]);
        check(message(vec![]), None, NotReplayed::NoQueue);
        check(queue(Value::I32(1)), None, NotReplayed::NoQueue);
        check(queue(Value::text("")), None, NotReplayed::NoQueue);
        check(queue(Value::Text(b"\xff".to_vec())), None, NotReplayed::NoQueue);
        check(queue(Value::text("x".repeat(256))), None, NotReplayed::NoQueue);
        check(queue(Value::text("work")), None, NotReplayed::Circle("work".into()));
        check(queue(Value::text("other")), Some("work"), NotReplayed::Circle("work".into()));
        let large = message(vec![("large".into(), Value::text("x".repeat(PROPERTIES_BYTES_MAX)))]);
        assert!(matches!(replay(large, Some("other")), Err(NotReplayed::TooLarge(_))));
    }
}
