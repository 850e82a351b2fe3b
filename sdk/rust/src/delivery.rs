//! What a handler is given.

use serde::Deserialize;

use crate::{BodyError, Field, Properties, Publication};

/// A message as the broker delivered it.
///
/// Tests make their own with [`Delivery::of`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The body, whatever it is. [`json`](Self::json) and [`text`](Self::text) read it.
    pub body: Vec<u8>,
    /// The basic properties, headers included.
    pub properties: Properties,
    /// The exchange that the message was published to. Empty is the default exchange.
    pub exchange: String,
    /// The routing key that the message was published with.
    pub routing_key: String,
    /// The queue that the message was consumed from.
    pub queue: String,
    /// Whether the broker may have delivered it before.
    pub redelivered: bool,
    /// 1 on the first try, and one more for each recorded failure.
    pub attempt: u32,
}

impl Delivery {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// Where the body is not JSON or not the JSON of a `T`. The error says what is wrong, with line and column.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, BodyError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| BodyError(format!("the body is not the JSON expected: {error}")))
    }

    /// Reads the body as UTF-8 text.
    ///
    /// # Errors
    ///
    /// Where the body is not UTF-8. The error says from which byte on.
    pub fn text(&self) -> Result<&str, BodyError> {
        str::from_utf8(&self.body).map_err(|error| BodyError(format!("the body is not UTF-8 text: {error}")))
    }

    /// The header of that name. Names are case-sensitive.
    ///
    /// ```
    /// # use wabbit_sdk::{Delivery, Field};
    /// # let delivery = Delivery::of("").with_header("tenant", "acme");
    /// let tenant = delivery.header("tenant").and_then(Field::as_str).unwrap_or("nobody");
    /// # assert_eq!(tenant, "acme");
    /// ```
    pub fn header(&self, name: &str) -> Option<&Field> {
        self.properties.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The reply to this delivery: to its `reply-to` queue through the default exchange, with its `correlation-id`.
    /// `None` where it has no `reply-to`, and so nobody waits for one.
    ///
    /// The manifest grants replies as `"reply"`.
    ///
    /// ```
    /// # use wabbit_sdk::{Delivery, Outcome};
    /// fn handle(delivery: Delivery) -> Outcome {
    ///     Outcome::ack().publish_all(delivery.reply("pong"))
    /// }
    /// ```
    pub fn reply(&self, body: impl Into<Vec<u8>>) -> Option<Publication> {
        let mut reply = Publication::new("", self.properties.reply_to.as_deref()?).body(body);
        reply.properties.correlation_id.clone_from(&self.properties.correlation_id);
        Some(reply)
    }
}

/// For tests: deliveries made by hand.
impl Delivery {
    /// A first delivery of that body; its properties, exchange, routing key and queue are empty.
    ///
    /// ```
    /// # use wabbit_sdk::Delivery;
    /// let delivery = Delivery::of(r#"{"id": 7}"#).with_routing_key("order.new").with_header("tenant", "acme");
    /// ```
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            properties: Properties::default(),
            exchange: String::new(),
            routing_key: String::new(),
            queue: String::new(),
            redelivered: false,
            attempt: 1,
        }
    }

    /// Replaces all properties, headers included.
    pub fn with_properties(self, properties: Properties) -> Self {
        Self { properties, ..self }
    }

    /// Sets one header.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Field>) -> Self {
        self.properties.set_header(name.into(), value.into());
        self
    }

    /// Sets the exchange.
    pub fn with_exchange(self, exchange: impl Into<String>) -> Self {
        Self { exchange: exchange.into(), ..self }
    }

    /// Sets the routing key.
    pub fn with_routing_key(self, routing_key: impl Into<String>) -> Self {
        Self { routing_key: routing_key.into(), ..self }
    }

    /// Sets the queue.
    pub fn with_queue(self, queue: impl Into<String>) -> Self {
        Self { queue: queue.into(), ..self }
    }

    /// Sets the attempt: 1 is the first.
    pub fn with_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// Marks it as redelivered.
    pub fn with_redelivered(self) -> Self {
        Self { redelivered: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        id: u32,
        product: String,
    }

    #[test]
    fn json_errors_say_what_is_wrong() {
        fn check(body: &str, expected: &str) {
            let expected = BodyError(format!("the body is not the JSON expected: {expected}"));
            assert_eq!(Delivery::of(body).json::<Order>(), Err(expected));
        }
        check("", "EOF while parsing a value at line 1 column 0");
        check(r#"{"id": 1}"#, "missing field `product` at line 1 column 9");
        check("{\n \"id\": \"one\"}", "invalid type: string \"one\", expected u32 at line 2 column 12");
        check(r#"{"id": 1, "product": "hay"} x"#, "trailing characters at line 1 column 29");
    }

    #[test]
    fn a_body_is_read_as_json() {
        let delivery = Delivery::of(r#"{"id": 1, "product": "hay"}"#);
        assert_eq!(delivery.json(), Ok(Order { id: 1, product: "hay".into() }));
        assert_eq!(Delivery::of(r#""borrowed""#).json(), Ok("borrowed"));
    }

    #[test]
    fn a_body_is_read_as_text() {
        assert_eq!(Delivery::of("hällo").text(), Ok("hällo"));
        let error = "the body is not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 1";
        assert_eq!(Delivery::of([b'a', 0xff]).text(), Err(BodyError(error.into())));
    }

    #[test]
    fn header_names_are_case_sensitive() {
        let delivery = Delivery::of("").with_header("Tenant", "acme").with_header("Tenant", "emca");
        assert_eq!(delivery.header("Tenant").and_then(Field::as_str), Some("emca"));
        assert_eq!(delivery.header("tenant"), None);
    }

    #[test]
    fn a_reply_goes_where_it_is_awaited() {
        assert_eq!(Delivery::of("ping").reply("pong"), None);
        let asked = Delivery::of("ping").with_properties(Properties {
            reply_to: Some("answers".into()),
            correlation_id: Some("7".into()),
            ..Properties::default()
        });
        let expected = Publication::new("", "answers").body("pong").correlation_id("7");
        assert_eq!(asked.reply("pong"), Some(expected));
    }
}
