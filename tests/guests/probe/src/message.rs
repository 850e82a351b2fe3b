//! Messages as JSON: a description of what was received has the same form as what is to be published.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wabbit_sdk::{Delivery, Field, Properties, Publication};

/// A message to be published.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Message {
    to: To,
    /// Fills the routing key up with `x` to that many bytes.
    #[serde(default)]
    routing_key_len: usize,
    #[serde(default)]
    body: Body,
    /// Fills the body up with `x` to that many bytes.
    #[serde(default)]
    body_len: usize,
    #[serde(default, with = "PropertiesForm")]
    properties: Properties,
    /// Adds a header `filler` with a text of that many bytes.
    #[serde(default)]
    headers_len: usize,
    /// Publishes it so many times.
    #[serde(default = "one")]
    count: usize,
}

fn one() -> usize {
    1
}

impl Message {
    pub fn publications(self) -> impl Iterator<Item = Publication> {
        let mut publication = self.to.publication().body(self.body).properties(self.properties);
        let missing = self.routing_key_len.saturating_sub(publication.routing_key.len());
        publication.routing_key.push_str(&"x".repeat(missing));
        if publication.body.len() < self.body_len {
            publication.body.resize(self.body_len, b'x');
        }
        if self.headers_len > 0 {
            publication = publication.header("filler", "x".repeat(self.headers_len));
        }
        std::iter::repeat_n(publication, self.count)
    }
}

/// `EXCHANGE/ROUTING-KEY`, as in a manifest's grants. `/QUEUE` is a queue, through the default exchange.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct To {
    exchange: String,
    routing_key: String,
}

impl To {
    pub fn publication(self) -> Publication {
        Publication::new(self.exchange, self.routing_key)
    }
}

impl TryFrom<String> for To {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once('/') {
            Some((exchange, routing_key)) => Ok(Self { exchange: exchange.into(), routing_key: routing_key.into() }),
            None => Err(format!("`{text}` is not EXCHANGE/ROUTING-KEY")),
        }
    }
}

/// A text, or a list of bytes where it is none.
#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "a body is a text or a list of bytes")]
pub enum Body {
    Text(String),
    Bytes(Vec<u8>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl From<Body> for Vec<u8> {
    fn from(body: Body) -> Self {
        match body {
            Body::Text(text) => text.into(),
            Body::Bytes(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Bytes(error.into_bytes()), Self::Text)
    }
}

/// All that a handler is given.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    body: Body,
    #[serde(with = "PropertiesForm")]
    properties: Properties,
    exchange: String,
    routing_key: String,
    queue: String,
    redelivered: bool,
    attempt: u32,
}

impl Description {
    pub fn of(delivery: &Delivery) -> Self {
        let delivery = delivery.clone();
        Self {
            body: delivery.body.into(),
            properties: delivery.properties,
            exchange: delivery.exchange,
            routing_key: delivery.routing_key,
            queue: delivery.queue,
            redelivered: delivery.redelivered,
            attempt: delivery.attempt,
        }
    }
}

/// The JSON form of `Properties`.
#[derive(Deserialize, Serialize)]
#[serde(remote = "Properties", rename_all = "kebab-case", deny_unknown_fields)]
struct PropertiesForm {
    content_type: Option<String>,
    content_encoding: Option<String>,
    #[serde(default, serialize_with = "write_headers", deserialize_with = "read_headers")]
    headers: Vec<(String, Field)>,
    #[serde(default)]
    persistent: bool,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration_ms: Option<u32>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    kind: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
}

/// The JSON form of `Field`: the value under the name of its variant, such as `{"integer": 1}`, or just `"void"`.
#[derive(Deserialize, Serialize)]
#[serde(remote = "Field", rename_all = "kebab-case")]
enum FieldForm {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Binary(Vec<u8>),
    Timestamp(u64),
    Json(String),
    Void,
}

/// `["name", {"integer": 1}]`.
#[derive(Deserialize, Serialize)]
struct Header(String, #[serde(with = "FieldForm")] Field);

fn write_headers<S: Serializer>(headers: &[(String, Field)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, value)| Header(name.clone(), value.clone())))
}

fn read_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Field)>, D::Error> {
    let headers = Vec::<Header>::deserialize(deserializer)?;
    Ok(headers.into_iter().map(|Header(name, value)| (name, value)).collect())
}
