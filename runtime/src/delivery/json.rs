//! A delivery and its parts as JSON: what a command reads, what a sample is written in, and the compound values that the
//! contract carries as text. `sdk/wit/delivery.schema.json` is its schema.
//!
//! What JSON has no word for is an object with one key: `{"$decimal": "12.50"}`, `{"$binary": "<base64>"}`,
//! `{"$timestamp": 1700000000}`, `{"$float": "NaN"}`. So a table survives the way through a handler, integer widths
//! apart. A number with a fraction or an exponent is a float; for writers that print 1.0 as 1 there is `{"$float": 1}`.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Map, Value as Json, json};

use super::{Delivery, PERSISTENT, Properties, TRANSIENT, Table, Value};
use crate::outcome::is_reserved;

/// The version of the contract whose words the JSON form has.
const CONTRACT_VERSION: &str = "0.1.0";
const DECIMAL: &str = "$decimal";
const BINARY: &str = "$binary";
const TIMESTAMP: &str = "$timestamp";
const FLOAT: &str = "$float";

/// What a command reads: the delivery, and what a typed handler would ask the host for.
///
/// Errors: none of a delivery's parts has one; the signature is that of the serializer.
pub fn for_command(delivery: &Delivery, worker: &str, time_ms: u32) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&DeliveryJson {
        contract: Some(Cow::Borrowed(CONTRACT_VERSION)),
        worker: Some(Cow::Borrowed(worker)),
        time_ms: Some(time_ms),
        ..DeliveryJson::of(delivery)
    })
}

/// A delivery that a person wrote, or that was recorded. What is left out is as in an empty message; the queue is then
/// `queue`.
///
/// Errors: what is wrong, with line and column.
pub fn parse_delivery(text: &[u8], queue: &str) -> Result<Delivery, String> {
    let json: DeliveryJson<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    json.into_delivery(queue)
}

/// A delivery, in the words of its schema.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
    #[serde(default)]
    exchange: Cow<'a, str>,
    #[serde(default)]
    routing_key: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Cow<'a, str>>,
    #[serde(default)]
    redelivered: bool,
    #[serde(default = "first_attempt")]
    attempt: u32,
    #[serde(default)]
    properties: PropertiesJson<'a>,
}

impl<'a> DeliveryJson<'a> {
    pub(super) fn of(delivery: &'a Delivery) -> Self {
        let (text, base64) = body_of(&delivery.body);
        Self {
            contract: None,
            worker: None,
            time_ms: None,
            text,
            base64,
            exchange: Cow::Borrowed(&delivery.exchange),
            routing_key: Cow::Borrowed(&delivery.routing_key),
            queue: Some(Cow::Borrowed(&delivery.queue)),
            redelivered: delivery.redelivered,
            attempt: delivery.attempt,
            properties: PropertiesJson::of(&delivery.properties),
        }
    }

    pub(super) fn into_delivery(self, queue: &str) -> Result<Delivery, String> {
        Ok(Delivery {
            body: bytes_of(self.text, self.base64)?,
            properties: self.properties.into_properties()?,
            exchange: self.exchange.into_owned(),
            routing_key: self.routing_key.into_owned(),
            queue: self.queue.as_deref().unwrap_or(queue).into(),
            redelivered: self.redelivered,
            attempt: self.attempt,
        })
    }
}

fn first_attempt() -> u32 {
    1
}

/// A body as `text` where it is UTF-8, else as `base64`.
pub fn body_of(body: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match std::str::from_utf8(body) {
        Ok(text) => (Some(Cow::Borrowed(text)), None),
        Err(_) => (None, Some(Cow::Owned(BASE64_STANDARD.encode(body)))),
    }
}

/// The bytes of a body; none where neither is there.
pub fn bytes_of(text: Option<Cow<'_, str>>, base64: Option<Cow<'_, str>>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err("a body is either `text` or `base64`, not both".into()),
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(base64)) => {
            BASE64_STANDARD.decode(base64.as_bytes()).map_err(|error| format!("`base64` is not valid: {error}"))
        }
        (None, None) => Ok(Vec::new()),
    }
}

