//! From lapin's words to ours and back, type for type.

use std::sync::Arc;

use lapin::{
    BasicProperties,
    types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString},
};

use crate::delivery::{Delivery, Properties, Table, Value};

/// A delivery of lapin's, without a copy of the body.
pub(super) fn delivery(from: lapin::message::Delivery, queue: &Arc<str>) -> Delivery {
    Delivery {
        body: from.data,
        properties: properties(&from.properties),
        exchange: from.exchange.into(),
        routing_key: from.routing_key.into(),
        queue: Arc::clone(queue),
        redelivered: from.redelivered,
        attempt: 1,
    }
}

/// The properties of a message in our words, type for type.
pub fn properties(from: &BasicProperties) -> Properties {
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    Properties {
        content_type: text(from.content_type()),
        content_encoding: text(from.content_encoding()),
        headers: from.headers().as_ref().map(table).unwrap_or_default(),
        delivery_mode: *from.delivery_mode(),
        priority: *from.priority(),
        correlation_id: text(from.correlation_id()),
        reply_to: text(from.reply_to()),
        expiration: text(from.expiration()),
        message_id: text(from.message_id()),
        timestamp: *from.timestamp(),
        kind: text(from.kind()),
        user_id: text(from.user_id()),
        app_id: text(from.app_id()),
    }
}

fn table(from: &FieldTable) -> Table {
    from.into_iter().map(|(name, value)| (name.as_str().to_owned(), from_value(value))).collect()
}

fn from_value(from: &AMQPValue) -> Value {
    match from {
        AMQPValue::Boolean(b) => Value::Bool(*b),
        AMQPValue::ShortShortInt(n) => Value::I8(*n),
        AMQPValue::ShortShortUInt(n) => Value::U8(*n),
        AMQPValue::ShortInt(n) => Value::I16(*n),
        AMQPValue::ShortUInt(n) => Value::U16(*n),
        AMQPValue::LongInt(n) => Value::I32(*n),
        AMQPValue::LongUInt(n) => Value::U32(*n),
        AMQPValue::LongLongInt(n) => Value::I64(*n),
        AMQPValue::Float(n) => Value::F32(*n),
        AMQPValue::Double(n) => Value::F64(*n),
        AMQPValue::DecimalValue(d) => Value::Decimal { scale: d.scale, value: d.value },
        AMQPValue::ShortString(text) => Value::text(text.as_str()),
        AMQPValue::LongString(text) => Value::Text(text.as_bytes().to_vec()),
        AMQPValue::FieldArray(values) => Value::Array(values.as_slice().iter().map(from_value).collect()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(*seconds),
        AMQPValue::FieldTable(inner) => Value::Table(table(inner)),
        AMQPValue::ByteArray(bytes) => Value::Bytes(bytes.as_slice().to_vec()),
        AMQPValue::Void => Value::Void,
    }
}

/// Our properties in lapin's words. Short strings must have been checked: lapin panics on one of more than 255 bytes.
pub fn to_properties(from: Properties) -> BasicProperties {
    let mut to = BasicProperties::default();
    let mut set = |text: Option<String>, with: fn(BasicProperties, ShortString) -> BasicProperties| {
        if let Some(text) = text {
            to = with(std::mem::take(&mut to), text.into());
        }
    };
    set(from.content_type, BasicProperties::with_content_type);
    set(from.content_encoding, BasicProperties::with_content_encoding);
    set(from.correlation_id, BasicProperties::with_correlation_id);
    set(from.reply_to, BasicProperties::with_reply_to);
    set(from.expiration, BasicProperties::with_expiration);
    set(from.message_id, BasicProperties::with_message_id);
    set(from.kind, BasicProperties::with_type);
    set(from.user_id, BasicProperties::with_user_id);
    set(from.app_id, BasicProperties::with_app_id);
    if let Some(mode) = from.delivery_mode {
        to = to.with_delivery_mode(mode);
    }
    if let Some(priority) = from.priority {
        to = to.with_priority(priority);
    }
    if let Some(seconds) = from.timestamp {
        to = to.with_timestamp(seconds);
    }
    if !from.headers.is_empty() {
        to = to.with_headers(to_table(from.headers));
    }
    to
}

/// A table in lapin's words; names are short strings, checked as above.
pub(super) fn to_table(from: Table) -> FieldTable {
    let mut to = FieldTable::default();
    for (name, value) in from {
        to.insert(name.into(), to_value(value));
    }
    to
}

fn to_value(from: Value) -> AMQPValue {
    match from {
        Value::Bool(b) => AMQPValue::Boolean(b),
        Value::I8(n) => AMQPValue::ShortShortInt(n),
        Value::U8(n) => AMQPValue::ShortShortUInt(n),
        Value::I16(n) => AMQPValue::ShortInt(n),
        Value::U16(n) => AMQPValue::ShortUInt(n),
        Value::I32(n) => AMQPValue::LongInt(n),
        Value::U32(n) => AMQPValue::LongUInt(n),
        Value::I64(n) => AMQPValue::LongLongInt(n),
        Value::F32(n) => AMQPValue::Float(n),
        Value::F64(n) => AMQPValue::Double(n),
        Value::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue { scale, value }),
        Value::Text(bytes) => AMQPValue::LongString(LongString::from(bytes)),
        Value::Array(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.into_iter().map(to_value).collect::<Vec<_>>()))
        }
        Value::Timestamp(seconds) => AMQPValue::Timestamp(seconds),
        Value::Table(table) => AMQPValue::FieldTable(to_table(table)),
        Value::Bytes(bytes) => AMQPValue::ByteArray(ByteArray::from(bytes)),
        Value::Void => AMQPValue::Void,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives() {
        let headers: Table = [
            ("array", Value::Array(vec![Value::I32(1), Value::Void])),
            ("bool", Value::Bool(true)),
            ("bytes", Value::Bytes(vec![0, 255])),
            ("decimal", Value::Decimal { scale: 2, value: 1250 }),
            ("f32", Value::F32(0.5)),
            ("f64", Value::F64(-0.25)),
            ("i16", Value::I16(-2)),
            ("i32", Value::I32(-3)),
            ("i64", Value::I64(-4)),
            ("i8", Value::I8(-1)),
            ("table", Value::Table(vec![("inner".into(), Value::Timestamp(7))])),
            ("text", Value::Text(vec![0xff, b'a'])),
            ("time", Value::Timestamp(1_700_000_000)),
            ("u16", Value::U16(2)),
            ("u32", Value::U32(3)),
            ("u8", Value::U8(1)),
            ("void", Value::Void),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let text = |text: &str| Some(text.to_owned());
        let ours = Properties {
            content_type: text("a"),
            content_encoding: text("b"),
            headers,
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: text("c"),
            reply_to: text("d"),
            expiration: text("1000"),
            message_id: text("e"),
            timestamp: Some(8),
            kind: text("f"),
            user_id: text("g"),
            app_id: text("h"),
        };
        assert_eq!(properties(&to_properties(ours.clone())), ours);
        assert_eq!(properties(&to_properties(Properties::default())), Properties::default());
    }
}
