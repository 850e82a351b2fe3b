//! Trouble of the whole host: it is told on `/readyz`, and soon after the cause is gone every worker consumes again and
//! no message is missing.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PROMPT, consumes, probe};
use crate::harness::amqp::{Message, Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::forwarder::Forwarder;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, wait_until};

const WORK: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n";

/// Notices a silent broker after about four seconds.
fn with_short_heartbeat(config: HostConfig) -> (HostConfig, TempDir) {
    with_settings(config, "[amqp]\nheartbeat = \"2s\"\n")
}

fn with_settings(config: HostConfig, text: &str) -> (HostConfig, TempDir) {
    let folder = places::folder("settings");
    let path = folder.path().join("wabbit.toml");
    fs::write(&path, text).unwrap();
    (config.argument("--config").argument(path.to_str().unwrap()), folder)
}

/// Waits until `/readyz` answers 503 with this.
async fn expect_not_ready(host: &Host, reason: &str) {
    wait_until(DEADLINE, format!("`/readyz` to say `{reason}`"), async || {
        let (status, reasons) = host.try_get("/readyz").await?;
        if status == 503 && reasons.contains(reason) { Ok(()) } else { Err(format!("{status}: {reasons}")) }
    })
    .await;
}

/// Waits until the host has just tried in vain and pauses for as long as it ever does.
async fn expect_longest_pause(host: &Host) {
    host.clear_logs();
    host.wait_for_log("next try in 5s").await;
}

/// Waits until all workers consume, and holds it to the promise.
async fn expect_recovery(host: &mut Host, url: &str, what: &str) {
    let since = Instant::now();
    host.wait_until_ready().await;
    let peer = Peer::connect(url).await;
    consumes(&peer, "work").await;
    let took = since.elapsed();
    println!("{what}: consumed again after {took:?}");
    assert!(took < PROMPT, "{what}: it took {took:?}");
}

/// The user loses all rights in the vhost, and gets them back.
#[tokio::test(flavor = "multi_thread")]
async fn rights_that_come_back_are_noticed() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("no-rights").await;
    let user = format!("worker-{}", vhost.name);
    let allow = ["set_permissions", "-p", &vhost.name, &user, ".*", ".*", ".*"];
    broker.ctl(&["add_user", &user, "password"]).await;
    broker.ctl(&allow).await;
    let url = vhost.url.replace("guest:guest@", &format!("{user}:password@"));
    let mut host = Host::ready(probe(&url, WORK)).await;
    broker.ctl(&["clear_permissions", "-p", &vhost.name, &user]).await;
    broker.ctl(&["close_all_connections", "--vhost", &vhost.name, "test"]).await;
    expect_not_ready(&host, "NOT_ALLOWED").await;
    expect_longest_pause(&host).await;
    let (_, reasons) = host.get_status("/readyz").await;
    assert!(reasons.contains("the user's permissions"), "{reasons}");
    broker.ctl(&allow).await;
    expect_recovery(&mut host, &vhost.url, "rights").await;
    broker.ctl(&["delete_user", &user]).await;
}

/// The vhost is deleted with everything in it, and made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_vhost_that_is_made_again_is_noticed() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("deleted-vhost").await;
    let mut host = Host::ready(probe(&vhost.url, WORK)).await;
    broker.ctl(&["delete_vhost", &vhost.name]).await;
    expect_not_ready(&host, &format!("vhost {} not found", vhost.name)).await;
    expect_longest_pause(&host).await;
    broker.ctl(&["add_vhost", &vhost.name]).await;
    broker.ctl(&["set_permissions", "-p", &vhost.name, "guest", ".*", ".*", ".*"]).await;
    expect_recovery(&mut host, &vhost.url, "vhost").await;
}

/// Nobody listens when the host starts, for long enough that the pauses have grown.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_late_is_noticed() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("late").await;
    let mut forwarder = Forwarder::closed(broker.port());
    let mut host = Host::start(probe(&forwarder.url(&vhost.url), WORK));
    expect_not_ready(&host, "refused").await;
    expect_longest_pause(&host).await;
    forwarder.open().await;
    expect_recovery(&mut host, &vhost.url, "late broker").await;
}

/// A broker that is frozen for longer than two heartbeats: its connections are given up, and made again when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_waited_for() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("frozen").await;
    let (config, _folder) = with_short_heartbeat(probe(&vhost.url, WORK));
    let mut host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    let bodies: Vec<String> = (0..20).map(|_| r#"{"do":"sleep","ms":2000}"#.to_owned()).collect();
    peer.publish_all("", "work", &bodies, persistent()).await;
    broker.freeze().await;
    let since = Instant::now();
    expect_not_ready(&host, "does not answer heartbeats").await;
    let noticed = since.elapsed();
    println!("noticed after {noticed:?}");
    assert!(noticed < Duration::from_secs(8), "noticed after {noticed:?}");
    // It takes connections, for that is the kernel's doing, and says nothing on them.
    expect_not_ready(&host, "no answer within 5s").await;
    broker.thaw();
    expect_recovery(&mut host, &vhost.url, "frozen broker").await;
    assert_eq!(host.get_status("/healthz").await.0, 200);
}

