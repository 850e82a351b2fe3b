//! Publications that AMQP cannot carry, that the broker would refuse or that are not granted: each costs its own
//! delivery, and no other.

use std::collections::BTreeSet;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::harness::amqp::{Message, Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, by_id, guest, id, stage};

/// May publish to `@out`, and to exchanges that are there or are not.
const WORKER: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[[queue]]\nname = \"@out\"\n\
                      consume = false\n[grant]\npublish = [\"/@out\", \"@missing\", \"@short-lived\"]\n\
                      [consume]\nconcurrency = 8\n[failure]\nattempts = 1\n";
const SETTINGS: &str = "[limits]\nbody = \"64KiB\"\n";

/// Sends, in one burst, a good publication before and after each of the bad ones; every one of a delivery of its own.
/// The test fails unless each bad one is dead-lettered with its reason and all others are published exactly once.
async fn check(stage: &Stage, cases: &[(&str, Value, &str, &str)]) {
    let good = |body: String| json!({"do": "publish", "publications": [{"to": "/@out", "body": body}]});
    let mut burst = Vec::new();
    for (name, bad, ..) in cases {
        // The bad one stands between two that would be fine by themselves: none of the three is published.
        let bad = json!({"do": "publish", "publications": [{"to": "/@out", "body": "no"}, bad, {"to": "/@out", "body": "no"}]});
        burst.extend([good(format!("before {name}")), bad, good(format!("after {name}"))]);
    }
    let work = stage.named("@work");
    let burst: Vec<String> = burst.iter().map(|command| stage.named(&command.to_string())).collect();
    let publish = |(number, command): (usize, &String)| {
        let name = cases[number / 3].0.to_owned();
        let (peer, work, command) = (&stage.peer, work.clone(), command.clone());
        async move { peer.publish("", &work, command.as_bytes(), id(name)).await }
    };
    futures_util::future::join_all(burst.iter().enumerate().map(publish)).await;

    let letters = by_id(stage.take("work.dead", cases.len()).await);
    for (name, _, reason, error) in cases {
        let letter = letters.get(*name).unwrap_or_else(|| panic!("{name} is not among {:?}", letters.keys()));
        let text = letter.text_header("x-wabbit-error").unwrap();
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some(*reason), "{name}: {text}");
        assert!(text.contains(&stage.named(error)), "{name}: {text}");
    }
    let outputs = stage.take("out", 2 * cases.len()).await;
    let mut outputs: Vec<&str> = outputs.iter().map(Message::text).collect();
    outputs.sort_unstable();
    let mut expected: Vec<_> =
        cases.iter().flat_map(|(name, ..)| [format!("before {name}"), format!("after {name}")]).collect();
    expected.sort_unstable();
    assert_eq!(outputs, expected);
    stage.wait_for_settled("probe", "dead-lettered", cases.len() as u64).await;
    stage.wait_for_settled("probe", "acked", 2 * cases.len() as u64).await;
    stage.expect_empty(&["work", "work.dead", "out"]).await;
    assert_eq!(stage.metric("wabbit_broker_connections_total", "").await, 1, "a connection was lost");
    assert_eq!(stage.settled("probe", "put-back").await, 0, "a channel was lost");
}

#[tokio::test]
async fn a_bad_publication_costs_its_own_delivery_alone() {
    let refused = "publication-refused";
    let with = |properties: Value| json!({"to": "/@out", "properties": properties});
    let long = "x".repeat(300);
    let cases = [
        ("routing key", json!({"to": "/@out", "routing-key-len": 300}), refused, "`routing-key` has 300 bytes"),
        ("headers", json!({"to": "/@out", "headers-len": 200 << 10}), refused, "the limit is 65536"),
        ("many headers", with(many_headers(1001)), "output-limit", "1001 headers, the limit is 1000"),
        ("user", with(json!({"user-id": "nobody"})), refused, "`user-id` is `nobody`"),
        ("missing exchange", json!({"to": "@missing/k"}), refused, "@missing"),
        (
            "other exchange",
            json!({"to": "amq.topic/k"}),
            refused,
            "exchange `amq.topic` with routing key `k` is not granted",
        ),
        ("other queue", json!({"to": "/@work"}), refused, "@work` is not granted"),
        (
            "large body",
            json!({"to": "/@out", "body-len": (64 << 10) + 1}),
            refused,
            "a body of 65537 bytes, the limit is 65536",
        ),
        ("long correlation id", with(json!({"correlation-id": long})), refused, "`correlation-id` has 300 bytes"),
        ("long type", with(json!({"kind": long})), refused, "`type` has 300 bytes"),
        ("long header name", with(json!({"headers": [[long, "void"]]})), refused, "header's name` has 300 bytes"),
        (
            "long nested name",
            with(json!({"headers": [["t", {"json": format!("[{{\"{long}\": 1}}]")}]]})),
            refused,
            "header's name` has 300 bytes",
        ),
        (
            "header twice",
            with(json!({"headers": [["h", {"integer": 1}], ["i", "void"], ["h", {"integer": 2}]]})),
            "malformed-outcome",
            "header `h` stands twice",
        ),
        ("no JSON", with(json!({"headers": [["h", {"json": "{"}]]})), "malformed-outcome", "header `h` is not valid"),
    ];
    check(&stage("bad-publications", SETTINGS, &[("probe", WORKER)]).await, &cases).await;
}