/// The basic properties; an absent one is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PropertiesJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Headers::is_empty")]
    headers: Headers<'a>,
    persistent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<Cow<'a, str>>,
}

impl<'a> PropertiesJson<'a> {
    /// What a handler sees of them: the host's own headers are left out.
    pub fn of(properties: &'a Properties) -> Self {
        let borrowed = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            content_type: borrowed(&properties.content_type),
            content_encoding: borrowed(&properties.content_encoding),
            headers: Headers::Borrowed(&properties.headers),
            persistent: properties.delivery_mode == Some(PERSISTENT),
            priority: properties.priority,
            correlation_id: borrowed(&properties.correlation_id),
            reply_to: borrowed(&properties.reply_to),
            expiration_ms: properties.expiration.as_deref().and_then(|text| text.parse().ok()),
            message_id: borrowed(&properties.message_id),
            timestamp: properties.timestamp,
            kind: borrowed(&properties.kind),
            user_id: borrowed(&properties.user_id),
            app_id: borrowed(&properties.app_id),
        }
    }

    /// The host's own words for them.
    ///
    /// Errors: a header stands there twice.
    pub fn into_properties(self) -> Result<Properties, String> {
        let owned = |text: Option<Cow<'a, str>>| text.map(Cow::into_owned);
        let headers = match self.headers {
            Headers::Borrowed(table) => table.clone(),
            Headers::Owned(table) => table,
        };
        if let Some(name) = twice(headers.iter().map(|(name, _)| name.as_str())) {
            return Err(format!("header `{name}` stands there twice"));
        }
        Ok(Properties {
            content_type: owned(self.content_type),
            content_encoding: owned(self.content_encoding),
            headers,
            delivery_mode: Some(if self.persistent { PERSISTENT } else { TRANSIENT }),
            priority: self.priority,
            correlation_id: owned(self.correlation_id),
            reply_to: owned(self.reply_to),
            expiration: self.expiration_ms.map(|ms| ms.to_string()),
            message_id: owned(self.message_id),
            timestamp: self.timestamp,
            kind: owned(self.kind),
            user_id: owned(self.user_id),
            app_id: owned(self.app_id),
        })
    }
}

/// The first name that stands there twice.
pub fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// A header table: an object in the table's order.
enum Headers<'a> {
    Borrowed(&'a Table),
    Owned(Table),
}

impl Headers<'_> {
    fn visible(&self) -> impl Iterator<Item = &(String, Value)> {
        let table = match self {
            Self::Borrowed(table) => table,
            Self::Owned(table) => table,
        };
        table.iter().filter(|(name, _)| !is_reserved(name))
    }

    fn is_empty(&self) -> bool {
        self.visible().next().is_none()
    }
}

impl Default for Headers<'_> {
    fn default() -> Self {
        Self::Owned(Table::new())
    }
}

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.visible().map(|(name, value)| (name, to_json(value))))
    }
}

impl<'de> Deserialize<'de> for Headers<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor).map(Self::Owned)
    }
}

/// Not through a map of `serde_json`: it would keep one of two headers with the same name.
struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Table, A::Error> {
        let mut table = Table::new();
        while let Some((name, json)) = map.next_entry::<String, Json>()? {
            let value = from_json(json).map_err(|error| de::Error::custom(format!("header `{name}`: {error}")))?;
            table.push((name, value));
        }
        Ok(table)
    }
}

/// The JSON text of a decimal, an array or a table; nothing for the values that have a form of their own.
pub fn of_compound(value: &Value) -> Option<String> {
    matches!(value, Value::Decimal { .. } | Value::Array(_) | Value::Table(_)).then(|| to_json(value).to_string())
}

/// An integer as it is sent: with 32 bits where it fits them.
pub fn integer(n: i64) -> Value {
    i32::try_from(n).map_or(Value::I64(n), Value::I32)
}

/// A header value from JSON text.
pub fn parse(text: &str) -> Result<Value, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    from_json(json)
}

