//! Past one machine: several hosts on a queue, a queue on three nodes, several queues behind one exchange.
//!
//! Hosts, nodes and whoever publishes share this machine's cores. So the rates are what is left of these, and what a
//! message costs each side is told beside them.

use std::fs;
use std::iter;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, future, stream};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Confirmation, ExchangeKind};
use serde_json::{Value, json};

use crate::grow::{self, rounded, runs, scaled};
use crate::harness::amqp::{Peer, persistent, table};
use crate::harness::broker::Broker;
use crate::harness::cluster::Cluster;
use crate::harness::host::{Host, HostConfig};
use crate::harness::places;
use crate::harness::process::computed;
use crate::rates::{self, window};
use crate::report::median;
use crate::{BODY_BYTES, OUT, PREFETCH, QUEUE, Size};

/// Hosts on one queue.
const HOSTS: [usize; 3] = [1, 2, 4];
const HANDLERS: [Handler; 2] = [
    // It needs the processor and nothing else: more hosts share the same cores.
    Handler {
        what: "ack",
        guest: "bench_ack",
        body: &[b'x'; BODY_BYTES],
        settings: "[consume]\nprefetch = 1000\n",
        messages: 60_000,
    },
    // It waits: more hosts wait for more at once.
    Handler {
        what: "wait",
        guest: "probe",
        body: br#"{"do":"sleep","ms":10}"#,
        settings: "[consume]\nprefetch = 100\nconcurrency = 16\n",
        messages: 5_000,
    },
];
/// From a queue, classic or quorum: without and with a publication for each.
const TAKEN: usize = 60_000;
const RELAYED: usize = 20_000;
const NODES: usize = 3;
/// Queues behind the exchange, and the messages that are spread over them.
const SHARDS: usize = 4;
const SPREAD: usize = 120_000;
const EXCHANGE: &str = "bench.spread";
/// It brings the exchange of type `x-consistent-hash`; every RabbitMQ has it, and none enables it.
const PLUGIN: &str = "rabbitmq_consistent_hash_exchange";
/// How many are published before the first of them is confirmed.
const OUTSTANDING_MAX: usize = 200;

/// From one look at all hosts to the next.
const LOOK: Duration = Duration::from_millis(50);
/// For one run.
const DEADLINE: Duration = Duration::from_secs(180);

/// What messages meet in the hosts.
struct Handler {
    what: &'static str,
    guest: &'static str,
    body: &'static [u8],
    settings: &'static str,
    /// For each host.
    messages: usize,
}

/// A broker: where it is, and the processes that it is.
struct Side {
    url: String,
    nodes: Vec<u32>,
}

/// What a run came to.
struct Cost {
    /// Messages per second, of all hosts together.
    rate: f64,
    /// CPU of all hosts, in µs a message.
    cpu_us: f64,
    /// CPU of all the broker's nodes, in µs a message.
    broker_us: f64,
}

/// Everything that is measured here, by its name.
pub async fn rows(size: &Size) -> Value {
    let broker = Broker::private().await;
    let one = Side { url: broker.vhost("scale").await.url, nodes: vec![broker.id()] };
    let hosts = hosts(size, &one).await;
    let sharding = sharding(size, &broker, &one).await;
    let queues = queues(size, &one).await;
    json!({ "runs": runs(size), "messages": size.messages, "hosts": hosts, "sharding": sharding, "queues": queues })
}

/// Several hosts on one classic queue.
async fn hosts(size: &Size, side: &Side) -> Vec<Value> {
    let queues = [QUEUE.to_owned()];
    let mut rows = Vec::new();
    for handler in HANDLERS {
        let mut costs: [Vec<Cost>; HOSTS.len()] = Default::default();
        for run in 0..runs(size) {
            for turn in 0..HOSTS.len() {
                let index = (run + turn) % HOSTS.len();
                let messages = scaled(size, handler.messages * HOSTS[index]);
                grow::fill(&side.url, &queues, handler.body, messages).await;
                let host = || grow::host(&side.url, handler.guest, &queues, handler.settings);
                costs[index].push(of_hosts(iter::repeat_with(host).take(HOSTS[index]), side, messages).await);
            }
        }
        for (hosts, costs) in HOSTS.iter().zip(&costs) {
            rows.push(row(json!({ "handler": handler.what, "hosts": hosts }), costs));
        }
    }
    rows
}

