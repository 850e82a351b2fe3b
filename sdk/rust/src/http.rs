//! HTTP requests, to the origins that the manifest's `[grant] http` lists.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use wabbit_sdk::{Delivery, Error, Outcome, http::{self, Request}};
//!
//! #[derive(Deserialize)]
//! struct Rate {
//!     euro: f64,
//! }
//!
//! #[derive(Serialize)]
//! struct Bill {
//!     euro: f64,
//! }
//!
//! #[wabbit_sdk::handler]
//! fn handle(delivery: Delivery) -> Result<Outcome, Error> {
//!     let amount: f64 = delivery.json()?;
//!     let rate: Rate = http::get("https://rates.example.com/usd")?.success()?.json()?;
//!     Request::post("https://bills.example.com/bills")
//!         .header("idempotency-key", delivery.properties.message_id.as_deref().unwrap_or_default())
//!         .json(&Bill { euro: amount * rate.euro })?
//!         .send()?
//!         .success()?;
//!     Ok(Outcome::ack())
//! }
//! ```
//!
//! A request takes place at once, not with the settlement: a delivery that is tried again sends it again. Redirects are
//! not followed; the response says where it points to in its header `location`.
//!
//! Outside a host, in a handler's own tests, [`answer`] says what comes back.

#[cfg(not(target_arch = "wasm32"))]
mod answers;
#[cfg(target_arch = "wasm32")]
mod host;

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

#[cfg(not(target_arch = "wasm32"))]
use answers as host;
#[cfg(not(target_arch = "wasm32"))]
pub use answers::{Answering, answer};

/// Gets that URL, and waits for the whole response.
pub fn get(url: impl Into<String>) -> Result<Response, Error> {
    Request::get(url).send()
}

/// A request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Such as `GET`.
    pub method: String,
    /// `https://HOST/PATH?QUERY`, or `http://…`. What has a meaning there is written as `%xx`.
    pub url: String,
    /// Names and values. `host` and what concerns the connection is the host's to say.
    pub headers: Vec<(String, String)>,
    /// Empty for none.
    pub body: Vec<u8>,
    /// How long each of connecting, waiting for the response and waiting for its next part may take. The host has limits
    /// of its own, and the delivery's time bounds it all.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request with that method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A `POST`.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// A `PUT`.
    pub fn put(url: impl Into<String>) -> Self {
        Self::new("PUT", url)
    }

    /// A `PATCH`.
    pub fn patch(url: impl Into<String>) -> Self {
        Self::new("PATCH", url)
    }

    /// A `DELETE`.
    pub fn delete(url: impl Into<String>) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a parameter to the URL's query, whatever signs are in it.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url.push(if self.url.contains('?') { '&' } else { '?' });
        escape(name, &mut self.url);
        self.url.push('=');
        escape(value, &mut self.url);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds the header `authorization` with that token.
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Sets the body, and leaves the content type as it is.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sets the body to that text, with its content type.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.header("content-type", "text/plain; charset=utf-8").body(text.into())
    }

    /// Sets the body to that value as JSON, with its content type.
    ///
    /// # Errors
    ///
    /// Where the value has no JSON form, such as a map whose keys are not texts.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, serde_json::Error> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// Sets how long each of connecting, waiting for the response and waiting for its next part may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sends it, and waits for the whole response, whatever its status.
    ///
    /// # Errors
    ///
    /// Where there is no response: it is not granted, nobody answers in time, or it is larger than the host allows.
    pub fn send(self) -> Result<Response, Error> {
        host::send(&self)
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The whole of it.
    pub body: Vec<u8>,
}

