//! A worker whose deliveries all fail pauses, and nothing is given up for what is not the messages' fault.

use std::time::Duration;

use serde_json::json;

use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, WORKER, by_id, row, stage};

const LONG: Duration = Duration::from_secs(90);
const BREAKER: &str = "[breaker]\nwindow = 10\npause = \"1s\"\n";

/// Two tries and short pauses, so that without a breaker the dead letters come within half a second.
fn manifest() -> String {
    let backoff = "attempts = 2\nbackoff = { first = \"100ms\", max = \"200ms\" }\n";
    WORKER.replace("attempts = 1\n", backoff).replace("\"/@out\"", "\"/@down\", \"/@out\"")
        + "[consume]\nconcurrency = 4\nprefetch = 50\n"
        + BREAKER
}

/// Publishes to a queue that is not there: what it stands for is down.
fn depends_on_down(stage: &Stage) -> String {
    json!({"do": "publish", "publications": [{"to": stage.named("/@down")}]}).to_string()
}

async fn wait_for_state(stage: &Stage, worker: &str, state: &str) {
    wait_until(DEADLINE, format!("`{worker}` to be {state}"), async || {
        match row(&stage.host, worker).await["state"].as_str() {
            Some(now) if now == state => Ok(()),
            now => Err(format!("it is {now:?}")),
        }
    })
    .await;
}

/// Six hundred messages at some fifty a second while what they need is down: twelve times as long as two tries take. All
/// of them come through when it is back, and the dead-letter queue stays empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_downstream_pauses_the_worker() {
    const MESSAGES: usize = 600;
    let neighbour = WORKER.replace("@work", "@other").replace("@out", "@other_out");
    let mut stage = stage("breaker", "", &[("probe", &manifest()), ("other", &neighbour)]).await;
    let body = depends_on_down(&stage);
    let (mut paused, mut tried) = (false, false);
    for n in 0..MESSAGES {
        stage.send(&n.to_string(), &body).await;
        if n % 20 == 0 {
            let row = row(&stage.host, "probe").await;
            paused |= row["state"] == "paused";
            tried |= stage.metric("wabbit_worker_breaker", "worker=\"probe\"").await == 2;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    assert!(paused, "it never paused");
    wait_for_state(&stage, "probe", "paused").await;
    let reason = row(&stage.host, "probe").await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("its breaker is open"), "{reason}");
    let (status, why) = stage.host.get_status("/readyz").await;
    assert_eq!(status, 503);
    assert!(why.contains("worker `probe`: most deliveries fail"), "{why}");
    let opened = stage.metric("wabbit_worker_breaker_opened_total", "worker=\"probe\"").await;
    assert_eq!(opened, 1, "it opens once, and stays open however often it tries; tried while watched: {tried}");
    // Others are not disturbed, and messages are on their queue, not in the host.
    assert_eq!(row(&stage.host, "other").await["state"], "consuming");
    assert_eq!(stage.settled("probe", "dead-lettered").await, 0);
    let failures = stage.metric("wabbit_failures_total", "worker=\"probe\",error_type=\"unroutable\"").await;
    assert!(failures < 100, "{failures} tries of {MESSAGES} messages: it did not pause");

    stage.peer.durable_queue(&stage.named("@down")).await;
    let outputs = stage.peer.drain(&stage.named("@down"), MESSAGES, LONG).await;
    assert_eq!(outputs.len(), MESSAGES);
    stage.host.wait_until_ready().await;
    stage.wait_for_settled("probe", "acked", MESSAGES as u64).await;
    assert_eq!(stage.settled("probe", "dead-lettered").await, 0);
    assert_eq!(row(&stage.host, "probe").await["state"], "consuming");
    assert_eq!(stage.metric("wabbit_worker_breaker", "worker=\"probe\"").await, 0);
    stage.host.wait_for_log("the breaker closed").await;
    stage.peer.wait_for_count(&stage.named("@work"), 0, DEADLINE).await;
}

/// A bad message among good ones, and one alone on the queue: both are dead-lettered, and the breaker stays closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_is_dead_lettered_beside_a_breaker() {
    let stage = stage("breaker-one", "", &[("probe", &manifest())]).await;
    stage.send("alone", r#"{"do":"error"}"#).await;
    let letters = by_id(stage.take("work.dead", 1).await);
    assert!(letters.contains_key("alone"));
    for n in 0..10 {
        stage.send(&format!("good-{n}"), r#"{"do":"ack"}"#).await;
    }
    stage.send("bad", r#"{"do":"error"}"#).await;
    let letters = by_id(stage.take("work.dead", 1).await);
    assert!(letters.contains_key("bad"));
    assert_eq!(stage.metric("wabbit_worker_breaker_opened_total", "worker=\"probe\"").await, 0);
    assert_eq!(stage.settled("probe", "acked").await, 10);
}

/// Queues that would go with their consumer are not left: what they hold is tried again in place when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_queue_is_held_while_the_breaker_is_open() {
    let temporary = manifest().replace("name = \"@work\"\n", "name = \"@work\"\nexclusive = true\n");
    let stage = stage("breaker-held", "", &[("probe", &temporary)]).await;
    let body = depends_on_down(&stage);
    for n in 0..30 {
        stage.send(&n.to_string(), &body).await;
    }
    wait_for_state(&stage, "probe", "paused").await;
    stage.peer.durable_queue(&stage.named("@down")).await;
    assert_eq!(stage.peer.drain(&stage.named("@down"), 30, LONG).await.len(), 30);
    stage.wait_for_settled("probe", "acked", 30).await;
    assert_eq!(stage.settled("probe", "dead-lettered").await, 0);
    wait_for_state(&stage, "probe", "consuming").await;
}

/// Deliveries of an ordered worker keep their order through the pauses.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_holds_while_the_breaker_is_open() {
    let ordered = manifest().replace("concurrency = 4", "order = \"queue\"");
    let stage = stage("breaker-order", "", &[("probe", &ordered)]).await;
    for n in 0..30 {
        let body = json!({"do": "publish", "publications": [{"to": stage.named("/@down"), "body": n.to_string()}]});
        stage.send(&n.to_string(), &body.to_string()).await;
    }
    // Nothing but the first has failed when that one is tried for the last time, so it is taken for a bad message.
    assert!(by_id(stage.take("work.dead", 1).await).contains_key("0"));
    wait_for_state(&stage, "probe", "paused").await;
    stage.peer.durable_queue(&stage.named("@down")).await;
    let outputs = stage.peer.drain(&stage.named("@down"), 29, LONG).await;
    let numbers: Vec<u32> = outputs.iter().map(|output| output.text().parse().unwrap()).collect();
    assert_eq!(numbers, Vec::from_iter(1..30));
}
