//! A handler that imports what no host provides.

use wabbit_sdk::{Delivery, Outcome};

wit_bindgen::generate!({
    inline: "
        package acme:db@1.0.0;

        interface store {
            put: func(value: list<u8>);
        }

        world guest {
            import store;
        }
    ",
});

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Outcome {
    acme::db::store::put(&delivery.body);
    Outcome::ack()
}
