//! Sends the mails of order-notify through an HTTP API, and keeps count of them by customer.

use serde::Deserialize;
use wabbit_sdk::{
    Delivery, Error, Outcome, config,
    http::{ErrorKind, Request, Response},
    keyvalue,
};

#[derive(Deserialize)]
struct Mail {
    to: String,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let mail: Mail = delivery.json()?;
    let token = config::secret("token")?;
    let mut request = Request::post(config::require("api")?)
        .bearer(token.expose())
        .header("content-type", "application/json")
        .body(delivery.body.as_slice());
    // By this the API knows a mail that it has already: what fails after the request is tried again.
    if let Some(id) = &delivery.properties.message_id {
        request = request.header("idempotency-key", id);
    }
    match request.send().and_then(Response::success) {
        // Another try would not mend the manifest.
        Err(error) if error.kind == ErrorKind::NotGranted => return Err(Error::dead_letter(error)),
        sent => sent?,
    };
    let count = keyvalue::open("mails")?.increment(&mail.to, 1)?;
    println!("mail {count} to {}", mail.to);
    Ok(Outcome::ack())
}

#[cfg(test)]
mod tests {
    use wabbit_sdk::{
        Properties,
        http::{self, answer},
    };

    use super::*;

    const MAIL: &str = r#"{"to":"ada@example.com","subject":"Your order"}"#;

    fn manifest() {
        config::provide("api", "https://mail.example.com/mails");
        config::provide("token", "swordfish");
        keyvalue::provide("mails");
    }

    /// How many mails were sent to Ada.
    fn count() -> Option<String> {
        let count = keyvalue::open("mails").unwrap().get("ada@example.com").unwrap();
        count.map(|count| String::from_utf8(count).unwrap())
    }

    #[test]
    fn a_mail_is_sent_and_counted() {
        manifest();
        let _answering = answer(|request| {
            let headers =
                [("authorization", "Bearer swordfish"), ("content-type", "application/json"), ("idempotency-key", "7")];
            let expected = Request::post("https://mail.example.com/mails").body(MAIL);
            let expected = headers.iter().fold(expected, |request, (name, value)| request.header(*name, *value));
            assert_eq!(*request, expected);
            Ok(Response::new(202))
        });
        for expected in ["1", "2"] {
            let properties = Properties { message_id: Some("7".into()), ..Properties::default() };
            assert_eq!(handle(Delivery::of(MAIL).with_properties(properties)), Ok(Outcome::ack()));
            assert_eq!(count().as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_not_sent_is_not_counted() {
        fn check(answered: Result<Response, http::Error>, expected: Error) {
            let _answering = answer(move |_| answered.clone());
            assert_eq!((handle(Delivery::of(MAIL)), count()), (Err(expected), None));
        }
        manifest();
        check(Ok(Response::new(503)), Error::new("the server answered 503"));
        check(Err(http::Error::new(ErrorKind::Timeout, "too slow")), Error::new("too slow"));
        check(Err(http::Error::new(ErrorKind::NotGranted, "not granted")), Error::dead_letter("not granted"));
    }

    #[test]
    fn a_malformed_mail_is_dead_lettered() {
        let reason = "the body is not the JSON expected: missing field `to` at line 1 column 2";
        assert_eq!(handle(Delivery::of("{}")), Err(Error::dead_letter(reason)));
    }
}
