//! Publishes the body that came, and acks: the smallest handler that needs a confirm.

use wabbit_sdk::{Delivery, Outcome, Publication, handler};

#[handler]
fn handle(delivery: Delivery) -> Outcome {
    Outcome::ack().publish(Publication::new("", "bench.out").body(delivery.body).persistent())
}
