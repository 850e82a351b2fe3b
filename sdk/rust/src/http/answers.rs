//! The stand-in for the host in a handler's own tests.

use std::cell::RefCell;

use super::{Error, ErrorKind, Request, Response};

type Answer = Box<dyn FnMut(&Request) -> Result<Response, Error>>;

thread_local! {
    static ANSWER: RefCell<Option<Answer>> = const { RefCell::new(None) };
}

/// Answers the requests of this thread, in a handler's own tests, until what it returns is dropped.
///
/// ```
/// use wabbit_sdk::http::{self, Response};
///
/// let _answering = http::answer(|request| {
///     assert_eq!(request.url, "https://rates.example.com/usd");
///     Ok(Response::new(200).with_body(r#"{"euro":0.9}"#))
/// });
/// assert_eq!(http::get("https://rates.example.com/usd")?.text()?, r#"{"euro":0.9}"#);
/// # Ok::<(), http::Error>(())
/// ```
pub fn answer(answer: impl FnMut(&Request) -> Result<Response, Error> + 'static) -> Answering {
    ANSWER.with_borrow_mut(|current| *current = Some(Box::new(answer)));
    Answering(())
}

/// While it is there, requests are answered.
#[must_use = "requests are answered until it is dropped"]
#[derive(Debug)]
pub struct Answering(());

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWER.with_borrow_mut(Option::take);
    }
}

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    ANSWER.with_borrow_mut(|answer| match answer {
        Some(answer) => answer(request),
        None => Err(Error::new(ErrorKind::Connection, "nobody answers: a test says how, by `http::answer`")),
    })
}