impl Response {
    /// An empty response with that status, for tests.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header, for tests.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_lowercase(), value.into()));
        self
    }

    /// Sets the body, for tests.
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// The first header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether the status is one of 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The response itself where its status is one of 200 to 299.
    ///
    /// # Errors
    ///
    /// Where it is another, with that and the beginning of the body.
    pub fn success(self) -> Result<Self, Error> {
        if self.is_success() {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        let text = if text.is_empty() { text } else { format!(": {text}") };
        Err(Error::new(ErrorKind::Status(self.status), format!("the server answered {}{text}", self.status)))
    }

    /// The body as UTF-8.
    pub fn text(self) -> Result<String, Error> {
        String::from_utf8(self.body).map_err(|_| Error::new(ErrorKind::Body, "the response is not UTF-8"))
    }

    /// The body, read as JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::new(ErrorKind::Body, format!("the response is not the JSON expected: {error}")))
    }
}

/// How much of a body goes into an error.
const SHOWN_CHARS_MAX: usize = 200;

/// Why there is no response, or not the one that was wanted. As an [`Error`](crate::Error) it is a failure of the delivery,
/// which the manifest lets try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// For the handler to act upon.
    pub kind: ErrorKind,
    text: String,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The manifest does not list the origin, or its address is of a network that it does not list.
    NotGranted,
    /// The request has no form that could be sent: its URL, its method or a header.
    Request,
    /// The server cannot be found or reached.
    Connection,
    /// Somebody took too long.
    Timeout,
    /// The body of the request or of the response is larger than the host allows.
    TooLarge,
    /// The response has a status other than 200 to 299, and [`Response::success`] was asked for.
    Status(u16),
    /// The response's body is not what the handler reads.
    Body,
    /// Anything else.
    Other,
}

impl Error {
    /// An error of that kind.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// The parts of a URL that a request is made of: scheme, authority, and path with query.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "used by tests and in wasm"))]
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (!authority.is_empty()).then_some((scheme, authority, if path.is_empty() { "/" } else { path }))
}

fn escape(text: &str, url: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(byte.into());
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn urls_have_parts() {
        let check = |url: &str, expected| assert_eq!(parts(url), expected, "{url}");
        check("https://a.example/b?c#d", Some(("https", "a.example", "/b?c")));
        check("http://a.example:80", Some(("http", "a.example:80", "/")));
        check("http://[::1]:80?a=/", Some(("http", "[::1]:80", "?a=/")));
        check("https://a.example#/b", Some(("https", "a.example", "/")));
        check("a.example/b", None);
        check("https:///b", None);
    }

    #[test]
    fn queries_are_escaped() {
        let request = Request::get("https://a.example/b").query("q", "a b&c=ü").query("n", "1");
        assert_eq!(request.url, "https://a.example/b?q=a%20b%26c%3D%C3%BC&n=1");
    }

    #[test]
    fn a_test_answers() {
        let _answering = answer(|request| {
            assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://a.example/"));
            let sent: Value = serde_json::from_slice(&request.body).unwrap();
            Ok(Response::new(201).with_header("X-Seen", "yes").with_body(json!({ "got": sent }).to_string()))
        });
        let response = Request::post("https://a.example/").json(&json!([1])).unwrap().send().unwrap();
        assert_eq!((response.status, response.header("x-seen"), response.header("other")), (201, Some("yes"), None));
        assert_eq!(response.success().unwrap().json::<Value>().unwrap(), json!({ "got": [1] }));
    }

    #[test]
    fn what_went_wrong_is_told() {
        let told = get("https://a.example/").unwrap_err();
        assert!(told.to_string().contains("nobody answers"), "{told}");
        let _answering = answer(|_| Ok(Response::new(503).with_body(" try later ")));
        let response = get("https://a.example/").unwrap();
        assert!(!response.is_success());
        let told = response.clone().success().unwrap_err();
        assert_eq!(
            (told.kind, told.to_string().as_str()),
            (ErrorKind::Status(503), "the server answered 503: try later")
        );
        assert_eq!(response.clone().json::<Value>().unwrap_err().kind, ErrorKind::Body);
        assert_eq!(response.with_body([0xff]).text().unwrap_err().kind, ErrorKind::Body);
        // It is a failure, which is tried again.
        assert_eq!(crate::Error::from(told), crate::Error::new("the server answered 503: try later"));
        drop(_answering);
        assert!(get("https://a.example/").is_err());
    }
}
