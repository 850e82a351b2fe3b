//! Answers that are too much, make no sense, or ask for what is not granted.

use wabbit_sdk::{Delivery, Error, Field, Outcome, Publication};

/// What that act answers, or nothing where it is none of these. `argument` is a number, or a queue.
pub fn answer(act: &str, argument: &str, delivery: &Delivery) -> Option<Result<Outcome, Error>> {
    let number: usize = argument.parse().unwrap_or(0);
    let to = |queue: &str| Publication::new("", queue);
    let publish = |publication: Publication| Outcome::ack().publish(publication);
    Some(Ok(match act {
        "error" => return Some(Err(Error::new("e\u{1b}[2J\n".repeat(number / 6 + 1)))),
        "dead-letter" => Outcome::dead_letter("\u{1b}[2Jé".repeat(number / 6 + 1)),
        "requeue" => Outcome::requeue(),
        "result" => publish(to("nowhere").body(vec![b'x'; number << 20])),
        "results" => Outcome::ack().publish_all((0..number).map(|_| to("nowhere").body(vec![b'x'; 1 << 20]))),
        "publications" => Outcome::ack().publish_all((0..number).map(|_| to("nowhere"))),
        "publish" => publish(to(argument).body("taken")),
        "publish-twice" => {
            Outcome::ack().publish_all([to(argument).body("granted"), to("amq.gen-nobody").body("not granted")])
        }
        "publish-exchange" => publish(Publication::new(argument, "wabbit")),
        "publish-forged" => publish(
            to(argument)
                .body("forged")
                .header("x-wabbit-worker", "good")
                .header("x-wabbit-attempts", 1_000_000_i64)
                .header("x-wabbit-publication", -1_i64)
                .header("X-Wabbit-Error", "forged")
                .header("X-WABBIT-PUBLICATION", -1_i64)
                .header("mine", "kept"),
        ),
        "publish-user" => publish(to(argument).user_id("somebody-else")),
        "publish-copies" => publish(to(argument).header("CC", Field::Json(r#"["elsewhere"]"#.into()))),
        "publish-blind-copies" => publish(to(argument).header("BCC", Field::Json(r#"["elsewhere"]"#.into()))),
        "reply" => Outcome::ack().publish_all(delivery.reply("taken")),
        "header-large" => publish(to(argument).header("large", "x".repeat(200_000))),
        "headers-many" => {
            let headers = (0..20_000).map(|n| (format!("h{n}"), Field::Integer(n)));
            let mut publication = to(argument);
            publication.properties.headers = headers.collect();
            publish(publication)
        }
        "header-name" => publish(to(argument).header("n".repeat(300), "x")),
        "header-twice" => {
            let mut publication = to(argument);
            publication.properties.headers = vec![("n".into(), Field::Void), ("n".into(), Field::Void)];
            publish(publication)
        }
        "header-json" => publish(to(argument).header("n", Field::Json("{".into()))),
        "header-infinite" => publish(to(argument).header("n", Field::Float(f64::INFINITY))),
        "header-json-infinite" => publish(to(argument).header("n", Field::Json("1e999".into()))),
        "header-nested" => publish(to(argument).header("n", Field::Json("[".repeat(1_000_000)))),
        "header-nested-closed" => {
            let depth = 100;
            let json = ["[".repeat(depth), "]".repeat(depth)].concat();
            publish(to(argument).header("n", Field::Json(json)))
        }
        "routing-key" => publish(to(&"k".repeat(300))),
        "exchange" => publish(Publication::new("e".repeat(100_000), "k")),
        "property" => publish(to(argument).content_type("c".repeat(256))),
        "nul" => publish(Publication::new("\0", "\0")),
        _ => return None,
    }))
}
