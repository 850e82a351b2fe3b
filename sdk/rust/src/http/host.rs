//! Requests by way of `wasi:http`.

use wasip2::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
            Scheme, http_error_code,
        },
    },
    io::streams::StreamError,
};

use super::{Error, ErrorKind, Request, Response, parts};

/// How much is read at once.
const CHUNK_BYTES: u64 = 64 * 1024;

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    // Without path and query, which may hold what is nobody's business.
    let place = parts(&request.url).map_or(String::new(), |(scheme, authority, _)| format!("{scheme}://{authority}"));
    exchange(request).map_err(|error| Error { text: format!("{} {place}: {}", request.method, error.text), ..error })
}

fn exchange(request: &Request) -> Result<Response, Error> {
    let outgoing = outgoing(request)?;
    let options = options(request)?;
    let body = if request.body.is_empty() { None } else { Some(outgoing.body().map_err(|()| malformed("its body"))?) };
    let coming = outgoing_handler::handle(outgoing, options).map_err(failed)?;
    if let Some(body) = body {
        // A server that does not read on may have answered all the same.
        if write(&body, &request.body).is_ok() {
            let _ = OutgoingBody::finish(body, None);
        }
    }
    coming.subscribe().block();
    match coming.get() {
        Some(Ok(Ok(response))) => read(&response),
        Some(Ok(Err(code))) => Err(failed(code)),
        Some(Err(())) | None => Err(Error::new(ErrorKind::Other, "there is no response")),
    }
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, Error> {
    let (scheme, authority, path) = parts(&request.url).ok_or_else(|| malformed("its URL"))?;
    let fields = Fields::new();
    for (name, value) in &request.headers {
        let value = value.clone().into_bytes();
        fields.append(name, &value).map_err(|error| malformed(&format!("its header `{name}` ({error})")))?;
    }
    if !request.body.is_empty() && !fields.has("content-length") {
        let length = request.body.len().to_string().into_bytes();
        fields.append("content-length", &length).map_err(|_| malformed("its length"))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    outgoing.set_method(&method).map_err(|()| malformed("its method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| malformed("its scheme"))?;
    outgoing.set_authority(Some(authority)).map_err(|()| malformed("its host"))?;
    outgoing.set_path_with_query(Some(path)).map_err(|()| malformed("its path"))?;
    Ok(outgoing)
}

fn options(request: &Request) -> Result<Option<RequestOptions>, Error> {
    let Some(timeout) = request.timeout else { return Ok(None) };
    let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
    let options = RequestOptions::new();
    let set = options.set_connect_timeout(Some(nanos)).and(options.set_first_byte_timeout(Some(nanos)));
    set.and(options.set_between_bytes_timeout(Some(nanos))).map_err(|()| malformed("its timeout"))?;
    Ok(Some(options))
}

fn write(body: &OutgoingBody, mut rest: &[u8]) -> Result<(), StreamError> {
    let Ok(stream) = body.write() else { return Err(StreamError::Closed) };
    let ready = stream.subscribe();
    while !rest.is_empty() {
        ready.block();
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        let (part, more) = rest.split_at(room.min(rest.len()));
        stream.write(part)?;
        rest = more;
    }
    Ok(())
}

fn read(response: &IncomingResponse) -> Result<Response, Error> {
    let headers = response.headers().entries().into_iter();
    let headers = headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned())).collect();
    let incoming = response.consume().map_err(|()| Error::new(ErrorKind::Other, "the response has no body"))?;
    Ok(Response { status: response.status(), headers, body: read_all(&incoming)? })
}

fn read_all(incoming: &IncomingBody) -> Result<Vec<u8>, Error> {
    let stream = incoming.stream().map_err(|()| Error::new(ErrorKind::Other, "the response has no body"))?;
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(CHUNK_BYTES) {
            Ok(part) => body.extend(part),
            Err(StreamError::Closed) => return Ok(body),
            Err(StreamError::LastOperationFailed(error)) => {
                let told = http_error_code(&error).map(failed);
                return Err(told.unwrap_or_else(|| Error::new(ErrorKind::Other, error.to_debug_string())));
            }
        }
    }
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Request, format!("the request cannot be sent for {what}"))
}

fn failed(code: ErrorCode) -> Error {
    use ErrorCode as C;
    let kind = match &code {
        C::HttpRequestDenied | C::DestinationIpProhibited => ErrorKind::NotGranted,
        C::HttpRequestUriInvalid | C::HttpRequestMethodInvalid | C::HttpRequestLengthRequired => ErrorKind::Request,
        C::DnsTimeout
        | C::ConnectionTimeout
        | C::ConnectionReadTimeout
        | C::ConnectionWriteTimeout
        | C::HttpResponseTimeout => ErrorKind::Timeout,
        C::HttpRequestBodySize(_) | C::HttpResponseBodySize(_) | C::HttpResponseHeaderSectionSize(_) => {
            ErrorKind::TooLarge
        }
        C::DnsError(_)
        | C::DestinationNotFound
        | C::DestinationUnavailable
        | C::ConnectionRefused
        | C::ConnectionTerminated
        | C::ConnectionLimitReached
        | C::TlsProtocolError
        | C::TlsCertificateError
        | C::TlsAlertReceived(_) => ErrorKind::Connection,
        _ => ErrorKind::Other,
    };
    let text = match &code {
        C::HttpRequestDenied => "not granted by the manifest's `[grant] http`".to_owned(),
        C::DestinationIpProhibited => {
            "its address is of a network that the manifest's `[grant] http` does not name".to_owned()
        }
        other => words(&format!("{other:?}")),
    };
    Error::new(kind, text)
}

/// `ErrorCode::ConnectionTimeout` as `connection timeout`; what it carries stays as it is.
fn words(debug: &str) -> String {
    let debug = debug.strip_prefix("ErrorCode::").unwrap_or(debug);
    let (name, rest) = debug.split_at(debug.find('(').unwrap_or(debug.len()));
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words + rest
}
