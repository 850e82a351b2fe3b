//! `[delivery.expect]`: what is to come of a delivery.

use std::collections::BTreeMap;

use hyper::{Method, header::HeaderMap};
use serde_json::Value as Json;
use toml::de::DeValue;

use super::{
    body::{Body, bodies, body, folders, json},
    given::{headers, request},
    messages,
    parse::Files,
};
use crate::{
    manifest::{
        read::Section,
        report::Problem,
        values::{nearest_or_all, quoted},
    },
    outcome::FailureKind,
};

/// What is expected; what is none is not looked at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// What becomes of the delivery, as the JSON form of an outcome has it.
    pub settlement: Option<Wanted>,
    /// That it fails, and how.
    pub failure: Option<Fails>,
    /// All publications, in their order.
    pub publications: Option<Vec<Message>>,
    /// All lines that the handler writes, in their order.
    pub log: Option<Vec<Line>>,
    /// Parts of what it writes.
    pub log_contains: Vec<String>,
    /// All HTTP requests that it sends, in their order.
    pub http: Option<Vec<Sent>>,
    /// All of its store, afterwards.
    pub keyvalue: Option<BTreeMap<String, Body>>,
    /// All of these folders, afterwards.
    pub files: Option<BTreeMap<String, BTreeMap<String, Body>>>,
}

/// A settlement that is expected.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// This one.
    Is(Json),
    /// A dead letter, whose reason has this in it.
    DeadLetterWith(String),
}

/// A failure that is expected.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fails {
    /// Its kind.
    pub kind: Option<FailureKind>,
    /// What its text has in it.
    pub contains: Option<String>,
}

/// A publication that is expected. What is left out is as in an empty message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The body.
    pub body: Body,
    /// The properties, as JSON has them.
    pub properties: Json,
}

/// A line of the log that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The line, or a part of it.
    pub text: String,
    /// Whether it is a part.
    pub part: bool,
    /// `stdout` or `stderr`; none for either.
    pub stream: Option<&'static str>,
}

/// An HTTP request that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Its method.
    pub method: Method,
    /// Its address, as a request has it.
    pub url: String,
    /// Those of its headers that are looked at.
    pub headers: HeaderMap,
    /// Its body, where that is looked at.
    pub body: Option<Body>,
}

pub(super) fn expect(section: &mut Section<'_>, files: Files<'_>) -> Expect {
    let publications = section.sections("publications", |section| message(section, files));
    let http = section.sections("http", |section| sent(section, files));
    let expect = Expect {
        settlement: settlement(section),
        failure: section.text_or(
            "failure",
            |word| kind(word).map(|kind| Fails { kind: Some(kind), contains: None }),
            |section| {
                Some(Fails {
                    kind: section.checked("kind", kind),
                    contains: section.text("contains").map(str::to_owned),
                })
            },
        ),
        publications: section.has("publications").then_some(publications),
        log: section.has("log").then(|| section.list("log", |text| Ok(whole(text)), line)),
        log_contains: section.one_or_more("log_contains", |text| Ok(text.to_owned())).unwrap_or_default(),
        http: section.has("http").then(|| http.into_iter().flatten().collect()),
        keyvalue: bodies(section, "keyvalue", files),
        files: folders(section, "files", files),
    };
    // Named also where they are absent, so that a word that is not known is compared with all of them.
    let _ = section.value("log");
    if let (Some(_), Some(key)) =
        (&expect.failure, ["settlement", "publications"].into_iter().find(|key| section.has(key)))
    {
        let problem = Problem::new(format!("`{key}` has no meaning with a `failure`"));
        section.report(key, problem.hint("a delivery that fails has no outcome: leave one of them out"));
    }
    expect
}

fn kind(word: &str) -> Result<FailureKind, Problem> {
    FailureKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let known = FailureKind::ALL.map(FailureKind::as_str);
        Problem::new(format!("{} is no kind of failure", quoted(word))).hint(nearest_or_all(word, &known))
    })
}

fn settlement(section: &mut Section<'_>) -> Option<Wanted> {
    let value = section.value("settlement")?;
    // `{ dead-letter = { contains = "…" } }`
    if let DeValue::Table(table) = value.get_ref()
        && let Some(DeValue::Table(inner)) = table.get("dead-letter").map(|inner| inner.get_ref())
        && let (Some(DeValue::String(part)), 1, 1) =
            (inner.get("contains").map(|part| part.get_ref()), inner.len(), table.len())
    {
        return Some(Wanted::DeadLetterWith(part.to_string()));
    }
    let json = json(section, "settlement")?;
    let text = serde_json::json!({ "settlement": json }).to_string();
    match crate::outcome::json::parse(text.as_bytes())
        .and_then(|outcome| crate::outcome::json::of(&outcome).map_err(|error| error.to_string()))
    {
        Ok(outcome) => outcome.get("settlement").cloned().map(Wanted::Is),
        Err(_) => {
            let problem = Problem::new("this is no settlement");
            let hint = "\"ack\", \"requeue\", \"retry\", { retry = MILLISECONDS }, { dead-letter = \"REASON\" } or \
                        { dead-letter = { contains = \"PART\" } }";
            section.report_at(value, problem.hint(hint));
            None
        }
    }
}

fn message(section: &mut Section<'_>, files: Files<'_>) -> Message {
    Message {
        exchange: section.text("exchange").unwrap_or_default().to_owned(),
        routing_key: section.text("routing_key").unwrap_or_default().to_owned(),
        body: body(section, files).unwrap_or_else(|| Body::of(Vec::new())),
        properties: messages::properties(section).0,
    }
}

fn whole(text: &str) -> Line {
    Line { text: text.to_owned(), part: false, stream: None }
}

/// `{ text = "…" }` or `{ contains = "…" }`, with a `stream` or without.
fn line(section: &mut Section<'_>) -> Option<Line> {
    let stream = section.one_of("stream", &[("stdout", "stdout"), ("stderr", "stderr")]);
    let (text, contains) = (section.text("text"), section.text("contains"));
    match (text, contains) {
        (Some(text), None) => Some(Line { stream, ..whole(text) }),
        (None, Some(text)) => Some(Line { stream, part: true, ..whole(text) }),
        _ => {
            let problem = Problem::new("a line has either `text` or `contains`");
            section.report("", problem.hint("write `{ contains = \"…\" }`, or the whole line as a string"));
            None
        }
    }
}

fn sent(section: &mut Section<'_>, files: Files<'_>) -> Option<Sent> {
    let (headers, body) = (headers(section), body(section, files));
    let (method, url) = request(section)?;
    Some(Sent { method, url, headers, body })
}
