//! Acks: what is measured is everything around a handler.

use wabbit_sdk::{Delivery, Outcome, handler};

#[handler]
fn handle(_: Delivery) -> Outcome {
    Outcome::ack()
}
