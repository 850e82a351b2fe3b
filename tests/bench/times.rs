//! How long single messages take.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::time::MissedTickBehavior;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::host::{self, Host};
use crate::harness::{DEADLINE, places, wait_until};
use crate::rates::{self, window};
use crate::report::{Figure, Row, Target};
use crate::{BODY_BYTES, OUT, QUEUE, Size, native};

/// Calls in one process.
const CALLS: usize = 200_000;
/// The manifest of what is called without a broker.
const MANIFEST: &str = r#"
plugin = "x.wasm"
[[queue]]
name = "q"
[limits]
memory = "256MiB"
[grant]
config = { greeting = "hello" }
keyvalue = { store = "bench", memory = true }
http = ["https://api.example.com"]
"#;
/// What an instance and a call took of a bare sandbox, in µs, and how much longer they may take in the host.
const JAVASCRIPT_US: f64 = 73.0;
const PYTHON_US: f64 = 758.0;
const SLOWER: f64 = 1.3;
/// How often messages are sent: so many at once that the rate is right.
const BEAT: Duration = Duration::from_millis(2);

/// A call without a broker: with a fresh instance, and with one that is kept.
pub async fn in_process(size: &Size) -> Vec<Row> {
    let (mut fresh, mut kept, mut javascript, mut python) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..size.runs {
        fresh.push(call("bench_ack", CALLS, false).await);
        kept.push(call("bench_ack", CALLS, true).await);
        javascript.push(call("conformance/javascript", CALLS / 50, false).await);
        python.push(call("conformance/python", CALLS / 200, false).await);
    }
    let row = |what, wabbit, most| Row {
        what,
        unit: "µs",
        wabbit,
        beside: None,
        figure: Figure::Alone,
        target: Target::AtMost(most),
    };
    vec![
        row("in process: a fresh instance and a call", fresh, 5.0),
        row("in process: a call, reused", kept, 1.0),
        row("in process: JavaScript (QuickJS)", javascript, JAVASCRIPT_US * SLOWER),
        row("in process: Python", python, PYTHON_US * SLOWER),
    ]
}

/// The median of many calls, in µs.
async fn call(guest: &str, calls: usize, reuse: bool) -> f64 {
    let plugin = places::root().join(format!("target/guests/{guest}.wasm")).display().to_string();
    let (body, calls) = ("x".repeat(BODY_BYTES), calls.to_string());
    let folder = places::folder("bench");
    // What handlers of the conformance table ask for, and what they are told to do.
    fs::write(folder.path().join("m.toml"), MANIFEST).unwrap();
    let mut arguments = vec!["invoke", &plugin, "--manifest", "m.toml", "--body", &body, "--header", "do=ack"];
    arguments.extend(["--repeat", &calls, "--json"]);
    arguments.extend(reuse.then_some("--reuse"));
    let told = host::run(folder.path(), &arguments).await.success();
    serde_json::from_str::<serde_json::Value>(&told).unwrap()["took_us"].as_f64().unwrap()
}

/// From publishing a message to what is published for it, at half of what the native loop can do.
pub async fn latency(size: &Size) -> Row {
    let rate = rates::of_native(size, true).await.rate / 2.0;
    let (mut wabbit, mut beside) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        for turn in 0..2 {
            let took = latency_of(size, rate, (run + turn) % 2 == 0).await;
            if (run + turn) % 2 == 0 { wabbit.push(took) } else { beside.push(took) }
        }
    }
    Row {
        what: "latency at half load, publish to answer, p99",
        unit: "ms",
        wabbit,
        beside: Some(("native", beside)),
        figure: Figure::Ratio,
        target: Target::AtMost(1.2),
    }
}

/// The 99th percentile, in ms.
async fn latency_of(size: &Size, rate: f64, wabbit: bool) -> f64 {
    let (url, messages) = (&size.url, size.messages);
    let mut answers = answers(&rates::fill(url, 0).await).await;
    let (mut host, mut child) = (None, None);
    if wabbit {
        host = Some(Host::ready(rates::host(url, true)).await);
    } else {
        child = Some(native::start(url, true, messages));
    }
    let publisher = Peer::connect(url).await;
    wait_until(DEADLINE, "a consumer", async || match consumers(&publisher).await {
        0 => Err("none".into()),
        _ => Ok(()),
    })
    .await;
    let began = Instant::now();
    let publishing = tokio::spawn(publish(publisher, messages, rate, began));
    let (from, to) = window(messages);
    let mut took = Vec::new();
    for number in 0..to {
        let answer = tokio::time::timeout(DEADLINE, answers.next()).await.unwrap().unwrap().unwrap();
        let sent = Duration::from_nanos(u64::from_be_bytes(answer.data[..8].try_into().unwrap()));
        if number >= from {
            took.push((began.elapsed() - sent).as_secs_f64() * 1e3);
        }
    }
    publishing.await.unwrap();
    if let Some(mut host) = host {
        assert_eq!(host.terminate().await, 0);
    }
    if let Some(child) = child {
        rates::end(child).await;
    }
    took.sort_by(f64::total_cmp);
    took[took.len() * 99 / 100]
}

async fn publish(peer: Peer, messages: usize, rate: f64, began: Instant) {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0;
    while sent < messages {
        beat.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        while sent < due.min(messages) {
            let mut body = [b'x'; BODY_BYTES];
            body[..8].copy_from_slice(&u64::try_from(began.elapsed().as_nanos()).unwrap().to_be_bytes());
            let options = BasicPublishOptions::default();
            drop(peer.channel().basic_publish("".into(), QUEUE.into(), options, &body, persistent()).await.unwrap());
            sent += 1;
        }
    }
}

/// From the start of the process to what is published for the first message.
pub async fn start(size: &Size) -> Row {
    // It is compiled before.
    let mut host = Host::ready(rates::host(&size.url, true)).await;
    assert_eq!(host.terminate().await, 0);
    let (mut wabbit, mut beside) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        for turn in 0..2 {
            let peer = rates::fill(&size.url, 1).await;
            let mut answers = answers(&peer).await;
            let began = Instant::now();
            if (run + turn) % 2 == 0 {
                let mut host = Host::start(rates::host(&size.url, true));
                answers.next().await.unwrap().unwrap();
                wabbit.push(began.elapsed().as_secs_f64() * 1e3);
                assert_eq!(host.terminate().await, 0);
            } else {
                let mut child = native::start(&size.url, true, size.messages);
                answers.next().await.unwrap().unwrap();
                beside.push(began.elapsed().as_secs_f64() * 1e3);
                // It waits for more than there are.
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
    }
    Row {
        what: "from the process's start to the first answer",
        unit: "ms",
        wabbit,
        beside: Some(("native", beside)),
        figure: Figure::Difference,
        target: Target::AtMost(250.0),
    }
}

/// What is published for the messages.
async fn answers(peer: &Peer) -> lapin::Consumer {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let channel = peer.new_channel().await;
    channel.basic_consume(OUT.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn consumers(peer: &Peer) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    peer.channel().queue_declare(QUEUE.into(), passive, FieldTable::default()).await.unwrap().consumer_count()
}
