//! Answers each message to the queue that the manifest names, with where it came from in the header `from`.

use wabbit_sdk::{Delivery, Error, Outcome, Publication, config};

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let to = config::require("to")?;
    let mut answer = Publication::new("", to).body(delivery.body).header("from", delivery.queue);
    answer.properties.persistent = delivery.properties.persistent;
    Ok(Outcome::ack().publish(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_where_it_came_from() {
        config::provide("to", "answers");
        let answer = Publication::new("", "answers").body("7").header("from", "numbers");
        assert_eq!(handle(Delivery::of("7").with_queue("numbers")), Ok(Outcome::ack().publish(answer)));
    }

    #[test]
    fn without_a_queue_to_answer_to_it_fails() {
        assert_eq!(handle(Delivery::of("7")), Err(Error::new("the manifest grants no value `to`")));
    }
}
