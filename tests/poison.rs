//! Messages that kill the host: found, and kept from doing it for ever.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::DEADLINE;
use crate::harness::amqp::{Message, Peer};
use crate::outcomes::{Stage, WORKER, backstage, curtain, id};

const LONG: Duration = Duration::from_secs(120);

/// Kills the host whenever the log says that the killer is with its handler, until `done`. Returns how often.
async fn kill_until_dead_lettered(stage: &mut Stage, dead: &str) -> u32 {
    let mut crashes = 0;
    let end = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < end, "killed {crashes} times, and still no dead letter");
        if stage.peer.count(dead).await == 1 {
            return crashes;
        }
        if stage.host.logs().iter().any(|line| line.contains("the killer runs")) {
            stage.host.kill();
            stage.host.ended(DEADLINE).await;
            crashes += 1;
            stage.host.clear_logs();
            stage.host.start_again();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The killer and its neighbours were together when the host died first: nobody is charged for that. Then each runs
/// alone; the killer kills twice more, which is as often as it may be tried, and is dead-lettered unseen.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_the_host_is_found() {
    let manifest = WORKER.replace("attempts = 1", "attempts = 2") + "[consume]\nconcurrency = 8\n";
    let (vhost, folder, config) = backstage("poison", "", &[("probe", &manifest)]).await;
    let (work, out) = (vhost.unique("work"), vhost.unique("out"));
    let dead = format!("{work}.dead");
    let killer = json!({"do": "log", "text": "the killer runs", "then": {"do": "sleep", "ms": 3000}});
    let neighbour = json!({"do": "sleep", "ms": 1500, "then": {"do": "describe", "to": format!("/{out}")}});
    // There before the host is, so that all of them are with their handlers together.
    let peer = Peer::connect(&vhost.url).await;
    for queue in [&work, &dead] {
        peer.durable_queue(queue).await;
    }
    for n in 0..7 {
        peer.publish("", &work, neighbour.to_string().as_bytes(), id(format!("neighbour-{n}"))).await;
    }
    peer.publish("", &work, killer.to_string().as_bytes(), id("killer")).await;
    let mut stage = curtain(vhost, folder, config).await;
    assert_eq!(kill_until_dead_lettered(&mut stage, &dead).await, 3, "once among others, twice alone");

    let letter = stage.take("work.dead", 1).await.remove(0);
    assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("host-crash"));
    assert_eq!(
        letter.text_header("x-wabbit-error").as_deref(),
        Some("the host died 2 times while it ran this delivery and no other")
    );
    let outputs = stage.peer.drain(&out, 7, LONG).await;
    for (_, description) in by_message_id(outputs) {
        assert_eq!(description["attempt"], 1, "a neighbour was charged: {description}");
    }
    stage.host.wait_until_ready().await;
    assert_eq!(stage.settled("probe", "retried").await, 0);
    stage.expect_empty(&["work", "work.dead"]).await;

    // What is dead-lettered is forgotten: the same message is tried again like any other.
    stage.host.clear_logs();
    stage.send("killer", &killer.to_string()).await;
    stage.host.wait_for_log("the killer runs").await;
    stage.wait_for_settled("probe", "acked", 1 + stage.settled("probe", "acked").await).await;
}

/// Descriptions by the message id that they speak of. A neighbour may have been done, unacked, when the host died.
fn by_message_id(outputs: Vec<Message>) -> BTreeMap<String, Value> {
    let descriptions = outputs.iter().map(|output| output.json());
    descriptions.map(|json| (json["properties"]["message-id"].to_string(), json)).collect()
}

/// Whatever way a host can die of a message: it ends in the dead-letter queue after one death among others and one alone,
/// and the host stays up. The host with switches dies of what these bodies say.
#[tokio::test(flavor = "multi_thread")]
async fn poison_of_every_kind_is_found() {
    const NEIGHBOURS: usize = 5;
    let (vhost, folder, config) = backstage("poison-kinds", "", &[("probe", WORKER)]).await;
    let mut stage = curtain(vhost, folder, config.binary("wabbit-faulty")).await;
    let neighbour = json!({"do": "sleep", "ms": 100, "then": {"do": "describe", "to": stage.named("/@out")}});
    for kind in ["abort", "exit", "kill", "fault", "stack"] {
        for n in 0..NEIGHBOURS {
            stage.send(&format!("{kind}-{n}"), &neighbour.to_string()).await;
        }
        stage.send(kind, &format!("poison:{kind}")).await;
        let (mut deaths, end) = (0, Instant::now() + LONG);
        while stage.peer.count(&stage.named("@work.dead")).await == 0 {
            assert!(Instant::now() < end, "{kind}: {deaths} deaths, and still no dead letter");
            if stage.host.status().is_some() {
                deaths += 1;
                stage.host.start_again();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(deaths == 1 || deaths == 2, "{kind}: {deaths} deaths: one alone, and one before that among others");
        let letter = stage.take("work.dead", 1).await.remove(0);
        assert_eq!(letter.properties.message_id().as_ref().map(|id| id.as_str()), Some(kind));
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("host-crash"), "{kind}");
        stage.host.wait_until_ready().await;
        stage.peer.wait_for_count(&stage.named("@work"), 0, DEADLINE).await;
    }
    let mut seen = BTreeMap::new();
    while seen.len() < 5 * NEIGHBOURS {
        seen.extend(by_message_id(stage.take("out", 1).await));
    }
    assert!(seen.values().all(|description| description["attempt"] == 1), "a neighbour was charged: {seen:?}");
}
