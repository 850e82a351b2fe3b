//! Trouble of one worker: it is told on `/readyz`, the worker comes back by itself soon after the cause is gone, and
//! another worker of the same host takes its deliveries all the time.

use std::time::Instant;

use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::{PROMPT, probe};
use crate::harness::amqp::{Peer, persistent, table};
use crate::harness::broker::Broker;
use crate::harness::host::Host;
use crate::harness::{DEADLINE, wait_until};

const PLAIN: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"one\"\n";
const OTHER: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"two\"\n";
const DURABLE: QueueDeclareOptions =
    QueueDeclareOptions { passive: false, durable: true, exclusive: false, auto_delete: false, nowait: false };

/// A host with the worker `probe` on the queue `one`, and the worker `other` on the queue `two`.
struct Stage {
    host: Host,
    peer: Peer,
}

impl Stage {
    /// Starts the host, and waits for the other worker only.
    async fn start(peer_url: &str, url: &str, manifest: &str) -> Stage {
        let peer = Peer::connect(peer_url).await;
        let host = Host::start(probe(url, manifest).manifest("other", OTHER));
        host.wait_for_log("consuming worker=other").await;
        Stage { host, peer }
    }

    /// Waits until the worker is in trouble, and says so with all of these; the other goes on.
    async fn expect_trouble(&self, parts: &[&str]) {
        wait_until(DEADLINE, format!("`/readyz` to say {parts:?}"), async || {
            let (status, reasons) = self.host.try_get("/readyz").await?;
            let line = reasons.lines().find(|line| line.starts_with("worker `probe`")).unwrap_or_default();
            let said = status == 503 && parts.iter().all(|part| line.contains(part));
            if said { Ok(()) } else { Err(format!("{status}: {reasons}\n{}", self.host.logs().join("\n"))) }
        })
        .await;
        let (_, reasons) = self.host.get_status("/readyz").await;
        assert!(!reasons.contains("worker `other`"), "{reasons}");
        for _ in 0..20 {
            self.expect_handled("other", "two").await;
        }
    }

    /// Mends the cause, and waits until all is well.
    async fn expect_recovery(mut self, mend: impl AsyncFnOnce(&Stage)) {
        // The worst moment is right after it was tried in vain.
        self.host.clear_logs();
        self.host.wait_for_log("next try in").await;
        mend(&self).await;
        let since = Instant::now();
        self.host.wait_until_ready().await;
        self.expect_handled("probe", "one").await;
        let took = since.elapsed();
        println!("the worker consumed again after {took:?}");
        assert!(took < PROMPT, "it took {took:?}");
        let disturbed: Vec<_> = self
            .host
            .logs()
            .into_iter()
            .filter(|line| line.contains("worker=other") || line.contains("broker:"))
            .collect();
        assert!(disturbed.is_empty(), "{disturbed:?}");
        self.expect_handled("other", "two").await;
    }

    /// Publishes to a worker's queue, and waits until it has acked.
    async fn expect_handled(&self, worker: &str, queue: &str) {
        let before = acked(&self.host, worker).await;
        self.peer.publish("", queue, b"x", persistent()).await;
        wait_until(DEADLINE, format!("`{worker}` to ack"), async || match acked(&self.host, worker).await {
            now if now > before => Ok(()),
            now => Err(format!("{now} acked")),
        })
        .await;
    }
}

/// How many deliveries a worker has acked.
async fn acked(host: &Host, worker: &str) -> u64 {
    let rows = host.get("/workers").await;
    let row = rows.as_array().unwrap().iter().find(|row| row["name"] == worker).unwrap();
    row["counts"]["acked"].as_u64().unwrap()
}

/// 404: a manifest that declares nothing of its own waits for its queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_missing_is_waited_for() {
    let vhost = Broker::shared().await.vhost("missing-queue").await;
    let manifest = format!("declare = \"verify\"\n{PLAIN}[failure]\nattempts = 1\n");
    let stage = Stage::start(&vhost.url, &vhost.url, &manifest).await;
    stage.expect_trouble(&["404", "`one`"]).await;
    stage
        .expect_recovery(async |stage| {
            stage.peer.durable_queue("one.dead").await;
            stage.peer.durable_queue("one").await;
        })
        .await;
}

/// A queue that is deleted comes back with its worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_again() {
    let vhost = Broker::shared().await.vhost("deleted-queue").await;
    let stage = Stage::start(&vhost.url, &vhost.url, PLAIN).await;
    stage.host.wait_for_log("consuming worker=probe").await;
    let since = Instant::now();
    stage.peer.delete_queue("one").await;
    stage.expect_trouble(&["was the queue deleted?"]).await;
    let mut stage = stage;
    stage.host.wait_until_ready().await;
    stage.expect_handled("probe", "one").await;
    let took = since.elapsed();
    println!("the worker consumed again after {took:?}");
    assert!(took < PROMPT, "it took {took:?}");
}

