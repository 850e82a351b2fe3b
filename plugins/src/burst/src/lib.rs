//! Publishes as many messages as the body says. The delivery is acked when the broker has confirmed all of them.

use wabbit_sdk::{Delivery, Error, Outcome, Publication};

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    // Another try would read the same.
    let count: u32 = delivery.text()?.parse().map_err(Error::dead_letter)?;
    let messages = (0..count).map(|number| Publication::new("", "burst_out").text(number.to_string()).persistent());
    Ok(Outcome::ack().publish_all(messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_published_as_the_body_says() {
        let outcome = handle(Delivery::of("1000")).unwrap();
        assert_eq!(outcome.publications.len(), 1000);
        assert_eq!(outcome.publications[999], Publication::new("", "burst_out").text("999").persistent());
    }

    #[test]
    fn what_is_no_number_is_dead_lettered() {
        assert_eq!(handle(Delivery::of("many")), Err(Error::dead_letter("invalid digit found in string")));
    }
}
