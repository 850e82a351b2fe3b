//! How the cost grows: with the size of a body, the prefetch, the number of workers, and the time that a handler
//! computes.
//!
//! Each point is the median of some runs. Where the native loop is beside the host, both run in turns.

use std::num::NonZero;
use std::process::Child;
use std::time::Duration;
use std::{io, iter, thread};

use lapin::options::QueuePurgeOptions;
use serde_json::{Value, json};

use crate::harness::amqp::{Peer, persistent};
use crate::harness::host::{Host, HostConfig};
use crate::harness::{places, wait_until};
use crate::rates::{self, Measured};
use crate::report::median;
use crate::{BODY_BYTES, PREFETCH, QUEUE, Size, native};

/// There are many points.
const RUNS_MAX: usize = 3;
/// The numbers of messages below are for so many `MESSAGES`; others scale them.
const MESSAGES_USUAL: usize = 60_000;
/// The window of fewer is too short for a look.
const MESSAGES_MIN: usize = 100;

/// Bytes of a body, and how many messages take some seconds, for CPU time is told in steps of 10 ms.
const SIZES: [(usize, usize); 5] =
    [(100, 100_000), (1 << 10, 80_000), (10 << 10, 40_000), (100 << 10, 5_000), (1 << 20, 600)];
/// Prefetches, and how many messages: each but the first few waits for an ack of another.
const PREFETCHES: [(u16, usize); 4] = [(1, 8_000), (10, 40_000), (100, 80_000), (1000, 100_000)];
/// Workers in one host, and how many messages in all: for the window to be long beside a look at so many.
const WORKERS: [(usize, usize); 4] = [(1, 120_000), (10, 120_000), (100, 120_000), (1000, 240_000)];
/// For how many ms a handler computes, and how many messages.
const HANDLERS: [(u64, usize); 4] = [(0, 40_000), (1, 5_000), (5, 1_200), (10, 600)];

/// From one look to the next. Looking costs the host as well, and with many workers more.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_AT_MANY: Duration = Duration::from_millis(250);
/// For one run of the native loop.
const DEADLINE: Duration = Duration::from_secs(120);

/// Every series, by its name.
pub async fn series(size: &Size) -> Value {
    let sizes = sizes(size).await;
    let prefetch = prefetches(size).await;
    let workers = workers(size).await;
    let handlers = handlers(size).await;
    json!({
        "runs": runs(size),
        "messages": size.messages,
        "cores": cores(),
        "sizes": sizes,
        "prefetch": prefetch,
        "workers": workers,
        "handlers": handlers,
    })
}

async fn sizes(size: &Size) -> Vec<Value> {
    let mut points = Vec::new();
    for (bytes, messages) in SIZES {
        let (wabbit, native) = in_turns(size, &vec![b'x'; bytes], messages, PREFETCH).await;
        points.push(json!({ "bytes": bytes, "wabbit": wabbit, "native": native }));
    }
    points
}

async fn prefetches(size: &Size) -> Vec<Value> {
    let mut points = Vec::new();
    for (prefetch, messages) in PREFETCHES {
        let (wabbit, native) = in_turns(size, &[b'x'; BODY_BYTES], messages, prefetch).await;
        points.push(json!({ "prefetch": prefetch, "wabbit": wabbit, "native": native }));
    }
    points
}

/// The host and the native loop, on one queue.
async fn in_turns(size: &Size, body: &[u8], messages: usize, prefetch: u16) -> (Value, Value) {
    let (queues, messages) = ([QUEUE.to_owned()], scaled(size, messages));
    let settings = format!("[consume]\nprefetch = {prefetch}\n");
    let (mut wabbit, mut native) = (Vec::new(), Vec::new());
    for run in 0..runs(size) {
        for turn in 0..2 {
            fill(&size.url, &queues, body, messages).await;
            if (run + turn) % 2 == 0 {
                let host = host(&size.url, "bench_ack", &queues, &settings);
                wabbit.push(of_host(host, messages, LOOK).await.0);
            } else {
                native.push(of_native(native::start_with(&size.url, false, messages, prefetch)).await);
            }
        }
    }
    (point(&wabbit), point(&native))
}

