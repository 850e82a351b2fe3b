//! A handler of which any number of versions can be made without a compiler: a number and a way to behave stand in its
//! file, in plain sight. It puts the number on what it publishes.

use std::{hint::black_box, thread, time::Duration};

use wabbit_sdk::{Delivery, Error, Outcome, Publication};

/// `@stamp@NUMBER@HOW`, as long as this one.
#[used]
static STAMP: [u8; 32] = *b"@stamp@00000000@good            ";

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let stamp = String::from_utf8_lossy(black_box(&STAMP)).into_owned();
    let mut parts = stamp.trim_end().split('@').skip(2);
    let (number, how) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // What a smoke test says: not to be published.
    if delivery.body == b"smoke" && how == "smokeless" {
        return Err(Error::new("no smoking here"));
    }
    let odd = delivery.body.last().is_some_and(|byte| byte % 2 == 1);
    match how {
        "trap" => std::process::abort(),
        "fail" => return Err(Error::new(format!("version {number} fails"))),
        "fail-odd" if odd => return Err(Error::new(format!("version {number} fails what is odd"))),
        "refuse" => return Ok(Outcome::dead_letter("as it was told")),
        "slow" => thread::sleep(Duration::from_millis(300)),
        _ => {}
    }
    let to = format!("{}.out", delivery.queue);
    let publication = Publication::new("", to).body(delivery.body).header("by", number).persistent();
    Ok(Outcome::ack().publish(publication))
}