/// A classic queue of one node beside a quorum queue of three.
async fn queues(size: &Size, one: &Side) -> Vec<Value> {
    let cluster = Cluster::start().await;
    // A queue is led by the node on which it was declared, and the host is connected to that one.
    let vhost = cluster.node(0).vhost("scale").await.name;
    let nodes = (0..NODES).map(|index| cluster.node(index).id()).collect();
    let three = Side { url: cluster.url(0, &vhost), nodes };
    let cases = [(one, false), (&three, true)];
    let mut rows = Vec::new();
    for relay in [false, true] {
        let messages = scaled(size, if relay { RELAYED } else { TAKEN });
        let mut costs: [Vec<Cost>; 2] = Default::default();
        for run in 0..runs(size) {
            for turn in 0..cases.len() {
                let index = (run + turn) % cases.len();
                let (side, quorum) = cases[index];
                put(&side.url, quorum, messages).await;
                costs[index].push(of_hosts([taking(&side.url, relay, quorum)], side, messages).await);
            }
        }
        for ((side, quorum), costs) in cases.iter().zip(&costs) {
            let (queue, handler) = (if *quorum { "quorum" } else { "classic" }, if relay { "relay" } else { "ack" });
            rows.push(row(json!({ "queue": queue, "nodes": side.nodes.len(), "handler": handler }), costs));
        }
    }
    rows
}

/// Empties a queue and the one that a relay publishes to, and puts so many messages into the first.
async fn put(url: &str, quorum: bool, messages: usize) {
    let arguments = match quorum {
        true => table(&[("x-queue-type", AMQPValue::LongString("quorum".into()))]),
        false => FieldTable::default(),
    };
    let peer = Peer::connect(url).await;
    for queue in [QUEUE, OUT] {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        peer.queue(queue, options, arguments.clone()).await;
        peer.channel().queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
    }
    peer.publish_all("", QUEUE, iter::repeat_n([b'x'; BODY_BYTES], messages), persistent()).await;
    peer.close().await;
}

fn taking(url: &str, relay: bool, quorum: bool) -> HostConfig {
    let guest = if relay { "bench_relay" } else { "bench_ack" };
    let text = format!(
        "plugin = \"bench.wasm\"\n[[queue]]\nname = \"{QUEUE}\"\nquorum = {quorum}\n\
         [[queue]]\nname = \"{OUT}\"\nquorum = {quorum}\nconsume = false\n\
         [consume]\nprefetch = {PREFETCH}\n[grant]\npublish = [\"/{OUT}\"]\n"
    );
    HostConfig::new(url)
        .plugin("bench.wasm", &places::root().join(format!("target/guests/{guest}.wasm")))
        .manifest("bench", &text)
}

/// One queue with one worker, beside as many messages spread over several queues with a worker each, in one host.
async fn sharding(size: &Size, broker: &Broker, side: &Side) -> Vec<Value> {
    enable(broker).await;
    let shards: Vec<String> = (0..SHARDS).map(|number| format!("{EXCHANGE}.{number}")).collect();
    let cases = [vec![QUEUE.to_owned()], shards];
    let (messages, settings) = (scaled(size, SPREAD), format!("[consume]\nprefetch = {PREFETCH}\n"));
    let mut costs: [Vec<Cost>; 2] = Default::default();
    for run in 0..runs(size) {
        for turn in 0..cases.len() {
            let index = (run + turn) % cases.len();
            let queues = &cases[index];
            if queues.len() == 1 {
                grow::fill(&side.url, queues, &[b'x'; BODY_BYTES], messages).await;
            } else {
                spread(&side.url, queues, messages).await;
            }
            let host = grow::host(&side.url, "bench_ack", queues, &settings);
            costs[index].push(of_hosts([host], side, messages).await);
        }
    }
    cases.iter().zip(&costs).map(|(queues, costs)| row(json!({ "queues": queues.len() }), costs)).collect()
}

