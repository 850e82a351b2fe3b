//! What is looked at in a publication before it goes anywhere near the broker.
//!
//! RabbitMQ answers some bad publications by closing the channel, some by closing the whole connection, and lapin
//! panics on a short string that is too long: a handler must be able to cause none of these. A publication that
//! fails here fails its own delivery, and nothing else.

use super::{Failure, FailureKind, Publication, is_reserved};
use crate::{
    delivery::{Table, Value, table_encoded_len},
    manifest::{PublishGrant, Unroutable},
};

/// The longest short string of AMQP 0-9-1 (4.2.5.3), in bytes.
pub const SHORT_STRING_MAX: usize = 255;
/// The most bytes that encoded properties may take. The content header must fit one frame, and RabbitMQ's frames are
/// 128 KiB by default: it closes the connection with 501 above that.
pub const PROPERTIES_BYTES_MAX: usize = 64 * 1024;
/// Where direct reply-to sends: `mandatory` would be returned although the reply was delivered.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to.";

/// What a worker's publications are checked against.
#[derive(Debug, Clone)]
pub struct Rules {
    /// `[grant] publish`.
    pub grants: Vec<PublishGrant>,
    /// `[publish] unroutable`.
    pub unroutable: Unroutable,
    /// The user of the connection: no other `user-id` may be claimed.
    pub user: String,
    /// The largest body, in bytes.
    pub max_body: usize,
}

/// A publication that may be sent, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What to send.
    pub publication: Publication,
    /// Whether the broker is to return it when no queue takes it.
    pub mandatory: bool,
    /// Whether a return fails the delivery.
    pub charged: bool,
    /// Whether it answers the delivery's `reply-to`.
    pub reply: bool,
}

/// Checks one publication of a delivery whose `reply-to` is given.
pub fn check(mut publication: Publication, reply_to: Option<&str>, rules: &Rules) -> Result<Checked, Failure> {
    strip_reserved(&mut publication.properties.headers);
    check_carriable(&publication, rules.max_body)?;
    let Publication { exchange, routing_key, properties, .. } = &publication;
    if let Some(user) = &properties.user_id
        && *user != rules.user
    {
        return Err(refused(format!("`user-id` is `{user}`, but the connection's user is `{}`", rules.user)));
    }
    let reply = exchange.is_empty() && reply_to == Some(routing_key.as_str());
    let unroutable = granted(exchange, routing_key, reply, rules).ok_or_else(|| not_granted(exchange, routing_key))?;
    check_copies(&publication, rules)?;
    let mandatory = !routing_key.starts_with(DIRECT_REPLY_TO);
    Ok(Checked { mandatory, charged: !reply && unroutable == Unroutable::Fail, reply, publication })
}

/// RabbitMQ also routes a message by every key in these headers, so each needs the grant. It closes the channel for a
/// list that is none.
const COPIES: [&str; 2] = ["CC", "BCC"];

fn check_copies(publication: &Publication, rules: &Rules) -> Result<(), Failure> {
    for (name, value) in publication.properties.headers.iter().filter(|(name, _)| COPIES.contains(&name.as_str())) {
        let Value::Array(keys) = value else {
            return Err(refused(format!("header `{name}` must be a list of routing keys")));
        };
        for key in keys {
            let Value::Text(key) = key else {
                return Err(refused(format!("header `{name}` must be a list of routing keys")));
            };
            let key = std::str::from_utf8(key)
                .map_err(|_| refused(format!("a routing key in header `{name}` is not UTF-8")))?;
            short("a routing key in `CC` or `BCC`", key)?;
            if granted(&publication.exchange, key, false, rules).is_none() {
                return Err(not_granted(&publication.exchange, key));
            }
        }
    }
    Ok(())
}

fn not_granted(exchange: &str, routing_key: &str) -> Failure {
    refused(format!(
        "publishing to exchange `{exchange}` with routing key `{routing_key}` is not granted; hint: add \
         `\"{exchange}/{routing_key}\"` to `[grant] publish`"
    ))
}

/// Checks that AMQP can carry a publication, whoever sends it: lengths, and no more.
pub fn check_carriable(publication: &Publication, max_body: usize) -> Result<(), Failure> {
    let Publication { exchange, routing_key, body, properties } = publication;
    short("exchange", exchange)?;
    short("routing-key", routing_key)?;
    let texts = [
        ("content-type", &properties.content_type),
        ("content-encoding", &properties.content_encoding),
        ("correlation-id", &properties.correlation_id),
        ("reply-to", &properties.reply_to),
        ("expiration", &properties.expiration),
        ("message-id", &properties.message_id),
        ("type", &properties.kind),
        ("user-id", &properties.user_id),
        ("app-id", &properties.app_id),
    ];
    for (name, text) in texts {
        short(name, text.as_deref().unwrap_or_default())?;
    }
    check_header_names(&properties.headers)?;
    let size = properties.encoded_len();
    if size > PROPERTIES_BYTES_MAX {
        return Err(refused(format!("properties and headers take {size} bytes, the limit is {PROPERTIES_BYTES_MAX}")));
    }
    if body.len() > max_body {
        return Err(refused(format!("a body of {} bytes, the limit is {max_body}", body.len())));
    }
    Ok(())
}

/// Removes the headers that are the host's own.
pub fn strip_reserved(headers: &mut Table) {
    headers.retain(|(name, _)| !is_reserved(name));
}

/// What an unroutable publication means where it is granted; `None` where it is not.
fn granted(exchange: &str, routing_key: &str, reply: bool, rules: &Rules) -> Option<Unroutable> {
    rules.grants.iter().find_map(|grant| match grant {
        PublishGrant::Reply => reply.then_some(rules.unroutable),
        PublishGrant::To { unroutable, .. } => {
            grant.covers(exchange, routing_key).then(|| unroutable.unwrap_or(rules.unroutable))
        }
    })
}

