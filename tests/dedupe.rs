//! A message that is done is not handled a second time.

use std::time::Duration;

use lapin::types::AMQPValue;
use serde_json::json;

use crate::faults::frames::{Direction, Kind};
use crate::faults::proxy::{Action, Armed, At, Proxy};
use crate::harness::amqp::{Peer, persistent, table};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, guest, id, row, stage};

/// Runs the probe on `@NAME`, and may publish to `@out`.
fn worker(name: &str, dedupe: &str) -> String {
    format!(
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@{name}\"\n[[queue]]\nname = \"@out\"\nconsume = false\n\
         [grant]\npublish = [\"/@out\"]\n[failure]\nattempts = 2\nbackoff = {{ first = \"200ms\" }}\n\
         [consume]\ndedupe = {dedupe}\n"
    )
}

const ECHO: &str = r#"{"do":"echo","to":"/@out"}"#;
/// Longer than a mark takes to the disk.
const KEPT: Duration = Duration::from_secs(1);

async fn counts(stage: &Stage, worker: &str, acked: u64, skipped: u64) {
    stage.wait_for_settled(worker, "acked", acked).await;
    stage.wait_for_settled(worker, "skipped", skipped).await;
}

#[tokio::test]
async fn what_is_done_is_skipped() {
    for dedupe in ["\"message-id\"", "{ by = \"message-id\", memory = true }"] {
        let stage = stage("skipped", "", &[("probe", &worker("work", dedupe))]).await;
        for message_id in ["m-1", "m-2", "m-1", "m-1"] {
            stage.send(message_id, ECHO).await;
        }
        // What has no id is handled as ever.
        for _ in 0..2 {
            let body = stage.named(ECHO);
            stage.peer.publish("", &stage.named("@work"), body.as_bytes(), persistent()).await;
        }
        counts(&stage, "probe", 4, 2).await;
        stage.take("out", 4).await;
        stage.expect_empty(&["work", "out"]).await;
        assert_eq!(row(&stage.host, "probe").await["counts"]["skipped"], json!(2));
        assert_eq!(stage.metric("wabbit_deliveries_total", "worker=\"probe\",outcome=\"skipped\"").await, 2);
        assert_eq!(stage.metric("wabbit_handling_seconds_count", "worker=\"probe\"").await, 4);
    }
}

#[tokio::test]
async fn what_is_done_is_known_to_a_worker_that_is_consumed_anew() {
    let dedupe = "{ by = \"message-id\", memory = true }";
    let stage = stage("skipped-anew", "", &[("probe", &worker("work", dedupe))]).await;
    stage.send("m-1", ECHO).await;
    counts(&stage, "probe", 1, 0).await;
    let manifest = stage.host.manifests().join("probe.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}prefetch = 7\n")).unwrap();
    crate::reload::wait_for(&stage.host, "probe", "reconsumed").await;
    stage.send("m-1", ECHO).await;
    stage.send("m-2", ECHO).await;
    counts(&stage, "probe", 2, 1).await;
}

#[tokio::test]
async fn a_header_tells_messages_apart() {
    let stage = stage("by-header", "", &[("probe", &worker("work", "\"header:order\""))]).await;
    let values = [
        AMQPValue::LongString("7".into()),
        AMQPValue::LongLongInt(7),
        AMQPValue::LongString("7".into()),
        AMQPValue::LongLongInt(7),
        AMQPValue::LongString("8".into()),
    ];
    for value in values {
        // Another id each time, which says nothing here.
        let properties = id(fastrand::u64(..)).with_headers(table(&[("order", value)]));
        stage.peer.publish("", &stage.named("@work"), stage.named(ECHO).as_bytes(), properties).await;
    }
    counts(&stage, "probe", 3, 2).await;
    stage.take("out", 3).await;
    stage.expect_empty(&["work", "out"]).await;
}

