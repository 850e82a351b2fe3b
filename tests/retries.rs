//! Another try: after how long, how often, in which order, and what is left of the message by then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::options::QueueDeclareOptions;
use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::harness::amqp::{Message, Peer, persistent, table};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, by_id, guest, id, settled, stage};

/// Runs the probe on `@work`, may publish to `@out`, and tries three times with short pauses.
const WORKER: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@out\"\nconsume = false\n[grant]\npublish = [\"/@out\"]\n\
                      [failure]\nattempts = 3\nbackoff = { first = \"200ms\", factor = 1.5 }\n[[queue]]\nname = \"@work\"\n";

/// Describes the delivery on each try, and then fails.
const FAIL: &str = r#"{"do":"error","text":"the shop is closed"}"#;

#[tokio::test]
async fn a_failure_is_tried_again_and_then_dead_lettered() {
    for more in ["", "quorum = true\n", "durable = false\n"] {
        let stage = stage("attempts", "", &[("probe", &format!("{WORKER}{more}"))]).await;
        stage.peer.exchange(&stage.named("@orders"), ExchangeKind::Direct, false).await;
        stage.peer.bind(&stage.named("@work"), &stage.named("@orders"), "order.new").await;
        stage.peer.publish(&stage.named("@orders"), "order.new", FAIL.as_bytes(), id("m-1")).await;
        let letter = stage.take("work.dead", 1).await.remove(0);
        assert_eq!(letter.header("x-wabbit-attempts"), Some(&AMQPValue::LongLongInt(3)));
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("handler-error"));
        assert_eq!(letter.text_header("x-wabbit-exchange"), Some(stage.named("@orders")));
        assert_eq!(letter.text_header("x-wabbit-routing-key").as_deref(), Some("order.new"));
        assert_eq!(letter.header("x-wabbit-x-death"), None, "the wait leaves no record");
        assert_eq!(letter.properties.message_id().as_ref().unwrap().as_str(), "m-1");
        stage.wait_for_settled("probe", "dead-lettered", 1).await;
        assert_eq!(stage.settled("probe", "retried").await, 2);
        let failures = stage.metric("wabbit_failures_total", "worker=\"probe\",error_type=\"handler-error\"").await;
        assert_eq!(failures, 3);
        stage.expect_empty(&["work"]).await;
    }
}

/// Each try sees the message as it was, with the number of the try; publications leave again each time.
#[tokio::test]
async fn every_try_sees_the_message_as_it_was() {
    let stage = stage("as-it-was", "", &[("probe", WORKER)]).await;
    stage.peer.exchange(&stage.named("@orders"), ExchangeKind::Direct, false).await;
    stage.peer.bind(&stage.named("@work"), &stage.named("@orders"), "order.new").await;
    let headers = table(&[
        ("narrow", AMQPValue::ShortShortInt(-1)),
        ("x-death", AMQPValue::LongString("forged".into())),
        ("x-wabbit-attempts", AMQPValue::LongLongInt(2)),
        ("x-wabbit-queue", AMQPValue::LongString(stage.named("@work").into())),
    ]);
    let properties = id("m-1").with_headers(headers).with_expiration("600000".into()).with_priority(3);
    let command = stage.named(r#"{"do":"describe","to":"/@out","then":{"do":"retry","ms":100}}"#);
    stage.peer.publish(&stage.named("@orders"), "order.new", command.as_bytes(), properties).await;
    let seen: Vec<Value> = stage.take("out", 3).await.iter().map(Message::json).collect();
    let letter = stage.take("work.dead", 1).await.remove(0);
    let without = |seen: &Value| {
        let mut seen = seen.clone();
        for key in ["attempt", "redelivered"] {
            seen.as_object_mut().unwrap().remove(key);
        }
        // A table has no order on the wire.
        if let Some(headers) = seen["properties"]["headers"].as_array_mut() {
            headers.sort_by_key(Value::to_string);
        }
        seen
    };
    for (number, try_of) in seen.iter().enumerate() {
        assert_eq!(try_of["attempt"], json!(number + 1));
        assert_eq!(try_of["exchange"], json!(stage.named("@orders")));
        assert_eq!(try_of["routing-key"], json!("order.new"));
        assert_eq!(without(try_of), without(&seen[0]));
    }
    assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("retry-asked"));
    assert_eq!(letter.header("narrow"), Some(&AMQPValue::ShortShortInt(-1)));
    assert_eq!(letter.text_header("x-wabbit-x-death").as_deref(), Some("forged"));
    assert_eq!(letter.text_header("x-wabbit-expiration").as_deref(), Some("600000"));
    assert_eq!(letter.properties.priority(), &Some(3));
}

