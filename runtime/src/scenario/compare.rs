//! How what came differs from what was expected: field by field.

use std::fmt;

use serde_json::{Value as Json, json};

use super::{
    Got,
    body::Form,
    expect::{Expect, Fails, Line, Sent, Wanted},
    view,
};
use crate::{
    outcome::{Failure, Outcome},
    sandbox::{Asked, Logged},
};

/// A field that is not as it was expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Which, such as `publications[0].json.subject`.
    pub path: String,
    /// What was expected.
    pub expected: Side,
    /// What came.
    pub got: Side,
}

/// One side of a difference.
#[derive(Debug, Clone, PartialEq)]
pub enum Side {
    /// It is not there.
    Nothing,
    /// This.
    Value(Json),
    /// In words.
    Words(String),
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("(nothing)"),
            Self::Value(value) => value.fmt(f),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// What a delivery came to, held against what is expected of it.
pub fn compare(expect: &Expect, got: &Got) -> Vec<Difference> {
    let mut found = Vec::new();
    result(expect, &got.result, &mut found);
    if let Some(lines) = &expect.log {
        log(lines, &got.log, &mut found);
    }
    for part in &expect.log_contains {
        if !got.log.iter().any(|line| line.text.contains(part.as_str())) {
            let lines = got.log.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
            let expected = Side::Words(format!("a line that contains {}", Json::from(part.as_str())));
            found.push(Difference { path: "log".into(), expected, got: Side::Value(json!(lines)) });
        }
    }
    if let Some(sent) = &expect.http {
        http(sent, &got.asked, &mut found);
    }
    if let Some(expected) = &expect.keyvalue {
        let none = super::Contents::new();
        let contents = view::contents(got.keyvalue.as_ref().unwrap_or(&none), expected);
        between("keyvalue", &view::bodies(expected), &contents, &mut found);
    }
    for (folder, expected) in expect.files.iter().flatten() {
        let none = super::Contents::new();
        let contents = view::contents(got.files.get(folder).unwrap_or(&none), expected);
        between(&format!("files.{}", Json::from(folder.as_str())), &view::bodies(expected), &contents, &mut found);
    }
    found
}

fn result(expect: &Expect, result: &Result<Outcome, Failure>, found: &mut Vec<Difference>) {
    let mut differs = |path: &str, expected, got| found.push(Difference { path: path.into(), expected, got });
    let outcome = match (&expect.failure, result) {
        (Some(Fails { kind, contains }), Err(failure)) => {
            if let Some(kind) = kind.filter(|kind| *kind != failure.kind) {
                let got = Side::Words(format!("{:?}: {}", failure.kind.as_str(), failure.error));
                differs("failure.kind", Side::Value(json!(kind.as_str())), got);
            } else if let Some(part) = contains.as_ref().filter(|part| !failure.error.contains(part.as_str())) {
                let expected = Side::Words(format!("a text that contains {}", Json::from(part.as_str())));
                differs("failure.error", expected, Side::Value(json!(failure.error)));
            }
            return;
        }
        (Some(Fails { kind, .. }), Ok(outcome)) => {
            let kind = kind.map_or_else(String::new, |kind| format!(": {kind}"));
            let got = Side::Words(format!("none: the settlement is {}", view::settlement(outcome)));
            return differs("failure", Side::Words(format!("a failure{kind}")), got);
        }
        (None, Err(failure)) => {
            let got = Side::Words(format!("a failure: {}: {}", failure.kind, failure.error));
            return match &expect.settlement {
                Some(wanted) => differs("settlement", side(wanted), got),
                None => differs("failure", Side::Nothing, got),
            };
        }
        (None, Ok(outcome)) => outcome,
    };
    let settlement = view::settlement(outcome);
    match &expect.settlement {
        Some(Wanted::Is(expected)) => between("settlement", expected, &settlement, found),
        Some(wanted @ Wanted::DeadLetterWith(part)) => {
            let reason = settlement.get("dead-letter").and_then(Json::as_str);
            if !reason.is_some_and(|reason| reason.contains(part.as_str())) {
                differs("settlement", side(wanted), Side::Value(settlement));
            }
        }
        None => {}
    }
    if let Some(expected) = &expect.publications {
        let forms = expected.iter().map(|message| Some(message.body.form)).chain(std::iter::repeat(None));
        let got = outcome.publications.iter().zip(forms).map(|(publication, form)| {
            view::publication(publication, form.unwrap_or_else(|| Form::of(&publication.body)))
        });
        between("publications", &expected.iter().map(view::expected).collect(), &got.collect(), found);
    }
}

fn side(wanted: &Wanted) -> Side {
    match wanted {
        Wanted::Is(settlement) => Side::Value(settlement.clone()),
        Wanted::DeadLetterWith(part) => {
            Side::Words(format!("a dead letter whose reason contains {}", Json::from(part.as_str())))
        }
    }
}

fn log(expected: &[Line], got: &[Logged], found: &mut Vec<Difference>) {
    for at in 0..expected.len().max(got.len()) {
        let (line, logged) = (expected.get(at), got.get(at));
        let fits = |line: &Line, logged: &Logged| {
            let text = if line.part { logged.text.contains(&line.text) } else { logged.text == line.text };
            text && line.stream.is_none_or(|stream| stream == logged.stream)
        };
        if line.zip(logged).is_some_and(|(line, logged)| fits(line, logged)) {
            continue;
        }
        let by_stream = line.is_some_and(|line| line.stream.is_some());
        let on = |stream: &str| if by_stream { format!(" on {stream}") } else { String::new() };
        let expected = line.map_or(Side::Nothing, |line| {
            let part = if line.part { "a line that contains " } else { "" };
            let text = Json::from(line.text.as_str());
            Side::Words(format!("{part}{text}{}", on(line.stream.unwrap_or("either stream"))))
        });
        let got = logged.map_or(Side::Nothing, |logged| {
            Side::Words(format!("{}{}", Json::from(logged.text.as_str()), on(logged.stream)))
        });
        found.push(Difference { path: format!("log[{at}]"), expected, got });
    }
}

fn http(expected: &[Sent], got: &[Asked], found: &mut Vec<Difference>) {
    let wanted = |sent: &Sent| {
        let Sent { method, url, headers, body } = sent;
        let form = body.as_ref().map(|body| body.form);
        let body = body.as_ref().map(|body| body.bytes.clone()).unwrap_or_default();
        let same = Asked { method: method.clone(), url: url.clone(), headers: headers.clone(), body };
        view::asked(&same, headers, form)
    };
    let none = hyper::header::HeaderMap::new();
    let came = got.iter().enumerate().map(|(at, asked)| match expected.get(at) {
        Some(sent) => view::asked(asked, &sent.headers, sent.body.as_ref().map(|body| body.form)),
        None => view::asked(asked, &none, Some(Form::of(&asked.body))),
    });
    between("http", &expected.iter().map(wanted).collect(), &came.collect(), found);
}

/// How two values differ, at their smallest parts.
pub fn between(path: &str, expected: &Json, got: &Json, found: &mut Vec<Difference>) {
    let mut push = |path: String, expected: Option<&Json>, got: Option<&Json>| {
        let side = |value: Option<&Json>| value.cloned().map_or(Side::Nothing, Side::Value);
        found.push(Difference { path, expected: side(expected), got: side(got) });
    };
    match (expected, got) {
        (Json::Object(a), Json::Object(b)) => {
            let mut names: Vec<_> = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).collect();
            names.sort();
            for name in names {
                let path = format!("{path}.{}", part(name));
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => between(&path, a, b, found),
                    (a, b) => found.push(Difference { path, expected: of(a), got: of(b) }),
                }
            }
        }
        (Json::Array(a), Json::Array(b)) => {
            for at in 0..a.len().max(b.len()) {
                let path = format!("{path}[{at}]");
                match (a.get(at), b.get(at)) {
                    (Some(a), Some(b)) => between(&path, a, b, found),
                    (a, b) => found.push(Difference { path, expected: of(a), got: of(b) }),
                }
            }
        }
        (a, b) if a == b => {}
        (a, b) => push(path.to_owned(), Some(a), Some(b)),
    }
}