/// A connection whose other end went away without a word, on a way that swallows new connections as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_swallows_everything_is_given_up() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("half-open").await;
    let forwarder = Forwarder::to(broker.port()).await;
    let (config, _folder) = with_short_heartbeat(probe(&forwarder.url(&vhost.url), WORK));
    let mut host = Host::ready(config).await;
    forwarder.stall();
    expect_not_ready(&host, "does not answer heartbeats").await;
    host.wait_for_log("no answer within 5s").await;
    // The worst moment: a try that has just begun will never be answered.
    host.clear_logs();
    host.wait_for_log("no answer within 5s").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    forwarder.go_on();
    expect_recovery(&mut host, &vhost.url, "swallowed connections").await;
}

/// A broker that is short of memory blocks publishers: what publishes waits and is not lost, what does not is acked
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_memory_holds_up_publications_alone() {
    const COUNT: usize = 40;
    let broker = Broker::private().await;
    let vhost = broker.vhost("blocked").await;
    let loud = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[[exchange]]\nname = \"hub\"\ntype = \"fanout\"\n\
                [[exchange]]\nname = \"late\"\ntype = \"fanout\"\n[[queue]]\nname = \"out\"\nconsume = false\n\
                bind = [{ exchange = \"hub\" }, { exchange = \"late\" }]\n\
                [consume]\nconcurrency = 2\n[grant]\npublish = [\"hub\", \"late\"]\n";
    let quiet = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"quiet\"\n[consume]\nconcurrency = 1\n";
    // Much shorter than the alarm lasts: what waits for it is not overdue, and is not published again and again.
    let settings = "[amqp]\npublish-timeout = \"1s\"\n";
    let (config, _folder) = with_settings(probe(&vhost.url, loud).manifest("quiet", quiet), settings);
    let mut host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    // Some publish and some do not, on the same queue: those that do not are acked all the same.
    // The last ones are the first to publish to their exchange, when the publishing connection is blocked already.
    let body = |n| match n % 2 {
        0 => {
            let to = if n < COUNT - 10 { "hub/x" } else { "late/x" };
            format!(
                r#"{{"do":"sleep","ms":300,"then":{{"do":"publish","publications":[{{"to":"{to}","body":"{n}"}}]}}}}"#
            )
        }
        _ => r#"{"do":"sleep","ms":300}"#.to_owned(),
    };
    let silent = vec![r#"{"do":"sleep","ms":100}"#; COUNT];
    // The alarm stops these publications too, so all are there before it.
    peer.publish_all("", "work", (0..COUNT).map(body), persistent()).await;
    peer.publish_all("", "quiet", &silent, persistent()).await;
    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    expect_not_ready(&host, "the broker blocks publishers").await;
    let before = settled(&host).await;
    wait_until(DEADLINE, "deliveries without publications to be acked", async || {
        let now = settled(&host).await;
        let half = COUNT as u64 / 2;
        if now.0 >= half && now.1 == COUNT as u64 {
            Ok(())
        } else {
            Err(format!("{before:?} when it began, {now:?} now"))
        }
    })
    .await;
    expect_not_ready(&host, "the broker blocks publishers").await;
    broker.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    let since = Instant::now();
    host.wait_until_ready().await;
    let outputs = peer.drain("out", COUNT / 2, DEADLINE).await;
    println!("ready and published after {:?}", since.elapsed());
    assert!(since.elapsed() < PROMPT, "it took {:?}", since.elapsed());
    let outputs: BTreeSet<_> = outputs.iter().map(Message::text).collect();
    assert_eq!(outputs.len(), COUNT / 2, "none is missing");
    peer.wait_for_count("work", 0, DEADLINE).await;
    wait_until(DEADLINE, "everything to be acked", async || match settled(&host).await.0 {
        now if now == COUNT as u64 => Ok(()),
        now => Err(format!("{now} acked")),
    })
    .await;
    assert_eq!(peer.count("out").await, 0, "outputs that are there twice");
    assert_eq!(connections(&host).await, 1, "a connection was lost");
}

/// How many deliveries the workers `probe` and `quiet` have acked.
async fn settled(host: &Host) -> (u64, u64) {
    let rows = host.get("/workers").await;
    let of = |name: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
        row["counts"]["acked"].as_u64().unwrap()
    };
    (of("probe"), of("quiet"))
}

async fn connections(host: &Host) -> u64 {
    let metrics = host.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with("wabbit_broker_connections_total")).unwrap().to_owned();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
