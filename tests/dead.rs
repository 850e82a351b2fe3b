//! `wabbit dead`, as a person types it: what is in the dead-letter queues, and the way back.

use std::collections::BTreeSet;
use std::fs;

use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use serde_json::{Value, json};

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host;
use crate::harness::process::{Lines, Output, Process};
use crate::harness::{DEADLINE, places, wait_until};
use crate::headers::{NOT_UTF8, headers, is_ours, properties, rows, user};
use crate::outcomes::{Stage, WORKER, stage};

const LOST: &str = "wabbit.lost";

/// `wabbit dead …` beside a stage; `@` begins a name of the test.
pub async fn dead(stage: &Stage, arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|argument| stage.named(argument)).collect();
    let manifests = stage.host.manifests().display().to_string();
    let mut words = vec!["dead"];
    words.extend(arguments.iter().map(String::as_str));
    words.extend(["--amqp-url", &stage.vhost.url, "--manifests", &manifests]);
    host::run(stage.host.folder(), &words).await
}

/// What `--json` printed.
fn parsed(output: Output) -> Value {
    serde_json::from_str(&output.success()).unwrap()
}

/// A command that did not do it all.
#[track_caller]
fn expect(output: Output, code: i32, stdout: &str, stderr: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (code, stdout), "{output:?}");
    for part in stderr {
        assert!(output.stderr.contains(part), "`{part}` is not in\n{}", output.stderr);
    }
}

/// A stage with letters in `@work.dead`, one of each error, in this order; its host has stopped.
async fn letters(test: &str, errors: &[&str]) -> Stage {
    let mut stage = stage(test, "", &[("probe", WORKER)]).await;
    for (number, error) in errors.iter().enumerate() {
        stage.send(error, &json!({"do": "dead-letter", "reason": error}).to_string()).await;
        stage.peer.wait_for_count(&stage.named("@work.dead"), u32::try_from(number).unwrap() + 1, DEADLINE).await;
    }
    assert_eq!(stage.host.terminate().await, 0);
    stage
}

