//! The host beside what is done without it, in one run: a native loop of lapin, and a script with pika.
//!
//! Runs are interleaved, and each figure is the median over them, so that a noisy machine disturbs both sides alike. What
//! counts are the ratios; the rates of two different runs say nothing.
//!
//! `RUNS` (default 5) and `MESSAGES` (default 60000) size it, `ROW` takes the rows whose names hold that text. `JSON` is
//! the file that all figures are written to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on says so by panicking"
)]

mod grow;
#[path = "../harness/mod.rs"]
mod harness;
mod load;
mod many;
mod native;
mod rates;
mod report;
mod scale;
mod times;

use std::env;
use std::fs;

use harness::broker::Broker;
use report::Row;

/// What is consumed from, and what a relay publishes to.
const QUEUE: &str = "bench.in";
const OUT: &str = "bench.out";
const PREFETCH: u16 = 1000;
const BODY_BYTES: usize = 100;

/// How much is measured, and where.
pub struct Size {
    pub url: String,
    pub runs: usize,
    pub messages: usize,
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("native") => {
            let (messages, prefetch) = (arguments[4].parse().unwrap(), arguments[5].parse().unwrap());
            runtime.block_on(native::run(&arguments[2], arguments[3] == "relay", messages, prefetch));
        }
        _ => runtime.block_on(bench()),
    }
    runtime.shutdown_background();
}

async fn bench() {
    let broker = Broker::private().await;
    let vhost = broker.vhost("bench").await;
    let size = Size { url: vhost.url.clone(), runs: number("RUNS", 5), messages: number("MESSAGES", 60_000) };
    let only = env::var("ROW").unwrap_or_default();
    // These take long and are no rows of the table: they come only where they are named.
    let series = match only.as_str() {
        "grow" => Some(grow::series(&size).await),
        "scale" => Some(scale::rows(&size).await),
        _ => None,
    };
    if let Some(series) = series {
        let text = format!("{}\n", serde_json::to_string_pretty(&series).unwrap());
        print!("{text}");
        if let Ok(path) = env::var("JSON") {
            fs::write(path, text).unwrap();
        }
        return;
    }
    let wanted = |name: &str| name.contains(&only);
    let mut rows: Vec<Row> = Vec::new();
    if wanted("ack") {
        rows.extend(rates::ack(&size).await);
    }
    if wanted("relay") {
        rows.extend(rates::relay(&size).await);
    }
    if wanted("in process") {
        rows.extend(times::in_process(&size).await);
    }
    if wanted("latency") {
        rows.push(times::latency(&size).await);
    }
    if wanted("start") {
        rows.push(times::start(&size).await);
    }
    if wanted("spin") {
        rows.push(load::spin(&size).await);
    }
    if wanted("memory") {
        rows.push(load::memory(&size).await);
    }
    if wanted("workers") {
        rows.extend(many::workers(&size).await);
    }
    println!(
        "{} messages of {BODY_BYTES} bytes, persistent, in a durable queue, prefetch {PREFETCH}; the median of {} runs\n",
        size.messages, size.runs
    );
    println!("{}", report::table(&rows));
    if let Ok(path) = env::var("JSON") {
        fs::write(path, report::json(&size, &rows)).unwrap();
    }
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}
