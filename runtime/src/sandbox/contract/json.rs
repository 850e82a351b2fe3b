//! The header values that the contract carries as JSON text: decimals, nested tables and arrays.
//!
//! What JSON has no word for is an object with one key: `{"$decimal": "12.50"}`, `{"$binary": "<base64>"}`,
//! `{"$timestamp": 1700000000}`. So a nested table survives the way through a handler, integer widths apart.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value as Json, json};

use crate::delivery::Value;

const DECIMAL: &str = "$decimal";
const BINARY: &str = "$binary";
const TIMESTAMP: &str = "$timestamp";

/// The JSON text of a decimal, an array or a table; nothing for the values that have a form of their own.
pub(super) fn of_compound(value: &Value) -> Option<String> {
    matches!(value, Value::Decimal { .. } | Value::Array(_) | Value::Table(_)).then(|| to_json(value).to_string())
}

/// An integer as it is sent: with 32 bits where it fits them.
pub(super) fn integer(n: i64) -> Value {
    i32::try_from(n).map_or(Value::I64(n), Value::I32)
}

/// A header value from JSON text.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    from_json(json)
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(b) => json!(b),
        Value::I8(n) => json!(n),
        Value::U8(n) => json!(n),
        Value::I16(n) => json!(n),
        Value::U16(n) => json!(n),
        Value::I32(n) => json!(n),
        Value::U32(n) => json!(n),
        Value::I64(n) => json!(n),
        // JSON has no number for infinity: `json!` makes it null.
        Value::F32(n) => json!(n),
        Value::F64(n) => json!(n),
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
    fn what_amqp_has_no_value_for_is_refused() {
        for text in ["1e999", "18446744073709551615", "{", r#"{"$decimal": 1}"#, r#"{"$binary": "%"}"#, "NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