fn short(name: &str, text: &str) -> Result<(), Failure> {
    if text.len() > SHORT_STRING_MAX {
        return Err(refused(format!("`{name}` has {} bytes, the limit of AMQP is {SHORT_STRING_MAX}", text.len())));
    }
    Ok(())
}

/// A header's name is a short string, at every depth; so is the encoded size bounded, whatever the shape.
fn check_header_names(table: &Table) -> Result<(), Failure> {
    fn value(v: &Value) -> Result<(), Failure> {
        match v {
            Value::Table(table) => check_header_names(table),
            Value::Array(values) => values.iter().try_for_each(value),
            _ => Ok(()),
        }
    }
    // Looked at first: a table over the limit is refused without walking all of it for names.
    if table_encoded_len(table) > PROPERTIES_BYTES_MAX {
        return Err(refused(format!(
            "headers take {} bytes, the limit is {PROPERTIES_BYTES_MAX}",
            table_encoded_len(table)
        )));
    }
    table.iter().try_for_each(|(name, v)| {
        short("a header's name", name)?;
        value(v)
    })
}

fn refused(error: String) -> Failure {
    Failure::new(FailureKind::PublicationRefused, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Properties;

    fn rules() -> Rules {
        let to = |exchange: &str, pattern: &str, unroutable| PublishGrant::To {
            exchange: exchange.into(),
            pattern: crate::manifest::Pattern::parse(pattern).unwrap(),
            unroutable,
        };
        Rules {
            grants: vec![to("mail", "order.*", None), to("audit", "#", Some(Unroutable::Drop)), PublishGrant::Reply],
            unroutable: Unroutable::Fail,
            user: "guest".into(),
            max_body: 1000,
        }
    }

    fn publication(exchange: &str, routing_key: &str) -> Publication {
        Publication {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            body: b"x".to_vec(),
            properties: Properties::default(),
        }
    }

    #[test]
    fn grants_decide() {
        let verdict = |exchange: &str, key: &str, reply_to: Option<&str>| {
            check(publication(exchange, key), reply_to, &rules()).ok().map(|c| (c.mandatory, c.charged, c.reply))
        };
        assert_eq!(verdict("mail", "order.notify", None), Some((true, true, false)));
        assert_eq!(verdict("mail", "order", None), None);
        assert_eq!(verdict("audit", "any.thing", None), Some((true, false, false)));
        assert_eq!(verdict("other", "order.notify", None), None);
        assert_eq!(verdict("", "q", Some("q")), Some((true, false, true)));
        assert_eq!(verdict("", "q", Some("other")), None);
        assert_eq!(verdict("", "q", None), None);
        assert_eq!(
            verdict("", "amq.rabbitmq.reply-to.abc", Some("amq.rabbitmq.reply-to.abc")),
            Some((false, false, true))
        );
    }

    #[test]
    fn what_amqp_cannot_carry_is_refused() {
        let error = |change: fn(&mut Publication)| {
            let mut p = publication("mail", "order.x");
            change(&mut p);
            check(p, None, &rules()).map_err(|f| (f.kind, f.error)).unwrap_err()
        };
        let long: fn(&mut Publication) = |p| p.routing_key = "k".repeat(300);
        assert_eq!(error(long).1, "`routing-key` has 300 bytes, the limit of AMQP is 255");
        let fat: fn(&mut Publication) =
            |p| p.properties.headers = vec![("h".into(), Value::text("x".repeat(200 * 1024)))];
        assert!(error(fat).1.contains("the limit is 65536"));
        let user: fn(&mut Publication) = |p| p.properties.user_id = Some("root".into());
        assert!(error(user).1.contains("the connection's user is `guest`"));
        let body: fn(&mut Publication) = |p| p.body = vec![0; 1001];
        assert!(error(body).1.contains("1001 bytes"));
        let nested: fn(&mut Publication) = |p| {
            p.properties.headers =
                vec![("t".into(), Value::Array(vec![Value::Table(vec![("n".repeat(256), Value::Void)])]))]
        };
        assert_eq!(error(nested).0, FailureKind::PublicationRefused);
    }

    #[test]
    fn copies_need_the_grant() {
        let verdict = |name: &str, value: Value| {
            let mut p = publication("mail", "order.x");
            p.properties.headers = vec![(name.into(), value)];
            check(p, None, &rules()).map(|_| ()).map_err(|failure| failure.error)
        };
        let keys = |keys: &[&str]| Value::Array(keys.iter().map(|key| Value::text(*key)).collect());
        assert_eq!(verdict("CC", keys(&["order.y", "order.z"])), Ok(()));
        assert!(verdict("BCC", keys(&["order.y", "secret"])).unwrap_err().contains("`secret` is not granted"));
        assert!(verdict("CC", Value::text("order.y")).unwrap_err().contains("`CC`"));
        assert!(verdict("CC", Value::Array(vec![Value::I32(1)])).unwrap_err().contains("`CC`"));
        // Only these spellings mean anything to the broker.
        assert_eq!(verdict("cc", Value::Void), Ok(()));
    }

    #[test]
    fn reserved_headers_do_not_leave() {
        let mut p = publication("mail", "order.x");
        let names = ["x-wabbit-attempt", "X-Wabbit-Error", "X-WABBIT-", "x-wabbit", "\u{e9}-wabbit-x", "mine"];
        p.properties.headers = names.map(|name| (name.into(), Value::Void)).into();
        let checked = check(p, None, &rules()).unwrap();
        let left: Vec<&str> = checked.publication.properties.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left, ["x-wabbit", "\u{e9}-wabbit-x", "mine"]);
    }
}
