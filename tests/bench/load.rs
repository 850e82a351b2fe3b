//! Handlers that take their time: of the processor, and of memory.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::amqp::persistent;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, wait_until};
use crate::rates;
use crate::report::{Figure, Row, Target};
use crate::{QUEUE, Size};

/// What a handler computes for, in ms.
const SPIN_MS: usize = 1;
/// So many of the usual messages: each takes a thousand times as long.
const SPIN_SHARE: usize = 10;
/// Deliveries that wait in a handler at once, and for how long.
const HELD: usize = 1000;
const HELD_MS: usize = 4000;

/// How much of all cores is spent in handlers that compute for 1 ms each, which the broker shares the cores with.
pub async fn spin(size: &Size) -> Row {
    let cores = std::thread::available_parallelism().unwrap().get();
    let messages = size.messages / SPIN_SHARE;
    let mut shares = Vec::new();
    for _ in 0..size.runs {
        fill(&size.url, &json!({"do": "spin", "ms": SPIN_MS}).to_string(), messages).await;
        let mut host = Host::start(host(&size.url, 16, ""));
        let measured = rates::watch(&host, messages, Duration::from_millis(100)).await;
        // They look at the clock, which goes on while they do not: they have computed no more than the host has.
        let micros = measured.cpu_us.min(SPIN_MS as f64 * 1000.0);
        shares.push(measured.rate * micros / 1e6 / cores as f64);
        // Whoever misses heartbeats loses its connection.
        let metrics = host.metrics().await;
        assert!(metrics.contains("\nwabbit_broker_connections_total 1\n"), "{metrics}");
        assert_eq!(host.terminate().await, 0);
    }
    Row {
        what: "handlers that compute for 1 ms: share of all cores in them",
        unit: "",
        wabbit: shares,
        beside: None,
        figure: Figure::Alone,
        target: Target::AtLeast(0.95),
    }
}

/// What a delivery takes of the memory while its handler waits.
pub async fn memory(size: &Size) -> Row {
    let mut each = Vec::new();
    for _ in 0..size.runs {
        let mut host = Host::ready(host(&size.url, HELD, "running = 1024\n")).await;
        // Whatever the first delivery makes once.
        fill(&size.url, &json!({"do": "ack"}).to_string(), 1).await;
        settled(&host, 1).await;
        let before = resident_kib(&host);
        fill(&size.url, &json!({"do": "sleep", "ms": HELD_MS}).to_string(), HELD).await;
        let began = Instant::now();
        let mut most = 0;
        while began.elapsed() < Duration::from_millis(HELD_MS as u64) {
            most = most.max(resident_kib(&host));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        settled(&host, HELD + 1).await;
        each.push(most.saturating_sub(before) as f64 / HELD as f64);
        assert_eq!(host.terminate().await, 0);
    }
    Row {
        what: "memory of a delivery in flight, 1,000 of them",
        unit: "KiB",
        wabbit: each,
        beside: None,
        figure: Figure::Alone,
        target: Target::AtMost(128.0),
    }
}

async fn fill(url: &str, body: &str, messages: usize) {
    let peer = rates::fill(url, 0).await;
    peer.publish_all("", QUEUE, vec![body; messages], persistent()).await;
    peer.close().await;
}

fn host(url: &str, concurrency: usize, limits: &'static str) -> HostConfig {
    HostConfig::new(url)
        .plugin("probe.wasm", &places::root().join("target/guests/probe.wasm"))
        .prepare(move |folder| fs::write(folder.join("wabbit.toml"), format!("[limits]\n{limits}")).unwrap())
        .manifest(
            "bench",
            &format!(
                "plugin = \"probe.wasm\"\n[[queue]]\nname = \"{QUEUE}\"\n[consume]\nprefetch = 2000\n\
                 concurrency = {concurrency}\n"
            ),
        )
}

async fn settled(host: &Host, count: usize) {
    wait_until(DEADLINE, format!("{count} deliveries to be acked"), async || match rates::acked(host).await {
        acked if acked >= count => Ok(()),
        acked => Err(format!("{acked} are")),
    })
    .await;
}

fn resident_kib(host: &Host) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
