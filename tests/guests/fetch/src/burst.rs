//! Many requests at once, which the SDK's own, that waits for each, does not send.

use serde_json::{Value, json};
use wasip2::http::{
    outgoing_handler,
    types::{Fields, OutgoingRequest, Scheme},
};

/// Sends so many, then reads them one by one; the statuses, or what went wrong.
pub fn run(url: &str, count: usize) -> Value {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let sent: Vec<_> = (0..count)
        .map(|_| {
            let request = OutgoingRequest::new(Fields::new());
            let set = request.set_scheme(Some(&Scheme::Http)).and(request.set_authority(Some(authority)));
            set.and(request.set_path_with_query(Some(path))).expect("a URL");
            outgoing_handler::handle(request, None)
        })
        .collect();
    let told = sent.into_iter().map(|sent| {
        let coming = match sent {
            Ok(coming) => coming,
            Err(code) => return json!(format!("{code:?}")),
        };
        coming.subscribe().block();
        match coming.get() {
            Some(Ok(Ok(response))) => json!(response.status()),
            Some(Ok(Err(code))) => json!(format!("{code:?}")),
            other => json!(format!("{:?}", other.is_some())),
        }
    });
    told.collect()
}