/// One value.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(b) => json!(b),
        Value::I8(n) => json!(n),
        Value::U8(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I64(n) => json!(n),
        Value::F32(n) => float((*n).into()),
        Value::F64(n) => float(*n),
        Value::Decimal { scale, value } => json!({ DECIMAL: decimal_text(*scale, *value) }),
        Value::Text(bytes) => std::str::from_utf8(bytes).map_or_else(|_| binary(bytes), |text| json!(text)),
        Value::Bytes(bytes) => binary(bytes),
        Value::Timestamp(seconds) => json!({ TIMESTAMP: seconds }),
        Value::Array(values) => values.iter().map(to_json).collect(),
        Value::Table(table) => {
            table.iter().map(|(name, value)| (name.clone(), to_json(value))).collect::<Map<_, _>>().into()
        }
        Value::Void => Json::Null,
    }
}

/// JSON has no number for infinity, and none that is not a number.
fn float(n: f64) -> Json {
    if n.is_finite() { json!(n) } else { json!({ FLOAT: n.to_string() }) }
}

fn binary(bytes: &[u8]) -> Json {
    json!({ BINARY: BASE64_STANDARD.encode(bytes) })
}

fn from_json(json: Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::Void,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => integer(n),
            (None, Some(n)) if n.is_finite() && !number.is_u64() => Value::F64(n),
            _ => return Err(format!("the number {number} does not fit")),
        },
        Json::String(text) => Value::text(text),
        Json::Array(values) => Value::Array(values.into_iter().map(from_json).collect::<Result<_, _>>()?),
        Json::Object(map) => match special(&map) {
            Some(value) => value?,
            None => Value::Table(map.into_iter().map(|(k, v)| Ok((k, from_json(v)?))).collect::<Result<_, String>>()?),
        },
    })
}

/// The value of an object with one of the `$` keys alone.
fn special(map: &Map<String, Json>) -> Option<Result<Value, String>> {
    let (key, json) = map.iter().next().filter(|_| map.len() == 1)?;
    let value = match key.as_str() {
        DECIMAL => json.as_str().and_then(parse_decimal),
        BINARY => json.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok()).map(Value::Bytes),
        TIMESTAMP => json.as_u64().map(Value::Timestamp),
        FLOAT => json.as_f64().or_else(|| json.as_str()?.parse().ok()).map(Value::F64),
        _ => return None,
    };
    Some(value.ok_or_else(|| format!("`{key}` with a value that it does not take")))
}

fn decimal_text(scale: u8, value: u32) -> String {
    let scale = usize::from(scale);
    let digits = format!("{value:0>width$}", width = scale + 1);
    match digits.split_at_checked(digits.len() - scale) {
        Some((whole, "")) => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{fraction}"),
        None => digits,
    }
}

