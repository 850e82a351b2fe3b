//! Messages a second, and what each costs of the processor: the queue is full, and a consumer takes what it can.

use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use lapin::options::QueuePurgeOptions;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::host::{Host, HostConfig};
use crate::harness::process::computed;
use crate::harness::{places, python};
use crate::report::{Figure, Row, Target};
use crate::{BODY_BYTES, OUT, PREFETCH, QUEUE, Size, native};

/// The rate is taken between these shares of all messages, so that starting and ending do not count.
const FROM: f64 = 0.1;
const TO: f64 = 0.9;
/// The script takes fewer messages, for it takes longer.
const PIKA_SHARE: usize = 3;
/// Handlers that do nothing but ack: with nothing of WASI, and with what Rust's standard library has of it.
pub const BARE: &str = "bare_bench_ack";
pub const WASI: &str = "bench_ack";
/// For one run.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a consumer did within the window.
#[derive(Clone, Copy)]
pub struct Measured {
    /// Messages per second.
    pub rate: f64,
    /// CPU of the consuming process, in µs a message.
    pub cpu_us: f64,
}

impl Measured {
    fn of(time: Duration, count: usize, cpu: Duration) -> Self {
        let count = count as f64;
        Self { rate: count / time.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / count }
    }

    /// From microseconds, messages, and microseconds of CPU, as the other consumers print them.
    fn parse(text: &str) -> Self {
        let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let time = Duration::from_micros(numbers[0]);
        Self::of(time, usize::try_from(numbers[1]).unwrap(), Duration::from_micros(numbers[2]))
    }
}

/// Consume and ack, beside the native loop and beside the script that users have.
pub async fn ack(size: &Size) -> Vec<Row> {
    let (mut wabbit, mut wasi, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    let (mut native, mut pika) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        // The order changes, so that whatever one leaves behind disturbs the others as often.
        for turn in 0..5 {
            match (run + turn) % 5 {
                0 => wabbit.push(of_host(size, host(&size.url, false)).await),
                1 => native.push(of_native(size, false).await),
                2 => kept.push(of_host(size, reusing(&size.url)).await),
                3 => wasi.push(of_host(size, host(&size.url, false).plugin("bench.wasm", &guest(WASI))).await),
                _ => pika.push(of_pika(size).await),
            }
        }
    }
    let rate = |measured: &[Measured]| measured.iter().map(|measured| measured.rate).collect();
    let cpu = |measured: &[Measured]| measured.iter().map(|measured| measured.cpu_us).collect();
    let row = |what, unit, wabbit, beside, figure, target| Row { what, unit, wabbit, beside, figure, target };
    let [messages, micros] = ["messages/s", "µs of CPU a message"];
    vec![
        row(
            "consume, ack",
            messages,
            rate(&wabbit),
            Some(("native", rate(&native))),
            Figure::Ratio,
            Target::AtLeast(1.0),
        ),
        row(
            "consume, ack: CPU",
            micros,
            cpu(&wabbit),
            Some(("native", cpu(&native))),
            Figure::Difference,
            Target::AtMost(3.0),
        ),
        row(
            "consume, ack, against a script",
            messages,
            rate(&wabbit),
            Some(("pika", rate(&pika))),
            Figure::Ratio,
            Target::AtLeast(2.8),
        ),
        row(
            "consume, ack, with WASI",
            messages,
            rate(&wasi),
            Some(("native", rate(&native))),
            Figure::Ratio,
            Target::None,
        ),
        row(
            "consume, ack, with WASI: CPU",
            micros,
            cpu(&wasi),
            Some(("native", cpu(&native))),
            Figure::Difference,
            Target::None,
        ),
        row(
            "consume, ack, instances kept",
            messages,
            rate(&kept),
            Some(("native", rate(&native))),
            Figure::Ratio,
            Target::None,
        ),
        row(
            "consume, ack, instances kept: CPU",
            micros,
            cpu(&kept),
            Some(("native", cpu(&native))),
            Figure::Difference,
            Target::None,
        ),
        row("the script: CPU", micros, cpu(&wabbit), Some(("pika", cpu(&pika))), Figure::Ratio, Target::AtMost(0.3)),
    ]
}

