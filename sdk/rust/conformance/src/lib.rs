//! Does what the header `do` says: the same in every language, so that each can be held against the same table of cases.

use std::{fs, hint::black_box, time::Duration};

use serde::Serialize;
use wabbit_sdk::{Delivery, Error, Field, Outcome, Publication, config, context, http, keyvalue};

/// A body's text, and how long it is in code points.
#[derive(Serialize)]
struct Read<'a> {
    text: &'a str,
    length: usize,
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    match delivery.header("do").and_then(Field::as_str).unwrap_or_default() {
        "echo" => Ok(echo(delivery)),
        "describe" => Ok(describe(&delivery)),
        "many" => Ok(many(&delivery)),
        "ack" => Ok(Outcome::ack()),
        "requeue" => Ok(Outcome::requeue()),
        "retry" => Ok(retry(&delivery)),
        "dead-letter" => Ok(Outcome::dead_letter(delivery.text()?)),
        "error" => Err(Error::new(delivery.text()?)),
        "trap" => trap(),
        "loop" => endless(),
        "memory" => exhaust(),
        "log" => {
            println!("{}", delivery.text()?);
            Ok(Outcome::ack())
        }
        "json" => read(&delivery),
        "context" => Ok(in_context()),
        "churn" => Ok(churn()),
        "setting" => Ok(setting(&delivery)),
        "count" => count(&delivery),
        "keep" => keep(&delivery),
        "fetch" => Ok(fetch(&delivery)),
        "write" => Ok(write(&delivery)),
        other => Ok(Outcome::dead_letter(format!("unknown: {other}"))),
    }
}

fn echo(delivery: Delivery) -> Outcome {
    let Delivery { body, properties, exchange, routing_key, .. } = delivery;
    Outcome::ack().publish(Publication::new(exchange, routing_key).body(body).properties(properties))
}

fn describe(delivery: &Delivery) -> Outcome {
    let Delivery { queue, exchange, routing_key, redelivered, attempt, .. } = delivery;
    let text =
        format!("queue={queue} exchange={exchange} key={routing_key} redelivered={redelivered} attempt={attempt}");
    Outcome::ack().publish(Publication::new("", "described").text(text))
}

fn many(delivery: &Delivery) -> Outcome {
    let count = delivery.header("count").and_then(Field::as_i64).unwrap_or_default();
    Outcome::ack()
        .publish_all((0..count).map(|number| Publication::new("", format!("many.{number}")).text(number.to_string())))
}

fn retry(delivery: &Delivery) -> Outcome {
    match delivery.header("ms").and_then(Field::as_i64) {
        Some(ms) => Outcome::retry_after(Duration::from_millis(ms.unsigned_abs())),
        None => Outcome::retry(),
    }
}

fn trap() -> ! {
    panic!("planted bug")
}

fn endless() -> ! {
    let mut rounds: u64 = 0;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
    }
}

fn exhaust() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn read(delivery: &Delivery) -> Result<Outcome, Error> {
    let text = delivery.text()?;
    let read = Read { text, length: text.chars().count() };
    Ok(Outcome::ack().publish(Publication::new("", "json").json(&read)?))
}

fn in_context() -> Outcome {
    let text = format!("worker={} remaining={}", context::worker(), !context::remaining().is_zero());
    Outcome::ack().publish(Publication::new("", "context").text(text))
}

/// About 100 KiB in small objects, which a handler that is used again must not keep.
fn churn() -> Outcome {
    for number in 0..2_000_u32 {
        drop(black_box(format!("a short text that is made and dropped: {number}")));
    }
    Outcome::ack()
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    delivery.header(name).and_then(Field::as_str).unwrap_or_default()
}

fn setting(delivery: &Delivery) -> Outcome {
    let value = config::get(header(delivery, "name"));
    Outcome::ack().publish(Publication::new("", "setting").text(value.unwrap_or_else(|| "none".into())))
}

