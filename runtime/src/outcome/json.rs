//! An outcome as JSON: what a command writes, and what `wabbit invoke --json` prints. `sdk/wit/outcome.schema.json` is
//! its schema.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Outcome, Publication, Settlement};
use crate::delivery::json::{PropertiesJson, body_of, bytes_of};

/// The outcome that a command wrote.
///
/// Errors: what is wrong, with line and column.
pub fn parse(text: &[u8]) -> Result<Outcome, String> {
    let json: OutcomeJson<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let publications = json
        .publications
        .into_iter()
        .enumerate()
        .map(|(index, json)| json.into_publication().map_err(|error| format!("publication {index}: {error}")));
    Ok(Outcome { settlement: json.settlement.0, publications: publications.collect::<Result<_, _>>()? })
}

/// An outcome for a program to read.
pub fn of(outcome: &Outcome) -> serde_json::Result<Json> {
    serde_json::to_value(OutcomeJson {
        settlement: SettlementJson(outcome.settlement.clone()),
        publications: outcome.publications.iter().map(PublicationJson::of).collect(),
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeJson<'a> {
    settlement: SettlementJson,
    #[serde(default)]
    publications: Vec<PublicationJson<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicationJson<'a> {
    #[serde(default)]
    exchange: Cow<'a, str>,
    #[serde(default)]
    routing_key: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Cow<'a, str>>,
    #[serde(default)]
    properties: PropertiesJson<'a>,
}

impl<'a> PublicationJson<'a> {
    fn of(publication: &'a Publication) -> Self {
        let (text, base64) = body_of(&publication.body);
        Self {
            exchange: Cow::Borrowed(&publication.exchange),
            routing_key: Cow::Borrowed(&publication.routing_key),
            text,
            base64,
            properties: PropertiesJson::of(&publication.properties),
        }
    }

    fn into_publication(self) -> Result<Publication, String> {
        Ok(Publication {
            exchange: self.exchange.into_owned(),
            routing_key: self.routing_key.into_owned(),
            body: bytes_of(self.text, self.base64)?,
            properties: self.properties.into_properties()?,
        })
    }
}

/// `"ack"`, `"requeue"`, `"retry"`, `{"retry": 500}`, `{"dead-letter": "reason"}`.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Json", into = "Json")]
struct SettlementJson(Settlement);

impl Clone for SettlementJson {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl From<SettlementJson> for Json {
    fn from(SettlementJson(settlement): SettlementJson) -> Self {
        match settlement {
            Settlement::Ack => json!("ack"),
            Settlement::Requeue => json!("requeue"),
            Settlement::Retry(None) => json!("retry"),
            // A duration that came from a handler is a count of milliseconds within 32 bits.
            Settlement::Retry(Some(after)) => json!({ "retry": u64::try_from(after.as_millis()).unwrap_or(u64::MAX) }),
            Settlement::DeadLetter(reason) => json!({ "dead-letter": reason }),
        }
    }
}

impl TryFrom<Json> for SettlementJson {
    type Error = String;

    fn try_from(json: Json) -> Result<Self, String> {
        let settlement = match &json {
            Json::String(word) => match word.as_str() {
                "ack" => Some(Settlement::Ack),
                "requeue" => Some(Settlement::Requeue),
                "retry" => Some(Settlement::Retry(None)),
                _ => None,
            },
            Json::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((word, Json::Null)) if word == "retry" => Some(Settlement::Retry(None)),
                Some((word, Json::Number(ms))) if word == "retry" => ms
                    .as_u64()
                    .and_then(|ms| u32::try_from(ms).ok())
                    .map(|ms| Settlement::Retry(Some(Duration::from_millis(ms.into())))),
                Some((word, Json::String(reason))) if word == "dead-letter" => {
                    Some(Settlement::DeadLetter(reason.clone()))
                }
                _ => None,
            },
            _ => None,
        };
        settlement.map(Self).ok_or_else(|| {
            let words = "\"ack\", \"requeue\", \"retry\", {\"retry\": MILLISECONDS} or {\"dead-letter\": \"REASON\"}";
            format!("a settlement is {words}, not {json}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{PERSISTENT, Properties, TRANSIENT, Value};

    #[test]
    fn every_outcome_goes_there_and_back() {
        let publication = |body: &[u8], mode, headers| Publication {
            exchange: "e".into(),
            routing_key: "k".into(),
            body: body.to_vec(),
            properties: Properties { delivery_mode: Some(mode), headers, ..Properties::default() },
        };
        let publications = vec![
            publication(b"text", PERSISTENT, vec![("h".into(), Value::I32(1))]),
            publication(b"\xff", TRANSIENT, vec![]),
        ];
        for settlement in [
            Settlement::Ack,
            Settlement::Requeue,
            Settlement::Retry(None),
            Settlement::Retry(Some(Duration::from_millis(u32::MAX.into()))),
            Settlement::DeadLetter("why".into()),
        ] {
            let outcome = Outcome { settlement, publications: publications.clone() };
            assert_eq!(parse(of(&outcome).unwrap().to_string().as_bytes()).unwrap(), outcome);
        }
    }

    #[test]
    fn what_makes_no_outcome_is_refused() {
        for (text, expected) in [
            ("", "EOF while parsing"),
            ("done", "expected value at line 1"),
            ("{}", "missing field `settlement`"),
            (r#"{"settlement":"nack"}"#, "a settlement is \"ack\""),
            (r#"{"settlement":{"retry":-1}}"#, "a settlement is"),
            (r#"{"settlement":{"retry":4294967296}}"#, "a settlement is"),
            (r#"{"settlement":"ack","publish":[]}"#, "unknown field `publish`"),
            (r#"{"settlement":"ack","publications":[{"base64":"%"}]}"#, "publication 0: `base64` is not valid"),
            (r#"{"settlement":"ack"} x"#, "trailing characters"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