fn many_headers(count: usize) -> Value {
    let headers: Vec<Value> = (0..count).map(|n| json!([format!("h{n}"), "void"])).collect();
    json!({ "headers": headers })
}

/// The broker takes lists in these headers alone, and answers anything else by closing the channel.
#[tokio::test]
async fn copies_that_are_no_list_cost_their_own_delivery_alone() {
    let with = |name: &str, value: Value| json!({"to": "/@out", "properties": {"headers": [[name, value]]}});
    let cases = [
        ("CC", with("CC", json!({"text": "@out"})), "publication-refused", "`CC`"),
        ("BCC", with("BCC", json!("void")), "publication-refused", "`BCC`"),
        ("numbers", with("CC", json!({"json": "[1]"})), "publication-refused", "`CC`"),
    ];
    check(&stage("no-list", SETTINGS, &[("probe", WORKER)]).await, &cases).await;
}

/// The broker also routes by the headers `CC` and `BCC`, so that a grant has to hold for them, too.
#[tokio::test]
async fn copies_go_nowhere_that_is_not_granted() {
    let stage = stage("copies", SETTINGS, &[("probe", WORKER)]).await;
    stage.peer.durable_queue(&stage.named("@secret")).await;
    for name in ["CC", "BCC"] {
        let properties = json!({"headers": [[name, {"json": "[\"@secret\"]"}]]});
        let command = json!({"do": "publish", "publications": [{"to": "/@out", "properties": properties}]});
        stage.send(name, &command.to_string()).await;
    }
    wait_until(DEADLINE, "both to be settled", async || {
        match stage.settled("probe", "acked").await + stage.settled("probe", "dead-lettered").await {
            2 => Ok(()),
            n => Err(format!("{n} are")),
        }
    })
    .await;
    stage.expect_empty(&["secret"]).await;
}

