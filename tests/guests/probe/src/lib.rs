//! The handler that does what its delivery says, so that one plugin serves every end-to-end test.
//!
//! A command is JSON: `{"do": ACTION, …}`, with the arguments of that [`Action`] in kebab-case beside it. It stands in the
//! header `probe`, or else is the body. Anything that is no command is acked.
//!
//! - `"then": COMMAND` goes on after an action. What both publish is published, and the last one settles.
//! - A list of commands holds one for each attempt, of which the last is repeated. A redelivery counts as a second
//!   attempt.
//! - A command that is misspelt is an error that says so.

mod action;
mod message;

use serde_json::{Map, Value};
use wabbit_sdk::{Delivery, Error, Field, Outcome};

use action::Action;

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    match command(&delivery) {
        Some(command) => run(command, &delivery),
        None => Ok(Outcome::ack()),
    }
}

fn command(delivery: &Delivery) -> Option<Map<String, Value>> {
    let text = delivery.header("probe").and_then(Field::as_bytes).unwrap_or(&delivery.body);
    let command = match serde_json::from_slice(text).ok()? {
        Value::Array(mut commands) => {
            commands.truncate((delivery.attempt as usize).max(1 + usize::from(delivery.redelivered)));
            commands.pop()?
        }
        command => command,
    };
    match command {
        Value::Object(command) if command.contains_key("do") => Some(command),
        _ => None,
    }
}

fn run(mut command: Map<String, Value>, delivery: &Delivery) -> Result<Outcome, Error> {
    let then = command.remove("then");
    let text = Value::Object(command);
    let action: Action =
        serde_json::from_value(text.clone()).map_err(|error| Error::new(format!("{text} is no command: {error}")))?;
    let mut outcome = action.run(delivery)?;
    if let Some(then) = then {
        let Value::Object(then) = then else {
            return Err(Error::new(format!("{then} is no command: not an object")));
        };
        let last = run(then, delivery)?;
        outcome.publications.extend(last.publications);
        outcome.settlement = last.settlement;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wabbit_sdk::Publication;

    fn check(delivery: Delivery, expected: Outcome) {
        assert_eq!(handle(delivery), Ok(expected));
    }

    #[test]
    fn what_is_no_command_is_acked() {
        check(Delivery::of("hello"), Outcome::ack());
        check(Delivery::of("{}"), Outcome::ack());
        check(Delivery::of("[]"), Outcome::ack());
    }

    #[test]
    fn a_misspelt_command_is_an_error() {
        assert_eq!(
            handle(Delivery::of(r#"{"do":"retry","msec":1}"#)),
            Err(Error::new(r#"{"do":"retry","msec":1} is no command: unknown field `msec`, expected `ms`"#))
        );
    }

    #[test]
    fn the_header_comes_before_the_body() {
        let delivery = Delivery::of(r#"{"do":"retry"}"#).with_header("probe", r#"{"do":"requeue"}"#);
        check(delivery, Outcome::requeue());
    }

    #[test]
    fn a_list_is_a_command_for_each_attempt() {
        let delivery = Delivery::of(r#"[{"do":"requeue"},{"do":"retry"},{"do":"ack"}]"#);
        check(delivery.clone(), Outcome::requeue());
        check(delivery.clone().with_redelivered(), Outcome::retry());
        check(delivery.clone().with_attempt(2), Outcome::retry());
        check(delivery.clone().with_attempt(2).with_redelivered(), Outcome::retry());
        check(delivery.with_attempt(9), Outcome::ack());
    }

    #[test]
    fn then_goes_on() {
        check(
            Delivery::of(
                r#"{"do":"publish","publications":[{"to":"/a"}],"then":
                   {"do":"publish","publications":[{"to":"/b"}],"then":{"do":"requeue"}}}"#,
            ),
            Outcome::requeue().publish(Publication::new("", "a")).publish(Publication::new("", "b")),
        );
    }

    #[test]
    fn a_description_can_be_published_again() {
        let properties = r#"{"content-type":"a/b","headers":[["n",{"integer":1}],["v","void"],["b",{"binary":[255]}]],"priority":3,"persistent":true}"#;
        let publish = format!(r#"{{"do":"publish","publications":[{{"to":"x/k","properties":{properties}}}]}}"#);
        let sent = handle(Delivery::of(publish)).expect("published").publications.remove(0);
        let received =
            Delivery::of([255]).with_properties(sent.properties).with_header("probe", r#"{"do":"describe","to":"/d"}"#);
        let description = handle(received).expect("described").publications.remove(0);
        assert_eq!(
            serde_json::from_slice::<Value>(&description.body).expect("JSON"),
            serde_json::json!({
                "body": [255], "exchange": "", "routing-key": "", "queue": "", "redelivered": false, "attempt": 1,
                "properties": {
                    "content-type": "a/b", "content-encoding": null,
                    "headers": [
                        ["n", {"integer": 1}], ["v", "void"], ["b", {"binary": [255]}],
                        ["probe", {"text": r#"{"do":"describe","to":"/d"}"#}],
                    ],
                    "persistent": true, "priority": 3, "correlation-id": null, "reply-to": null,
                    "expiration-ms": null, "message-id": null, "timestamp": null, "kind": null, "user-id": null,
                    "app-id": null,
                },
            })
        );
    }
}
