//! Recommends what those bought, too, who bought a product.

use serde::Serialize;
use wabbit_sdk::{Delivery, Error, Outcome, Publication, keyvalue};

/// So many are recommended.
const SHOWN: usize = 3;

#[derive(Serialize)]
struct Recommendation<'r> {
    product: &'r str,
    also: Vec<Also>,
}

#[derive(Serialize)]
struct Also {
    product: String,
    customers: u64,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let product = delivery.text()?;
    let pairs = keyvalue::open("pairs")?;
    let mut also = Vec::new();
    for key in pairs.keys()? {
        let other = match key.split_once('/') {
            Some((one, other)) if one == product => other,
            Some((one, other)) if other == product => one,
            _ => continue,
        };
        let customers = String::from_utf8(pairs.get(&key)?.unwrap_or_default())?.parse()?;
        also.push(Also { product: other.to_owned(), customers });
    }
    also.sort_by(|a, b| b.customers.cmp(&a.customers).then_with(|| a.product.cmp(&b.product)));
    also.truncate(SHOWN);
    let recommendation = Recommendation { product, also };
    Ok(Outcome::ack().publish(Publication::new("", "shop_recommendations").json(&recommendation)?.persistent()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_customers_bought_comes_first() {
        keyvalue::provide("pairs");
        let pairs = keyvalue::open("pairs").unwrap();
        for (pair, count) in [("brush/hay", 2), ("carrots/hay", 3), ("hay/hutch", 2), ("hay/straw", 1), ("a/b", 9)] {
            pairs.increment(pair, count).unwrap();
        }
        let expected = r#"{"product":"hay","also":[{"product":"carrots","customers":3},{"product":"brush","customers":2},{"product":"hutch","customers":2}]}"#;
        let publication = handle(Delivery::of("hay")).unwrap().publications.remove(0);
        assert_eq!(String::from_utf8(publication.body).unwrap(), expected);
    }
}
