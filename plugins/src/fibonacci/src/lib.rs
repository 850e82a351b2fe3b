//! Answers which number of Fibonacci it is, slowly: what takes too long is for the manifest's time limit.

use wabbit_sdk::{Delivery, Outcome};

/// The last whose answer fits.
const LAST: u64 = 93;

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Outcome {
    let answer = match asked(&delivery) {
        Ok(number) => fibonacci(number).to_string(),
        Err(reason) => format!("error: {reason}"),
    };
    Outcome::ack().publish_all(delivery.reply(answer))
}

fn asked(delivery: &Delivery) -> Result<u64, String> {
    let number = delivery.text().ok().and_then(|text| text.parse().ok()).ok_or("this is no whole number")?;
    if number > LAST {
        return Err(format!("the number is at most {LAST}"));
    }
    Ok(number)
}

fn fibonacci(number: u64) -> u64 {
    if number < 2 { number } else { fibonacci(number - 1) + fibonacci(number - 2) }
}

#[cfg(test)]
mod tests {
    use wabbit_sdk::{Properties, Publication};

    use super::*;

    #[test]
    fn a_request_gets_its_answer() {
        fn check(request: &str, expected: &str) {
            let properties = Properties {
                reply_to: Some("answers".into()),
                correlation_id: Some("7".into()),
                ..Properties::default()
            };
            let reply = Publication::new("", "answers").body(expected).correlation_id("7");
            assert_eq!(
                handle(Delivery::of(request).with_properties(properties)),
                Outcome::ack().publish(reply),
                "{request}"
            );
        }
        check("0", "0");
        check("10", "55");
        check("94", "error: the number is at most 93");
        check("-1", "error: this is no whole number");
        check("ten", "error: this is no whole number");
    }

    #[test]
    fn who_waits_for_no_answer_gets_none() {
        assert_eq!(handle(Delivery::of("10")), Outcome::ack());
    }
}
