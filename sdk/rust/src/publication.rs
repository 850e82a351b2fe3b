//! What a handler publishes.

use std::time::Duration;

use serde::Serialize;

use crate::{Field, Properties};

/// A message to be published.
///
/// The manifest grants exchanges and routing keys; publishing elsewhere is a failure of the delivery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publication {
    /// Empty is the default exchange, which routes to the queue that the routing key names.
    pub exchange: String,
    /// At most 255 bytes.
    pub routing_key: String,
    /// The body, empty by default.
    pub body: Vec<u8>,
    /// The basic properties, headers included.
    pub properties: Properties,
}

impl Publication {
    /// An empty, transient message to that exchange with that routing key. An empty exchange is the default one, which
    /// routes to the queue that the routing key names.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        Self { exchange: exchange.into(), routing_key: routing_key.into(), ..Self::default() }
    }

    /// Sets the body, and leaves the content type as it is.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the body to that text, and the content type to `text/plain`.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.body(text.into()).content_type("text/plain")
    }

    /// Sets the body to that value as JSON, and the content type to `application/json`.
    ///
    /// # Errors
    ///
    /// Where the value has no JSON form, such as a map whose keys are not texts.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, serde_json::Error> {
        Ok(self.body(serde_json::to_vec(value)?).content_type("application/json"))
    }

    /// Sets one header, in place of an earlier one of that name. Names are case-sensitive.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Field>) -> Self {
        self.properties.set_header(name.into(), value.into());
        self
    }

    /// Lets the message survive a restart of the broker, in a durable queue.
    pub fn persistent(mut self) -> Self {
        self.properties.persistent = true;
        self
    }

    /// Sets the MIME type of the body.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.properties.content_type = Some(content_type.into());
        self
    }

    /// Sets how the body is encoded, such as `gzip`. The body itself is left as it is.
    pub fn content_encoding(mut self, content_encoding: impl Into<String>) -> Self {
        self.properties.content_encoding = Some(content_encoding.into());
        self
    }

    /// Sets the priority: higher is delivered first, in queues declared with priorities.
    pub fn priority(mut self, priority: u8) -> Self {
        self.properties.priority = Some(priority);
        self
    }

    /// Says which request this message belongs to. [`Delivery::reply`](crate::Delivery::reply) sets it by itself.
    pub fn correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
        self.properties.correlation_id = Some(correlation_id.into());
        self
    }

    /// Sets the queue that replies are to be sent to, through the default exchange.
    pub fn reply_to(mut self, queue: impl Into<String>) -> Self {
        self.properties.reply_to = Some(queue.into());
        self
    }

    /// Lets the message expire in its queue after that time: whole milliseconds, at most 49 days.
    pub fn expiration(mut self, time: Duration) -> Self {
        self.properties.expiration_ms = Some(whole_ms(time));
        self
    }

    /// Sets the publisher's own name for the message.
    pub fn message_id(mut self, message_id: impl Into<String>) -> Self {
        self.properties.message_id = Some(message_id.into());
        self
    }

    /// Sets the time of the message, in seconds since the Unix epoch.
    pub fn timestamp(mut self, seconds: u64) -> Self {
        self.properties.timestamp = Some(seconds);
        self
    }

    /// Sets AMQP's `type`.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.properties.kind = Some(kind.into());
        self
    }

    /// Sets the publishing user. The broker refuses any other than the one that the host is connected as.
    pub fn user_id(mut self, user_id: impl Into<String>) -> Self {
        self.properties.user_id = Some(user_id.into());
        self
    }

    /// Sets the publishing application.
    pub fn app_id(mut self, app_id: impl Into<String>) -> Self {
        self.properties.app_id = Some(app_id.into());
        self
    }

    /// Replaces all properties, headers included.
    pub fn properties(self, properties: Properties) -> Self {
        Self { properties, ..self }
    }
}

/// The contract counts milliseconds in 32 bits: a longer time becomes the longest that fits.
pub(crate) fn whole_ms(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setter_sets_its_property() {
        let publication = Publication::new("mail", "notify")
            .text("hello")
            .header("x", 1)
            .header("y", true)
            .header("x", 2)
            .persistent()
            .content_encoding("identity")
            .priority(3)
            .correlation_id("c")
            .reply_to("r")
            .expiration(Duration::from_secs(1))
            .message_id("m")
            .timestamp(4)
            .kind("k")
            .user_id("u")
            .app_id("a");
        let properties = Properties {
            content_type: Some("text/plain".into()),
            content_encoding: Some("identity".into()),
            headers: vec![("y".into(), Field::Boolean(true)), ("x".into(), Field::Integer(2))],
            persistent: true,
            priority: Some(3),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expiration_ms: Some(1000),
            message_id: Some("m".into()),
            timestamp: Some(4),
            kind: Some("k".into()),
            user_id: Some("u".into()),
            app_id: Some("a".into()),
        };
        assert_eq!(publication, Publication::new("mail", "notify").body("hello").properties(properties));
    }

    #[test]
    fn json_sets_body_and_content_type() -> Result<(), serde_json::Error> {
        let publication = Publication::new("", "q").json(&[1, 2])?;
        assert_eq!(publication, Publication::new("", "q").body("[1,2]").content_type("application/json"));
        Ok(())
    }

    #[test]
    fn a_time_too_long_is_the_longest() {
        assert_eq!(whole_ms(Duration::from_micros(1999)), 1);
        assert_eq!(whole_ms(Duration::MAX), u32::MAX);
    }
}
