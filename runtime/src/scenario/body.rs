//! Bytes as they are written in a scenario: a text, JSON, or base64.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Number, Value as Json};
use toml::{
    Spanned,
    de::{DeInteger, DeString, DeValue},
};

use super::parse::Files;
use crate::manifest::{
    read::Section,
    report::Problem,
    values::{nearest_or_all, quoted},
};

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Text,
    /// As a value: the same whatever its blanks and the order of its keys.
    Json,
    /// For what is not UTF-8.
    Base64,
}

/// Bytes that are expected, or given.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// How they are written, and so how they are compared.
    pub form: Form,
    /// The bytes; of JSON, one way to write it.
    pub bytes: Vec<u8>,
}

impl Form {
    /// The key of this form.
    pub fn key(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Base64 => "base64",
        }
    }

    /// How these bytes are best written.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Err(_) => Self::Base64,
            Ok(text) if text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<Json>(text).is_ok() => {
                Self::Json
            }
            Ok(_) => Self::Text,
        }
    }

    /// The bytes in this form, or in one that they have.
    pub fn show(self, bytes: &[u8]) -> (Self, Json) {
        let text = std::str::from_utf8(bytes).ok();
        let base64 = || (Self::Base64, Json::from(BASE64_STANDARD.encode(bytes)));
        match (self, text) {
            (Self::Json, Some(text)) => match serde_json::from_str(text) {
                Ok(json) => (Self::Json, plain(json)),
                Err(_) => (Self::Text, text.into()),
            },
            (Self::Text, Some(text)) => (Self::Text, text.into()),
            (Self::Base64, _) | (_, None) => base64(),
        }
    }
}

impl Body {
    /// Bytes that are compared one by one.
    pub fn of(bytes: Vec<u8>) -> Self {
        let form = if std::str::from_utf8(&bytes).is_ok() { Form::Text } else { Form::Base64 };
        Self { form, bytes }
    }
}

/// JSON knows one kind of number: 1.0 is 1.
fn plain(json: Json) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match json {
        Json::Number(number) => match number.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and within the bounds of exact ones")]
            Some(n) if number.is_f64() && n.fract() == 0.0 && n.abs() < EXACT => Json::from(n as i64),
            _ => Json::Number(number),
        },
        Json::Array(values) => values.into_iter().map(plain).collect(),
        Json::Object(map) => Json::Object(map.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        other => other,
    }
}

/// The body of a table: `text`, `json`, `base64` or `file`, one of them or none.
pub(super) fn body(section: &mut Section<'_>, files: Files<'_>) -> Option<Body> {
    const KEYS: [&str; 4] = ["text", "json", "base64", "file"];
    let there: Vec<_> = KEYS.into_iter().filter(|key| section.has(key)).collect();
    if let [_, second, ..] = *there {
        let problem = Problem::new("a body is written in one way, not in two");
        section.report(second, problem.hint(format!("leave out all but one of `{}`", there.join("`, `"))));
    }
    let text = section.text("text").map(|text| Body { form: Form::Text, bytes: text.as_bytes().to_vec() });
    let json = json(section, "json").map(|json| Body { form: Form::Json, bytes: json.to_string().into_bytes() });
    let base64 = section.checked("base64", decode).map(|bytes| Body { form: Form::Base64, bytes });
    let file = section.checked("file", |path| files(path).map_err(Problem::new)).map(Body::of);
    text.or(json).or(base64).or(file)
}

fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    BASE64_STANDARD.decode(text).map_err(|error| Problem::new(format!("it is not base64: {error}")))
}

/// A value of a key as JSON. What JSON has no word for is a problem.
pub(super) fn json(section: &mut Section<'_>, key: &'static str) -> Option<Json> {
    let value = section.value(key)?;
    to_json(value).map_err(|(at, problem)| section.report_at(at, problem)).ok()
}

type Value<'t> = Spanned<DeValue<'t>>;

fn to_json<'v, 't>(value: &'v Value<'t>) -> Result<Json, (&'v Value<'t>, Problem)> {
    let wrong = |text: &str| (value, Problem::new(text));
    Ok(match value.get_ref() {
        DeValue::String(text) => Json::from(&**text),
        DeValue::Integer(number) => integer(number).ok_or_else(|| wrong("a number that does not fit 64 bits"))?.into(),
        DeValue::Float(number) => {
            let number = number.as_str().replace('_', "").parse().ok().and_then(Number::from_f64);
            Json::Number(number.ok_or_else(|| wrong("JSON has no such number"))?)
        }
        DeValue::Boolean(flag) => Json::Bool(*flag),
        DeValue::Datetime(_) => return Err((value, Problem::new("JSON has no dates").hint("put it in quotes"))),
        DeValue::Array(entries) => entries.iter().map(to_json).collect::<Result<_, _>>()?,
        DeValue::Table(entries) => {
            let entries = entries.iter().map(|(name, value)| Ok((name.get_ref().to_string(), to_json(value)?)));
            Json::Object(entries.collect::<Result<_, _>>()?)
        }
    })
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
}