async fn workers(size: &Size) -> Vec<Value> {
    let mut points = Vec::new();
    for (workers, messages) in WORKERS {
        let queues: Vec<String> = (0..workers).map(|number| format!("bench.grow.{number}")).collect();
        let (mut wabbit, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..runs(size) {
            let messages = fill(&size.url, &queues, &[b'x'; BODY_BYTES], scaled(size, messages)).await;
            let host = host(&size.url, "bench_ack", &queues, "");
            let (measured, mib) = of_host(host, messages, LOOK_AT_MANY).await;
            wabbit.push(measured);
            resident.push(mib);
        }
        let mib = rounded(median(&resident));
        points.push(json!({ "workers": workers, "wabbit": point(&wabbit), "resident_mib": mib }));
    }
    points
}

/// The handler computes until so much time has passed by the clock. With more of them at once than there are cores, the
/// same time would count for several, so that there are as many as cores.
async fn handlers(size: &Size) -> Vec<Value> {
    let (queues, cores) = ([QUEUE.to_owned()], cores());
    let settings = format!("[consume]\nconcurrency = {cores}\n");
    let mut points = Vec::new();
    for (ms, messages) in HANDLERS {
        let (body, messages) = (json!({ "do": "spin", "ms": ms }).to_string(), scaled(size, messages));
        let mut wabbit = Vec::new();
        for _ in 0..runs(size) {
            fill(&size.url, &queues, body.as_bytes(), messages).await;
            let host = host(&size.url, "probe", &queues, &settings);
            wabbit.push(of_host(host, messages, LOOK).await.0);
        }
        let rates: Vec<f64> = wabbit.iter().map(|measured| measured.rate).collect();
        // Of all that the cores could do.
        let share = median(&rates) * ms as f64 / (1000.0 * cores as f64);
        let share = (share * 1000.0).round() / 1000.0;
        points.push(json!({ "ms": ms, "wabbit": point(&wabbit), "share": share }));
    }
    points
}

/// Of each point.
pub fn runs(size: &Size) -> usize {
    size.runs.min(RUNS_MAX)
}

/// How many messages are to be taken where so many usually are.
pub fn scaled(size: &Size, messages: usize) -> usize {
    (messages * size.messages / MESSAGES_USUAL).max(MESSAGES_MIN)
}

/// One decimal place.
pub fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Empties the queues, and puts so many messages into them, as many into each. Returns how many that are: a few more
/// where the number cannot be divided.
pub async fn fill(url: &str, queues: &[String], body: &[u8], messages: usize) -> usize {
    let each = messages.div_ceil(queues.len());
    let peer = Peer::connect(url).await;
    for queue in queues {
        peer.durable_queue(queue).await;
        peer.channel().queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
        peer.publish_all("", queue, iter::repeat_n(body, each), persistent()).await;
    }
    peer.close().await;
    each * queues.len()
}

/// A host with a worker on each of the queues, all with one guest and these sections of the manifest.
pub fn host(url: &str, guest: &str, queues: &[String], settings: &str) -> HostConfig {
    let config = HostConfig::new(url).plugin("bench.wasm", &places::root().join(format!("target/guests/{guest}.wasm")));
    queues.iter().enumerate().fold(config, |config, (number, queue)| {
        let text = format!("plugin = \"bench.wasm\"\n[[queue]]\nname = \"{queue}\"\n{settings}");
        config.manifest(&format!("w{number}"), &text)
    })
}

/// What it did, and the most MiB that it had resident.
async fn of_host(config: HostConfig, messages: usize, look: Duration) -> (Measured, f64) {
    let mut host = Host::start(config);
    let measured = rates::watch(&host, messages, look).await;
    let resident = host.peak_kib() as f64 / 1024.0;
    assert_eq!(host.terminate().await, 0);
    (measured, resident)
}

/// What the native loop says it did: microseconds, messages, microseconds of CPU.
async fn of_native(mut child: Child) -> Measured {
    let status = wait_until(DEADLINE, "the native loop to end", async || {
        child.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned())
    })
    .await;
    assert!(status.success(), "the native loop: {status}");
    let printed = io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let numbers: Vec<f64> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
    Measured { rate: numbers[1] * 1e6 / numbers[0], cpu_us: numbers[2] / numbers[1] }
}

fn point(measured: &[Measured]) -> Value {
    let middle = |value: fn(&Measured) -> f64| rounded(median(&measured.iter().map(value).collect::<Vec<_>>()));
    json!({ "rate": middle(|measured| measured.rate), "cpu_us": middle(|measured| measured.cpu_us) })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
