//! The host beside a native consumer, in one run: consume and ack, and consume, publish, confirm, ack.
//!
//! The native loop is lapin as well as it can be used: acks and confirms are pipelined, and acks are cumulative. It is
//! built as cargo builds a release by default, the host as it is released; link-time optimisation of the native loop
//! takes its CPU from about 6 to 4.6 µs a message, and the ratio of the first row down by about 0.03. Runs
//! are interleaved, and each figure is the median over them, so that a noisy machine disturbs both sides alike. What
//! counts is the ratio; the rates of two different runs say nothing.
//!
//! `RUNS` (default 5) and `MESSAGES` (default 60000) size it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on says so by panicking"
)]

mod harness;

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use harness::{
    amqp::{Peer, persistent},
    broker::Broker,
    host::{Host, HostConfig},
    places,
};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;

const QUEUE: &str = "bench.in";
const OUT: &str = "bench.out";
const PREFETCH: u16 = 1000;
const BODY_BYTES: usize = 100;
/// The native loop acks so many at once, as the host does.
const ACK_EACH: usize = 100;
/// The rate is taken between these shares of all messages, so that starting and ending do not count.
const FROM: f64 = 0.1;
const TO: f64 = 0.9;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("native") => {
            runtime.block_on(native(&arguments[2], arguments[3] == "relay", arguments[4].parse().unwrap()))
        }
        _ => runtime.block_on(bench()),
    }
    runtime.shutdown_background();
}

#[derive(Clone, Copy)]
struct Measured {
    /// Messages per second.
    rate: f64,
    /// CPU of the consuming process, in µs a message.
    cpu_us: f64,
}

async fn bench() {
    let runs = size("RUNS", 5);
    let messages = size("MESSAGES", 60_000);
    let broker = Broker::private().await;
    let vhost = broker.vhost("bench").await;
    println!("{messages} messages of {BODY_BYTES} bytes, persistent, durable queue, prefetch {PREFETCH}, {runs} runs");
    println!(
        "{:<34} {:>12} {:>12} {:>8} {:>14} {:>14}",
        "", "native msg/s", "wabbit msg/s", "ratio", "native cpu us", "wabbit cpu us"
    );
    let mut missed = false;
    let only = env::var("ROW").ok();
    for (row, relay) in [("consume, ack", false), ("consume, publish, confirm, ack", true)] {
        if only.as_deref().is_some_and(|only| only != if relay { "relay" } else { "ack" }) {
            continue;
        }
        let (mut native, mut wabbit) = (Vec::new(), Vec::new());
        for run in 0..runs {
            // The order changes, so that whatever one leaves behind disturbs the other as often.
            for host in [run % 2 == 0, run % 2 != 0] {
                fill(&vhost.url, messages).await;
                if host {
                    wabbit.push(measure_host(&vhost.url, relay, messages).await);
                } else {
                    native.push(measure_native(&vhost.url, relay, messages).await);
                }
            }
        }
        let ratio = median(&wabbit, |m| m.rate) / median(&native, |m| m.rate);
        missed |= ratio < 0.9;
        println!(
            "{row:<34} {:>12.0} {:>12.0} {ratio:>8.2} {:>14.1} {:>14.1}",
            median(&native, |m| m.rate),
            median(&wabbit, |m| m.rate),
            median(&native, |m| m.cpu_us),
            median(&wabbit, |m| m.cpu_us),
        );
        println!("{:<34} {:>12} {:>12}", "  spread", spread(&native), spread(&wabbit));
    }
    if missed {
        println!("a row is below 0.90 of native");
        std::process::exit(1);
    }
}

