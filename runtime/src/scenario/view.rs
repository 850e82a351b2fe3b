//! What came of a delivery, in the words in which it is expected.

use std::collections::BTreeMap;

use hyper::header::HeaderMap;
use serde_json::{Map, Value as Json, json};

use super::{
    Contents,
    body::{Body, Form},
    expect::Message,
    messages,
};
use crate::{
    outcome::{Failure, Outcome, Publication},
    sandbox::Asked,
};

/// A settlement, as the JSON form of an outcome has it.
pub(super) fn settlement(outcome: &Outcome) -> Json {
    let bare = Outcome { settlement: outcome.settlement.clone(), publications: Vec::new() };
    let json = crate::outcome::json::of(&bare).unwrap_or_default();
    json.get("settlement").cloned().unwrap_or_default()
}

pub(super) fn failure(failure: &Failure) -> Json {
    json!({ "kind": failure.kind.as_str(), "error": failure.error })
}

/// A publication; its body in this form, if it has it.
pub(super) fn publication(publication: &Publication, form: Form) -> Json {
    let (form, body) = form.show(&publication.body);
    message(&publication.exchange, &publication.routing_key, (form, body), messages::shown(&publication.properties))
}

/// A publication that is expected.
pub(super) fn expected(expected: &Message) -> Json {
    let body = expected.body.form.show(&expected.body.bytes);
    message(&expected.exchange, &expected.routing_key, body, expected.properties.clone())
}

fn message(exchange: &str, routing_key: &str, (form, body): (Form, Json), properties: Json) -> Json {
    json!({ "exchange": exchange, "routing_key": routing_key, form.key(): body, "properties": properties })
}

/// Contents, each in the form of what is expected of it.
pub(super) fn contents(contents: &Contents, forms: &BTreeMap<String, Body>) -> Json {
    let shown = contents.iter().map(|(name, bytes)| {
        let form = forms.get(name).map_or_else(|| Form::of(bytes), |body| body.form);
        (name.clone(), content(form.show(bytes)))
    });
    Json::Object(shown.collect())
}

/// Contents that are expected.
pub(super) fn bodies(bodies: &BTreeMap<String, Body>) -> Json {
    let shown = bodies.iter().map(|(name, body)| (name.clone(), content(body.form.show(&body.bytes))));
    Json::Object(shown.collect())
}

/// A text as it is; what is of another form with its name.
pub(super) fn content((form, value): (Form, Json)) -> Json {
    if form == Form::Text { value } else { json!({ form.key(): value }) }
}

/// A request: those of its headers that are looked at, and its body in this form.
pub(super) fn asked(asked: &Asked, headers: &HeaderMap, form: Option<Form>) -> Json {
    let mut fields = Map::from_iter([
        ("method".to_owned(), json!(asked.method.as_str())),
        ("url".to_owned(), json!(asked.url)),
        (
            "headers".to_owned(),
            header_texts(headers.keys().filter_map(|name| Some((name.as_str(), asked.headers.get(name)?.as_bytes())))),
        ),
    ]);
    if let Some((form, body)) = form.map(|form| form.show(&asked.body)) {
        fields.insert(form.key().to_owned(), body);
    }
    Json::Object(fields)
}

pub(super) fn header_texts<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Json {
    let text = |(name, value): (&str, &[u8])| (name.to_owned(), Json::from(String::from_utf8_lossy(value)));
    Json::Object(headers.map(text).collect())
}
