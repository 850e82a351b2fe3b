//! What the host has in memory is bounded by what it may have in hand, not by what waits on its queues.

use serde_json::json;

use crate::harness::amqp::persistent;
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, stage};

/// A body, nearly as large as the setting allows.
const BODY_BYTES: usize = (4 << 20) - 1024;
/// One handler at a time, so that what handlers leave in their pool of memories does not count.
const SETTINGS: &str = "[limits]\nbody = \"4MiB\"\nrunning = 1\n";
/// How many of them wait.
const WAITING: usize = 60;
const PREFETCH: usize = 4;
/// What a delivery in hand may take, as a multiple of `body`: itself, and as much again while it arrives.
const FACTOR: u64 = 2;
/// What there is besides: the one delivery that is with the handler, in the host's words and in the handler's memory, and
/// what was taken for others and is kept for the next.
const MARGIN_KIB: u64 = 48 << 10;

/// A host that handles one delivery at a time, each for so long, and finds its queue full of large ones. With it what a
/// host like it had in memory at most, in KiB, that found a small one.
async fn full(prefetch: usize, ms: u64) -> (Stage, u64) {
    let manifest = format!(
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[limits]\ntime = \"60s\"\n\
         [consume]\nconcurrency = 1\nprefetch = {prefetch}\n"
    );
    let mut stage = stage("memory", SETTINGS, &[("probe", &manifest)]).await;
    stage.send("small", &json!({"do": "ack"}).to_string()).await;
    stage.wait_for_settled("probe", "acked", 1).await;
    let before = stage.host.peak_kib();
    assert_eq!(stage.host.terminate().await, 0);

    let mut body = json!({"do": "sleep", "ms": ms}).to_string().into_bytes();
    // White space behind a command means nothing.
    body.resize(BODY_BYTES, b' ');
    stage.peer.publish_all("", &stage.named("@work"), (0..WAITING).map(|_| &body), persistent()).await;
    stage.host.start_again();
    stage.host.wait_until_ready().await;
    (stage, before)
}

#[tokio::test]
async fn prefetch_times_the_largest_body_is_the_bound_of_memory() {
    let bound = PREFETCH as u64 * (4 << 10) * FACTOR + MARGIN_KIB;
    let (stage, before) = full(PREFETCH, 20).await;
    stage.wait_for_settled("probe", "acked", WAITING as u64).await;
    let grown = stage.host.peak_kib().saturating_sub(before);
    println!("{PREFETCH} of 4 MiB: {grown} KiB beside {before} KiB, of {bound} KiB");
    assert!(grown <= bound, "{grown} KiB more than {before} KiB, the bound is {bound} KiB");

    // A host that may have all of them in hand has more: without the prefetch the bound would not have held.
    let (stage, before) = full(2 * WAITING, 30_000).await;
    wait_until(DEADLINE, "all to be in hand", async || {
        match stage.metric("wabbit_deliveries_in_flight", "worker=\"probe\"").await {
            count if count == WAITING as u64 => Ok(()),
            count => Err(format!("{count} are")),
        }
    })
    .await;
    let grown = stage.host.peak_kib().saturating_sub(before);
    assert!(grown > bound, "{WAITING} in hand take {grown} KiB: the bound of {bound} KiB shows nothing");
}
