//! A handler whose answer is another one each time, unless all that it asks the host for is given: times, randomness, and
//! floats that are no numbers.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    hint::black_box,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use wabbit_sdk::{Delivery, Error, Outcome, Publication, context};

/// Handled by an instance so far.
static mut HANDLED: u32 = 0;

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_nanos().to_string());
    let began = Instant::now();
    let first = since()?;
    // What is waited for has passed then.
    let ms: u64 = delivery.text()?.parse().unwrap_or_default();
    sleep(Duration::from_millis(ms));
    let took = began.elapsed().as_nanos();
    let (zero, none) = (black_box(0.0_f64), black_box(0.0_f64));
    let not_a_number = [zero / none, (-zero) / none, (zero / none).sqrt()].map(f64::to_bits);
    // SAFETY: an instance handles one delivery at a time.
    let handled = unsafe {
        HANDLED += 1;
        HANDLED
    };
    let random = [1, 2].map(|n| RandomState::new().hash_one(n).to_string());
    let not_a_number = not_a_number.map(|bits| format!("{bits:x}"));
    let answer = json!({
        "wall": [first, since()?],
        "took": took.to_string(),
        "remaining_ms": context::remaining().as_millis().to_string(),
        "random": random,
        "not_a_number": not_a_number,
        "handled": handled,
    });
    Ok(Outcome::ack().publish(Publication::new("", "told").json(&answer)?))
}