/// A delay holds up no shorter one, and comes within its tolerance: at most 15 % early; late by as much as a busy
/// machine makes it. Messages whose queue is gone meanwhile stop nobody: they are kept apart.
#[tokio::test(flavor = "multi_thread")]
async fn delays_are_kept_side_by_side() {
    const COUNT: usize = 300;
    let manifest = WORKER.replace("attempts = 3", "attempts = 2");
    let gone = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@gone\"\n";
    let stage = stage("delays", "", &[("probe", &manifest), ("gone", gone)]).await;
    for _ in 0..10 {
        stage.peer.publish("", &stage.named("@gone"), br#"{"do":"retry","ms":1000}"#, persistent()).await;
    }
    stage.wait_for_settled("gone", "retried", 10).await;
    stage.peer.delete_queue(&stage.named("@gone")).await;
    let delays = [100_u64, 1_000, 4_000];
    let sent = Instant::now();
    for n in 0..COUNT {
        let ms = delays[n % delays.len()];
        let again = json!([{"do": "retry", "ms": ms}, {"do": "publish", "publications": [{"to": "/@out", "body": n.to_string()}]}]);
        stage.send(&n.to_string(), &again.to_string()).await;
    }
    stage.wait_for_settled("probe", "retried", COUNT as u64).await;
    let waited = sent.elapsed();
    let mut came: BTreeMap<usize, Duration> = BTreeMap::new();
    let mut outputs = Vec::new();
    while outputs.len() < COUNT {
        let message = stage.peer.take(&stage.named("@out"), DEADLINE).await;
        came.insert(message.text().parse().unwrap(), sent.elapsed());
        outputs.push(message.text().parse::<usize>().unwrap());
    }
    assert_eq!(came.len(), COUNT, "each once");
    for (n, after) in &came {
        let delay = Duration::from_millis(delays[n % delays.len()]);
        assert!(*after >= delay.mul_f64(0.85), "{n} came after {after:?} of {delay:?}");
    }
    // None of the short ones came behind a long one, which were sent between them.
    let last_short = outputs.iter().rposition(|n| n % delays.len() == 0).unwrap();
    let first_long = outputs.iter().position(|n| n % delays.len() == 2).unwrap();
    if waited < Duration::from_secs(3) {
        assert!(last_short < first_long, "{outputs:?}");
    }
    let lost = stage.peer.drain("wabbit.lost", 10, DEADLINE).await;
    assert!(lost.iter().any(|message| message.routing_key == stage.named("@gone")), "they are kept");
}

/// What waits survives both ends: the broker is killed and started again, and so is the host.
#[tokio::test]
async fn a_wait_survives_a_restart_of_both() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("restart").await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"out\"\nconsume = false\n[grant]\npublish = [\"/out\"]\n\
                    [[queue]]\nname = \"work\"\n";
    let config = HostConfig::new(&vhost.url).plugin("probe.wasm", &guest("probe")).manifest("probe", manifest);
    let mut host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    let command = br#"[{"do":"retry","ms":6000},{"do":"retry","ms":100},{"do":"describe","to":"/out"}]"#;
    for _ in 0..20 {
        peer.publish("", "work", command, persistent()).await;
    }
    wait_until(DEADLINE, "all to wait", async || match crate::outcomes::settled(&host, "probe", "retried").await {
        20 => Ok(()),
        n => Err(format!("{n} do")),
    })
    .await;
    host.terminate().await;
    drop(peer);
    broker.flush().await;
    broker.kill();
    broker.start().await;
    host.start_again();
    host.wait_until_ready().await;
    let peer = Peer::connect(&vhost.url).await;
    let outputs = peer.drain("out", 20, DEADLINE).await;
    assert!(outputs.iter().all(|message| message.json()["attempt"] == 3));
}

