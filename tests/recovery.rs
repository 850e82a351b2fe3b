//! Nothing is lost, whatever dies: the broker, the connection, the host.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::options::{BasicConsumeOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use nix::sys::signal::Signal;

use crate::harness::amqp::{Message, Peer, Published, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, python, wait_until};

mod addresses;
mod cluster;
mod one_worker;
mod stopping;
mod whole_host;

/// How soon the host consumes again when what kept it from that is gone.
const PROMPT: Duration = Duration::from_secs(10);
/// Long enough for a node to come back and for thousands of orders on two busy cores.
const LONG: Duration = Duration::from_secs(180);
const REPORTS: &str = "reports";
const DEAD: &str = "order_report.dead";

/// A host with the orders example's reporting worker.
fn reporting(url: &str) -> HostConfig {
    let root = places::root();
    let manifest = std::fs::read_to_string(root.join("manifests/order-report.toml")).unwrap();
    HostConfig::new(url)
        .plugin("order_report.wasm", &root.join("plugins/order_report.wasm"))
        .manifest("order-report", &manifest)
}

fn probe(url: &str, manifest: &str) -> HostConfig {
    HostConfig::new(url)
        .plugin("probe.wasm", &places::root().join("target/guests/probe.wasm"))
        .manifest("probe", manifest)
}

/// Publishes to a queue and waits until it is taken. A worker is to handle anything that is no command.
async fn consumes(peer: &Peer, queue: &str) {
    peer.publish("", queue, b"x", persistent()).await;
    peer.wait_for_count(queue, 0, DEADLINE).await;
}