fn of(value: Option<&Json>) -> Side {
    value.cloned().map_or(Side::Nothing, Side::Value)
}

/// A name within a path, in quotes where it is not plain.
fn part(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if plain { name.to_owned() } else { Json::from(name).to_string() }
}

/// How two results of one delivery differ.
pub fn outcomes(one: &Result<Outcome, Failure>, other: &Result<Outcome, Failure>) -> Vec<Difference> {
    let forms: Vec<_> = match one {
        Ok(outcome) => outcome.publications.iter().map(|publication| Form::of(&publication.body)).collect(),
        Err(_) => Vec::new(),
    };
    let view = |result: &Result<Outcome, Failure>| match result {
        Err(failure) => json!({ "failure": view::failure(failure) }),
        Ok(outcome) => {
            let publications = outcome.publications.iter().enumerate().map(|(at, publication)| {
                let form = forms.get(at).copied().unwrap_or_else(|| Form::of(&publication.body));
                view::publication(publication, form)
            });
            json!({ "settlement": view::settlement(outcome), "publications": publications.collect::<Vec<_>>() })
        }
    };
    let mut found = Vec::new();
    between("", &view(one), &view(other), &mut found);
    for difference in &mut found {
        difference.path = difference.path.trim_start_matches('.').to_owned();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::{PERSISTENT, Properties},
        outcome::{FailureKind, Publication, Settlement},
        scenario::parse,
    };

    fn got(body: &str) -> Got {
        let publication = Publication {
            exchange: "mail".into(),
            routing_key: "order.notify".into(),
            body: body.into(),
            properties: Properties { delivery_mode: Some(PERSISTENT), ..Properties::default() },
        };
        Got {
            result: Ok(Outcome { settlement: Settlement::Ack, publications: vec![publication] }),
            log: vec![Logged { stream: "stdout", text: "notifying ada".into() }],
            asked: Vec::new(),
            keyvalue: Some([("a".to_owned(), b"1".to_vec())].into()),
            files: Default::default(),
        }
    }

    #[track_caller]
    fn check(expect: &str, got: &Got, expected: &[(&str, &str, &str)]) {
        let text = format!("[[delivery]]\n[delivery.expect]\n{expect}");
        let scenario = parse(&text, &|_| Err("no files".into())).unwrap_or_else(|problems| panic!("{problems:?}"));
        let found = compare(&scenario.steps[0].expect, got);
        let found: Vec<_> =
            found.iter().map(|found| (found.path.clone(), found.expected.to_string(), found.got.to_string())).collect();
        let found: Vec<_> = found.iter().map(|(path, a, b)| (path.as_str(), a.as_str(), b.as_str())).collect();
        assert_eq!(found, expected, "{expect}");
    }

    const MAIL: &str = "exchange = \"mail\", routing_key = \"order.notify\", properties = { persistent = true }";

    #[test]
    fn what_is_not_mentioned_is_not_looked_at() {
        check("", &got("{}"), &[]);
        check("settlement = \"ack\"", &got("{}"), &[]);
        check("settlement = \"requeue\"", &got("{}"), &[("settlement", "\"requeue\"", "\"ack\"")]);
    }

    #[test]
    fn publications_are_compared_whole() {
        let one = |body: &str| format!("publications = [{{ {MAIL}, {body} }}]");
        check(&one("json = { a = 1, b = [1, 2] }"), &got(r#"{"b": [1, 2.0], "a": 1.0}"#), &[]);
        check(
            &one("json = { a = 1, b = [1] }"),
            &got(r#"{"a": 2, "b": [1, 3], "c d": 0}"#),
            &[
                ("publications[0].json.a", "1", "2"),
                ("publications[0].json.b[1]", "(nothing)", "3"),
                ("publications[0].json.\"c d\"", "(nothing)", "0"),
            ],
        );
        check(&one("text = \"a\""), &got("b"), &[("publications[0].text", "\"a\"", "\"b\"")]);
        check(
            "publications = []",
            &got("b"),
            &[(
                "publications[0]",
                "(nothing)",
                r#"{"exchange":"mail","properties":{"persistent":true},"routing_key":"order.notify","text":"b"}"#,
            )],
        );
        check(
            "publications = [{ exchange = \"mail\", routing_key = \"order.notify\", text = \"b\" }]",
            &got("b"),
            &[("publications[0].properties.persistent", "false", "true")],
        );
    }

    #[test]
    fn a_failure_that_nobody_expects_is_told() {
        let failed = Got { result: Err(Failure::new(FailureKind::Trap, "unreachable")), ..got("") };
        check("", &failed, &[("failure", "(nothing)", "a failure: trap: unreachable")]);
        check("settlement = \"ack\"", &failed, &[("settlement", "\"ack\"", "a failure: trap: unreachable")]);
        check("failure = \"trap\"", &failed, &[]);
        check("failure = { kind = \"trap\", contains = \"reach\" }", &failed, &[]);
        check("failure = \"exit\"", &failed, &[("failure.kind", "\"exit\"", "\"trap\": unreachable")]);
        check(
            "failure = { contains = \"x\" }",
            &failed,
            &[("failure.error", "a text that contains \"x\"", "\"unreachable\"")],
        );
        check("failure = \"trap\"", &got(""), &[("failure", "a failure: trap", "none: the settlement is \"ack\"")]);
    }

    #[test]
    fn reasons_logs_and_stores_are_compared() {
        let dead = Outcome { settlement: Settlement::DeadLetter("no hay".into()), publications: Vec::new() };
        let dead = Got { result: Ok(dead), ..got("") };
        check("settlement = { dead-letter = { contains = \"hay\" } }", &dead, &[]);
        check("settlement = { dead-letter = \"no hay\" }", &dead, &[]);
        check(
            "settlement = { dead-letter = { contains = \"x\" } }",
            &dead,
            &[("settlement", "a dead letter whose reason contains \"x\"", "{\"dead-letter\":\"no hay\"}")],
        );
        check("log = [\"notifying ada\"]\nlog_contains = \"ada\"", &dead, &[]);
        check("log = [{ contains = \"ada\", stream = \"stdout\" }]", &dead, &[]);
        check(
            "log = [{ contains = \"ada\", stream = \"stderr\" }, \"x\"]",
            &dead,
            &[
                ("log[0]", "a line that contains \"ada\" on stderr", "\"notifying ada\" on stdout"),
                ("log[1]", "\"x\"", "(nothing)"),
            ],
        );
        check("log_contains = \"x\"", &dead, &[("log", "a line that contains \"x\"", "\"notifying ada\"")]);
        check("keyvalue = { a = \"1\" }", &dead, &[]);
        check(
            "keyvalue = { a = { json = 2 }, b = \"\" }",
            &dead,
            &[("keyvalue.a.json", "2", "1"), ("keyvalue.b", "\"\"", "(nothing)")],
        );
    }

    #[test]
    fn two_outcomes_are_compared() {
        let (one, other) = (got(r#"{"a": 1}"#).result, got(r#"{"a": 2}"#).result);
        assert_eq!(outcomes(&one, &one.clone()), []);
        let [found] = &outcomes(&one, &other)[..] else { panic!() };
        assert_eq!(found.path, "publications[0].json.a");
        let failed = Err(Failure::new(FailureKind::Trap, "x"));
        let paths: Vec<_> = outcomes(&one, &failed).into_iter().map(|found| found.path).collect();
        assert_eq!(paths, ["failure", "publications", "settlement"]);
    }
}
