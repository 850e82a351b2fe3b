//! The faults that are not on the wire: of the host, of the broker, and of what stands on it.

use std::ops::Range;
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::AMQPValue;
use nix::sys::signal::Signal;

use super::lane::{Lane, nothing};
use super::ledger::Command;
use super::violation::{Rule, Violation};
use crate::harness::amqp::table;
use crate::harness::{DEADLINE, places, python};

/// After this, what failed has been tried again and is a dead letter.
const CALM: Duration = Duration::from_secs(3);
/// Longer than two heartbeats of the host, and than what the broker adds to them.
const FROZEN: Duration = Duration::from_millis(3_500);
/// How long something stays away that comes back.
const AWAY: Duration = Duration::from_millis(400);

/// Longer than the host waits for a confirm, and looks whether it has waited long enough.
const OVERDUE: Duration = Duration::from_millis(6_500);

/// How soon the host says that the broker blocks publishers, where any of its handlers is left to publish.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// How often the broker is short of memory before somebody publishes.
const ALARMS_MAX: u64 = 4;

type Inputs = [(Command, Option<(String, u64)>)];

impl Lane {
    /// Makes a fault after a moment under load, and says when its cause was gone.
    pub(super) async fn other(&mut self, name: &str, after: Duration, inputs: &Inputs) -> Result<Instant, Violation> {
        if matches!(name, "queue-deleted" | "queue-differs" | "letters-deleted" | "undecodable") {
            return self.of_a_queue(name, after, inputs).await;
        }
        if name == "full" {
            self.fill().await;
        }
        if name == "broker-kill" {
            self.place.broker().flush().await;
        }
        // Some of it is published before and some after, by the seed's moment.
        let before = inputs.len().min(usize::try_from(after.as_millis()).unwrap_or(0) / 2 + inputs.len() / 4);
        let (before, during) = inputs.split_at(before);
        self.occupy(name, after).await;
        self.publish(before).await;
        tokio::time::sleep(after / 10).await;
        match name {
            "host-kill" => {
                if let Some(host) = &mut self.host {
                    host.kill();
                    host.start_again();
                }
                let gone = Instant::now();
                self.publish(during).await;
                self.wait_until_ready().await?;
                Ok(gone)
            }
            "host-drain" => {
                if let Some(host) = &mut self.host {
                    host.signal(Signal::SIGTERM);
                }
                self.publish(during).await;
                let status = match &mut self.host {
                    Some(host) => host.ended(DEADLINE).await,
                    None => 0,
                };
                if status != 0 {
                    return Err(Violation::of(Rule::Ended, format!("the host drained with {status}")));
                }
                if let Some(host) = &mut self.host {
                    host.start_again();
                }
                let gone = Instant::now();
                self.wait_until_ready().await?;
                Ok(gone)
            }
            "host-freeze" => {
                self.signal_host(Signal::SIGSTOP);
                self.publish(during).await;
                tokio::time::sleep(FROZEN).await;
                self.signal_host(Signal::SIGCONT);
                Ok(Instant::now())
            }
            "broker-term" | "broker-kill" => {
                let broker = self.place.private();
                match name {
                    "broker-kill" => broker.kill(),
                    _ => broker.stop().await,
                }
                broker.start().await;
                let gone = Instant::now();
                self.connect().await;
                self.publish(during).await;
                Ok(gone)
            }
            "broker-freeze" => {
                self.place.private().freeze().await;
                tokio::time::sleep(FROZEN).await;
                self.place.private().thaw();
                let gone = Instant::now();
                self.publish(during).await;
                Ok(gone)
            }
            "memory-alarm" | "long-alarm" => {
                // The broker tells only those who publish meanwhile. Where setting it took longer than all handlers did,
                // nobody was left to: the next ones take longer.
                let mut noticed = Ok(());
                for attempt in 1..=ALARMS_MAX {
                    if attempt > 1 {
                        self.hold(8, attempt * 1_000..attempt * 2_000, after).await;
                    }
                    self.clear_log();
                    self.place.broker().ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
                    noticed = self.wait_for_log("the broker blocks publishers", NOTICED_WITHIN).await;
                    if noticed.is_ok() {
                        tokio::time::sleep(if name == "long-alarm" { OVERDUE } else { AWAY }).await;
                    }
                    self.place.broker().ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
                    if noticed.is_ok() {
                        break;
                    }
                }
                noticed?;
                let gone = Instant::now();
                self.publish(during).await;
                Ok(gone)
            }
            "rights-revoked" => {
                let vhost = self.vhost.name.clone();
                let rights = async |broker: &crate::harness::broker::Broker, what: &str| {
                    broker.ctl(&["set_permissions", "-p", &vhost, "host", what, what, what]).await;
                };
                rights(self.place.broker(), "^$").await;
                // The broker looks at the rights of a channel when it opens.
                self.clear_log();
                self.proxy.cut_all();
                let noticed = self.wait_for_log("ACCESS_REFUSED", DEADLINE).await;
                self.publish(during).await;
                rights(self.place.broker(), ".*").await;
                noticed.map(|()| Instant::now())
            }
            "exchange-deleted" => {
                if let Some(peer) = &self.peer {
                    let deleted = peer.channel().exchange_delete("ex".into(), ExchangeDeleteOptions::default()).await;
                    deleted.map_err(broken)?;
                }
                self.publish(during).await;
                tokio::time::sleep(AWAY).await;
                self.bind(true).await?;
                Ok(Instant::now())
            }
            "unbound" => {
                if let Some(peer) = &self.peer {
                    let unbound = peer.channel().queue_unbind("out".into(), "ex".into(), "out".into(), nothing()).await;
                    unbound.map_err(broken)?;
                }
                self.publish(during).await;
                tokio::time::sleep(AWAY).await;
                self.bind(false).await?;
                Ok(Instant::now())
            }
            // Nothing goes wrong, or only what the inputs do themselves.
            _ => {
                self.publish(during).await;
                Ok(Instant::now())
            }
        }
    }

