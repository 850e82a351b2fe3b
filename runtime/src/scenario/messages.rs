//! Deliveries that are given, in the words of their JSON form.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::{
    body::{body, json},
    parse::Files,
};
use crate::{
    delivery::{
        Delivery, Properties,
        json::{PropertiesJson, parse_delivery},
    },
    manifest::{read::Section, report::Problem, values::quoted},
};

/// What makes a delivery, beside its body.
const KEYS: [&str; 10] =
    ["text", "json", "base64", "file", "exchange", "routing_key", "queue", "redelivered", "attempt", "properties"];

/// A delivery: all of it in a file, or key by key.
pub(super) fn delivery(section: &mut Section<'_>, files: Files<'_>) -> Delivery {
    let from = section.checked("from", |path| {
        let text = files(path).map_err(Problem::new)?;
        parse_delivery(&text, "").map_err(|error| Problem::new(format!("{} is not a delivery: {error}", quoted(path))))
    });
    let there: BTreeSet<_> = KEYS.into_iter().filter(|key| section.has(key)).collect();
    if let (true, Some(key)) = (section.has("from"), there.first()) {
        let problem = Problem::new(format!("`{key}` has no meaning with `from`"));
        section.report(key, problem.hint("the file has all of the delivery: leave one of them out"));
    }
    let body = body(section, files).map(|body| body.bytes).unwrap_or_default();
    let text = |section: &mut Section<'_>, key| section.text(key).unwrap_or_default().to_owned();
    let (exchange, routing_key, queue) =
        (text(section, "exchange"), text(section, "routing_key"), text(section, "queue"));
    let redelivered = section.flag("redelivered").unwrap_or_default();
    let attempt = section.integer("attempt", 1..=u32::MAX as usize).and_then(|attempt| u32::try_from(attempt).ok());
    let (_, properties) = properties(section);
    let given = Delivery {
        body,
        properties,
        exchange,
        routing_key,
        queue: queue.into(),
        redelivered,
        attempt: attempt.unwrap_or(1),
    };
    from.unwrap_or(given)
}

/// The properties of a message, as JSON has them and as the host has them.
pub(super) fn properties(section: &mut Section<'_>) -> (Json, Properties) {
    let given = json(section, "properties").unwrap_or_else(|| Json::Object(serde_json::Map::new()));
    let read = serde_json::from_value::<PropertiesJson<'_>>(given)
        .map_err(|error| error.to_string())
        .and_then(PropertiesJson::into_properties);
    let properties = read.unwrap_or_else(|error| {
        section.report("properties", Problem::new(format!("these are no properties: {error}")));
        Properties::default()
    });
    (shown(&properties), properties)
}

/// Properties as JSON has them, all that is left out as it is read.
pub(super) fn shown(properties: &Properties) -> Json {
    serde_json::to_value(PropertiesJson::of(properties)).unwrap_or_default()
}
