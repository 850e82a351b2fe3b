//! Many workers in one host.

use std::time::{Duration, Instant};

use lapin::options::QueuePurgeOptions;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::host::{Host, HostConfig};
use crate::rates;
use crate::report::{Figure, Row, Target};
use crate::{BODY_BYTES, Size};

/// Workers, each with a queue of its own and all with one plugin.
const WORKERS: usize = 1000;
/// So many times the usual messages, for the window to be long beside what a look at so many workers takes.
const TIMES: usize = 4;
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);

/// One worker's messages a second beside those of many, what these take of the memory, and until they are ready.
pub async fn workers(size: &Size) -> Vec<Row> {
    let (mut one, mut many, mut resident, mut ready) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..size.runs {
        for turn in 0..2 {
            let count = if (run + turn) % 2 == 0 { WORKERS } else { 1 };
            let messages = size.messages * TIMES;
            fill(&size.url, count, messages).await;
            let mut host = Host::start(host(&size.url, count));
            let measured = rates::watch(&host, messages, LOOK).await;
            if count == 1 {
                one.push(measured.rate);
            } else {
                many.push(measured.rate);
                resident.push(host.peak_kib() as f64 / 1024.0);
            }
            assert_eq!(host.terminate().await, 0);
        }
        let began = Instant::now();
        let mut host = Host::ready(host(&size.url, WORKERS)).await;
        ready.push(began.elapsed().as_secs_f64());
        assert_eq!(host.terminate().await, 0);
    }
    let row = |what, unit, wabbit, most| Row {
        what,
        unit,
        wabbit,
        beside: None,
        figure: Figure::Alone,
        target: Target::AtMost(most),
    };
    vec![
        Row {
            what: "1,000 workers",
            unit: "messages/s",
            wabbit: many,
            beside: Some(("one worker", one)),
            figure: Figure::Ratio,
            target: Target::AtLeast(0.9),
        },
        row("1,000 workers: memory", "MiB", resident, 300.0),
        row("1,000 workers: until all consume", "s", ready, 10.0),
    ]
}

fn queue(number: usize) -> String {
    format!("bench.many.{number}")
}

/// Puts as many messages into each of the queues.
async fn fill(url: &str, workers: usize, messages: usize) {
    let peer = Peer::connect(url).await;
    let bodies = vec![vec![b'x'; BODY_BYTES]; messages / workers];
    for number in 0..workers {
        let queue = queue(number);
        peer.durable_queue(&queue).await;
        peer.channel().queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
        peer.publish_all("", &queue, &bodies, persistent()).await;
    }
    peer.close().await;
}

fn host(url: &str, workers: usize) -> HostConfig {
    let config = HostConfig::new(url).plugin("bench.wasm", &rates::guest(rates::BARE));
    (0..workers).fold(config, |config, number| {
        let text = format!("plugin = \"bench.wasm\"\n[[queue]]\nname = \"{}\"\n", queue(number));
        config.manifest(&format!("w{number}"), &text)
    })
}
