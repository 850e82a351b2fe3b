//! SIGTERM: what was begun is finished, what was not goes back, and nothing keeps the host for longer than its grace.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::probe;
use crate::harness::DEADLINE;
use crate::harness::amqp::{Message, Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::Host;

/// What a process may take to end when it has nothing left to wait for, on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// Every handler says that it begins: those, and only those, have their output. What was prefetched and not begun is
/// back, marked as redelivered; what was not even prefetched is not.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_gives_back_only_what_was_not_begun() {
    const COUNT: usize = 300;
    const PREFETCH: usize = 50;
    let vhost = Broker::shared().await.vhost("begun").await;
    let (work, out) = (vhost.unique("work"), vhost.unique("out"));
    let manifest = format!(
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"{work}\"\n[[queue]]\nname = \"{out}\"\nconsume = false\n\
         [consume]\nprefetch = {PREFETCH}\nconcurrency = 10\n[grant]\npublish = [\"/{out}\"]\n"
    );
    let mut host = Host::ready(probe(&vhost.url, &manifest)).await;
    let peer = Peer::connect(&vhost.url).await;
    let body = |n| {
        format!(
            r#"{{"do":"log","text":"begun {n};","then":{{"do":"sleep","ms":300,"then":{{"do":"publish","publications":[{{"to":"/{out}","body":"{n}"}}]}}}}}}"#
        )
    };
    peer.publish_all("", &work, (0..COUNT).map(body), persistent()).await;
    host.wait_for_log("begun 40;").await;
    let since = Instant::now();
    assert_eq!(host.terminate().await, 0);
    assert!(since.elapsed() < Duration::from_secs(5), "it took {:?}", since.elapsed());

    let number = |text: &str| -> Option<usize> { text.split_once("begun ")?.1.split_once(';')?.0.parse().ok() };
    let begun: BTreeSet<usize> = host.logs().iter().filter_map(|line| number(line)).collect();
    let done = usize::try_from(peer.count(&out).await).unwrap();
    let outputs: Vec<Message> = peer.drain(&out, done, DEADLINE).await;
    let outputs: BTreeSet<usize> = outputs.iter().map(|message| message.text().parse().unwrap()).collect();
    assert_eq!(begun, outputs, "whatever was begun was finished, once");
    assert_eq!(outputs.len(), done, "none is there twice");

    let left = peer.drain(&work, COUNT - done, DEADLINE).await;
    let numbers: Vec<usize> = left.iter().map(|message| number(message.text()).unwrap()).collect();
    assert!(numbers.iter().all(|number| !begun.contains(number)), "{numbers:?} came back, {begun:?} were begun");
    assert!(numbers.is_sorted(), "in their order: {numbers:?}");
    let redelivered = left.iter().filter(|message| message.redelivered).count();
    println!("{done} done, {} left, {redelivered} of them redelivered", left.len());
    assert!(redelivered < PREFETCH, "{redelivered} had been prefetched");
    assert!(left.iter().take(redelivered).all(|message| message.redelivered), "those at the front are");
}

/// Neither a handler that waits nor one that computes without end.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_does_not_keep_the_host() {
    let grace = Duration::from_secs(2);
    let vhost = Broker::shared().await.vhost("endless").await;
    let work = vhost.unique("work");
    let manifest = format!("plugin = \"probe.wasm\"\n[[queue]]\nname = \"{work}\"\n[limits]\ntime = \"10m\"\n");
    let mut host = Host::ready(probe(&vhost.url, &manifest).argument("--grace=2s")).await;
    let peer = Peer::connect(&vhost.url).await;
    for body in [r#"{"do":"sleep","ms":500000}"#, r#"{"do":"loop"}"#] {
        peer.publish("", &work, body.as_bytes(), persistent()).await;
    }
    peer.wait_for_count(&work, 0, DEADLINE).await;
    let since = Instant::now();
    assert_eq!(host.terminate().await, 0);
    let took = since.elapsed();
    println!("ended after {took:?}");
    assert!(took >= grace && took < grace + SLACK, "it took {took:?}");
    let back = peer.drain(&work, 2, DEADLINE).await;
    assert!(back.iter().all(|message| message.redelivered));
}

/// Nor a broker that answers nothing: with a publication without its confirm, and with nothing in hand at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_does_not_keep_the_host() {
    let grace = Duration::from_secs(3);
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("frozen-stop").await;
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[[queue]]\nname = \"out\"\nconsume = false\n\
                    [grant]\npublish = [\"/out\"]\n";
    let config = || probe(&vhost.url, manifest).argument("--grace=3s");
    let (mut busy, mut idle) = (Host::ready(config()).await, Host::ready(config()).await);
    let peer = Peer::connect(&vhost.url).await;
    let body =
        br#"{"do":"log","text":"begun","then":{"do":"sleep","ms":1000,"then":{"do":"publish","publications":[{"to":"/out","body":"x"}]}}}"#;
    for _ in 0..2 {
        peer.publish("", "work", body, persistent()).await;
    }
    busy.wait_for_log("begun").await;
    broker.freeze().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let since = Instant::now();
    busy.signal(Signal::SIGTERM);
    idle.signal(Signal::SIGTERM);
    assert_eq!(busy.ended(DEADLINE).await, 0);
    assert_eq!(idle.ended(DEADLINE).await, 0);
    let took = since.elapsed();
    println!("ended after {took:?}");
    assert!(took < grace + SLACK, "it took {took:?}");
    broker.thaw();
}
