//! The table of cases: a delivery each, and what must come of it in every language.

use serde_json::{Value, json};

/// One row.
pub struct Case {
    pub name: &'static str,
    /// In the JSON form of a delivery.
    pub delivery: Value,
    pub expect: Expect,
}

/// What must come of a delivery.
pub enum Expect {
    /// In the JSON form of an outcome.
    Outcome(Value),
    /// A dead letter whose reason has this in it, whatever its case.
    DeadLetter(&'static str),
    /// A failure of one of these kinds whose text has this in it.
    Failure(&'static [&'static str], &'static str),
    /// An ack, and a line of the log with this text.
    Logged(&'static str),
}

/// What a bug may end in: a trap where the language traps, an error where it has exceptions.
const BUG: &[&str] = &["trap", "handler-error", "exit"];

/// All rows. Those that end by a limit come last.
pub fn all() -> Vec<Case> {
    let mut cases = bodies();
    cases.extend(headers_and_properties());
    cases.extend(settlements());
    cases.extend(failures());
    cases
}

/// A delivery that tells the handler what to do.
pub fn told(what: &str) -> Value {
    let properties = json!({ "persistent": false, "headers": { "do": what } });
    json!({
        "text": "", "exchange": "conf", "routing_key": "k", "queue": "q", "redelivered": false, "attempt": 1,
        "properties": properties,
    })
}

fn with(mut delivery: Value, field: &str, value: Value) -> Value {
    delivery[field] = value;
    delivery
}

fn with_header(mut delivery: Value, name: &str, value: Value) -> Value {
    delivery["properties"]["headers"][name] = value;
    delivery
}

/// An echo: what comes out is what went in.
fn echo(name: &'static str, delivery: Value) -> Case {
    let mut publication = delivery.clone();
    for field in ["queue", "redelivered", "attempt"] {
        publication.as_object_mut().unwrap().remove(field);
    }
    let outcome = json!({ "settlement": "ack", "publications": [publication] });
    Case { name, delivery, expect: Expect::Outcome(outcome) }
}

fn bodies() -> Vec<Case> {
    let text = |length: usize| json!("\u{fc}bermut ".chars().cycle().take(length).collect::<String>());
    let echo_text = |name, length| echo(name, with(told("echo"), "text", text(length)));
    let mut not_utf8 = told("echo");
    not_utf8.as_object_mut().unwrap().remove("text");
    vec![
        echo("0 B", told("echo")),
        echo("1 B", with(told("echo"), "text", json!("x"))),
        echo_text("10 KB", 10_000),
        echo_text("1 MB", 900_000),
        // 9 bytes for each 8 characters.
        echo_text("16 MB", 14_200_000),
        // 0xff 0xfe 0x00 0x80, and a sequence that is cut off.
        echo("not UTF-8", with(not_utf8, "base64", json!("//4AgOKC"))),
    ]
}

fn headers_and_properties() -> Vec<Case> {
    let full = json!({
        "content_type": "text/plain", "content_encoding": "identity", "persistent": true, "priority": 255,
        "correlation_id": "corr-7", "reply_to": "replies", "expiration_ms": 4_294_967_295_u32, "message_id": "m-1",
        "timestamp": 4_102_444_800_u64, "kind": "order", "user_id": "guest", "app_id": "shop",
        "headers": { "do": "echo" },
    });
    let empty = json!({
        "content_type": "", "content_encoding": "", "persistent": false, "priority": 0, "correlation_id": "",
        "reply_to": "", "expiration_ms": 0, "message_id": "", "timestamp": 0, "kind": "", "app_id": "",
        "headers": { "do": "echo", "text": "", "empty": { "$binary": "" } },
    });
    let fields = json!({
        "do": "echo",
        "boolean": true, "other": false, "void": null, "text": "gr\u{fc}n \u{1f407}",
        "binary": { "$binary": "AP8=" }, "timestamp": { "$timestamp": 1_700_000_000 },
        "array": [1, "two", null, [true]], "decimal": { "$decimal": "12.50" }, "nested": { "a": { "b": 1.5 } },
    });
    let numbers = json!({
        "do": "echo",
        "zero": 0, "negative": -1, "i32": 2_147_483_648_i64, "safe": 9_007_199_254_740_993_i64,
        "least": i64::MIN, "greatest": i64::MAX,
        "half": 0.5, "whole": 3.0, "minus": -0.0, "large": 1e300, "small": 5e-324,
        "infinite": { "$float": "inf" }, "minus infinite": { "$float": "-inf" }, "no number": { "$float": "NaN" },
    });
    let many: Vec<Value> = (0..100).map(|n| publication(&format!("many.{n}"), &n.to_string())).collect();
    let described = "queue=Warteschlange exchange=conf key=gr\u{fc}n.\u{43a}\u{43b}\u{44e}\u{447}.\u{1f407} redelivered=true attempt=3";
    let mut describe = told("describe");
    for (field, value) in [("queue", json!("Warteschlange")), ("redelivered", json!(true)), ("attempt", json!(3))] {
        describe[field] = value;
    }
    describe["routing_key"] = json!("gr\u{fc}n.\u{43a}\u{43b}\u{44e}\u{447}.\u{1f407}");
    let properties = |properties| with(told("echo"), "properties", properties);
    let headers = |headers: Value| properties(json!({ "persistent": false, "headers": headers }));
    vec![
        echo("all properties", properties(full)),
        echo("empty is not absent", properties(empty)),
        echo("header types", headers(fields)),
        echo("numbers in headers", headers(numbers)),
        Case { name: "fields of a delivery", delivery: describe, expect: published(&[("described", described)]) },
        Case {
            name: "100 publications",
            delivery: with_header(told("many"), "count", json!(100)),
            expect: Expect::Outcome(outcome("ack", many)),
        },
        Case {
            name: "JSON",
            delivery: with(told("json"), "text", json!("gr\u{fc}n \"\u{1f407}\"")),
            expect: Expect::Outcome(outcome(
                "ack",
                vec![json!({
                    "exchange": "", "routing_key": "json", "text": { "text": "gr\u{fc}n \"\u{1f407}\"", "length": 8 },
                    "properties": { "persistent": false, "content_type": "application/json" },
                })],
            )),
        },
        Case {
            name: "name and time",
            delivery: told("context"),
            expect: published(&[("context", "worker=conf remaining=true")]),
        },
        Case {
            name: "logging",
            delivery: with(told("log"), "text", json!("a line of the log")),
            expect: Expect::Logged("a line of the log"),
        },
    ]
}

fn settlements() -> Vec<Case> {
    let settled = |name, what: &str, settlement: Value| Case {
        name,
        delivery: with(told(what), "text", json!("the reason: \u{fc}")),
        expect: Expect::Outcome(outcome(settlement, vec![])),
    };
    let retry = |name, ms: Value| Case {
        name,
        delivery: with_header(told("retry"), "ms", ms.clone()),
        expect: Expect::Outcome(outcome(json!({ "retry": ms }), vec![])),
    };
    vec![
        settled("ack", "ack", json!("ack")),
        settled("requeue", "requeue", json!("requeue")),
        settled("retry", "retry", json!("retry")),
        retry("retry after 1 ms", json!(1)),
        retry("retry after 49 days", json!(u32::MAX)),
        settled("dead-letter", "dead-letter", json!({ "dead-letter": "the reason: \u{fc}" })),
        settled("small garbage", "churn", json!("ack")),
        settled("unknown", "no such thing", json!({ "dead-letter": "unknown: no such thing" })),
    ]
}

fn failures() -> Vec<Case> {
    let fails = |name, what: &str, kinds, text| Case {
        name,
        delivery: with(told(what), "text", json!("it went wrong")),
        expect: Expect::Failure(kinds, text),
    };
    let mut malformed = told("json");
    malformed["base64"] = json!("//4=");
    malformed.as_object_mut().unwrap().remove("text");
    vec![
        Case { name: "JSON of no UTF-8", delivery: malformed, expect: Expect::DeadLetter("utf-8") },
        fails("an error", "error", &["handler-error"], "it went wrong"),
        fails("a bug", "trap", BUG, ""),
        fails("an endless loop", "loop", &["time-limit"], "longer than the limit"),
        fails("endless memory", "memory", &["memory-limit"], "more memory than the limit"),
    ]
}

fn published(publications: &[(&str, &str)]) -> Expect {
    Expect::Outcome(outcome("ack", publications.iter().map(|(key, text)| publication(key, text)).collect()))
}

pub fn publication(key: &str, text: &str) -> Value {
    json!({ "exchange": "", "routing_key": key, "text": text, "properties": { "persistent": false } })
}

pub fn outcome(settlement: impl Into<Value>, publications: Vec<Value>) -> Value {
    json!({ "settlement": settlement.into(), "publications": publications })
}