/// A handler that never has enough turns slowly, whatever it answers, and not for ever.
#[tokio::test]
async fn asking_again_is_paced_and_counted() {
    let stage = stage("pace", "", &[("probe", WORKER)]).await;
    let start = Instant::now();
    for settlement in ["retry", "requeue"] {
        let again = json!({"do": "publish", "publications": [{"to": "/@out"}], "then": {"do": settlement}});
        stage.send(settlement, &again.to_string()).await;
    }
    let letters = stage.take("work.dead", 2).await;
    assert!(letters.iter().all(|letter| letter.text_header("x-wabbit-reason").as_deref() == Some("retry-asked")));
    assert!(start.elapsed() >= Duration::from_millis(400), "three tries after {:?}", start.elapsed());
    // Three of the first; of the second twice as many, for the first requeue of each try has no pause and does not count.
    stage.take("out", 9).await;
    stage.expect_empty(&["work", "out"]).await;
}

/// A queue that may be gone when a copy comes back keeps its deliveries until they are done: there is no ladder.
#[tokio::test]
async fn temporary_queues_try_again_in_place() {
    let vhost = Broker::ours().await.vhost("temporary").await;
    let worker = WORKER
        .replace('@', "")
        .replace("name = \"work\"\n", "name = \"\"\nbind = [{ exchange = \"amq.direct\", routing-key = \"k\" }]\n");
    let config = HostConfig::new(&vhost.url).plugin("probe.wasm", &guest("probe")).manifest("probe", &worker);
    let host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    for command in
        [r#"{"do":"describe","to":"/out","then":{"do":"error"}}"#, r#"[{"do":"error"},{"do":"describe","to":"/out"}]"#]
    {
        peer.publish("amq.direct", "k", command.as_bytes(), persistent()).await;
    }
    let seen = peer.take("out", DEADLINE).await.json();
    assert_eq!(seen["attempt"], json!(2));
    let letter = peer.take("probe.dead", DEADLINE).await;
    assert_eq!(letter.header("x-wabbit-attempts"), Some(&AMQPValue::LongLongInt(3)));
    assert_eq!(settled(&host, "probe", "retried").await, 3);
    let ladder = rungs().into_iter().chain(["wabbit.lost".to_owned()]);
    for queue in ladder {
        assert_eq!(peer.try_count(&queue).await, None, "{queue} is there");
    }
}

/// The bodies of what was published, in their order.
async fn bodies(stage: &Stage, count: usize) -> Vec<String> {
    stage.take("out", count).await.iter().map(|message| message.text().to_owned()).collect()
}

/// Fails on its first try where `fails`, then takes its time, and publishes its name.
fn step(name: &str, fails: bool, ms: u64) -> String {
    let publish = json!({"do": "publish", "publications": [{"to": "/@out", "body": name}]});
    let then = json!({"do": "sleep", "ms": ms, "then": publish});
    if fails { json!([{"do": "error"}, then]).to_string() } else { then.to_string() }
}

#[tokio::test]
async fn an_ordered_queue_is_handled_one_by_one() {
    let worker = format!("{WORKER}[consume]\norder = \"queue\"\n");
    let stage = stage("one-by-one", "", &[("probe", &worker)]).await;
    for n in 0..12_u64 {
        let fails = n % 4 == 1;
        stage.send(&n.to_string(), &step(&n.to_string(), fails, (12 - n) * 5)).await;
    }
    assert_eq!(bodies(&stage, 12).await, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
    stage.wait_for_settled("probe", "acked", 12).await;
    assert_eq!(stage.settled("probe", "retried").await, 3);
    stage.expect_empty(&["work", "work.dead"]).await;
}

/// The order holds within a key; keys run side by side, so that one that waits for its next try stops no other.
#[tokio::test]
async fn keys_keep_their_order_and_run_side_by_side() {
    let worker = format!(
        "{}[consume]\norder = {{ key = \"header:customer\" }}\n",
        WORKER.replace("first = \"200ms\"", "first = \"2s\"")
    );
    let stage = stage("keys", "", &[("probe", &worker)]).await;
    for n in 0..30_u64 {
        let customer = ["ada", "bob", "cy"][(n % 3) as usize];
        let headers = table(&[("customer", AMQPValue::LongString(customer.into()))]);
        let command = stage.named(&step(&format!("{customer} {n}"), n == 0, (30 - n) * 2));
        let properties = id(n).with_headers(headers);
        stage.peer.publish("", &stage.named("@work"), command.as_bytes(), properties).await;
    }
    let bodies = bodies(&stage, 30).await;
    let mut by_key: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for body in &bodies {
        let (customer, n) = body.split_once(' ').unwrap();
        by_key.entry(customer).or_default().push(n.parse().unwrap());
    }
    for (customer, numbers) in &by_key {
        assert!(numbers.is_sorted() && numbers.len() == 10, "{customer}: {numbers:?}");
    }
    let first_of_ada = bodies.iter().position(|body| body.starts_with("ada")).unwrap();
    assert_eq!(first_of_ada, 20, "the others went on meanwhile: {bodies:?}");
    stage.wait_for_settled("probe", "acked", 30).await;
}

/// The ladder is made as it is described, on first use; what is there already is taken as it is.
#[tokio::test]
async fn the_ladder_is_taken_as_it_is() {
    let broker = Broker::private().await;
    let vhost = broker.vhost("ladder").await;
    let peer = Peer::connect(&vhost.url).await;
    // Somebody made the rung of 100 ms in another way: a classic queue that waits shorter.
    let arguments = table(&[
        ("x-message-ttl", AMQPValue::LongInt(50)),
        ("x-dead-letter-exchange", AMQPValue::LongString("wabbit.retry".into())),
    ]);
    peer.queue("wabbit.wait.100", QueueDeclareOptions { durable: true, ..Default::default() }, arguments).await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[failure]\nattempts = 2\nbackoff = { first = \"100ms\" }\n";
    let config = HostConfig::new(&vhost.url).plugin("probe.wasm", &guest("probe")).manifest("probe", manifest);
    let host = Host::ready(config).await;
    peer.publish("", "work", FAIL.as_bytes(), persistent()).await;
    let letter = peer.take("work.dead", DEADLINE).await;
    assert_eq!(letter.header("x-wabbit-attempts"), Some(&AMQPValue::LongLongInt(2)));
    assert_eq!(peer.try_count("wabbit.lost").await, Some(0));
    // The try came back by the ladder, which a declaration of ours would have been refused for.
    let log = host.logs().join("\n");
    assert!(!log.contains("retries hold on") && !log.contains("not taken"), "{log}");
}

/// Where the manifest leaves dead letters to the broker, they take its way, after the same tries.
#[tokio::test]
async fn the_broker_can_dead_letter_by_itself() {
    let worker = "plugin = \"probe.wasm\"\n[[exchange]]\nname = \"@dlx\"\ntype = \"fanout\"\n[[queue]]\nname = \"@theirs\"\n\
                  consume = false\nbind = [{ exchange = \"@dlx\" }]\n[[queue]]\nname = \"@work\"\n\
                  arguments = { x-dead-letter-exchange = \"@dlx\" }\n\
                  [failure]\nattempts = 2\nbackoff = { first = \"100ms\" }\ndead-letter = \"broker\"\n";
    let stage = stage("theirs", "", &[("probe", worker)]).await;
    stage.send("1", FAIL).await;
    stage.send("2", r#"{"do":"dead-letter","reason":"no"}"#).await;
    let letters = by_id(stage.take("theirs", 2).await);
    assert_eq!(letters["1"].text(), FAIL);
    assert!(letters.values().all(|letter| letter.header("x-death").is_some()));
    assert!(letters.values().all(|letter| letter.header("x-wabbit-reason").is_none()));
    stage.wait_for_settled("probe", "dead-lettered", 2).await;
    assert_eq!(stage.settled("probe", "retried").await, 1);
    assert_eq!(stage.peer.try_count(&stage.named("@work.dead")).await, None);
    stage.expect_empty(&["work"]).await;
}

/// Where the broker refuses the ladder, here because somebody has a queue of that name to itself, messages are tried again
/// all the same.
#[tokio::test]
async fn without_the_ladder_tries_are_made_in_place() {
    let vhost = Broker::ours().await.vhost("no-ladder").await;
    let peer = Peer::connect(&vhost.url).await;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    peer.queue("wabbit.lost", exclusive, table(&[])).await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[failure]\nattempts = 3\n\
                    backoff = { first = \"100ms\" }\n";
    let config = HostConfig::new(&vhost.url).plugin("probe.wasm", &guest("probe")).manifest("probe", manifest);
    let host = Host::ready(config).await;
    host.wait_for_log("retries hold on to their deliveries").await;
    peer.publish("", "work", FAIL.as_bytes(), persistent()).await;
    let letter = peer.take("work.dead", DEADLINE).await;
    assert_eq!(letter.header("x-wabbit-attempts"), Some(&AMQPValue::LongLongInt(3)));
    assert_eq!(peer.count("work").await, 0);
}

/// The names of all queues of the ladder, whether they are there or not: 67 delays from 100 ms to 7 days.
pub fn rungs() -> Vec<String> {
    let millis = |step: i32| (100.0 * (7.0 * 24.0 * 36_000.0_f64).powf(f64::from(step) / 66.0)).round();
    (0..67).map(|step| format!("wabbit.wait.{}", millis(step))).collect()
}

/// A delivery whose publications are confirmed waits for its new rung: no confirm is overdue meanwhile.
#[tokio::test]
async fn waiting_for_a_new_rung_is_not_waiting_for_a_confirm() {
    let vhost = Broker::ours().await.vhost("rest").await;
    let folder = crate::harness::places::folder("stage");
    let path = folder.path().join("wabbit.toml");
    std::fs::write(&path, "[amqp]\npublish-timeout = \"100ms\"\n").unwrap();
    let config = HostConfig::new(&vhost.url)
        .plugin("probe.wasm", &guest("probe"))
        .manifest("probe", &WORKER.replace('@', ""))
        .argument("--config")
        .argument(&path.display().to_string());
    let mut host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    let publish = |body: &str, then: &str| json!({"do": "publish", "publications": [{"to": "/out", "body": body}], "then": {"do": then}});
    for n in 0..5 {
        let mut first = publish(&format!("first {n}"), "retry");
        first["then"]["ms"] = json!(700 + 400 * n);
        let command = json!([first, publish(&format!("second {n}"), "ack")]);
        peer.publish("", "work", command.to_string().as_bytes(), persistent()).await;
    }
    wait_until(DEADLINE, "all to be done", async || match settled(&host, "probe", "acked").await {
        5.. => Ok(()),
        n => Err(format!("{n} are")),
    })
    .await;
    host.terminate().await;
    let outputs = peer.drain("out", 10, DEADLINE).await;
    assert_eq!(outputs.len(), 10);
    assert_eq!(peer.count("out").await, 0, "something was published twice");
    assert!(!host.logs().join("\n").contains("overdue"));
}
