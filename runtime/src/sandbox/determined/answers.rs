//! HTTP answers that are given, and the requests that were sent.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, header::HeaderMap};
use wasmtime_wasi_http::{Error, WasiBody};

use super::Determined;

/// An answer that is given to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The request's method.
    pub method: Method,
    /// Scheme, host and path of the request, as it is shown where it is missing.
    pub url: String,
    /// What comes.
    pub answered: Answered,
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// A response.
    Response {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: HeaderMap,
        /// Its body.
        body: Vec<u8>,
    },
    /// None: the request fails.
    Error(AnswerError),
}

/// How a request may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerError {
    /// Nobody listens there.
    ConnectionRefused,
    /// The connection takes too long.
    ConnectionTimeout,
    /// The name is not known.
    Dns,
    /// The answer takes too long.
    ResponseTimeout,
    /// The certificate is not trusted.
    Certificate,
}

/// A request that a handler sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its method.
    pub method: Method,
    /// Scheme, host and path with query.
    pub url: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// What is given to a request to an origin, once its body has come. `limit` is of the body, in bytes.
pub(in crate::sandbox) async fn answer(
    world: &Determined,
    origin: &str,
    request: Request<WasiBody>,
    limit: usize,
) -> Result<Response<WasiBody>, Error> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let url = format!("{origin}{path}");
    // In the order in which the requests were sent, whichever body is complete first.
    let (number, given) = {
        let mut state = world.lock();
        let asked = Asked { method: head.method.clone(), url: url.clone(), headers: head.headers, body: Vec::new() };
        state.asked.push(asked);
        let fits = |answer: &Answer| answer.method == head.method && answer.url == url;
        let given = state.answers.iter().position(fits).map(|at| state.answers.remove(at));
        (state.asked.len() - 1, given)
    };
    let Some(given) = given else {
        world.miss(format!("the HTTP answer to `{} {url}`", head.method));
        return Err(Error::HttpRequestDenied);
    };
    let body = Limited::new(body, limit).collect().await.map_err(|_| Error::HttpRequestBodySize(Some(limit as u64)))?;
    if let Some(asked) = world.lock().asked.get_mut(number) {
        asked.body = body.to_bytes().to_vec();
    }
    match given.answered {
        Answered::Response { status, headers, body } => {
            let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
            let mut response = Response::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok(response)
        }
        Answered::Error(error) => Err(match error {
            AnswerError::ConnectionRefused => Error::ConnectionRefused,
            AnswerError::ConnectionTimeout => Error::ConnectionTimeout,
            AnswerError::Dns => Error::DnsError { rcode: Some("NXDOMAIN".into()), info_code: None },
            AnswerError::ResponseTimeout => Error::ConnectionReadTimeout,
            AnswerError::Certificate => Error::TlsCertificateError,
        }),
    }
}
