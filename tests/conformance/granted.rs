//! The rows of what manifests grant: settings, secrets, folders, stores and HTTP requests.

use serde_json::{Value, json};

use super::cases::{Case, Expect, outcome, publication, told};

/// All rows for a handler, or those that a WASI command can have. `url` answers.
pub fn all(command: bool, url: &str) -> Vec<Case> {
    let mut cases = vec![
        case("a setting", "setting", &[("name", "greeting")], "", ("setting", "gr\u{fc}n")),
        case("a setting that is not there", "setting", &[("name", "missing")], "", ("setting", "none")),
        case("a secret", "setting", &[("name", "token")], "", ("setting", "***")),
        case("a file", "write", &[("path", "/reports/r.txt")], "gr\u{fc}n\n", ("written", "gr\u{fc}n\n")),
        Case {
            name: "a file that is not granted",
            delivery: delivery("write", &[("path", "/elsewhere/r.txt")], "x"),
            // Every language has its own words for it.
            expect: Expect::DeadLetter(""),
        },
    ];
    if !command {
        let mut count = delivery("count", &[("key", "n")], "");
        count["properties"]["headers"]["by"] = json!(41);
        let counted = outcome("ack", vec![publication("count", "41/41")]);
        cases.extend(vec![
            Case { name: "a count", delivery: count, expect: Expect::Outcome(counted) },
            case("a value", "keep", &[("key", "gr\u{fc}n")], "v\u{e4}lue", ("kept", "v\u{e4}lue")),
            case("GET", "fetch", &[("method", "GET"), ("url", url)], "", ("fetched", "201 wabbit GET ")),
            case(
                "POST",
                "fetch",
                &[("method", "POST"), ("url", url)],
                "gr\u{fc}n",
                ("fetched", "201 wabbit POST gr\u{fc}n"),
            ),
            Case {
                name: "a request that is not granted",
                delivery: delivery("fetch", &[("method", "GET"), ("url", "http://127.0.0.2:1/")], ""),
                expect: Expect::DeadLetter("granted"),
            },
        ]);
    }
    cases
}

fn case(name: &'static str, what: &str, headers: &[(&str, &str)], text: &str, out: (&str, &str)) -> Case {
    let expect = Expect::Outcome(outcome("ack", vec![publication(out.0, out.1)]));
    Case { name, delivery: delivery(what, headers, text), expect }
}

fn delivery(what: &str, headers: &[(&str, &str)], text: &str) -> Value {
    let mut delivery = told(what);
    delivery["text"] = json!(text);
    for (name, value) in headers {
        delivery["properties"]["headers"][*name] = json!(value);
    }
    delivery
}