fn size(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn median(measured: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = measured.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(measured: &[Measured]) -> String {
    let rates = measured.iter().map(|measured| measured.rate);
    format!("{:.0}k-{:.0}k", rates.clone().fold(f64::MAX, f64::min) / 1e3, rates.fold(0.0, f64::max) / 1e3)
}

/// Empties both queues, and puts the messages into the first.
async fn fill(url: &str, messages: usize) {
    let peer = Peer::connect(url).await;
    for queue in [QUEUE, OUT] {
        peer.durable_queue(queue).await;
        peer.channel().queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
    }
    let body = vec![b'x'; BODY_BYTES];
    let bodies = vec![body; messages];
    peer.publish_all("", QUEUE, &bodies, persistent()).await;
}

async fn measure_host(url: &str, relay: bool, messages: usize) -> Measured {
    let guest = if relay { "bench_relay" } else { "bench_ack" };
    let config = HostConfig::new(url)
        .plugin("bench.wasm", &places::root().join(format!("target/guests/{guest}.wasm")))
        .manifest(
            "bench",
            &format!(
                "plugin = \"bench.wasm\"\n[[queue]]\nname = \"{QUEUE}\"\n[consume]\nprefetch = {PREFETCH}\n\
                 [grant]\npublish = [\"/{OUT}\"]\n"
            ),
        );
    let mut host = Host::start(config);
    let (from, to) = window(messages);
    let (mut start, mut end) = (None, None);
    let began = Instant::now();
    while end.is_none() {
        assert!(began.elapsed() < Duration::from_secs(120), "the host is not done: {:?}", host.logs());
        let acked = acked(&host).await;
        if start.is_none() && acked >= from {
            start = Some((Instant::now(), acked, cpu(host.id())));
        }
        if acked >= to {
            end = Some((Instant::now(), acked, cpu(host.id())));
        }
        // Looking costs the host as well.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (start, end) = (start.unwrap(), end.unwrap());
    assert_eq!(host.terminate().await, 0);
    measured((end.0 - start.0, end.1 - start.1, end.2 - start.2))
}

async fn acked(host: &Host) -> usize {
    // The host may not listen yet.
    let Ok((_, workers)) = host.try_get("/workers").await else { return 0 };
    let workers: serde_json::Value = serde_json::from_str(&workers).unwrap_or_default();
    workers[0]["counts"]["acked"].as_u64().map_or(0, |acked| usize::try_from(acked).unwrap())
}

async fn measure_native(url: &str, relay: bool, messages: usize) -> Measured {
    let what = if relay { "relay" } else { "ack" };
    let child = Command::new(env::current_exe().unwrap())
        .args(["native", url, what, &messages.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success());
    let numbers: Vec<u64> =
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(|number| number.parse().unwrap()).collect();
    measured((
        Duration::from_micros(numbers[0]),
        usize::try_from(numbers[1]).unwrap(),
        Duration::from_micros(numbers[2]),
    ))
}

fn measured((time, count, cpu): (Duration, usize, Duration)) -> Measured {
    let count = count as f64;
    Measured { rate: count / time.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / count }
}

fn window(messages: usize) -> (usize, usize) {
    ((messages as f64 * FROM) as usize, (messages as f64 * TO) as usize)
}

/// User and system time of a process.
fn cpu(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name, in parentheses, may hold spaces. utime and stime are fields 14 and 15, in ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The native loop, in a process of its own. Prints the window's time, count and CPU time.
async fn native(url: &str, relay: bool, messages: usize) {
    let peer = Peer::connect(url).await;
    let publishing = Peer::connect(url).await;
    let publish = publishing.new_channel().await;
    publish.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let channel = peer.new_channel().await;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
    let mut consumer = channel
        .basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let (from, to) = window(messages);
    let (mut done, mut unsent) = (0, 0);
    let mut start = None;
    let mut confirming: VecDeque<Pin<Box<dyn Future<Output = u64>>>> = VecDeque::new();
    while done < to {
        let last = tokio::select! {
            delivery = consumer.next() => {
                let delivery: Delivery = delivery.unwrap().unwrap();
                if !relay {
                    delivery.delivery_tag
                } else {
                    let (publish, tag) = (publish.clone(), delivery.delivery_tag);
                    let mut sending: Pin<Box<dyn Future<Output = u64>>> = Box::pin(async move {
                        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                        let confirm = publish.basic_publish("".into(), OUT.into(), options, &delivery.data, persistent());
                        assert!(confirm.await.unwrap().await.unwrap().is_ack());
                        tag
                    });
                    // The first poll queues the frames.
                    match (&mut sending).now_or_never() {
                        Some(tag) => confirming.push_back(Box::pin(std::future::ready(tag))),
                        None => confirming.push_back(sending),
                    }
                    continue;
                }
            }
            tag = async { confirming.front_mut().unwrap().await }, if !confirming.is_empty() => {
                confirming.pop_front();
                tag
            }
        };
        done += 1;
        unsent += 1;
        if unsent == ACK_EACH {
            unsent = 0;
            let channel = channel.clone();
            let mut ack =
                Box::pin(async move { channel.basic_ack(last, BasicAckOptions { multiple: true }).await.unwrap() });
            // Polled here, so that acks leave in order; written while this goes on.
            if (&mut ack).now_or_never().is_none() {
                tokio::spawn(ack);
            }
        }
        if start.is_none() && done >= from {
            start = Some((Instant::now(), done, cpu(std::process::id())));
        }
    }
    let start = start.unwrap();
    let end = (Instant::now(), done, cpu(std::process::id()));
    println!("{} {} {}", (end.0 - start.0).as_micros(), end.1 - start.1, (end.2 - start.2).as_micros());
}