/// An exchange that goes away after it was published to: what is sent to it from then on ends as a dead letter that
/// names it, and the others are published.
#[tokio::test]
async fn an_exchange_that_goes_away_is_noticed() {
    let stage = stage("going-away", SETTINGS, &[("probe", WORKER)]).await;
    let exchange = stage.named("@short-lived");
    stage.peer.exchange(&exchange, ExchangeKind::Fanout, true).await;
    let listening = stage.peer.listen(&exchange, "").await;
    let publish = |to: &str| format!(r#"{{"do":"publish","publications":[{{"to":"{to}","body":"x"}}]}}"#);
    stage.send("1", &publish("@short-lived/k")).await;
    stage.peer.take(&listening, DEADLINE).await;
    stage.peer.channel().exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await.unwrap();
    for number in 2..=10 {
        let to = if number % 3 == 0 { "@short-lived/k" } else { "/@out" };
        stage.send(&number.to_string(), &publish(to)).await;
    }
    let letters = by_id(stage.take("work.dead", 3).await);
    for number in ["3", "6", "9"] {
        let error = letters[number].text_header("x-wabbit-error").unwrap();
        assert!(error.contains(&exchange), "{error}");
    }
    // When the channel closed, the fate of others on it was unknown: they may be published twice, and none is missing.
    stage.wait_for_settled("probe", "acked", 7).await;
    assert!(stage.peer.count(&stage.named("@out")).await >= 6);
    stage.expect_empty(&["work", "work.dead"]).await;
}

/// What only the broker can know, and answers by closing the channel: an internal exchange, and one that the host's user
/// may not write to. The delivery is to blame, however often it is tried, and the others go on.
#[tokio::test]
async fn what_the_broker_refuses_ends_as_a_dead_letter() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("refused").await;
    let user = format!("clerk-{}", vhost.name);
    broker.ctl(&["add_user", &user, "clerk"]).await;
    broker.ctl(&["set_permissions", "-p", &vhost.name, &user, ".*", "^(amq\\.default|internal)$", ".*"]).await;
    let peer = Peer::connect(&vhost.url).await;
    peer.exchange("closed", ExchangeKind::Fanout, true).await;
    let options = ExchangeDeclareOptions { internal: true, durable: true, ..ExchangeDeclareOptions::default() };
    let (channel, none) = (peer.channel(), FieldTable::default());
    channel.exchange_declare("internal".into(), ExchangeKind::Fanout, options, none).await.unwrap();
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[[queue]]\nname = \"out\"\n\
                    consume = false\n[grant]\npublish = [\"/out\", \"closed\", \"internal\"]\n\
                    [failure]\nattempts = 3\nbackoff = { first = \"100ms\" }\n";
    let url = vhost.url.replace("guest:guest", &format!("{user}:clerk"));
    let config = HostConfig::new(&url).plugin("probe.wasm", &guest("probe")).manifest("probe", manifest);
    let host = Host::ready(config).await;
    for (number, to) in ["/out", "closed/k", "/out", "internal/k", "/out"].iter().enumerate() {
        let command = json!({"do": "publish", "publications": [{"to": to, "body": number.to_string()}]});
        peer.publish("", "work", command.to_string().as_bytes(), id(number)).await;
    }
    let letters = by_id(peer.drain("work.dead", 2, DEADLINE).await);
    for (number, exchange) in [("1", "closed"), ("3", "internal")] {
        let error = letters[number].text_header("x-wabbit-error").unwrap();
        assert!(error.contains(exchange) && error.contains("ACCESS_REFUSED"), "{error}");
        // It may not write to the ladder either: what fails is tried again in place.
        assert_eq!(letters[number].header("x-wabbit-attempts"), Some(&AMQPValue::LongLongInt(3)));
    }
    // The fate of others on a channel that closes is unknown: they may be published twice, and none is missing.
    wait_until(DEADLINE, "the neighbours to be acked", async || match host.get("/workers").await[0]["counts"]["acked"]
        .as_u64()
    {
        Some(3) => Ok(()),
        other => Err(format!("{other:?} so far")),
    })
    .await;
    let out = peer.count("out").await;
    let outputs = peer.drain("out", usize::try_from(out).unwrap(), DEADLINE).await;
    let outputs: BTreeSet<&str> = outputs.iter().map(Message::text).collect();
    assert_eq!(outputs, BTreeSet::from(["0", "2", "4"]));
    drop(host);
    broker.ctl(&["delete_user", &user]).await;
}

/// At the limits, and with what is the host's own in it.
#[tokio::test]
async fn what_is_just_within_the_limits_is_published() {
    let stage = stage("within-limits", SETTINGS, &[("probe", WORKER)]).await;
    let (_, after) = stage.vhost.url.split_once("://").unwrap();
    let user = after.split_once(':').unwrap().0;
    let publications = json!([
        {"to": "/@out", "body-len": 64 << 10},
        {"to": "/@out", "headers-len": 60 << 10},
        {"to": "/@out", "properties": {"user-id": user, "correlation-id": "c".repeat(255)}},
        {"to": "/@out", "properties": {"headers": [
            ["x-wabbit-error", {"text": "forged"}], ["x-wabbit-publication", {"integer": 99}], ["x-wabbit-", "void"],
            ["mine", {"text": "stays"}], ["X-Wabbit-Upper", {"boolean": true}],
        ]}},
    ]);
    stage.send("1", &json!({"do": "publish", "publications": publications}).to_string()).await;
    let outputs = stage.take("out", 4).await;
    assert_eq!(outputs[0].body.len(), 64 << 10);
    assert_eq!(outputs[1].text_header("filler").unwrap().len(), 60 << 10);
    assert_eq!(outputs[2].properties.user_id().as_ref().unwrap().as_str(), user);
    // What looks like the host's own is not the handler's to send; the host puts an id of its own in.
    let last = outputs[3].properties.headers().as_ref().unwrap().inner();
    let names: Vec<&str> = last.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["mine", "x-wabbit-publication"]);
    assert_ne!(last.get("x-wabbit-publication"), Some(&AMQPValue::LongInt(99)));
    stage.wait_for_settled("probe", "acked", 1).await;
    stage.expect_empty(&["work.dead"]).await;
}