    async fn of_a_queue(&mut self, name: &str, after: Duration, inputs: &Inputs) -> Result<Instant, Violation> {
        match name {
            "queue-deleted" | "queue-differs" => {
                self.occupy(name, after).await;
                self.publish(inputs).await;
                tokio::time::sleep(after / 5).await;
                let Some(peer) = &self.peer else { return Ok(Instant::now()) };
                let delete = async || {
                    let deleted = peer.channel().queue_delete("work".into(), QueueDeleteOptions::default()).await;
                    deleted.map(drop).map_err(broken)
                };
                delete().await?;
                if name == "queue-differs" {
                    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                    let arguments = table(&[("x-max-length", AMQPValue::LongInt(1_000_000))]);
                    peer.channel().queue_declare("work".into(), options, arguments).await.map_err(broken)?;
                    self.clear_log();
                    self.proxy.cut_all();
                    let noticed = self.wait_for_log("PRECONDITION_FAILED", DEADLINE).await;
                    delete().await?;
                    noticed?;
                }
                let gone = Instant::now();
                let proxy = &self.proxy;
                self.ledger.excuse(|id| proxy.observer().seen(id));
                Ok(gone)
            }
            "letters-deleted" => {
                let (before, during) = inputs.split_at(inputs.len() / 3);
                self.publish(before).await;
                // A letter that reaches the queue while it goes away is confirmed, and is nowhere: that is the broker's.
                tokio::time::sleep(after / 10 + CALM).await;
                let options = QueueDeleteOptions { if_empty: true, ..QueueDeleteOptions::default() };
                let end = Instant::now() + DEADLINE;
                loop {
                    self.drain().await;
                    let Some(channel) = self.channel().await else { break };
                    if channel.queue_delete("work.dead".into(), options).await.is_ok() || Instant::now() > end {
                        break;
                    }
                }
                self.publish(during).await;
                Ok(Instant::now())
            }
            _ => {
                let (before, during) = inputs.split_at(inputs.len() / 3);
                self.publish(before).await;
                let url = self.vhost.url.clone();
                let script = places::root().join("tests/fixtures/undecodable.py");
                self.clear_log();
                python::run(&script, &[url.as_str(), "odd"], DEADLINE).await.success();
                self.wait_for_log("cannot be read", DEADLINE).await?;
                self.publish(during).await;
                // It is on its queue whenever the worker is not just trying again.
                let end = Instant::now() + DEADLINE;
                while let Some(peer) = &self.peer {
                    let purged = peer.channel().queue_purge("odd".into(), QueuePurgeOptions::default()).await;
                    if purged.map_err(broken)? > 0 || Instant::now() > end {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(Instant::now())
            }
        }
    }

    /// Gives the host something to hold at the moment of the fault: handlers that take their time, behind which others
    /// wait.
    async fn occupy(&mut self, name: &str, after: Duration) {
        let millis = match name {
            "none" | "full" => return,
            // They publish while nothing is taken.
            "memory-alarm" | "long-alarm" => 1_000..2_000,
            _ => 50..500,
        };
        self.hold(12, millis, after).await;
    }

    /// Sends so many deliveries whose handlers take so many milliseconds, and publish then.
    async fn hold(&mut self, deliveries: usize, millis: Range<u64>, after: Duration) {
        let mut random = fastrand::Rng::with_seed(u64::try_from(after.as_millis()).unwrap_or(0));
        for _ in 0..deliveries {
            self.publish_one(Command::Slow(random.u64(millis.clone())), None).await;
        }
    }

    fn signal_host(&mut self, signal: Signal) {
        if let Some(host) = &mut self.host {
            host.signal(signal);
        }
    }

    /// Brings the worker's exchange back, and what is bound to it.
    async fn bind(&self, declare: bool) -> Result<(), Violation> {
        let Some(peer) = &self.peer else { return Ok(()) };
        if declare {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let declared = peer.channel().exchange_declare("ex".into(), ExchangeKind::Direct, options, nothing()).await;
            declared.map_err(broken)?;
        }
        let options = QueueBindOptions::default();
        let bound = peer.channel().queue_bind("out".into(), "ex".into(), "out".into(), options, nothing()).await;
        bound.map_err(broken)
    }

    fn clear_log(&self) {
        if let Some(host) = &self.host {
            host.clear_logs();
        }
    }

    async fn wait_for_log(&self, text: &str, within: Duration) -> Result<(), Violation> {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if self.host.as_ref().is_some_and(|host| host.logs().iter().any(|line| line.contains(text))) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Violation::of(Rule::Slow, format!("the host's log never says `{text}`")))
    }
}

/// The peer's own trouble: the run shows nothing then.
fn broken(error: lapin::Error) -> Violation {
    Violation::of(Rule::Ended, format!("the peer failed: {error}"))
}
