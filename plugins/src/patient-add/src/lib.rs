//! Answers requests to add a patient. What is wrong with a request is an answer, too; one that is too late gets none.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wabbit_sdk::{Delivery, Error, Field, Outcome, keyvalue};

#[derive(Deserialize)]
struct Patient {
    name: String,
}

#[derive(Serialize, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Added(String),
    Known(String),
    Error(String),
}

#[wabbit_sdk::handler]
fn handle(delivery: Delivery) -> Result<Outcome, Error> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    // In milliseconds since 1970: from then on nobody waits for the answer.
    if let Some(deadline) = delivery.header("deadline").and_then(Field::as_i64).filter(|deadline| *deadline < now) {
        println!("a request came {} ms too late: it is dropped", now - deadline);
        return Ok(Outcome::ack());
    }
    let answer = answer(&delivery)?;
    let reply = delivery.reply("").map(|reply| reply.json(&answer)).transpose()?;
    Ok(Outcome::ack().publish_all(reply))
}

fn answer(delivery: &Delivery) -> Result<Answer, Error> {
    match delivery.properties.kind.as_deref() {
        Some("add") => {}
        other => return Ok(Answer::Error(format!("nobody knows requests of type `{}`", other.unwrap_or_default()))),
    }
    let patient: Patient = match delivery.json() {
        Ok(patient) => patient,
        Err(error) => return Ok(Answer::Error(error.to_string())),
    };
    let patients = keyvalue::open("patients")?;
    if patients.exists(&patient.name)? {
        return Ok(Answer::Known(patient.name));
    }
    patients.set(&patient.name, &delivery.body)?;
    Ok(Answer::Added(patient.name))
}

#[cfg(test)]
mod tests {
    use wabbit_sdk::Properties;

    use super::*;

    fn request(kind: &str, body: &str) -> Delivery {
        let (kind, reply_to) = (Some(kind.into()), Some("answers".into()));
        Delivery::of(body).with_properties(Properties { kind, reply_to, ..Properties::default() })
    }

    #[test]
    fn a_request_is_answered_by_what_it_is() {
        fn check(kind: &str, body: &str, expected: Answer) {
            assert_eq!(answer(&request(kind, body)), Ok(expected));
        }
        keyvalue::provide("patients");
        check("add", r#"{"name":"Ada"}"#, Answer::Added("Ada".into()));
        check("add", r#"{"name":"Ada"}"#, Answer::Known("Ada".into()));
        check("remove", "", Answer::Error("nobody knows requests of type `remove`".into()));
        let wrong = "the body is not the JSON expected: missing field `name` at line 1 column 2";
        check("add", "{}", Answer::Error(wrong.into()));
    }

    #[test]
    fn what_comes_too_late_is_not_done() {
        keyvalue::provide("patients");
        let late = request("add", r#"{"name":"Ada"}"#).with_header("deadline", 1);
        assert_eq!(handle(late), Ok(Outcome::ack()));
        assert_eq!(keyvalue::open("patients").unwrap().exists("Ada"), Ok(false));
        let timely = request("add", r#"{"name":"Ada"}"#).with_header("deadline", i64::MAX);
        assert_eq!(handle(timely).unwrap().publications[0].body, br#"{"added":"Ada"}"#);
    }
}