/// A table whose keys are names that the user chose, and whose values are bodies: a string is a text.
pub(super) fn bodies(section: &mut Section<'_>, key: &'static str, files: Files<'_>) -> Option<BTreeMap<String, Body>> {
    let value = section.value(key)?;
    within(value, files).map_err(|(at, problem)| section.report_at(at, problem)).ok()
}

/// A table of such tables.
pub(super) fn folders(
    section: &mut Section<'_>,
    key: &'static str,
    files: Files<'_>,
) -> Option<BTreeMap<String, BTreeMap<String, Body>>> {
    let value = section.value(key)?;
    let DeValue::Table(entries) = value.get_ref() else {
        let problem = Problem::new(format!("`{key}` must be a table of folders"));
        section.report_at(value, problem.hint(format!("write `{key} = {{ \"/FOLDER\" = {{ NAME = \"…\" }} }}`")));
        return None;
    };
    let read = |(name, value): (&Spanned<DeString<'_>>, &_)| match within(value, files) {
        Ok(bodies) => Some((name.get_ref().to_string(), bodies)),
        Err((at, problem)) => {
            section.report_at(at, problem);
            None
        }
    };
    Some(entries.iter().filter_map(read).collect())
}

fn within<'v, 't>(value: &'v Value<'t>, files: Files<'_>) -> Result<BTreeMap<String, Body>, (&'v Value<'t>, Problem)> {
    let DeValue::Table(entries) = value.get_ref() else {
        return Err((value, Problem::new("it must be a table").hint("write `{ NAME = \"…\" }`")));
    };
    entries.iter().map(|(name, value)| Ok((name.get_ref().to_string(), entry(value, files)?))).collect()
}

fn entry<'v, 't>(value: &'v Value<'t>, files: Files<'_>) -> Result<Body, (&'v Value<'t>, Problem)> {
    let table = match value.get_ref() {
        DeValue::String(text) => return Ok(Body { form: Form::Text, bytes: text.as_bytes().to_vec() }),
        DeValue::Table(table) => table,
        _ => {
            let problem = Problem::new("a content must be a string or a table");
            return Err((value, problem.hint("put it in quotes, or write `{ json = … }`")));
        }
    };
    let mut entries = table.iter();
    let (Some((name, inner)), None) = (entries.next(), entries.next()) else {
        return Err((value, Problem::new("a content is written in one way").hint("write `{ json = … }`")));
    };
    let name: &Spanned<DeString<'_>> = name;
    let text = match inner.get_ref() {
        DeValue::String(text) => Ok(&**text),
        _ => Err((inner, Problem::new(format!("`{}` must be a string", name.get_ref())))),
    };
    let name: &str = name.get_ref();
    match name {
        "text" => text.map(|text| Body { form: Form::Text, bytes: text.as_bytes().to_vec() }),
        "json" => Ok(Body { form: Form::Json, bytes: to_json(inner)?.to_string().into_bytes() }),
        "base64" => {
            let bytes = decode(text?).map_err(|problem| (inner, problem))?;
            Ok(Body { form: Form::Base64, bytes })
        }
        "file" => files(text?).map(Body::of).map_err(|error| (inner, Problem::new(error))),
        _ => {
            let hint = nearest_or_all(name, &["text", "json", "base64", "file"]);
            Err((value, Problem::new(format!("unknown key {}", quoted(name))).hint(hint)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_shown_in_the_form_that_they_have() {
        assert_eq!(Form::Json.show(br#"{"a": 1.0}"#), (Form::Json, json!({ "a": 1 })));
        assert_eq!(Form::Json.show(b"no json"), (Form::Text, json!("no json")));
        assert_eq!(Form::Text.show(b"{}"), (Form::Text, json!("{}")));
        assert_eq!(Form::Text.show(&[0xff]), (Form::Base64, json!("/w==")));
        assert_eq!(Form::Base64.show(b"a"), (Form::Base64, json!("YQ==")));
        for (bytes, form) in
            [(&b"[1]"[..], Form::Json), (b"1", Form::Text), (b"[", Form::Text), (&[0xff], Form::Base64)]
        {
            assert_eq!(Form::of(bytes), form, "{bytes:?}");
        }
    }
}
