//! Greets whomever a message names.

use wabbit_sdk::{Delivery, Error, Outcome, Publication};

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let name = delivery.text()?;
    if name.is_empty() {
        return Ok(Outcome::dead_letter("there is nobody to greet"));
    }
    println!("greeting {name}");
    let greeting = Publication::new("", "greetings").text(format!("Hello, {name}!"));
    Ok(Outcome::ack().publish(greeting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ada_is_greeted() {
        let greeting = Publication::new("", "greetings").text("Hello, Ada!");
        assert_eq!(handle(Delivery::of("Ada")), Ok(Outcome::ack().publish(greeting)));
    }

    #[test]
    fn an_empty_body_is_dead_lettered() {
        assert_eq!(handle(Delivery::of("")), Ok(Outcome::dead_letter("there is nobody to greet")));
    }
}