/// An exchange that was not there for one try is looked for again by the next, though that is soon.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_appears_is_used_by_the_next_try() {
    let manifest = WORKER
        .replace("attempts = 1", "attempts = 2\nbackoff = { first = \"400ms\" }")
        .replace("@missing", "@late")
        .replace("concurrency = 8", "order = \"queue\"");
    let stage = stage("late-exchange", "", &[("probe", &manifest)]).await;
    stage.send("early", &json!({"do": "publish", "publications": [{"to": stage.named("@late/k")}]}).to_string()).await;
    wait_until(DEADLINE, "the first try", async || {
        match stage.metric("wabbit_failures_total", "worker=\"probe\",error_type=\"publication-refused\"").await {
            0 => Err("none failed yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    stage.peer.exchange(&stage.named("@late"), ExchangeKind::Fanout, false).await;
    stage.peer.bind(&stage.named("@out"), &stage.named("@late"), "").await;
    assert_eq!(stage.take("out", 1).await.len(), 1);
    stage.wait_for_settled("probe", "acked", 1).await;
    assert_eq!(stage.settled("probe", "dead-lettered").await, 0);
}

/// The channels of a vhost that are in confirm mode, by their process at the broker.
async fn publishing_channels(broker: &Broker, vhost: &str) -> BTreeSet<String> {
    let rows = broker.ctl(&["--silent", "list_channels", "vhost", "confirm", "pid"]).await;
    let rows = rows.lines().filter_map(|row| row.strip_prefix(&format!("{vhost}\ttrue\t")));
    rows.map(str::to_owned).collect()
}

/// A channel may be nacked for ever, where another one would not be.
#[tokio::test]
async fn what_comes_after_a_nack_takes_another_channel() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("nacks").await;
    let peer = Peer::connect(&vhost.url).await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[[queue]]\nname = \"out\"\nconsume = false\n\
                    [[queue]]\nname = \"full\"\nconsume = false\n\
                    arguments = { x-max-length = 1, x-overflow = \"reject-publish\" }\n\
                    [grant]\npublish = [\"/out\", \"/full\"]\n[failure]\nattempts = 1\n";
    let config = HostConfig::new(&vhost.url).plugin("probe.wasm", &guest("probe")).manifest("probe", manifest);
    let _host = Host::ready(config).await;
    peer.publish("", "full", b"fills it", persistent()).await;
    let before = publishing_channels(broker, &vhost.name).await;
    assert_eq!(before.len(), 2, "the peer's and the worker's: {before:?}");

    // What is sent while the channel changes waits for the new one, and is neither lost nor sent twice.
    const COUNT: usize = 300;
    let commands = (0..COUNT).map(|number| {
        let to = if number % 3 == 0 { "/full" } else { "/out" };
        json!({"do": "publish", "publications": [{"to": to, "body": number.to_string()}]}).to_string()
    });
    peer.publish_all("", "work", commands, persistent()).await;
    for letter in peer.drain("work.dead", COUNT / 3, DEADLINE).await {
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("broker-nack"));
    }
    let outputs = peer.drain("out", COUNT - COUNT / 3, DEADLINE).await;
    let outputs: BTreeSet<usize> = outputs.iter().map(|output| output.text().parse().unwrap()).collect();
    assert_eq!(outputs, (0..COUNT).filter(|number| number % 3 != 0).collect());

    wait_until(DEADLINE, "the worker to have another channel, and no third", async || {
        let after = publishing_channels(broker, &vhost.name).await;
        let kept = before.intersection(&after).count();
        if (after.len(), kept) == (2, 1) { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
    })
    .await;
    for queue in ["work", "work.dead", "out"] {
        assert_eq!(peer.try_count(queue).await, Some(0), "{queue}");
    }
}