/// The errors in the bodies of a queue's messages, which is emptied.
async fn errors(stage: &Stage, queue: &str, count: usize) -> Vec<String> {
    let messages = stage.take(queue, count).await;
    messages.iter().map(|message| message.json()["reason"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn dead_letter_queues_are_listed() {
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@late\"\n[failure]\ndead-letter = \"@elsewhere\"\n";
    let stage = letters("dead-list", &["one", "two"]).await;
    fs::write(stage.host.manifests().join("late.toml"), stage.named(manifest)).unwrap();
    if stage.peer.try_count(LOST).await.is_none() {
        stage.peer.durable_queue(LOST).await;
    }
    stage.peer.publish("", LOST, b"x", persistent()).await;
    let lost = stage.peer.count(LOST).await;

    let row = |queue: &str, there: bool, letters: u32, workers: &[&str]| {
        let queue = stage.named(queue);
        json!({"queue": queue, "there": there, "letters": letters, "workers": workers})
    };
    let expected =
        [row("@elsewhere", false, 0, &["late"]), row("@work.dead", true, 2, &["probe"]), row(LOST, true, lost, &[])];
    assert_eq!(parsed(dead(&stage, &["list", "--json"]).await), json!({"queues": expected}));
    let table = dead(&stage, &["list"]).await.success();
    let table: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table[0], ["queue", "letters", "workers"]);
    assert_eq!(table[1], [&stage.named("@elsewhere"), "not", "there", "late"]);
    assert_eq!(table[2], [&stage.named("@work.dead"), "2", "probe"]);
    assert_eq!(table[3], [LOST, &lost.to_string(), "-"]);
    stage.peer.delete_queue(LOST).await;

    // The good ones are listed beside a bad one.
    fs::write(stage.host.manifests().join("late.toml"), "plugin = 7\n").unwrap();
    let output = dead(&stage, &["list", "--json"]).await;
    let rows: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(rows["queues"][0]["queue"], stage.named("@work.dead"));
    assert!(output.code == 64 && output.stderr.contains("late.toml"), "{output:?}");
    fs::remove_dir_all(stage.host.manifests()).unwrap();
    expect(dead(&stage, &["list"]).await, 64, "", &["is no folder of manifests"]);
}

#[tokio::test]
async fn dead_letters_are_shown_and_stay() {
    let stage = letters("dead-show", &["one", "two\u{1b}[31m", "three"]).await;
    let shown = parsed(dead(&stage, &["show", "@work.dead", "--json"]).await);
    assert_eq!((&shown["queue"], &shown["messages"]), (&json!(stage.named("@work.dead")), &json!(3)));
    let letters = shown["letters"].as_array().unwrap();
    let told: Vec<_> = letters.iter().map(|letter| letter["error"].as_str().unwrap()).collect();
    assert_eq!(told, ["one", "two\\u{1b}[31m", "three"]);
    let letter = &letters[0];
    let id = letter["id"].as_str().unwrap();
    assert!(id.len() == 16 && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    assert!(letter["plugin"].as_str().unwrap().starts_with("sha256:"), "{letter}");
    assert!(letter["age_seconds"].as_u64().unwrap() < 600 && letter["last_failure"].is_u64(), "{letter}");
    let body = r#"{"do":"dead-letter","reason":"one"}"#;
    for (key, value) in [
        ("reason", json!("dead-lettered")),
        ("attempts", json!(1)),
        ("worker", json!("probe")),
        ("queue", json!(stage.named("@work"))),
        ("exchange", json!("")),
        ("routing_key", json!(stage.named("@work"))),
        ("body_bytes", json!(body.len())),
        ("text", json!(body)),
    ] {
        assert_eq!(letter[key], value, "{key}");
    }

    let output = dead(&stage, &["show", "@work.dead", "--limit", "2"]).await;
    assert!(output.stderr.contains("2 of 3 letters"), "{}", output.stderr);
    let text = output.success();
    assert_eq!(text.matches("\n\n").count(), 1, "{text}");
    for part in [
        id,
        "error        one\n",
        "error        two\\u{1b}[31m\n",
        &format!("body         {} bytes: {body}\n", body.len()),
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    // They are where they were, and marked as seen.
    let messages = stage.take("work.dead", 3).await;
    let told: Vec<_> = messages.iter().map(|message| message.text_header("x-wabbit-error").unwrap()).collect();
    assert_eq!(told, ["one", "two\\u{1b}[31m", "three"]);
    assert!(messages.iter().all(|message| message.redelivered));
    assert_eq!(messages[0].text_header("x-wabbit-id").as_deref(), Some(id));

    // A letter of another tool.
    stage.peer.publish("", &stage.named("@work.dead"), NOT_UTF8, persistent()).await;
    let text = dead(&stage, &["show", "@work.dead"]).await.success();
    assert!(text.starts_with("id           -\nreason       -\n") && text.contains("bytes, as base64: AMMo"), "{text}");
    stage.peer.delete_queue(&stage.named("@work.dead")).await;
    expect(dead(&stage, &["show", "@work.dead"]).await, 1, "", &["there is no queue `", "hint: `wabbit dead list`"]);
}

/// What is given back to a quorum queue keeps its place, too.
#[tokio::test]
async fn letters_of_a_quorum_queue_are_shown_and_replayed_in_order() {
    let mut stage =
        stage("dead-quorum", "", &[("probe", &WORKER.replacen("\"@work\"", "\"@work\"\nquorum = true", 1))]).await;
    let names = ["one", "two", "three"];
    for (name, count) in names.iter().zip(1..) {
        stage.send(name, &json!({"do": "dead-letter", "reason": name}).to_string()).await;
        stage.peer.wait_for_count(&stage.named("@work.dead"), count, DEADLINE).await;
    }
    assert_eq!(stage.host.terminate().await, 0);
    for limit in ["1", "2", "3"] {
        let shown = parsed(dead(&stage, &["show", "@work.dead", "--json", "--limit", limit]).await);
        let told: Vec<_> = shown["letters"].as_array().unwrap().iter().map(|letter| &letter["error"]).collect();
        assert_eq!(told, names[..limit.parse().unwrap()]);
        stage.peer.wait_for_count(&stage.named("@work.dead"), 3, DEADLINE).await;
    }
    expect(dead(&stage, &["replay", "@work.dead", "--all"]).await, 0, "3 replayed\n", &[]);
    let again = stage.take("work", 3).await;
    for (message, name) in again.iter().zip(names) {
        assert_eq!(message.json()["reason"], name);
        // Nothing of what the broker notes on messages that it delivers again.
        let headers: Vec<_> = headers(message).into_keys().filter(|name| name != "x-wabbit-publication").collect();
        assert_eq!(headers, Vec::<String>::new());
    }
    stage.expect_empty(&["work.dead"]).await;
}

#[tokio::test]
async fn all_letters_are_replayed_once() {
    const COUNT: usize = 700;
    let stage = stage("dead-all", "", &[("probe", WORKER)]).await;
    let bodies = (0..COUNT).map(|n| json!({"do": "dead-letter", "reason": n.to_string()}).to_string());
    stage.peer.publish_all("", &stage.named("@work"), bodies, persistent()).await;
    stage.wait_for_settled("probe", "dead-lettered", COUNT as u64).await;
    // Each fails again and comes back while the others are on their way: none goes twice.
    expect(dead(&stage, &["replay", "@work.dead", "--all"]).await, 0, "700 replayed\n", &[]);
    stage.wait_for_settled("probe", "dead-lettered", 2 * COUNT as u64).await;
    let mut told: Vec<usize> =
        errors(&stage, "work.dead", COUNT).await.iter().map(|error| error.parse().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, (0..COUNT).collect::<Vec<_>>());
    stage.expect_empty(&["work", "work.dead"]).await;
    expect(dead(&stage, &["replay", "@work.dead", "--all"]).await, 0, "0 replayed\n", &[]);
}

#[tokio::test]
async fn one_letter_is_replayed_by_its_id() {
    let stage = letters("dead-id", &["one", "two", "three"]).await;
    let shown = parsed(dead(&stage, &["show", "@work.dead", "--json"]).await);
    let id = shown["letters"][1]["id"].as_str().unwrap();
    expect(dead(&stage, &["replay", "@work.dead", "--id", id]).await, 0, "1 replayed\n", &[]);
    assert_eq!(errors(&stage, "work", 1).await, ["two"]);
    expect(dead(&stage, &["replay", "@work.dead", "--id", id]).await, 1, "", &["there is no letter with the id", id]);
    assert_eq!(errors(&stage, "work.dead", 2).await, ["one", "three"]);
}

#[tokio::test]
async fn a_replayed_letter_is_the_message_type_for_type() {
    let mut stage = stage("dead-types", "", &[("probe", WORKER)]).await;
    let user = user(&stage);
    let other = stage.named("@other");
    stage.peer.durable_queue(&other).await;
    let mut sent: Vec<(&str, AMQPValue)> = rows().into_iter().map(|(name, value, ..)| (name, value)).collect();
    sent.push(("probe", AMQPValue::LongString(r#"{"do":"dead-letter","reason":"no"}"#.into())));
    let mut with_copies = sent.clone();
    let copies = vec![AMQPValue::LongString(other.as_str().into())];
    with_copies.push(("CC", AMQPValue::FieldArray(FieldArray::from(copies))));
    let table = |entries: &[(&str, AMQPValue)]| {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        table
    };
    stage.peer.publish("", &stage.named("@work"), NOT_UTF8, properties(table(&with_copies), &user)).await;
    stage.wait_for_settled("probe", "dead-lettered", 1).await;
    assert_eq!(stage.host.terminate().await, 0);

    expect(dead(&stage, &["replay", "@work.dead", "--all"]).await, 0, "1 replayed\n", &[]);
    let again = stage.take("work", 1).await.remove(0);
    assert_eq!(again.body, NOT_UTF8);
    let mut kept = headers(&again);
    kept.retain(|name, _| name != "x-wabbit-publication");
    assert!(!kept.keys().any(|name| is_ours(name)), "{kept:?}");
    assert_eq!(kept, sent.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    // Not what the broker would act upon once more.
    assert_eq!((again.properties.expiration(), again.properties.user_id()), (&None, &None));
    let acted_upon = |with: lapin::BasicProperties| {
        with.with_headers(FieldTable::default()).with_expiration("".into()).with_user_id("".into())
    };
    assert_eq!(acted_upon(again.properties), acted_upon(properties(FieldTable::default(), &user)));
    assert_eq!(stage.peer.count(&other).await, 1, "the copy of the first time alone");
}

#[tokio::test]
async fn a_letter_whose_queue_is_gone_stays() {
    let stage = letters("dead-gone", &["one"]).await;
    stage.peer.delete_queue(&stage.named("@work")).await;
    let gone = format!("there is no queue `{}`", stage.named("@work"));
    for which in [&["--all"][..], &["--id", &only_id(&stage).await]] {
        let arguments: Vec<_> = ["replay", "@work.dead"].iter().chain(which).copied().collect();
        expect(dead(&stage, &arguments).await, 1, "0 replayed, 1 left\n", &[&gone, "--to QUEUE"]);
        assert_eq!(stage.peer.count(&stage.named("@work.dead")).await, 1);
    }
    stage.peer.durable_queue(&stage.named("@other")).await;
    expect(dead(&stage, &["replay", "@work.dead", "--all", "--to", "@other"]).await, 0, "1 replayed\n", &[]);
    assert_eq!(errors(&stage, "other", 1).await, ["one"]);
    stage.expect_empty(&["work.dead"]).await;
}

async fn only_id(stage: &Stage) -> String {
    let shown = parsed(dead(stage, &["show", "@work.dead", "--json"]).await);
    shown["letters"][0]["id"].as_str().unwrap().to_owned()
}

/// What cannot go back stays, in its place; the others go.
#[tokio::test]
async fn a_bad_letter_does_not_stop_the_others() {
    let mut stage = stage("dead-bad", "", &[("probe", WORKER)]).await;
    let (work, dead_letters) = (stage.named("@work"), stage.named("@work.dead"));
    let fail = async |error: &str, count: u32| {
        stage.send(error, &json!({"do": "dead-letter", "reason": error}).to_string()).await;
        stage.peer.wait_for_count(&dead_letters, count, DEADLINE).await;
    };
    fail("one", 1).await;
    // Of another tool, and one that would go in a circle.
    stage.peer.publish("", &dead_letters, br#"{"reason":"two"}"#, persistent()).await;
    let mut circle = FieldTable::default();
    circle.insert("x-wabbit-queue".into(), AMQPValue::LongString(dead_letters.as_str().into()));
    stage.peer.publish("", &dead_letters, br#"{"reason":"three"}"#, persistent().with_headers(circle)).await;
    fail("four", 4).await;
    assert_eq!(stage.host.terminate().await, 0);

    let output = dead(&stage, &["replay", "@work.dead", "--all"]).await;
    expect(output, 1, "2 replayed, 2 left\n", &["does not say which queue", "the dead-letter queue `", "--to QUEUE"]);
    assert_eq!(errors(&stage, "work", 2).await, ["one", "four"]);
    assert_eq!(stage.peer.count(&dead_letters).await, 2);
    let output = dead(&stage, &["replay", "@work.dead", "--all", "--to", &work]).await;
    expect(output, 0, "2 replayed\n", &[]);
    assert_eq!(errors(&stage, "work", 2).await, ["two", "three"]);
}

/// A message whose queue went away while it waited for another try is lost and found.
#[tokio::test]
async fn what_has_lost_its_queue_is_replayed_to_another() {
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[failure]\nbackoff = { first = \"1s\" }\n";
    let mut stage = stage("dead-lost", "", &[("probe", manifest)]).await;
    let error = stage.named("for @work");
    stage.send("1", &json!({"do": "error", "text": error}).to_string()).await;
    stage.wait_for_settled("probe", "retried", 1).await;
    assert_eq!(stage.host.terminate().await, 0);
    stage.peer.delete_queue(&stage.named("@work")).await;

    let id = wait_until(DEADLINE, format!("the message in `{LOST}`"), async || {
        let shown = parsed(dead(&stage, &["show", LOST, "--json", "--limit", "10000"]).await);
        let letter = shown["letters"].as_array().unwrap().iter().find(|letter| letter["error"] == *error);
        let letter = letter.ok_or_else(|| shown.to_string())?;
        assert_eq!((&letter["queue"], &letter["attempts"]), (&json!(stage.named("@work")), &json!(1)));
        Ok(letter["id"].as_str().unwrap().to_owned())
    })
    .await;
    let gone = format!("there is no queue `{}`", stage.named("@work"));
    expect(dead(&stage, &["replay", LOST, "--id", &id]).await, 1, "0 replayed, 1 left\n", &[&gone]);
    stage.peer.durable_queue(&stage.named("@other")).await;
    expect(dead(&stage, &["replay", LOST, "--id", &id, "--to", "@other"]).await, 0, "1 replayed\n", &[]);
    let message = stage.take("other", 1).await.remove(0);
    assert_eq!(message.json()["text"], *error);
    assert!(headers(&message).into_keys().all(|name| name == "x-wabbit-publication"), "{message:?}");
}

/// The letter leaves its queue when the other one has it: not when it was sent, and not when that one refuses it.
#[tokio::test]
async fn a_letter_that_is_not_confirmed_stays() {
    let stage = letters("dead-full", &["one", "two", "three"]).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    stage.peer.queue(&stage.named("@full"), options, arguments).await;
    stage.peer.publish("", &stage.named("@full"), b"{}", persistent()).await;
    let output = dead(&stage, &["replay", "@work.dead", "--all", "--to", "@full"]).await;
    expect(output, 1, "0 replayed, 3 left\n", &["the broker refused it", "is the queue full?"]);
    assert_eq!(errors(&stage, "work.dead", 3).await, ["one", "two", "three"]);
    stage.expect_empty(&["work"]).await;
}

/// A replay that is killed leaves each letter in one of the two queues, or in both.
#[tokio::test]
async fn a_killed_replay_loses_nothing() {
    const COUNT: usize = 5_000;
    let vhost = Broker::shared().await.vhost("dead-killed").await;
    let peer = Peer::connect(&vhost.url).await;
    let (work, letters) = (vhost.unique("work"), vhost.unique("work.dead"));
    for queue in [&work, &letters] {
        peer.durable_queue(queue).await;
    }
    let mut table = FieldTable::default();
    table.insert("x-wabbit-queue".into(), AMQPValue::LongString(work.as_str().into()));
    let bodies = (0..COUNT).map(|n| n.to_string());
    peer.publish_all("", &letters, bodies, persistent().with_headers(table)).await;

    let folder = places::folder("dead-killed");
    let mut command = host::wabbit(folder.path());
    command.args(["dead", "replay", &letters, "--all", "--amqp-url", &vhost.url]);
    let lines = Lines::default();
    let mut replaying = Process::start("wabbit dead replay", command, &lines);
    wait_until(DEADLINE, "some letters to be replayed", async || match peer.count(&work).await {
        0 => Err("none is".to_owned()),
        _ => Ok(()),
    })
    .await;
    replaying.kill();
    // The broker gives back what the dead command held.
    let mut found = BTreeSet::new();
    wait_until(DEADLINE, format!("{COUNT} letters in both queues"), async || {
        for queue in [&work, &letters] {
            let count = peer.count(queue).await as usize;
            for message in peer.drain(queue, count, DEADLINE).await {
                found.insert(message.text().to_owned());
            }
        }
        if found.len() == COUNT { Ok(()) } else { Err(format!("{} are there; {lines}", found.len())) }
    })
    .await;
}

/// A letter that somebody else holds is neither replayed nor deleted.
#[tokio::test]
async fn letters_are_purged_on_demand_alone() {
    let stage = letters("dead-purge", &["one", "two", "three"]).await;
    let queue = stage.named("@work.dead");
    expect(dead(&stage, &["purge", "@work.dead"]).await, 2, "", &["for good", "--yes"]);
    assert_eq!(stage.peer.count(&queue).await, 3);
    let somebody = Peer::connect(&stage.vhost.url).await;
    let held = somebody.channel().basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    assert!(held.is_some());
    expect(dead(&stage, &["purge", "@work.dead", "--yes"]).await, 0, "2 deleted\n", &[]);
    somebody.channel().close(200, "done".into()).await.unwrap();
    stage.peer.wait_for_count(&queue, 1, DEADLINE).await;
    expect(dead(&stage, &["purge", "@nowhere", "--yes"]).await, 1, "", &["there is no queue"]);
}

#[tokio::test]
async fn wrong_usage_is_said() {
    let folder = places::folder("dead-usage");
    let long = "x".repeat(256);
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: wabbit dead"),
        (&["show"], "<QUEUE>"),
        (&["show", ""], "1 to 255 bytes"),
        (&["show", &long], "1 to 255 bytes"),
        (&["replay", "q"], "--id <ID>|--all"),
        (&["replay", "q", "--all", "--id", "1"], "cannot be used with"),
        (&["replay", "q", "--all", "--to", "q"], "the dead-letter queue itself"),
        (&["purge", "q"], "--yes"),
    ];
    for (arguments, told) in cases {
        let words: Vec<_> = ["dead"].iter().chain(*arguments).copied().collect();
        expect(host::run(folder.path(), &words).await, 2, "", &[told]);
    }
}