fn parse_decimal(text: &str) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let value = format!("{whole}{fraction}").parse().ok()?;
    Some(Value::Decimal { scale: fraction.len().try_into().ok()?, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compounds_go_there_and_back() {
        let table = Value::Table(vec![
            ("array".into(), Value::Array(vec![Value::I32(1), Value::text("two"), Value::Void, Value::Bool(true)])),
            ("big".into(), Value::I64(1 << 40)),
            ("binary".into(), Value::Bytes(vec![0, 255])),
            ("decimal".into(), Value::Decimal { scale: 2, value: 1250 }),
            ("double".into(), Value::F64(1.5)),
            ("nested".into(), Value::Table(vec![("at".into(), Value::Timestamp(1_700_000_000))])),
            ("small".into(), Value::Decimal { scale: 3, value: 7 }),
        ]);
        assert_eq!(parse(&of_compound(&table).unwrap()).unwrap(), table);
        let decimal = Value::Decimal { scale: 0, value: 42 };
        assert_eq!(of_compound(&decimal).unwrap(), r#"{"$decimal":"42"}"#);
        assert_eq!(parse(r#"{"$decimal":"42"}"#).unwrap(), decimal);
        assert_eq!(of_compound(&Value::I32(1)), None);
    }

    #[test]
    fn a_float_stays_one() {
        for (text, expected) in [
            ("1.0", 1.0),
            (r#"{"$float":1}"#, 1.0),
            (r#"{"$float":"inf"}"#, f64::INFINITY),
            (r#"{"$float":"-inf"}"#, f64::NEG_INFINITY),
            ("1e300", 1e300),
            // The last digit is lost where a number is read in a hurry.
            ("2.3287771384510637e231", 2.328_777_138_451_063_7e231),
        ] {
            assert_eq!(parse(text).unwrap(), Value::F64(expected), "{text}");
            assert_eq!(parse(&to_json(&Value::F64(expected)).to_string()).unwrap(), Value::F64(expected), "{text}");
        }
        let Value::F64(n) = parse(&to_json(&Value::F64(f64::NAN)).to_string()).unwrap() else { panic!() };
        assert!(n.is_nan());
        assert_eq!(to_json(&Value::F32(0.1)), json!(0.100_000_001_490_116_12));
    }

    fn full() -> Delivery {
        Delivery {
            body: b"body".to_vec(),
            properties: Properties {
                content_type: Some("text/plain".into()),
                content_encoding: Some("identity".into()),
                headers: vec![
                    ("void".into(), Value::Void),
                    ("bool".into(), Value::Bool(true)),
                    ("min".into(), Value::I64(i64::MIN)),
                    ("max".into(), Value::I64(i64::MAX)),
                    ("small".into(), Value::I32(-1)),
                    ("float".into(), Value::F64(1.0)),
                    ("text".into(), Value::text("g\u{fc}n")),
                    ("binary".into(), Value::Bytes(vec![0, 255])),
                    ("at".into(), Value::Timestamp(1_700_000_000)),
                    ("nested".into(), Value::Table(vec![("a".into(), Value::Array(vec![Value::Void]))])),
                    ("decimal".into(), Value::Decimal { scale: 2, value: 1250 }),
                ],
                delivery_mode: Some(PERSISTENT),
                priority: Some(9),
                correlation_id: Some("7".into()),
                reply_to: Some("replies".into()),
                expiration: Some("60000".into()),
                message_id: Some("m".into()),
                timestamp: Some(1_700_000_001),
                kind: Some("order".into()),
                user_id: Some("guest".into()),
                app_id: Some(String::new()),
            },
            exchange: "e".into(),
            routing_key: "k\u{fc}".into(),
            queue: "q".into(),
            redelivered: true,
            attempt: 3,
        }
    }

    #[test]
    fn a_delivery_goes_there_and_back() {
        let mut delivery = full();
        assert_eq!(parse_delivery(&for_command(&delivery, "w", 5).unwrap(), "").unwrap(), delivery);
        delivery.body = vec![0xff];
        assert_eq!(parse_delivery(&for_command(&delivery, "w", 5).unwrap(), "").unwrap(), delivery);
    }

    #[test]
    fn the_hosts_own_headers_are_not_shown() {
        let mut delivery = full();
        delivery.properties.headers = vec![("X-Wabbit-Attempt".into(), Value::I32(1))];
        let text = String::from_utf8(for_command(&delivery, "w", 5).unwrap()).unwrap();
        assert!(!text.contains("headers"), "{text}");
    }

    #[test]
    fn what_is_left_out_is_as_in_an_empty_message() {
        let delivery = parse_delivery(b"{}", "q").unwrap();
        assert_eq!((delivery.attempt, &*delivery.queue, delivery.body.len()), (1, "q", 0));
    }

    #[test]
    fn what_makes_no_delivery_is_refused() {
        for (text, expected) in [
            (r#"{"text":"a","base64":"YQ=="}"#, "a body is either `text` or `base64`, not both"),
            (r#"{"base64":"%"}"#, "`base64` is not valid"),
            (r#"{"body":"a"}"#, "unknown field `body`"),
            (r#"{"properties":{"headers":{"a":1,"a":2}}}"#, "header `a` stands there twice"),
            (r#"{"properties":{"headers":{"a":{"$binary":1}}}}"#, "header `a`: `$binary` with a value"),
            (r#"{"properties":{"priority":256}}"#, "invalid value: integer `256`"),
        ] {
            let error = parse_delivery(text.as_bytes(), "q").unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_amqp_has_no_value_for_is_refused() {
        for text in ["1e999", "18446744073709551615", "{", r#"{"$decimal": 1}"#, r#"{"$binary": "%"}"#, "NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