/// Enables the plugin in a node that runs, as `rabbitmq-plugins enable` does. It lasts until the node is started again.
async fn enable(broker: &Broker) {
    fs::write(broker.folder().join("enabled_plugins"), format!("[{PLUGIN}].\n")).unwrap();
    let enabled = broker.ctl(&["eval", "rabbit_plugins:ensure(rabbit_plugins:enabled_plugins_file())."]).await;
    assert!(enabled.contains(PLUGIN), "the plugin is not enabled: {enabled}");
}

/// Empties the queues, and spreads so many messages over them, each with a routing key of its own.
async fn spread(url: &str, queues: &[String], messages: usize) {
    let peer = Peer::connect(url).await;
    peer.exchange(EXCHANGE, ExchangeKind::Custom("x-consistent-hash".into()), true).await;
    for queue in queues {
        peer.durable_queue(queue).await;
        peer.channel().queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
        // The key of such a binding is its weight.
        peer.bind(queue, EXCHANGE, "1").await;
    }
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sending = stream::iter(0..messages).map(async |number| {
        let (key, body) = (number.to_string(), [b'x'; BODY_BYTES]);
        let sent = peer.channel().basic_publish(EXCHANGE.into(), key.as_str().into(), options, &body, persistent());
        matches!(sent.await.unwrap().await.unwrap(), Confirmation::Ack(None))
    });
    assert!(sending.buffer_unordered(OUTSTANDING_MAX).all(future::ready).await, "a message reached no queue");
    peer.close().await;
}

/// Starts these hosts, and looks at them while they take so many messages together.
async fn of_hosts(configs: impl IntoIterator<Item = HostConfig>, side: &Side, messages: usize) -> Cost {
    let mut hosts: Vec<Host> = configs.into_iter().map(Host::start).collect();
    let cost = watch(&hosts, side, messages).await;
    for host in &mut hosts {
        assert_eq!(host.terminate().await, 0);
    }
    cost
}

/// From when all hosts take messages until nearly all messages are taken.
async fn watch(hosts: &[Host], side: &Side, messages: usize) -> Cost {
    let (from, to) = window(messages);
    let end = Instant::now() + DEADLINE;
    let mut start: Option<Look> = None;
    loop {
        let look = Look::at(hosts, side).await;
        match &start {
            None if look.acked >= from && look.all => start = Some(look),
            Some(start) if look.acked >= to => return look.since(start),
            _ => {}
        }
        assert!(Instant::now() < end, "not done: {:?}", hosts.iter().map(Host::logs).collect::<Vec<_>>());
        tokio::time::sleep(LOOK).await;
    }
}

/// What was done until a moment.
struct Look {
    time: Instant,
    /// Messages that all hosts have acked.
    acked: usize,
    /// Whether each has acked some.
    all: bool,
    hosts: Duration,
    nodes: Duration,
}

impl Look {
    async fn at(hosts: &[Host], side: &Side) -> Self {
        let acked = future::join_all(hosts.iter().map(rates::acked)).await;
        Self {
            time: Instant::now(),
            acked: acked.iter().sum(),
            all: acked.iter().all(|acked| *acked > 0),
            hosts: hosts.iter().map(|host| computed(host.id())).sum(),
            nodes: side.nodes.iter().map(|node| computed(*node)).sum(),
        }
    }

    fn since(&self, start: &Self) -> Cost {
        let count = (self.acked - start.acked) as f64;
        let each = |now: Duration, then: Duration| (now - then).as_secs_f64() * 1e6 / count;
        Cost {
            rate: count / (self.time - start.time).as_secs_f64(),
            cpu_us: each(self.hosts, start.hosts),
            broker_us: each(self.nodes, start.nodes),
        }
    }
}

/// The medians, beside what they are of.
fn row(mut what: Value, costs: &[Cost]) -> Value {
    let middle = |value: fn(&Cost) -> f64| json!(rounded(median(&costs.iter().map(value).collect::<Vec<_>>())));
    what["rate"] = middle(|cost| cost.rate);
    what["cpu_us"] = middle(|cost| cost.cpu_us);
    what["broker_us"] = middle(|cost| cost.broker_us);
    what
}
