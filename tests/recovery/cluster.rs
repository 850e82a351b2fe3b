//! A cluster of three nodes, of which the one that leads the queues is killed: no message is missing, whether the host
//! is connected to it or to another.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeFrom;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::AMQPValue;
use tokio::sync::Mutex;

use super::{LONG, consumes, probe};
use crate::harness::amqp::{Message, Peer, Published, persistent, table};
use crate::harness::cluster::Cluster;
use crate::harness::host::Host;
use crate::harness::{DEADLINE, wait_until};

const PREFETCH: usize = 100;
const WORKER: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\nquorum = true\n[[queue]]\nname = \"out\"\n\
                      quorum = true\nconsume = false\n[consume]\nprefetch = 100\n[grant]\npublish = [\"/out\"]\n";

/// Publishes until `stop`, each message with a number of its own, and counts those that were confirmed.
async fn load(url: &str, confirmed: &Mutex<BTreeSet<u64>>, numbers: RangeFrom<u64>, stop: &AtomicBool) {
    let mut peer = None;
    for number in numbers.step_by(8) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let publisher = match peer.take() {
            Some(peer) => peer,
            None => Peer::connect_when_up(url, LONG).await,
        };
        let body = format!(r#"{{"do":"publish","publications":[{{"to":"/out","body":"{number}"}}]}}"#);
        if let Ok(published) = publisher.try_publish("", "work", body.as_bytes(), persistent()).await {
            if published == Published::Routed {
                confirmed.lock().await.insert(number);
            }
            peer = Some(publisher);
        }
    }
}

/// The leader of the queues is killed under load, twice: first beside the host's connections, then with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_nothing() {
    let began = Instant::now();
    let mut cluster = Cluster::start().await;
    println!("three nodes after {:?}", began.elapsed());
    let vhost = cluster.node(0).vhost("cluster").await.name;
    // A queue is led by the node on which it was declared.
    let first = Peer::connect(&cluster.url(0, &vhost)).await;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for queue in ["work", "out"] {
        let arguments = table(&[("x-queue-type", AMQPValue::LongString("quorum".into()))]);
        first.queue(queue, durable, arguments).await;
    }
    assert_eq!(cluster.leader(1, &vhost, "work").await, 0);
    let urls = [1, 2, 0].map(|node| cluster.url(node, &vhost)).join(",");
    let mut host = Host::ready(probe(&urls, WORKER)).await;

    let (confirmed, stop) = (Mutex::default(), AtomicBool::new(false));
    let urls = cluster.url(2, &vhost);
    let publishing = futures_util::future::join_all((0..8).map(|first| load(&urls, &confirmed, first.., &stop)));
    let at_least = async |count: usize| {
        wait_until(LONG, format!("{count} confirmed messages"), async || match confirmed.lock().await.len() {
            now if now >= count => Ok(now),
            now => Err(format!("{now} so far")),
        })
        .await
    };
    let killing = async {
        at_least(1000).await;
        println!("the first leader is killed after {:?}", began.elapsed());
        cluster.node_mut(0).kill();
        let count = confirmed.lock().await.len();
        at_least(count + 1000).await;
        host.wait_until_ready().await;
        // Two of three nodes may not fail at once.
        cluster.node_mut(0).start().await;
        cluster.node(0).ctl(&["await_startup"]).await;
        cluster.node(0).ctl(&["await_online_nodes", "3", "--timeout", "60"]).await;
        println!("it is back after {:?}", began.elapsed());
        // Now the node that the host is connected to.
        println!("node {} leads", cluster.leader(1, &vhost, "work").await);
        host.clear_logs();
        let killed = Instant::now();
        cluster.node_mut(1).kill();
        host.wait_for_log("no broker: lost").await;
        host.wait_until_ready().await;
        let took = killed.elapsed();
        println!("the host consumed from another node after {took:?}");
        let count = confirmed.lock().await.len();
        at_least(count + 1000).await;
        stop.store(true, Ordering::Relaxed);
        took
    };
    let (_, took) = tokio::join!(publishing, killing);
    let peer = Peer::connect(&urls).await;
    let confirmed = confirmed.lock().await.clone();

    let mut outputs: BTreeMap<u64, usize> = BTreeMap::new();
    wait_until(LONG, "every confirmed message to end as an output", async || {
        let waiting = peer.try_count("out").await.unwrap_or(0);
        for message in peer.drain("out", usize::try_from(waiting).unwrap(), DEADLINE).await {
            *outputs.entry(Message::text(&message).parse().unwrap()).or_default() += 1;
        }
        let missing: Vec<_> = confirmed.iter().filter(|number| !outputs.contains_key(number)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (work, out) = (cluster.state(2, &vhost, "work").await, cluster.state(2, &vhost, "out").await);
        Err(format!("{} are missing: {missing:?}\n{work}{out}{:#}", missing.len(), host.get("/workers").await))
    })
    .await;
    let repeated: usize = outputs.values().map(|count| count - 1).sum();
    println!("{} messages, {repeated} outputs twice, {:?} in all", confirmed.len(), began.elapsed());
    assert!(repeated <= 2 * PREFETCH, "{repeated} outputs are there twice");
    assert_eq!(peer.try_count("work.dead").await, Some(0));
    consumes(&peer, "work").await;
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}
