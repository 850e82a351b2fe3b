//! Reports each order as a page of plain text.

use std::{fmt, num::NonZeroU32};

use serde::Deserialize;
use wabbit_sdk::{Delivery, Error, Outcome, Publication};

#[derive(Deserialize)]
struct Order {
    id: Id,
    user_email: String,
    product: String,
    quantity: NonZeroU32,
}

/// Some shops number their orders, others name them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an order's `id` is a whole number or a text")]
enum Id {
    Number(i64),
    Text(String),
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    // An order that cannot be read goes to the dead-letter queue, with what is wrong with it.
    let order: Order = delivery.json()?;
    let id = order.id.to_string();
    println!("reporting order {id}");

    let report = Publication::new("reports", "order.report")
        .text(order.to_string())
        .message_id(&id)
        .header("order-id", &id)
        .persistent();
    Ok(Outcome::ack().publish(report))
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Order {}", self.id)?;
        writeln!(f)?;
        writeln!(f, "Customer: {}", self.user_email)?;
        writeln!(f, "Product:  {}", self.product)?;
        writeln!(f, "Quantity: {}", self.quantity)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Number(id) => id.fmt(f),
            Id::Text(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_becomes_a_report() {
        fn check(id: &str, id_text: &str) {
            let order = format!(r#"{{"id": {id}, "user_email": "ada@example.com", "product": "hay", "quantity": 2}}"#);
            let text = format!("Order {id_text}\n\nCustomer: ada@example.com\nProduct:  hay\nQuantity: 2\n");
            let report = Publication::new("reports", "order.report")
                .body(text)
                .content_type("text/plain")
                .message_id(id_text)
                .header("order-id", id_text)
                .persistent();
            assert_eq!(handle(Delivery::of(order)), Ok(Outcome::ack().publish(report)));
        }
        check("17", "17");
        check(r#""A-17""#, "A-17");
    }

    #[test]
    fn a_malformed_order_is_dead_lettered() {
        fn check(order: &str, expected: &str) {
            let reason = format!("the body is not the JSON expected: {expected}");
            assert_eq!(handle(Delivery::of(order)), Err(Error::dead_letter(reason)));
        }
        check("{", "EOF while parsing an object at line 1 column 1");
        check(
            r#"{"id": 1, "user_email": "ada@example.com", "product": "hay"}"#,
            "missing field `quantity` at line 1 column 60",
        );
        check(
            r#"{"id": 1, "user_email": "ada@example.com", "product": "hay", "quantity": 0}"#,
            "invalid value: integer `0`, expected a nonzero u32 at line 1 column 74",
        );
        check(
            r#"{"id": null, "user_email": "ada@example.com", "product": "hay", "quantity": 1}"#,
            "an order's `id` is a whole number or a text at line 1 column 11",
        );
    }
}
