//! Keeps what each customer bought, and tells of every two products in one basket.

use serde::{Deserialize, Serialize};
use wabbit_sdk::{Delivery, Error, Outcome, Publication, keyvalue};

/// Of a customer's products, the last that count.
const PRODUCTS_MAX: usize = 50;

#[derive(Deserialize)]
struct Purchase {
    customer: String,
    product: String,
}

#[derive(Serialize)]
struct Pair<'p> {
    one: &'p str,
    other: &'p str,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let Purchase { customer, product } = delivery.json()?;
    if [&customer, &product].iter().any(|name| name.is_empty() || name.contains(['/', '\n'])) {
        return Err(Error::dead_letter("a name is empty, or has a `/` or a line end in it"));
    }
    let baskets = keyvalue::open("baskets")?;
    let basket = String::from_utf8(baskets.get(&customer)?.unwrap_or_default())?;
    let mut others: Vec<&str> = basket.lines().filter(|other| *other != product).collect();

    // What is told twice has the same message id, by which it counts once.
    let mut pairs = Vec::new();
    for other in &others {
        let (one, other) =
            if product.as_str() < *other { (product.as_str(), *other) } else { (*other, product.as_str()) };
        let pair = Publication::new("", "shop_pairs").json(&Pair { one, other })?.persistent();
        pairs.push(pair.message_id(format!("{customer}/{one}/{other}")));
    }
    others.push(&product);
    let kept = &others[others.len().saturating_sub(PRODUCTS_MAX)..];
    baskets.set(&customer, kept.join("\n"))?;
    Ok(Outcome::ack().publish_all(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message ids of what a purchase makes.
    fn buy(customer: &str, product: &str) -> Vec<String> {
        let outcome = handle(Delivery::of(format!(r#"{{"customer":"{customer}","product":"{product}"}}"#))).unwrap();
        outcome.publications.into_iter().map(|pair| pair.properties.message_id.unwrap()).collect()
    }

    #[test]
    fn every_two_products_of_a_customer_are_a_pair() {
        keyvalue::provide("baskets");
        assert_eq!(buy("ada", "hay"), [""; 0]);
        assert_eq!(buy("alan", "brush"), [""; 0]);
        assert_eq!(buy("ada", "brush"), ["ada/brush/hay"]);
        assert_eq!(buy("ada", "hutch"), ["ada/hay/hutch", "ada/brush/hutch"]);
        // Again the same, with the same names.
        assert_eq!(buy("ada", "brush"), ["ada/brush/hay", "ada/brush/hutch"]);
    }

    #[test]
    fn a_basket_has_an_end() {
        keyvalue::provide("baskets");
        for number in 0..60 {
            buy("ada", &number.to_string());
        }
        assert_eq!(buy("ada", "hay").len(), PRODUCTS_MAX);
    }

    #[test]
    fn a_name_that_would_be_mistaken_is_dead_lettered() {
        let reason = "a name is empty, or has a `/` or a line end in it";
        let purchase = r#"{"customer":"ada","product":"hay/straw"}"#;
        assert_eq!(handle(Delivery::of(purchase)), Err(Error::dead_letter(reason)));
    }
}
