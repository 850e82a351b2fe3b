//! Notifies whoever ordered: an order becomes a mail message.

use serde::{Deserialize, Serialize};
use wabbit_sdk::{Delivery, Error, Outcome, Publication};

#[derive(Deserialize)]
struct Order {
    user_email: String,
}

#[derive(Serialize)]
struct Mail {
    to: String,
    subject: &'static str,
    text: &'static str,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    // An order that cannot be read goes to the dead-letter queue, with what is wrong with it.
    let order: Order = delivery.json()?;
    println!("notifying {}", order.user_email);

    let mail =
        Mail { to: order.user_email, subject: "Your order", text: "Thank you for your order. We are packing it now." };
    let publication = Publication::new("mail", "order.notify").json(&mail)?.persistent();
    Ok(Outcome::ack().publish(publication))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_becomes_a_mail() {
        let mail = r#"{"to":"ada@example.com","subject":"Your order","text":"Thank you for your order. We are packing it now."}"#;
        let expected =
            Publication::new("mail", "order.notify").body(mail).content_type("application/json").persistent();
        assert_eq!(handle(Delivery::of(r#"{"user_email": "ada@example.com"}"#)), Ok(Outcome::ack().publish(expected)));
    }

    #[test]
    fn a_malformed_order_is_dead_lettered() {
        assert_eq!(
            handle(Delivery::of(r#"{"email": "ada@example.com"}"#)),
            Err(Error::dead_letter(
                "the body is not the JSON expected: missing field `user_email` at line 1 column 28"
            ))
        );
    }
}
