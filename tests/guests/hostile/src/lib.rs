//! The handler that does harm, as far as it is let: one act for each delivery, named by the first word of its body. The
//! second word, where there is one, is how much of it, or where to.
//!
//! An act that should come to nothing answers with the error `REACHED …` where it does not, so that it is acked only by a
//! host that holds. A body that names no act is acked: noise.

mod act;
mod answer;
mod granted;
mod reach;

use wabbit_sdk::{Delivery, Error, Outcome};

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let body = String::from_utf8_lossy(&delivery.body).into_owned();
    let mut words = body.split_ascii_whitespace();
    let (act, argument) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Some(outcome) = answer::answer(act, argument, &delivery) {
        return outcome;
    }
    if let Some(reached) = reach::reach(act, argument, &delivery).or_else(|| granted::reach(act, argument)) {
        return match reached {
            Ok(()) => Ok(Outcome::ack()),
            Err(what) => Err(Error::new(format!("REACHED {what}"))),
        };
    }
    act::act(act, argument);
    Ok(Outcome::ack())
}