/// Neither a retry's copy nor a dead letter says that a message is done.
#[tokio::test]
async fn what_failed_is_not_done() {
    let stage = stage("not-done", "", &[("probe", &worker("work", "\"message-id\""))]).await;
    stage.send("m-1", &format!(r#"[{{"do":"error","text":"not yet"}},{ECHO}]"#)).await;
    stage.take("out", 1).await;
    counts(&stage, "probe", 1, 0).await;
    assert_eq!(stage.settled("probe", "retried").await, 1);
    stage.send("m-1", ECHO).await;
    counts(&stage, "probe", 1, 1).await;

    stage.send("m-2", r#"{"do":"error","text":"never"}"#).await;
    stage.take("work.dead", 1).await;
    stage.send("m-3", r#"{"do":"dead-letter","reason":"no"}"#).await;
    stage.take("work.dead", 1).await;
    // Its second publication comes back, so its first counts for nothing.
    let unroutable = json!({"do": "publish", "publications": [{"to": "/@out"}, {"to": "/nowhere"}]}).to_string();
    stage.send("m-4", &unroutable).await;
    stage.take("work.dead", 1).await;
    stage.send("m-5", r#"[{"do":"requeue"},{"do":"ack"}]"#).await;
    counts(&stage, "probe", 2, 1).await;
    for message_id in ["m-2", "m-3", "m-4"] {
        stage.send(message_id, r#"{"do":"ack"}"#).await;
    }
    counts(&stage, "probe", 5, 1).await;
    for message_id in ["m-2", "m-3", "m-4", "m-5"] {
        stage.send(message_id, r#"{"do":"ack"}"#).await;
    }
    counts(&stage, "probe", 5, 5).await;
}

/// What becomes of the first decides over the next.
#[tokio::test]
async fn copies_at_once_wait_for_the_first() {
    let stage = stage("at-once", "", &[("probe", &worker("work", "\"message-id\""))]).await;
    let slow = format!(r#"{{"do":"sleep","ms":1000,"then":{ECHO}}}"#);
    for message_id in ["m-1", "m-1", "m-1", "other"] {
        stage.send(message_id, &slow).await;
    }
    stage.wait_for_settled("probe", "acked", 2).await;
    counts(&stage, "probe", 2, 2).await;
    stage.take("out", 2).await;

    stage.send("m-2", r#"{"do":"sleep","ms":500,"then":{"do":"dead-letter","reason":"no"}}"#).await;
    for _ in 0..2 {
        stage.send("m-2", ECHO).await;
    }
    counts(&stage, "probe", 3, 3).await;
    stage.take("out", 1).await;
    stage.expect_empty(&["work", "out"]).await;
}

/// The connection ends before the ack is with the broker, which delivers again what is done.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_and_whose_ack_was_lost_is_skipped() {
    let broker = Broker::ours().await;
    let manifests = [
        ("disk", worker("work", "\"message-id\""), 1),
        ("memory", worker("work", "{ by = \"message-id\", memory = true }"), 1),
        // One that has no ids to know them by does it again.
        ("without", worker("work", "\"header:none\""), 2),
    ];
    for (name, manifest, times) in manifests {
        let vhost = broker.vhost("lost-ack").await;
        let proxy = Proxy::start(broker.port()).await;
        let config = HostConfig::new(&format!("amqp://guest:guest@127.0.0.1:{}/{}", proxy.port(), vhost.name))
            .plugin("probe.wasm", &guest("probe"))
            .manifest("probe", &manifest.replace('@', ""));
        let mut host = Host::ready(config).await;
        let peer = Peer::connect(&vhost.url).await;
        let ack = Kind::Method(60, 80);
        proxy.arm(Armed { action: Action::Cut, direction: Direction::Up, kind: ack, at: At::First, nth: 1 });
        peer.publish("", "work", ECHO.replace('@', "").as_bytes(), id("m-1")).await;
        // The ack that was lost counts, too: the host had decided on it.
        let acked = wait_until(DEADLINE, "the delivery and its second one to be settled", async || {
            let counts = &row(&host, "probe").await["counts"];
            match (counts["acked"].as_u64(), counts["skipped"].as_u64()) {
                (Some(acked), Some(skipped)) if acked + skipped == 2 => Ok(acked),
                _ => Err(counts.to_string()),
            }
        })
        .await;
        assert_eq!(acked, times as u64, "{name}");
        assert!(proxy.fired().is_some(), "{name}: the ack was not lost");
        assert_eq!(host.terminate().await, 0);
        assert_eq!(peer.drain("out", times, DEADLINE).await.len(), times, "{name}");
        for queue in ["work", "work.dead", "out"] {
            assert_eq!(peer.count(queue).await, 0, "{name}: {queue}");
        }
    }
}

#[tokio::test]
async fn the_next_host_knows_what_was_done_before() {
    let workers =
        [("disk", worker("disk", "\"message-id\"")), ("mem", worker("mem", "{ by = \"message-id\", memory = true }"))];
    let workers = workers.each_ref().map(|(name, text)| (*name, text.as_str()));
    let mut stage = stage("next-host", "", &workers).await;
    let send = async |stage: &Stage, queue: &str, message_id: &str| {
        stage.peer.publish("", &stage.named(queue), stage.named(ECHO).as_bytes(), id(message_id)).await;
    };
    for queue in ["@disk", "@mem"] {
        send(&stage, queue, "m-1").await;
    }
    counts(&stage, "disk", 1, 0).await;
    counts(&stage, "mem", 1, 0).await;
    tokio::time::sleep(KEPT).await;
    stage.host.kill();
    stage.host.ended(DEADLINE).await;
    stage.host.start_again();
    stage.host.wait_until_ready().await;
    for queue in ["@disk", "@mem"] {
        send(&stage, queue, "m-1").await;
    }
    counts(&stage, "disk", 0, 1).await;
    counts(&stage, "mem", 1, 0).await;

    // A host that stops in order writes the last of it.
    for n in 0..500 {
        send(&stage, "@disk", &format!("n-{n}")).await;
    }
    stage.wait_for_settled("disk", "acked", 500).await;
    stage.host.terminate().await;
    stage.host.start_again();
    stage.host.wait_until_ready().await;
    for n in 0..500 {
        send(&stage, "@disk", &format!("n-{n}")).await;
    }
    counts(&stage, "disk", 0, 500).await;
    stage.take("out", 503).await;
    stage.expect_empty(&["disk", "mem", "out"]).await;
}

#[tokio::test]
async fn a_mark_is_kept_for_its_window_and_within_the_bound() {
    let dedupe = "{ by = \"message-id\", window = \"3s\", ids = 2 }";
    let stage = stage("window", "", &[("probe", &worker("work", dedupe))]).await;
    stage.send("m-1", ECHO).await;
    stage.send("m-1", ECHO).await;
    counts(&stage, "probe", 1, 1).await;
    tokio::time::sleep(Duration::from_millis(3200)).await;
    stage.send("m-1", ECHO).await;
    counts(&stage, "probe", 2, 1).await;

    // The oldest falls out.
    for message_id in ["a", "b", "c"] {
        stage.send(message_id, ECHO).await;
        stage.take("out", 1).await;
    }
    stage.send("c", ECHO).await;
    stage.send("b", ECHO).await;
    counts(&stage, "probe", 5, 3).await;
    stage.send("a", ECHO).await;
    counts(&stage, "probe", 6, 3).await;
}
