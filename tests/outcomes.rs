//! What becomes of a delivery: every settlement, every way to fail, replies, and publications that no queue takes.
//!
//! The stage at the end is what most other modules play on, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::SystemTime;

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::amqp::{Message, Peer, persistent};
use crate::harness::broker::{Broker, Vhost};
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, wait_until};

#[tokio::test]
async fn an_ack_takes_the_delivery_off_its_queue() {
    let stage = stage("ack", "", &[("probe", WORKER)]).await;
    stage.send("1", r#"{"do":"ack"}"#).await;
    stage.send("2", "no command at all").await;
    stage.wait_for_settled("probe", "acked", 2).await;
    stage.expect_empty(&["work", "work.dead", "out"]).await;
}

#[tokio::test]
async fn a_requeue_comes_back_at_once_and_is_no_attempt() {
    let stage = stage("requeue", "", &[("probe", WORKER)]).await;
    stage.send("1", r#"[{"do":"requeue"},{"do":"describe","to":"/@out"}]"#).await;
    let seen = stage.take("out", 1).await.remove(0).json();
    assert_eq!((&seen["redelivered"], &seen["attempt"]), (&json!(true), &json!(1)));
    stage.wait_for_settled("probe", "acked", 1).await;
    assert_eq!(stage.settled("probe", "requeued").await, 1);
    stage.expect_empty(&["work", "work.dead"]).await;
}

#[tokio::test]
async fn a_dead_letter_says_all_that_happened() {
    let stage = stage("dead-letter", "", &[("probe", WORKER)]).await;
    stage.peer.exchange(&stage.named("@orders"), lapin::ExchangeKind::Direct, false).await;
    stage.peer.bind(&stage.named("@work"), &stage.named("@orders"), "order.new").await;
    let properties = persistent().with_message_id("m-1".into()).with_content_type("application/json".into());
    let before = seconds();
    let body = br#"{"do":"dead-letter","reason":"no such customer"}"#;
    stage.peer.publish(&stage.named("@orders"), "order.new", body, properties).await;
    let letter = stage.take("work.dead", 1).await.remove(0);
    let after = seconds();

    assert_eq!((letter.exchange.as_str(), letter.routing_key.as_str()), ("", stage.named("@work.dead").as_str()));
    assert_eq!(letter.body, body);
    assert_eq!(letter.properties.delivery_mode(), &Some(2));
    assert_eq!(letter.properties.message_id().as_ref().unwrap().as_str(), "m-1");
    let digest = stage.host.get("/workers").await[0]["digest"].as_str().unwrap().to_owned();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
    let text = |text: &str| AMQPValue::LongString(text.into());
    let expected = [
        ("x-wabbit-attempts", AMQPValue::LongLongInt(1)),
        ("x-wabbit-error", text("no such customer")),
        ("x-wabbit-exchange", text(&stage.named("@orders"))),
        ("x-wabbit-plugin", text(&digest)),
        ("x-wabbit-queue", text(&stage.named("@work"))),
        ("x-wabbit-reason", text("dead-lettered")),
        ("x-wabbit-routing-key", text("order.new")),
        ("x-wabbit-worker", text("probe")),
    ];
    for (name, value) in &expected {
        assert_eq!(letter.header(name), Some(value), "{name}");
    }
    for name in ["x-wabbit-first-failure", "x-wabbit-last-failure"] {
        match letter.header(name) {
            Some(AMQPValue::Timestamp(at)) => assert!((before..=after).contains(at), "{name} is {at}"),
            other => panic!("{name} is {other:?}"),
        }
    }
    let told: BTreeSet<&str> =
        letter.properties.headers().as_ref().unwrap().inner().keys().map(|k| k.as_str()).collect();
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| *name).collect();
    let times =
        BTreeSet::from(["x-wabbit-id", "x-wabbit-first-failure", "x-wabbit-last-failure", "x-wabbit-publication"]);
    assert_eq!(told.difference(&known).copied().collect::<BTreeSet<_>>(), times);
    stage.wait_for_settled("probe", "dead-lettered", 1).await;
    stage.expect_empty(&["work"]).await;
}

/// Every way to fail, in one burst: each costs its own delivery, and says what happened.
#[tokio::test]
async fn every_failure_is_dead_lettered_with_its_reason() {
    let cases: &[(&str, &str, &str)] = &[
        (r#"{"do":"dead-letter","reason":"not mine"}"#, "dead-lettered", "not mine"),
        (r#"{"do":"error","text":"the shop is closed"}"#, "handler-error", "the shop is closed"),
        (r#"{"do":"ack","colour":1}"#, "handler-error", "unknown field `colour`"),
        (r#"{"do":"trap"}"#, "trap", "unreachable"),
        (r#"{"do":"panic","text":"no hay left"}"#, "trap", "no hay left"),
        (r#"{"do":"recurse"}"#, "trap", "stack"),
        (r#"{"do":"exit","code":0}"#, "exit", "exit(0)"),
        (r#"{"do":"exit","code":3}"#, "exit", "exit("),
        (r#"{"do":"loop"}"#, "time-limit", "the limit of 2s"),
        (r#"{"do":"sleep","ms":60000}"#, "time-limit", "the limit of 2s"),
        (r#"{"do":"memory","mib":64}"#, "memory-limit", "the limit of 16.0 MiB"),
        (
            r#"{"do":"publish","publications":[{"to":"/@out","count":11}]}"#,
            "output-limit",
            "11 publications, the limit is 10",
        ),
        (r#"{"do":"big-output","bytes":2000000,"to":"/@out"}"#, "output-limit", "the limit of 1.0 MiB"),
        (r#"{"do":"publish","publications":[{"to":"/@nobody"}]}"#, "unroutable", "no queue took the publication"),
        (r#"{"do":"publish","publications":[{"to":"/@secret"}]}"#, "publication-refused", "is not granted"),
        (r#"{"do":"reply"}"#, "publication-refused", "is not granted"),
        (
            r#"{"do":"publish","publications":[{"to":"/@out","properties":{"headers":[["n",{"json":"1e999"}]]}}]}"#,
            "malformed-outcome",
            "header `n`",
        ),
        // A failure publishes nothing.
        (
            r#"{"do":"publish","publications":[{"to":"/@out"}],"then":{"do":"error","text":"late"}}"#,
            "handler-error",
            "late",
        ),
    ];
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[[queue]]\nname = \"@out\"\nconsume = false\n\
                    [limits]\ntime = \"2s\"\nmemory = \"16MiB\"\n[grant]\npublish = [\"/@out\", \"/@nobody\"]\n[failure]\nattempts = 1\n";
    let settings = "[limits]\npublications = 10\noutput = \"1MiB\"\n";
    let stage = stage("failures", settings, &[("probe", manifest)]).await;
    for (number, (command, ..)) in cases.iter().enumerate() {
        let properties = id(number).with_reply_to("somebody".into());
        let command = stage.named(command);
        stage.peer.publish("", &stage.named("@work"), command.as_bytes(), properties).await;
    }
    let letters = by_id(stage.take("work.dead", cases.len()).await);
    for (number, (command, reason, error)) in cases.iter().enumerate() {
        let letter = &letters[&number.to_string()];
        assert_eq!(letter.text(), stage.named(command));
        let (told, text) = (letter.text_header("x-wabbit-reason"), letter.text_header("x-wabbit-error").unwrap());
        assert_eq!(told.as_deref(), Some(*reason), "{command}: {text}");
        assert!(text.contains(error), "{command}: {text}");
    }
    stage.wait_for_settled("probe", "dead-lettered", cases.len() as u64).await;
    stage.expect_empty(&["work", "out"]).await;
    let metrics = stage.host.metrics().await;
    for (kind, count) in [("time-limit", 2), ("exit", 2), ("trap", 3), ("output-limit", 2), ("handler-error", 3)] {
        let labels = format!("worker=\"probe\",error_type=\"{kind}\"");
        assert_eq!(metric(&metrics, "wabbit_failures_total", &labels), count, "{kind}");
    }
}

/// A body above the host's limit never gets to the handler.
#[tokio::test]
async fn a_delivery_that_is_too_large_is_dead_lettered_unseen() {
    let worker = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n";
    let stage = stage("large", "[limits]\nbody = \"4KiB\"\n", &[("probe", worker)]).await;
    for length in [4096, 4097] {
        stage.send(&length.to_string(), &"x".repeat(length)).await;
    }
    let letter = stage.take("work.dead", 1).await.remove(0);
    assert_eq!(letter.body.len(), 4097);
    assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("body-too-large"));
    stage.wait_for_settled("probe", "acked", 1).await;
    assert_eq!(stage.metric("wabbit_handling_seconds_count", "worker=\"probe\"").await, 1);
}

#[tokio::test]
async fn publications_leave_in_their_order() {
    let stage = stage("in-order", "", &[("probe", WORKER)]).await;
    let publications: Vec<Value> = (0..500).map(|n| json!({"to": "/@out", "body": n.to_string()})).collect();
    stage.send("1", &json!({"do": "publish", "publications": publications}).to_string()).await;
    let bodies: Vec<String> = stage.take("out", 500).await.iter().map(|message| message.text().to_owned()).collect();
    assert_eq!(bodies, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    stage.wait_for_settled("probe", "acked", 1).await;
}

#[tokio::test]
async fn replies_go_to_whoever_asked() {
    let stage = stage("replies", "", &[("probe", WORKER)]).await;
    let (peer, work) = (&stage.peer, stage.named("@work"));
    let command = br#"{"do":"reply","body":"pong"}"#;

    let answers = peer
        .queue("", lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() }, FieldTable::default())
        .await;
    let asking = persistent().with_reply_to(answers.as_str().into()).with_correlation_id("c-1".into());
    peer.publish("", &work, command, asking).await;
    let answer = peer.take(&answers, DEADLINE).await;
    assert_eq!((answer.text(), answer.properties.correlation_id().as_ref().unwrap().as_str()), ("pong", "c-1"));

    // The broker's shortcut without a queue; asked and answered on one channel.
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let shortcut = "amq.rabbitmq.reply-to";
    let mut direct =
        peer.channel().basic_consume(shortcut.into(), "".into(), options, FieldTable::default()).await.unwrap();
    peer.publish("", &work, command, persistent().with_reply_to(shortcut.into()).with_correlation_id("c-2".into()))
        .await;
    let answer = tokio::time::timeout(DEADLINE, direct.next()).await.expect("a direct reply").unwrap().unwrap();
    assert_eq!(
        (answer.data.as_slice(), answer.properties.correlation_id().as_ref().unwrap().as_str()),
        (&b"pong"[..], "c-2")
    );
    stage.wait_for_settled("probe", "acked", 2).await;
    assert_eq!(stage.metric("wabbit_replies_lost_total", "worker=\"probe\"").await, 0);

    // Whoever asked has gone away, which is no fault of the message.
    peer.publish("", &work, command, persistent().with_reply_to("gone-away".into())).await;
    stage.wait_for_settled("probe", "acked", 3).await;
    assert_eq!(stage.metric("wabbit_replies_lost_total", "worker=\"probe\"").await, 1);
    // Nobody asked: there is nothing to publish.
    peer.publish("", &work, command, persistent()).await;
    stage.wait_for_settled("probe", "acked", 4).await;
    assert_eq!(stage.metric("wabbit_publications_total", "worker=\"probe\"").await, 3);
    stage.expect_empty(&["work", "work.dead"]).await;
}

#[tokio::test]
async fn what_no_queue_takes_fails_unless_the_manifest_drops_it() {
    let manifest = |queue: &str, grants: &str, unroutable: &str| {
        format!(
            "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@{queue}\"\n[publish]\nunroutable = \"{unroutable}\"\n\
             [failure]\nattempts = 1\n[grant]\npublish = [{grants}]\n"
        )
    };
    let strict = manifest("strict", r#""/@nobody", { to = "/@perhaps", unroutable = "drop" }"#, "fail");
    let lenient = manifest("lenient", r#""/@nobody", { to = "/@surely", unroutable = "fail" }"#, "drop");
    let stage = stage("unroutable", "", &[("strict", &strict), ("lenient", &lenient)]).await;
    let publish = |to: &str| format!(r#"{{"do":"publish","publications":[{{"to":"/@{to}"}}]}}"#);
    for (queue, to) in [("strict", "nobody"), ("strict", "perhaps"), ("lenient", "nobody"), ("lenient", "surely")] {
        let command = stage.named(&publish(to));
        stage.peer.publish("", &stage.named(&format!("@{queue}")), command.as_bytes(), persistent()).await;
    }
    for (worker, to) in [("strict", "nobody"), ("lenient", "surely")] {
        stage.wait_for_settled(worker, "acked", 1).await;
        let letter = stage.take(&format!("{worker}.dead"), 1).await.remove(0);
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("unroutable"));
        let error = letter.text_header("x-wabbit-error").unwrap();
        assert!(error.contains(&stage.named(&format!("@{to}"))), "{error}");
    }
    stage.expect_empty(&["strict", "lenient"]).await;
}

#[tokio::test]
async fn every_delivery_gets_a_fresh_instance() {
    let stage = stage("fresh", "", &[("probe", WORKER)]).await;
    let command = stage.named(r#"{"do":"context","to":"/@out"}"#);
    stage.peer.publish_all("", &stage.named("@work"), (0..100).map(|_| &command), persistent()).await;
    for message in stage.take("out", 100).await {
        let told = message.json();
        assert_eq!((&told["calls"], &told["worker"]), (&json!(1), &json!("probe")));
        assert!((1..=5000).contains(&told["remaining-ms"].as_u64().unwrap()), "{told}");
    }
}

/// Deliveries that end in another order than they came in, with acks, nacks and dead letters among each other: each is
/// settled once, and none is left or handled again.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_settling_loses_and_repeats_nothing() {
    const COUNT: usize = 2_000;
    let stage = stage("settling", "", &[("probe", &format!("{WORKER}[consume]\nconcurrency = 100\n"))]).await;
    let command = |n: usize| {
        let publish = json!({"do": "publish", "publications": [{"to": "/@out", "body": n.to_string()}]});
        let mut sleeping = json!({"do": "sleep", "ms": n * 7919 % 41, "then": publish});
        match n % 10 {
            3 => sleeping["then"] = json!({"do": "dead-letter", "reason": n.to_string()}),
            7 => sleeping = json!([{"do": "sleep", "ms": n % 13, "then": {"do": "requeue"}}, sleeping]),
            _ => {}
        }
        stage.named(&sleeping.to_string())
    };
    stage.peer.publish_all("", &stage.named("@work"), (0..COUNT).map(command), persistent()).await;
    let outputs = stage.take("out", COUNT / 10 * 9).await;
    let letters = stage.take("work.dead", COUNT / 10).await;
    let published = outputs.iter().map(|message| message.text().to_owned());
    let dead = letters.iter().map(|message| message.text_header("x-wabbit-error").unwrap());
    let numbers: BTreeSet<usize> = published.chain(dead).map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, (0..COUNT).collect());
    stage.wait_for_settled("probe", "acked", COUNT as u64 / 10 * 9).await;
    assert_eq!(stage.settled("probe", "requeued").await, COUNT as u64 / 10);
    // What the host still held unsettled would come back when it goes.
    let Stage { mut host, peer, vhost, .. } = stage;
    assert_eq!(host.terminate().await, 0);
    for queue in ["work", "work.dead", "out"] {
        assert_eq!(peer.count(&vhost.unique(queue)).await, 0, "{queue}");
    }
}

/// A worker that runs the probe on `@work`, once for each message, and may publish to `@out` and reply.
pub const WORKER: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[[queue]]\nname = \"@out\"\n\
                          consume = false\n[grant]\npublish = [\"reply\", \"/@out\"]\n[failure]\nattempts = 1\n";

/// A host that is ready, with a peer beside it. `@` in a manifest and in what [`Stage::named`] is given begins a name
/// of a queue or exchange that belongs to this test alone.
pub struct Stage {
    pub host: Host,
    pub peer: Peer,
    pub vhost: Vhost,
    folder: TempDir,
}

/// Sets a stage: `settings` is the text of a `wabbit.toml`, `manifests` are names and texts.
pub async fn stage(test: &str, settings: &str, manifests: &[(&str, &str)]) -> Stage {
    let (vhost, folder, config) = backstage(test, settings, manifests).await;
    curtain(vhost, folder, config).await
}

/// Starts the host that [`backstage`] prepared, and waits until it is ready.
pub async fn curtain(vhost: Vhost, folder: TempDir, config: HostConfig) -> Stage {
    let host = Host::ready(config).await;
    Stage { host, peer: Peer::connect(&vhost.url).await, vhost, folder }
}

/// The same before the host is started, for tests that have something to do before that.
pub async fn backstage(test: &str, settings: &str, manifests: &[(&str, &str)]) -> (Vhost, TempDir, HostConfig) {
    let vhost = Broker::shared().await.vhost(test).await;
    let folder = places::folder("stage");
    let path = folder.path().join("wabbit.toml");
    fs::write(&path, settings).unwrap();
    let mut config = HostConfig::new(&vhost.url)
        .plugin("probe.wasm", &guest("probe"))
        .argument("--config")
        .argument(&path.display().to_string());
    for (name, text) in manifests {
        config = config.manifest(name, &text.replace('@', &vhost.unique("")));
    }
    (vhost, folder, config)
}

impl Stage {
    /// The file with the settings.
    pub fn settings(&self) -> std::path::PathBuf {
        self.folder.path().join("wabbit.toml")
    }

    /// A text with the names of this test.
    pub fn named(&self, text: &str) -> String {
        text.replace('@', &self.vhost.unique(""))
    }

    /// Publishes a message to `@work`, with this `message-id`.
    pub async fn send(&self, message_id: &str, body: &str) {
        self.peer.publish("", &self.named("@work"), self.named(body).as_bytes(), id(message_id)).await;
    }

    /// Takes messages off the queue `@NAME`.
    pub async fn take(&self, queue: &str, count: usize) -> Vec<Message> {
        self.peer.drain(&self.vhost.unique(queue), count, DEADLINE).await
    }

    /// How many deliveries of a worker were settled in that way.
    pub async fn settled(&self, worker: &str, outcome: &str) -> u64 {
        settled(&self.host, worker, outcome).await
    }

    /// Waits until exactly so many deliveries of a worker were settled in that way.
    pub async fn wait_for_settled(&self, worker: &str, outcome: &str, count: u64) {
        wait_until(DEADLINE, format!("{count} deliveries of `{worker}` to be {outcome}"), async || {
            match self.settled(worker, outcome).await {
                now if now == count => Ok(()),
                now => Err(format!("{now} are")),
            }
        })
        .await;
    }

    /// The test fails unless nothing waits in any of the queues `@NAME`.
    pub async fn expect_empty(&self, queues: &[&str]) {
        for queue in queues {
            assert_eq!(self.peer.count(&self.vhost.unique(queue)).await, 0, "messages in `{queue}`");
        }
    }

    /// The value of a metric.
    pub async fn metric(&self, name: &str, labels: &str) -> u64 {
        metric(&self.host.metrics().await, name, labels)
    }
}

/// How many deliveries of a worker were settled in that way.
pub async fn settled(host: &Host, worker: &str, outcome: &str) -> u64 {
    row(host, worker).await["counts"][outcome].as_u64().unwrap_or_else(|| panic!("no count of `{outcome}`"))
}

/// A worker's row of `/workers`. It is there as soon as the worker's plugin is compiled.
pub async fn row(host: &Host, worker: &str) -> Value {
    wait_until(DEADLINE, format!("a worker `{worker}`"), async || {
        let workers = host.get("/workers").await;
        let row = workers.as_array().unwrap().iter().find(|row| row["name"] == worker);
        row.cloned().ok_or_else(|| workers.to_string())
    })
    .await
}

/// The value of a metric in the text of `/metrics`.
pub fn metric(text: &str, name: &str, labels: &str) -> u64 {
    let start = if labels.is_empty() { format!("{name} ") } else { format!("{name}{{{labels}}} ") };
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("no `{start}` in\n{text}")).parse().unwrap()
}

/// Persistent, with that `message-id`.
pub fn id(message_id: impl ToString) -> BasicProperties {
    persistent().with_message_id(message_id.to_string().into())
}

/// Messages by their `message-id`. The test fails where two have the same.
pub fn by_id(messages: Vec<Message>) -> BTreeMap<String, Message> {
    let count = messages.len();
    let id = |message: &Message| message.properties.message_id().as_ref().expect("a message id").to_string();
    let messages: BTreeMap<_, _> = messages.into_iter().map(|message| (id(&message), message)).collect();
    assert_eq!(messages.len(), count, "a message came twice");
    messages
}

/// A compiled guest.
pub fn guest(name: &str) -> std::path::PathBuf {
    places::root().join("target/guests").join(format!("{name}.wasm"))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
