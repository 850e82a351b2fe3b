//! Why people leave the consumers that they wrote by hand: one test for each of the public threads in which they told
//! it. Every test is named after its thread, says in a sentence what went wrong there and what holds here, and drives
//! the host through the same kind of fault.

mod connections;
mod settling;

use std::fs;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::amqp::{Message, Peer};
use crate::harness::broker::{Broker, Vhost};
use crate::harness::host::{Host, HostConfig};
use crate::harness::wire::Wire;
use crate::harness::{DEADLINE, places, wait_until};
use crate::outcomes::{guest, settled};

/// Runs the probe on `work`, may publish to `out`, and dead-letters at once what fails.
const WORKER: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[[queue]]\nname = \"out\"\nconsume = false\n\
                      [grant]\npublish = [\"/out\"]\n[failure]\nattempts = 1\n";

/// Notices a broker that is silent, or that does not answer, within seconds.
const IMPATIENT: &str = "[amqp]\nheartbeat = \"1s\"\nconnect-timeout = \"1s\"\n";

/// A host at one end of a wire, the broker at the other, and a peer that has its own way to the broker.
struct Scene {
    host: Host,
    wire: Wire,
    peer: Peer,
    vhost: Vhost,
    _folder: TempDir,
}

/// Sets a scene on the shared broker: `settings` is the text of a `wabbit.toml`.
async fn scene(test: &str, settings: &str, manifest: &str) -> Scene {
    let vhost = Broker::ours().await.vhost(test).await;
    let wire = Wire::to(&vhost.url).await;
    let folder = places::folder("scene");
    let path = folder.path().join("wabbit.toml");
    fs::write(&path, settings).unwrap();
    let config = probe(&wire.url, manifest).argument("--config").argument(&path.display().to_string());
    let host = Host::ready(config).await;
    Scene { host, wire, peer: Peer::connect(&vhost.url).await, vhost, _folder: folder }
}

/// A host that runs the probe.
fn probe(url: &str, manifest: &str) -> HostConfig {
    HostConfig::new(url).plugin("probe.wasm", &guest("probe")).manifest("probe", manifest)
}

/// Publishes `body` to the queue `to`, persistent.
fn publish(to: &str, body: impl ToString) -> Value {
    let properties = json!({"persistent": true});
    let publication = json!({"to": format!("/{to}"), "body": body.to_string(), "properties": properties});
    json!({"do": "publish", "publications": [publication]})
}

/// How many consumers a queue has; nothing where it is not there.
async fn consumers(peer: &Peer, queue: &str) -> Option<u32> {
    let channel = peer.new_channel().await;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let answer = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    let _ = channel.close(200, "done".into()).await;
    answer.ok().map(|queue| queue.consumer_count())
}

/// Waits until a queue has exactly one consumer.
async fn wait_for_consumer(peer: &Peer, queue: &str) {
    wait_until(DEADLINE, format!("one consumer of `{queue}`"), async || match consumers(peer, queue).await {
        Some(1) => Ok(()),
        other => Err(format!("it has {other:?}")),
    })
    .await;
}

/// All that a queue holds, at a moment when nobody adds to it.
async fn all(peer: &Peer, queue: &str) -> Vec<Message> {
    let count = peer.count(queue).await;
    peer.drain(queue, usize::try_from(count).unwrap(), DEADLINE).await
}

/// Waits until exactly so many deliveries of the probe were settled in that way.
async fn wait_for_settled(host: &Host, outcome: &str, count: u64) {
    wait_until(DEADLINE, format!("{count} deliveries to be {outcome}"), async || {
        match settled(host, "probe", outcome).await {
            now if now == count => Ok(()),
            now => Err(format!("{now} are")),
        }
    })
    .await;
}

/// Waits until the host is not ready.
async fn wait_until_unready(host: &Host) {
    wait_until(DEADLINE, "the host to be not ready", async || match host.get_status("/readyz").await {
        (503, _) => Ok(()),
        (status, body) => Err(format!("/readyz answers {status}: {body}")),
    })
    .await;
}

/// The test fails where a broker complained of what the host settled, or the host of itself.
fn expect_no_complaint(host: &Host) {
    let log = host.logs().join("\n");
    for complaint in ["PRECONDITION_FAILED", "unknown delivery tag", "out of order", "panicked"] {
        assert!(!log.contains(complaint), "{log}");
    }
}