/// Consume, publish one message, await its confirm, ack.
pub async fn relay(size: &Size) -> Vec<Row> {
    let (mut wabbit, mut native) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        for turn in 0..2 {
            match (run + turn) % 2 {
                0 => wabbit.push(of_host(size, host(&size.url, true)).await.rate),
                _ => native.push(of_native(size, true).await.rate),
            }
        }
    }
    let (what, beside) = ("consume, publish, confirm, ack", Some(("native", native)));
    vec![Row { what, unit: "messages/s", wabbit, beside, figure: Figure::Ratio, target: Target::AtLeast(0.97) }]
}

/// Empties both queues, and puts so many messages into the first.
pub async fn fill(url: &str, messages: usize) -> Peer {
    let peer = Peer::connect(url).await;
    for queue in [QUEUE, OUT] {
        peer.durable_queue(queue).await;
        peer.channel().queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap();
    }
    peer.publish_all("", QUEUE, vec![vec![b'x'; BODY_BYTES]; messages], persistent()).await;
    peer
}

/// The plugin of a handler that the host is measured with.
pub fn guest(name: &str) -> PathBuf {
    places::root().join(format!("target/guests/{name}.wasm"))
}

/// A host with one worker on the queue.
pub fn host(url: &str, relay: bool) -> HostConfig {
    let name = if relay { "bare_bench_relay" } else { BARE };
    HostConfig::new(url).plugin("bench.wasm", &guest(name)).manifest(
        "bench",
        &format!(
            "plugin = \"bench.wasm\"\n[[queue]]\nname = \"{QUEUE}\"\n[consume]\nprefetch = {PREFETCH}\n\
             [grant]\npublish = [\"/{OUT}\"]\n"
        ),
    )
}

/// The same, where an instance handles one delivery after the other.
fn reusing(url: &str) -> HostConfig {
    let manifest = format!(
        "plugin = \"bench.wasm\"\n[[queue]]\nname = \"{QUEUE}\"\n[consume]\nprefetch = {PREFETCH}\n\
         [instance]\nreuse = true\nmax-deliveries = 100000\n"
    );
    host(url, false).manifest("bench", &manifest)
}

async fn of_host(size: &Size, host: HostConfig) -> Measured {
    fill(&size.url, size.messages).await.close().await;
    let mut host = Host::start(host);
    // Looking costs the host as well.
    let measured = watch(&host, size.messages, Duration::from_millis(50)).await;
    assert_eq!(host.terminate().await, 0);
    measured
}

/// What a host does within the window of so many messages.
pub async fn watch(host: &Host, messages: usize, look: Duration) -> Measured {
    let (from, to) = window(messages);
    let mut start = None;
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "the host is not done: {:?}", host.logs());
        let acked = acked(host).await;
        let now = (Instant::now(), acked, computed(host.id()));
        match start {
            None if acked >= from => start = Some(now),
            Some((time, count, cpu)) if acked >= to => return Measured::of(now.0 - time, acked - count, now.2 - cpu),
            _ => {}
        }
        tokio::time::sleep(look).await;
    }
}

/// What all workers have acked so far.
pub async fn acked(host: &Host) -> usize {
    // The host may not listen yet.
    let Ok((_, workers)) = host.try_get("/workers").await else { return 0 };
    let workers: serde_json::Value = serde_json::from_str(&workers).unwrap_or_default();
    let rows = workers.as_array().into_iter().flatten();
    let acked: u64 = rows.filter_map(|row| row["counts"]["acked"].as_u64()).sum();
    usize::try_from(acked).unwrap()
}

/// The native loop's.
pub async fn of_native(size: &Size, relay: bool) -> Measured {
    fill(&size.url, size.messages).await.close().await;
    Measured::parse(&end(native::start(&size.url, relay, size.messages)).await)
}

async fn of_pika(size: &Size) -> Measured {
    let messages = size.messages / PIKA_SHARE;
    fill(&size.url, messages).await.close().await;
    let (from, to) = window(messages);
    let arguments = [size.url.clone(), QUEUE.into(), from.to_string(), to.to_string()];
    let script = places::root().join("tests/bench/consume.py");
    Measured::parse(&python::run(&script, &arguments, DEADLINE).await.success())
}

/// What a child has printed when it ends.
pub async fn end(child: Child) -> String {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The message that begins the window of so many, and the one that ends it.
pub fn window(messages: usize) -> (usize, usize) {
    ((messages as f64 * FROM) as usize, (messages as f64 * TO) as usize)
}