/// 405: the queue is exclusive to somebody else's connection.
#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_queue_is_waited_for() {
    let vhost = Broker::shared().await.vhost("exclusive-queue").await;
    let holder = Peer::connect(&vhost.url).await;
    holder
        .queue("one", QueueDeclareOptions { durable: false, exclusive: true, ..DURABLE }, FieldTable::default())
        .await;
    let stage = Stage::start(&vhost.url, &vhost.url, &format!("{PLAIN}durable = false\nexclusive = true\n")).await;
    stage.expect_trouble(&["405 RESOURCE_LOCKED", "`one`"]).await;
    stage.expect_recovery(async |_| holder.close().await).await;
}

/// 406: the queue was deleted, and declared with other arguments by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_waited_out() {
    let vhost = Broker::shared().await.vhost("other-arguments").await;
    let stage = Stage::start(&vhost.url, &vhost.url, PLAIN).await;
    stage.host.wait_for_log("consuming worker=probe").await;
    stage.peer.delete_queue("one").await;
    stage.peer.queue("one", DURABLE, table(&[("x-max-length", AMQPValue::LongInt(5))])).await;
    stage.expect_trouble(&["406 PRECONDITION_FAILED", "x-max-length", "hint: change the manifest"]).await;
    stage.expect_recovery(async |stage| stage.peer.delete_queue("one").await).await;
}

/// 403: somebody else consumes exclusively.
#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_consumer_is_waited_out() {
    let vhost = Broker::shared().await.vhost("exclusive-consumer").await;
    let holder = Peer::connect(&vhost.url).await;
    holder.durable_queue("one").await;
    let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let held = holder.channel().basic_consume("one".into(), "".into(), options, FieldTable::default()).await.unwrap();
    let stage = Stage::start(&vhost.url, &vhost.url, PLAIN).await;
    stage.expect_trouble(&["403 ACCESS_REFUSED", "`one`"]).await;
    stage
        .expect_recovery(async |_| {
            drop(held);
            holder.close().await;
        })
        .await;
}

/// 403: the user loses the right to one queue, and gets it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_one_queue_is_waited_for() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("rights").await;
    let user = format!("reader-{}", vhost.name);
    let allow = async |read: &str| {
        broker.ctl(&["set_permissions", "-p", &vhost.name, &user, ".*", ".*", read]).await;
    };
    broker.ctl(&["add_user", &user, "password"]).await;
    allow(".*").await;
    let url = vhost.url.replace("guest:guest@", &format!("{user}:password@"));
    let stage = Stage::start(&vhost.url, &url, PLAIN).await;
    stage.host.wait_for_log("consuming worker=probe").await;
    allow("^(two|wabbit.*)$").await;
    // A consumer that is there stays: the right is looked at when it consumes anew.
    stage.peer.delete_queue("one").await;
    stage.expect_trouble(&["403 ACCESS_REFUSED", "'one'"]).await;
    stage.expect_recovery(async |_| allow(".*").await).await;
    broker.ctl(&["delete_user", &user]).await;
}

/// What is published to an exchange that went away under the worker closes its channel: the message waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_went_away_costs_no_message() {
    let vhost = Broker::shared().await.vhost("exchange-gone").await;
    let manifest = format!(
        "{PLAIN}[[exchange]]\nname = \"hub\"\ntype = \"fanout\"\n[[queue]]\nname = \"out\"\nconsume = false\n\
         bind = [{{ exchange = \"hub\" }}]\n[grant]\npublish = [\"hub\"]\n\
         [failure]\nbackoff = {{ first = \"1s\", factor = 1, max = \"1s\" }}\nattempts = 100\n"
    );
    let stage = Stage::start(&vhost.url, &vhost.url, &manifest).await;
    stage.host.wait_for_log("consuming worker=probe").await;
    let publish = br#"{"do":"publish","publications":[{"to":"hub/x","body":"x"}]}"#;
    stage.peer.publish("", "one", publish, persistent()).await;
    stage.peer.take("out", DEADLINE).await;
    let channel = stage.peer.new_channel().await;
    channel.exchange_delete("hub".into(), Default::default()).await.unwrap();
    stage.peer.publish("", "one", publish, persistent()).await;
    let line = stage.host.wait_for_log("the publishing channel was closed").await;
    assert!(line.contains("404") && line.contains("worker=probe"), "{line}");
    // It is not the worker's end: what publishes nothing goes on.
    stage.expect_handled("probe", "one").await;
    stage.expect_handled("other", "two").await;
    let since = Instant::now();
    stage.peer.exchange("hub", lapin::ExchangeKind::Fanout, true).await;
    stage.peer.bind("out", "hub", "").await;
    stage.peer.take("out", DEADLINE).await;
    let took = since.elapsed();
    println!("the message was published after {took:?}");
    assert!(took < PROMPT, "it took {took:?}");
}
