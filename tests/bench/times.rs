//! How long single messages take.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::time::MissedTickBehavior;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::host::{self, Host};
use crate::harness::{DEADLINE, places, process, wait_until};
use crate::rates::{self, window};
use crate::report::{Figure, Row, Target};
use crate::{BODY_BYTES, OUT, QUEUE, Size, native};

/// Calls in one process.
const CALLS: usize = 200_000;
/// What an instance and a call took of a bare sandbox, in µs, and how much longer they may take in the host.
const JAVASCRIPT_US: f64 = 73.0;
const PYTHON_US: f64 = 758.0;
const SLOWER: f64 = 1.3;
/// For compiling two handlers.
const BUILD: Duration = Duration::from_secs(300);
/// How often messages are sent: so many at once that the rate is right.
const BEAT: Duration = Duration::from_millis(2);

/// A call without a broker: with a fresh instance, and with one that is kept. The handlers in other languages are those that
/// `wabbit new` makes.
pub async fn in_process(size: &Size) -> Vec<Row> {
    let [bare, wasi] = [rates::BARE, rates::WASI].map(rates::guest);
    let folder = places::folder("bench");
    let others = ["javascript", "python"];
    let sdk = places::root().join("sdk").canonicalize().unwrap().display().to_string();
    for language in others {
        host::run(folder.path(), &["new", language, language, "--sdk", &sdk]).await.success();
    }
    let mut build = host::wabbit(folder.path());
    build.args(["build", "--sdk", &sdk]);
    process::run("wabbit build", build, BUILD).await.success();
    let [javascript_plugin, python_plugin] = others.map(|name| folder.path().join(format!("plugins/{name}.wasm")));

    let (mut fresh, mut with_wasi, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let (mut javascript, mut python) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        fresh.push(call(&bare, CALLS, &["--body", &"x".repeat(BODY_BYTES)]).await);
        with_wasi.push(call(&wasi, CALLS, &["--body", &"x".repeat(BODY_BYTES)]).await);
        kept.push(call(&bare, CALLS, &["--body", &"x".repeat(BODY_BYTES), "--reuse"]).await);
        // There is nobody to greet, so that none of them logs.
        javascript.push(call(&javascript_plugin, CALLS / 50, &["--body", ""]).await);
        python.push(call(&python_plugin, CALLS / 200, &["--body", ""]).await);
    }
    let row = |what, wabbit, target| Row { what, unit: "µs", wabbit, beside: None, figure: Figure::Alone, target };
    vec![
        row("in process: a fresh instance and a call", fresh, Target::AtMost(5.0)),
        row("in process: the same, with WASI", with_wasi, Target::None),
        row("in process: a call, reused", kept, Target::AtMost(1.0)),
        row("in process: JavaScript (QuickJS)", javascript, Target::AtMost(JAVASCRIPT_US * SLOWER)),
        row("in process: Python", python, Target::AtMost(PYTHON_US * SLOWER)),
    ]
}

/// The median of many calls, in µs.
async fn call(plugin: &Path, calls: usize, arguments: &[&str]) -> f64 {
    let (plugin, calls) = (plugin.to_str().unwrap(), calls.to_string());
    let call = [&["invoke", plugin, "--repeat", &calls, "--json"], arguments].concat();
    let told = host::run(&places::root(), &call).await.success();
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
