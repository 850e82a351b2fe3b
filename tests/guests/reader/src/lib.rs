//! A handler that reads what its manifest tells it, and gives it away in the manner that its delivery asks for.

use std::{collections::BTreeMap, process};

use serde::Deserialize;
use serde_json::json;
use wabbit_sdk::{Delivery, Error, Outcome, Publication, config};

#[derive(Deserialize)]
struct Command {
    /// What is read.
    name: String,
    how: How,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Ack,
    /// Printed, a byte at a time, and then once more within a line that is too long.
    Print,
    Error,
    /// On stderr, and a trap.
    Panic,
    DeadLetter,
    /// As the exchange of a publication that is not granted.
    Exchange,
    /// All values, to the queue `told`.
    Publish,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let Command { name, how } = delivery.json()?;
    let value = config::get(&name);
    let shown = value.clone().unwrap_or_default();
    match how {
        How::Ack => {}
        How::Print => {
            for character in shown.chars() {
                print!("{character}");
            }
            println!(" was printed");
            eprintln!("{}{shown} was printed", "x".repeat(4090));
        }
        How::Error => return Err(Error::new(format!("{shown} was refused"))),
        How::Panic => {
            eprintln!("{shown} was the last word");
            process::abort();
        }
        How::DeadLetter => return Ok(Outcome::dead_letter(format!("{shown} is dead"))),
        How::Exchange => return Ok(Outcome::ack().publish(Publication::new(shown, "x"))),
        How::Publish => {
            let all: BTreeMap<_, _> = config::all().into_iter().collect();
            let told = json!({ "get": value, "all": all });
            return Ok(Outcome::ack().publish(Publication::new("", "told").json(&told)?));
        }
    }
    Ok(Outcome::ack())
}
