//! A handler that sends the HTTP requests that its delivery lists, and publishes what came of each.

#[cfg(target_arch = "wasm32")]
mod burst;

use serde::Deserialize;
use serde_json::{Value, json};
use wabbit_sdk::{Delivery, Error, Outcome, Publication, http::Request};

/// What a delivery's body says.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Command {
    /// One after the other.
    #[serde(default)]
    requests: Vec<Wanted>,
    /// So many to that URL at once, and their responses read when all are there.
    #[serde(default)]
    burst: Option<(String, usize)>,
    /// The queue for what came of them.
    to: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    url: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    /// A body of that many bytes instead.
    #[serde(default)]
    body_bytes: usize,
    #[serde(default = "one")]
    times: usize,
}

fn get() -> String {
    "GET".into()
}

fn one() -> usize {
    1
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let command: Command = delivery.json()?;
    let mut told: Vec<Value> = Vec::new();
    for wanted in &command.requests {
        for _ in 0..wanted.times {
            told.push(send(wanted));
        }
    }
    if let Some((url, count)) = &command.burst {
        told.push(burst(url, *count));
    }
    Ok(Outcome::ack().publish(Publication::new("", command.to).json(&told)?))
}

fn send(wanted: &Wanted) -> Value {
    let mut request = Request::new(&wanted.method, &wanted.url).body(wanted.body.as_str());
    request.headers.clone_from(&wanted.headers);
    if wanted.body_bytes > 0 {
        request.body = vec![b'x'; wanted.body_bytes];
    }
    match request.send() {
        Ok(response) => json!({
            "status": response.status,
            "headers": response.headers,
            "length": response.body.len(),
            "body": String::from_utf8_lossy(&response.body[..response.body.len().min(1000)]),
        }),
        Err(error) => json!({ "error": error.to_string(), "kind": format!("{:?}", error.kind) }),
    }
}

#[cfg(target_arch = "wasm32")]
fn burst(url: &str, count: usize) -> Value {
    burst::run(url, count)
}

#[cfg(not(target_arch = "wasm32"))]
fn burst(_: &str, _: usize) -> Value {
    Value::Null
}

#[cfg(test)]
mod tests {
    use wabbit_sdk::http::{self, Response};

    use super::*;

    #[test]
    fn what_came_is_published() {
        let _answering = http::answer(|request| {
            assert_eq!((request.method.as_str(), request.body.len()), ("PUT", 3));
            Ok(Response::new(200).with_body("ok"))
        });
        let body = r#"{"requests":[{"url":"https://a.example/","method":"PUT","body-bytes":3,"times":2}],"to":"out"}"#;
        let mut outcome = handle(Delivery::of(body)).unwrap();
        let told: Value = serde_json::from_slice(&outcome.publications.remove(0).body).unwrap();
        let one = json!({ "status": 200, "headers": [], "length": 2, "body": "ok" });
        assert_eq!(told, json!([one, one]));
    }
}