fn count(delivery: &Delivery) -> Result<Outcome, Error> {
    let store = keyvalue::open("default")?;
    let (key, by) = (header(delivery, "key"), delivery.header("by").and_then(Field::as_i64).unwrap_or_default());
    let sum = store.increment(key, by.unsigned_abs())?;
    let value = store.get(key)?.unwrap_or_default();
    let text = format!("{sum}/{}", String::from_utf8_lossy(&value));
    Ok(Outcome::ack().publish(Publication::new("", "count").text(text)))
}

fn keep(delivery: &Delivery) -> Result<Outcome, Error> {
    let (store, key) = (keyvalue::open("default")?, header(delivery, "key"));
    store.set(key, &delivery.body)?;
    let kept = store.get(key)?.unwrap_or_default();
    store.delete(key)?;
    if store.exists(key)? {
        return Ok(Outcome::dead_letter("still there"));
    }
    Ok(Outcome::ack().publish(Publication::new("", "kept").body(kept)))
}

fn fetch(delivery: &Delivery) -> Outcome {
    let mut request =
        http::Request::new(header(delivery, "method"), header(delivery, "url")).header("x-test", "wabbit");
    if !delivery.body.is_empty() {
        request = request.body(delivery.body.clone());
    }
    match request.send() {
        Ok(response) => {
            let start = format!("{} {} ", response.status, response.header("x-answer").unwrap_or_default());
            Outcome::ack().publish(Publication::new("", "fetched").body([start.as_bytes(), &response.body].concat()))
        }
        Err(error) => Outcome::dead_letter(error.to_string()),
    }
}

fn write(delivery: &Delivery) -> Outcome {
    let path = header(delivery, "path");
    match fs::write(path, &delivery.body).and_then(|()| fs::read(path)) {
        Ok(read) => Outcome::ack().publish(Publication::new("", "written").body(read)),
        Err(error) => Outcome::dead_letter(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(what: &str, body: &str) -> Delivery {
        Delivery::of(body).with_header("do", what)
    }

    fn publications(delivery: Delivery) -> Vec<Publication> {
        handle(delivery).map(|outcome| outcome.publications).unwrap_or_default()
    }

    #[test]
    fn an_echo_is_the_delivery() {
        let delivery = doing("echo", "x").with_exchange("e").with_routing_key("k");
        let expected = Publication::new("e", "k").body("x").properties(delivery.properties.clone());
        assert_eq!(publications(delivery), [expected]);
    }

    #[test]
    fn what_is_described_is_all_there() {
        let delivery = doing("describe", "").with_queue("q").with_routing_key("k").with_attempt(3);
        let text = "queue=q exchange= key=k redelivered=false attempt=3";
        assert_eq!(publications(delivery), [Publication::new("", "described").text(text)]);
    }

    #[test]
    fn many_are_numbered() {
        let made = publications(doing("many", "").with_header("count", 2));
        assert_eq!(made, [Publication::new("", "many.0").text("0"), Publication::new("", "many.1").text("1")]);
    }

    #[test]
    fn settlements_are_those_that_were_asked_for() {
        let later = Outcome::retry_after(Duration::from_millis(500));
        assert_eq!(handle(doing("retry", "").with_header("ms", 500)), Ok(later));
        assert_eq!(handle(doing("retry", "")), Ok(Outcome::retry()));
        assert_eq!(handle(doing("requeue", "")), Ok(Outcome::requeue()));
        assert_eq!(handle(doing("dead-letter", "odd")), Ok(Outcome::dead_letter("odd")));
        assert_eq!(handle(doing("error", "down")), Err(Error::new("down")));
        assert_eq!(handle(doing("dance", "")), Ok(Outcome::dead_letter("unknown: dance")));
    }

    #[test]
    fn code_points_are_counted() {
        let expected =
            Publication::new("", "json").body(r#"{"text":"hé","length":2}"#).content_type("application/json");
        assert_eq!(publications(doing("json", "hé")), [expected]);
    }

    #[test]
    fn the_context_answers() {
        let expected = Publication::new("", "context").text("worker=test remaining=true");
        assert_eq!(publications(doing("context", "")), [expected]);
    }
}
