//! Prints what comes. The host's log shows it with the worker's name; which messages these are is the manifest's affair.

use wabbit_sdk::{Delivery, Error, Outcome};

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    println!("{}", line(&delivery)?);
    Ok(Outcome::ack())
}

/// The body, and before it the routing key where an exchange went by that.
fn line(delivery: &Delivery) -> Result<String, Error> {
    let text = delivery.text()?;
    if delivery.exchange.is_empty() || delivery.routing_key.is_empty() {
        return Ok(text.to_owned());
    }
    Ok(format!("{}: {text}", delivery.routing_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routing_key_is_shown_where_an_exchange_went_by_it() {
        fn check(exchange: &str, routing_key: &str, expected: &str) {
            let delivery = Delivery::of("a message").with_exchange(exchange).with_routing_key(routing_key);
            assert_eq!(line(&delivery).as_deref(), Ok(expected));
        }
        check("", "hello", "a message");
        check("logs", "", "a message");
        check("topic_logs", "kern.critical", "kern.critical: a message");
    }

    #[test]
    fn what_is_no_text_is_dead_lettered() {
        let reason = "the body is not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 0";
        assert_eq!(handle(Delivery::of([0xff])), Err(Error::dead_letter(reason)));
    }
}
