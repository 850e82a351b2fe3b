//! Counts how many customers bought two products, and tells for which products that changed.

use serde::Deserialize;
use wabbit_sdk::{Delivery, Error, Outcome, Publication, keyvalue};

#[derive(Deserialize)]
struct Pair {
    one: String,
    other: String,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let Pair { one, other } = delivery.json()?;
    // One step, whoever counts at the same time.
    keyvalue::open("pairs")?.increment(&format!("{one}/{other}"), 1)?;
    let changed = [one, other].map(|product| Publication::new("", "shop_changed").text(product).persistent());
    Ok(Outcome::ack().publish_all(changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_counted_and_both_products_changed() {
        keyvalue::provide("pairs");
        for count in ["1", "2"] {
            let changed =
                ["brush", "hay"].map(|product| Publication::new("", "shop_changed").text(product).persistent());
            let pair = Delivery::of(r#"{"one":"brush","other":"hay"}"#);
            assert_eq!(handle(pair), Ok(Outcome::ack().publish_all(changed)));
            let counted = keyvalue::open("pairs").unwrap().get("brush/hay").unwrap();
            assert_eq!(counted.as_deref(), Some(count.as_bytes()));
        }
    }
}
