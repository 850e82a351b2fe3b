//! What the host has in memory is bounded by what it may have in hand, not by what waits on its queues.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::amqp::persistent;
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, stage};

/// A body, nearly as large as the setting allows.
const BODY_BYTES: usize = (4 << 20) - 1024;
/// The host is stopped for a while, for which the broker is not to give up on it.
const SETTINGS: &str = "[limits]\nbody = \"4MiB\"\nrunning = 1\n[amqp]\nheartbeat = \"60s\"\n";
/// So many go through one by one before, so that every memory of the pool has had one of them.
const BEFORE: u64 = 40;
/// How many of them wait.
const WAITING: usize = 60;
const PREFETCH: usize = 4;
/// What a delivery in hand may take, as a multiple of `body`: itself, and as much again while it arrives.
const FACTOR: u64 = 2;
/// What there is besides: what was taken for others, and is kept for the next.
const MARGIN_KIB: u64 = 32 << 10;

/// A host that handles one delivery at a time and finds its queue full of large ones, each of which takes it so long. With
/// it what it had in memory at most while there was one of them at a time, in KiB.
async fn full(prefetch: usize, ms: u64) -> (Stage, u64) {
    let manifest = format!(
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[limits]\ntime = \"60s\"\n\
         [consume]\nconcurrency = 1\nprefetch = {prefetch}\n"
    );
    let mut stage = stage("memory", SETTINGS, &[("probe", &manifest)]).await;
    let body = |ms: u64| {
        let mut body = json!({"do": "sleep", "ms": ms}).to_string().into_bytes();
        // White space behind a command means nothing.
        body.resize(BODY_BYTES, b' ');
        body
    };
    let (work, warm, large) = (stage.named("@work"), body(0), body(ms));
    for number in 1..=BEFORE {
        stage.peer.publish("", &work, &warm, persistent()).await;
        stage.wait_for_settled("probe", "acked", number).await;
    }
    let before = stage.host.peak_kib();
    stage.host.signal(Signal::SIGSTOP);
    stage.peer.publish_all("", &work, (0..WAITING).map(|_| &large), persistent()).await;
    stage.host.signal(Signal::SIGCONT);
    (stage, before)
}

#[tokio::test]
async fn prefetch_times_the_largest_body_is_the_bound_of_memory() {
    let bound = PREFETCH as u64 * (4 << 10) * FACTOR + MARGIN_KIB;
    let (stage, before) = full(PREFETCH, 20).await;
    stage.wait_for_settled("probe", "acked", BEFORE + WAITING as u64).await;
    let grown = stage.host.peak_kib().saturating_sub(before);
    println!("{PREFETCH} of 4 MiB: {grown} KiB more than {before} KiB, of {bound} KiB");
    assert!(grown <= bound, "{grown} KiB more than {before} KiB, the bound is {bound} KiB");

    // A host that may have all of them in hand has more: without the prefetch the bound would not have held.
    let (stage, before) = full(2 * WAITING, 30_000).await;
    wait_until(DEADLINE, "what shows that the bound is one", async || {
        match (stage.host.peak_kib().saturating_sub(before), stage.peer.count(&stage.named("@work")).await) {
            (grown, 0) if grown > bound => Ok(()),
            (grown, waiting) => Err(format!("{grown} KiB more than {before} KiB, and {waiting} still wait")),
        }
    })
    .await;
}