/// For a moment long enough to see that a session is not given up at once.
async fn stays_ready(host: &Host) {
    for _ in 0..10 {
        assert_eq!(host.get_status("/readyz").await, (200, "ready\n".to_owned()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn order(id: u64) -> Vec<u8> {
    format!(r#"{{"id":{id},"user_email":"a@example.com","product":"hay","quantity":1}}"#).into_bytes()
}

/// The id of an order in a report, or in a dead letter.
fn id(message: &Message) -> u64 {
    match message.properties.message_id() {
        Some(id) => id.as_str().parse().unwrap(),
        None => message.json()["id"].as_u64().unwrap(),
    }
}

/// Takes reports and dead letters until every one of `ids` was among them.
async fn expect_all(url: &str, ids: BTreeSet<u64>) {
    let peer = Peer::connect_when_up(url, DEADLINE).await;
    let mut missing = ids;
    wait_until(LONG, "every order to end as a report or a dead letter", async || {
        for queue in [REPORTS, DEAD] {
            let waiting = peer.try_count(queue).await.unwrap_or(0);
            for message in peer.drain(queue, usize::try_from(waiting).unwrap(), DEADLINE).await {
                missing.remove(&id(&message));
            }
        }
        match missing.len() {
            0 => Ok(()),
            n => Err(format!("{n} are missing, such as {:?}", missing.first())),
        }
    })
    .await;
}

/// A broker that is killed and comes back under a steady stream of orders: each that it confirmed ends somewhere, and
/// the host needs no help.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_loses_nothing() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("killed").await;
    let mut host = Host::ready(reporting(&vhost.url)).await;
    let mut confirmed = BTreeSet::new();
    let mut next = 0;
    let mut peer = Some(Peer::connect(&vhost.url).await);
    let mut restarted = false;
    let end = Instant::now() + LONG;
    let mut after = 0;
    while after < 500 {
        assert!(Instant::now() < end, "{} confirmed, {after} of them after the restart", confirmed.len());
        if confirmed.len() >= 500 && !restarted {
            // The node itself may forget a queue that was declared a moment before.
            broker.flush().await;
            broker.kill();
            broker.start().await;
            restarted = true;
        }
        let publisher = match peer.take() {
            Some(peer) => peer,
            None => {
                let peer = Peer::connect_when_up(&vhost.url, LONG).await;
                // It is not durable, so it went with the node.
                peer.exchange("order", ExchangeKind::Direct, false).await;
                peer
            }
        };
        match publisher.try_publish("order", "order.report", &order(next), persistent()).await {
            Ok(Published::Routed) => {
                confirmed.insert(next);
                after += usize::from(restarted);
                peer = Some(publisher);
            }
            // Until the host has bound its queue again, orders come back.
            Ok(_) => peer = Some(publisher),
            Err(_) => {}
        }
        next += 1;
    }
    expect_all(&vhost.url, confirmed).await;
    host.wait_until_ready().await;
}

/// A host that is killed three times on its way through 20,000 orders: none is missing at the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_loses_nothing() {
    const ORDERS: u64 = 20_000;
    let vhost = Broker::shared().await.vhost("killed-host").await;
    let mut host = Host::ready(reporting(&vhost.url)).await;
    let peer = Peer::connect(&vhost.url).await;
    let publishing = async { peer.publish_all("order", "order.report", (0..ORDERS).map(order), persistent()).await };
    let killing = async {
        let watching = Peer::connect(&vhost.url).await;
        for part in 1..=3_u32 {
            let reached = u32::try_from(ORDERS).unwrap() / 4 * part;
            wait_until(LONG, format!("{reached} reports"), async || match watching.count(REPORTS).await {
                count if count >= reached => Ok(()),
                count => Err(format!("{count} so far")),
            })
            .await;
            host.kill();
            wait_until(DEADLINE, "the host to be gone", async || match host.status() {
                Some(_) => Ok(()),
                None => Err("it still runs".to_owned()),
            })
            .await;
            host.start_again();
        }
        host.wait_until_ready().await;
    };
    tokio::join!(publishing, killing);
    expect_all(&vhost.url, (0..ORDERS).collect()).await;
    peer.wait_for_count("order_report", 0, DEADLINE).await;
}

/// Connections that the broker closes under load: the host comes back by itself, and every delivery is settled.
#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_are_made_again() {
    let broker = Broker::private().await;
    let vhost = broker.vhost("closed").await;
    let mut host = Host::ready(reporting(&vhost.url)).await;
    for round in 0..3_u64 {
        let peer = Peer::connect(&vhost.url).await;
        let ids = round * 2_000..(round + 1) * 2_000;
        peer.publish_all("order", "order.report", ids.clone().map(order), persistent()).await;
        broker.ctl(&["close_all_connections", "--vhost", &vhost.name, "test"]).await;
        expect_all(&vhost.url, ids.collect()).await;
    }
    host.wait_until_ready().await;
    let log = host.logs().join("\n");
    assert!(!log.contains("panicked"), "{log}");
}

/// SIGTERM under load: what runs is finished and acked, so nothing that was published is published again.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_finishes_what_is_in_hand() {
    let vhost = Broker::shared().await.vhost("stopping").await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[[queue]]\nname = \"out\"\nconsume = false\n\
                    [consume]\nprefetch = 50\nconcurrency = 10\n[grant]\npublish = [\"/out\"]\n";
    let mut host = Host::ready(probe(&vhost.url, manifest)).await;
    let peer = Peer::connect(&vhost.url).await;
    let body = |n| {
        format!(r#"{{"do":"sleep","ms":200,"then":{{"do":"publish","publications":[{{"to":"/out","body":"{n}"}}]}}}}"#)
    };
    peer.publish_all("", "work", (0..200).map(body), persistent()).await;
    wait_until(DEADLINE, "the first outputs", async || match peer.count("out").await {
        0 => Err("none yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    assert_eq!(host.terminate().await, 0);
    let (done, left) = (peer.count("out").await, peer.count("work").await);
    assert_eq!(done + left, 200, "each delivery is either done or back");
    assert!(left > 0, "the host stopped in the middle");
    host.start_again();
    let outputs = peer.drain("out", 200, DEADLINE).await;
    let bodies: BTreeSet<&str> = outputs.iter().map(Message::text).collect();
    assert_eq!(bodies.len(), 200, "none is there twice");
    peer.wait_for_count("work", 0, DEADLINE).await;
    assert_eq!(peer.count("out").await, 0);
}

/// What does not finish within the grace period goes back to its queue, and a second signal ends the wait at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_wait() {
    let vhost = Broker::shared().await.vhost("hurry").await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[limits]\ntime = \"10m\"\n";
    let mut host = Host::ready(probe(&vhost.url, manifest).argument("--grace=10m")).await;
    let peer = Peer::connect(&vhost.url).await;
    peer.publish("", "work", br#"{"do":"sleep","ms":500000}"#, persistent()).await;
    peer.wait_for_count("work", 0, DEADLINE).await;
    host.signal(Signal::SIGTERM);
    host.wait_for_log("stopping: finishing").await;
    host.signal(Signal::SIGINT);
    assert_eq!(host.ended(DEADLINE).await, 0);
    peer.wait_for_count("work", 1, DEADLINE).await;

    // The same by the clock.
    let mut host = Host::ready(probe(&vhost.url, manifest).argument("--grace=1s")).await;
    peer.wait_for_count("work", 0, DEADLINE).await;
    assert_eq!(host.terminate().await, 0);
    peer.wait_for_count("work", 1, DEADLINE).await;
}

/// A queue that is deleted stops its worker alone; it comes back by itself, and the other never notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_stops_one_worker() {
    let vhost = Broker::shared().await.vhost("deleted").await;
    let manifest = |queue: &str| format!("plugin = \"probe.wasm\"\n[[queue]]\nname = \"{queue}\"\n");
    let config = probe(&vhost.url, &manifest("one")).manifest("other", &manifest("two"));
    let mut host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    peer.channel().queue_delete("one".into(), QueueDeleteOptions::default()).await.unwrap();
    host.wait_for_log("was the queue deleted?").await;
    let (status, reasons) = host.get_status("/readyz").await;
    assert_eq!(status, 503);
    assert!(reasons.contains("worker `probe`") && !reasons.contains("worker `other`"), "{reasons}");
    peer.publish("", "two", b"x", persistent()).await;
    peer.wait_for_count("two", 0, DEADLINE).await;
    host.wait_until_ready().await;
    peer.publish("", "one", b"x", persistent()).await;
    peer.wait_for_count("one", 0, DEADLINE).await;
}

/// An exclusive consumer of somebody else keeps one worker out, until it goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_queue_is_tried_again() {
    let vhost = Broker::shared().await.vhost("locked").await;
    let peer = Peer::connect(&vhost.url).await;
    peer.durable_queue("work").await;
    let blocker = Peer::connect(&vhost.url).await;
    let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let _held =
        blocker.channel().basic_consume("work".into(), "".into(), options, FieldTable::default()).await.unwrap();
    let mut host = Host::start(probe(&vhost.url, "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n"));
    let line = host.wait_for_log("ACCESS_REFUSED").await;
    assert!(line.contains("work"), "{line}");
    drop(_held);
    drop(blocker);
    host.wait_until_ready().await;
}

/// A message that the AMQP library cannot read ends its connection each time it is delivered. It stops its own worker
/// alone, which is named, and goes on when the message is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_stops_one_worker() {
    let vhost = Broker::shared().await.vhost("undecodable").await;
    let (one, two) = (vhost.unique("one"), vhost.unique("two"));
    let manifest = |queue: &str| format!("plugin = \"probe.wasm\"\n[[queue]]\nname = \"{queue}\"\n");
    let config = probe(&vhost.url, &manifest(&one)).manifest("other", &manifest(&two));
    let mut host = Host::ready(config).await;
    let script = places::root().join("tests/fixtures/undecodable.py");
    python::run(&script, &[&vhost.url, &one], DEADLINE).await.success();
    let line = host.wait_for_log("cannot be read").await;
    assert!(line.contains("worker=probe") && line.contains(&one), "{line}");
    let peer = Peer::connect(&vhost.url).await;
    for _ in 0..3 {
        peer.publish("", &two, b"x", persistent()).await;
        peer.wait_for_count(&two, 0, DEADLINE).await;
    }
    let (status, reasons) = host.get_status("/readyz").await;
    assert_eq!(status, 503);
    assert!(reasons.contains("worker `probe`") && !reasons.contains("worker `other`"), "{reasons}");
    // It is on its queue whenever the worker is not just trying again.
    wait_until(DEADLINE, "the message to be taken off", async || {
        match peer.channel().queue_purge(one.as_str().into(), QueuePurgeOptions::default()).await.unwrap() {
            0 => Err("it is being delivered".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    host.wait_until_ready().await;
    peer.publish("", &one, b"x", persistent()).await;
    peer.wait_for_count(&one, 0, DEADLINE).await;
}
