//! A lane: a vhost, a proxy, a host behind it and a peer beside it, kept over many runs.

use std::fs;
use std::time::{Duration, Instant};

use lapin::types::FieldTable;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::case::{Case, Fault};
use super::ledger::{Command, Ledger};
use super::proxy::Proxy;
use super::violation::{Rule, Violation};
use crate::harness::amqp::Peer;
use crate::harness::broker::{Broker, Vhost};
use crate::harness::host::{Host, HostConfig};
use crate::harness::places;
use crate::outcomes::guest;

/// How soon the host consumes again once the cause of the trouble is gone.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// How long everything may take to end after that; the slowest way there has pauses of five seconds.
const END_MAX: Duration = Duration::from_secs(40);
/// How long one run may take: the longest faults last a minute, and what follows has bounds of its own.
const RUN_MAX: Duration = Duration::from_secs(300);
/// How long a fault may wait for its frame while everything else has ended.
const FRAME_WAIT: Duration = Duration::from_millis(1_500);
/// What a host of this size may have in memory.
pub const HOST_RSS_MAX_KIB: u64 = 256 * 1024;
/// After so many lost connections in a row the host pauses for long before it connects again; a fresh one does not.
const LOST_MAX: u32 = 2;
const PREFETCH: u32 = 20;
/// For starting a host, and for stopping it in order.
pub(super) const HOST_WAIT: Duration = Duration::from_secs(40);
/// The library may not notice when a connection ends in the midst of its handshake: then it is `connect-timeout` that
/// ends the wait, and its default is short enough for a recovery in time.
const SETTINGS: &str = "grace = \"20s\"\n[amqp]\nheartbeat = \"1s\"\npublish-timeout = \"5s\"\n";

/// Where outputs and dead letters end.
pub(super) const ENDS: &[&str] = &["out", "full", "work.dead", "keyed.dead"];

/// What the campaign runs.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The host's binary, where it is not `wabbit`.
    pub binary: Option<String>,
    /// Variables that it is given.
    pub environment: Vec<(String, String)>,
    /// Where something is known to be wrong with it: how long that is waited for.
    pub patience: Option<Duration>,
}

impl Subject {
    fn end_max(&self) -> Duration {
        self.patience.unwrap_or(END_MAX)
    }
}

/// What became of one case.
#[derive(Debug, Clone)]
pub struct Report {
    /// The case.
    pub case: Case,
    /// Whether the main queue was a quorum queue.
    pub quorum: bool,
    /// Whether the fault happened: its frame came.
    pub fired: bool,
    /// How long the host took to consume again after its cause was gone.
    pub recovery: Duration,
    /// How long the whole run took.
    pub took: Duration,
    /// How many inputs came out more than once, as they may.
    pub repeated: usize,
    /// The host's memory at the end.
    pub rss_kib: u64,
    /// What was wrong.
    pub violations: Vec<Violation>,
    /// The end of the host's log, where something was.
    pub log: Vec<String>,
}

/// The broker of a lane.
pub enum Place {
    /// One that other tests use as well.
    Shared(&'static Broker),
    /// One that may be killed.
    Private(Box<Broker>),
}

impl Place {
    /// The broker.
    pub fn broker(&self) -> &Broker {
        match self {
            Place::Shared(broker) => broker,
            Place::Private(broker) => broker,
        }
    }

    /// A broker that may be killed.
    pub fn private(&mut self) -> &mut Broker {
        match self {
            Place::Shared(_) => panic!("a shared broker is not to be touched"),
            Place::Private(broker) => broker,
        }
    }
}

/// See the top of the file.
pub struct Lane {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) vhost: Vhost,
    pub(super) proxy: Proxy,
    pub(super) host: Option<Host>,
    pub(super) ledger: Ledger,
    pub(super) peer: Option<Peer>,
    subject: Subject,
    quorum: bool,
    lost: u32,
    pub(super) runs: u32,
    pub(super) inputs: u32,
    settings: TempDir,
}

impl Lane {
    /// A lane without a host yet. With `quorum`, its main queue is one.
    pub async fn new(name: &str, place: Place, subject: &Subject, quorum: bool) -> Lane {
        let vhost = place.broker().vhost(&format!("faults {name}")).await;
        let proxy = Proxy::start(place.broker().port()).await;
        let settings = places::folder("faults");
        fs::write(settings.path().join("wabbit.toml"), SETTINGS).unwrap();
        if let Place::Private(broker) = &place {
            // Rights of its own, which can be taken away.
            broker.ctl(&["add_user", "host", "host"]).await;
            broker.ctl(&["set_permissions", "-p", &vhost.name, "host", ".*", ".*", ".*"]).await;
        }
        Lane {
            name: name.to_owned(),
            place,
            vhost,
            proxy,
            host: None,
            ledger: Ledger::default(),
            peer: None,
            subject: subject.clone(),
            quorum,
            lost: 0,
            runs: 0,
            inputs: 0,
            settings,
        }
    }

    /// Runs one case.
    pub async fn run(&mut self, case: &Case) -> Report {
        let begun = Instant::now();
        let mut report = Report {
            case: case.clone(),
            quorum: self.quorum,
            fired: false,
            recovery: Duration::ZERO,
            took: Duration::ZERO,
            repeated: 0,
            rss_kib: 0,
            violations: Vec::new(),
            log: Vec::new(),
        };
        let ended = tokio::time::timeout(RUN_MAX, self.run_to_end(case, &mut report)).await;
        let ended = ended.unwrap_or_else(|_| Err(Violation::of(Rule::Leftover, format!("no end within {RUN_MAX:?}"))));
        let mut violations = ended.err().into_iter().collect::<Vec<_>>();
        self.proxy.disarm();
        violations.extend(self.proxy.observer().take_violations());
        let (ledger, proxy) = (&mut self.ledger, &self.proxy);
        violations.extend(ledger.check(|id| proxy.observer().seen(id), case.charges()));
        report.repeated = self.ledger.repeated();
        if let Some(host) = &mut self.host {
            match host.status() {
                None => report.rss_kib = rss_kib(host.id()),
                Some(status) => {
                    violations.push(Violation::of(Rule::Ended, format!("the host has ended with {status}")));
                }
            }
            if report.rss_kib > HOST_RSS_MAX_KIB {
                let what = format!("the host has {} KiB in memory", report.rss_kib);
                violations.push(Violation::of(Rule::Memory, what));
            }
        }
        if !violations.is_empty() {
            report.log = self.host.as_ref().map(Host::logs).unwrap_or_default();
            report.log = report.log.split_off(report.log.len().saturating_sub(40));
            // What is still on its way must not be charged to the next run.
            self.reset().await;
        }
        report.violations = violations;
        report.took = begun.elapsed();
        report
    }

    async fn run_to_end(&mut self, case: &Case, report: &mut Report) -> Result<(), Violation> {
        self.ledger.begin();
        self.runs += 1;
        self.prepare(case).await?;
        self.connect().await;
        let inputs = case.inputs();
        let nacks = self.proxy.observer().nacks();
        let gone = match &case.fault {
            Fault::Wire { .. } => self.on_the_wire(case, &inputs).await?,
            Fault::Die { .. } => self.die(case, &inputs).await?,
            Fault::Other { name, after_ms } => Some(self.other(name, Duration::from_millis(*after_ms), &inputs).await?),
        };
        report.fired = gone.is_some();
        if let Some(gone) = gone {
            report.recovery = self.recover(gone).await?;
        }
        self.finish().await?;
        if report.recovery > RECOVERY_MAX {
            return Err(Violation::of(Rule::Slow, format!("it took {:?} to consume again", report.recovery)));
        }
        // Where nothing goes wrong nothing goes back but what asked for it.
        if matches!(&case.fault, Fault::Other { name, .. } if name == "none") {
            let asked = inputs.iter().filter(|(command, _)| *command == Command::Requeue).count() as u64;
            let nacks = self.proxy.observer().nacks() - nacks;
            if nacks > asked {
                let what = format!("{nacks} deliveries were put back, and {asked} asked for it");
                return Err(Violation::of(Rule::Duplicate, what));
            }
        }
        Ok(())
    }

    /// Sees to a host that runs, and that connects quickly after a loss.
    async fn prepare(&mut self, case: &Case) -> Result<(), Violation> {
        let die = matches!(case.fault, Fault::Die { .. });
        if die || self.lost > LOST_MAX {
            self.stop_host().await?;
        }
        match &case.fault {
            Fault::Die { point, nth } => {
                let at = ("WABBIT_DIE_AT".to_owned(), format!("{point}:{nth}"));
                self.start_host(Some("wabbit-faulty"), Some(at)).await?;
                // The next one has another.
                self.lost = u32::MAX;
            }
            _ if self.host.is_none() => self.start_host(None, None).await?,
            _ => {}
        }
        if matches!(&case.fault, Fault::Wire { action, .. } if action.ends()) {
            self.lost = self.lost.saturating_add(1 + u32::from(case.fault.at_start()));
        }
        if self.lost > 0 && matches!(&case.fault, Fault::Other { name, .. } if name == "undecodable") {
            self.lost = u32::MAX;
        }
        Ok(())
    }

    /// Starts a host, and waits until it consumes.
    pub(super) async fn start_host(
        &mut self,
        binary: Option<&str>,
        variable: Option<(String, String)>,
    ) -> Result<(), Violation> {
        let user = if matches!(self.place, Place::Private(_)) { "host:host" } else { "guest:guest" };
        let url = format!("amqp://{user}@127.0.0.1:{}/{}", self.proxy.port(), self.vhost.name);
        let mut config = HostConfig::new(&url)
            .plugin("probe.wasm", &guest("probe"))
            .manifest("work", &work(self.quorum))
            .manifest("keyed", &keyed())
            .manifest("odd", "plugin = \"probe.wasm\"\n[[queue]]\nname = \"odd\"\n")
            .argument("--config")
            .argument(&self.settings.path().join("wabbit.toml").display().to_string());
        if let Some(binary) = binary.or(self.subject.binary.as_deref()) {
            config = config.binary(binary);
        }
        for (name, value) in self.subject.environment.iter().chain(&variable) {
            config = config.environment(name, value);
        }
        self.host = Some(Host::start(config));
        self.lost = 0;
        self.wait_until_ready().await
    }

    /// Waits until the host consumes from all its queues.
    pub(super) async fn wait_until_ready(&mut self) -> Result<(), Violation> {
        let end = Instant::now() + HOST_WAIT;
        let mut told = String::new();
        while Instant::now() < end {
            let Some(host) = &mut self.host else { break };
            if let Some(status) = host.status() {
                return Err(Violation::of(Rule::Ended, format!("the host ended with {status} while it started")));
            }
            match host.try_get("/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((_, body)) => told = body,
                Err(error) => told = error,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Violation::of(Rule::Slow, format!("the host is not ready after {HOST_WAIT:?}: {told}")))
    }

    /// Stops the host in order, if there is one.
    pub(super) async fn stop_host(&mut self) -> Result<(), Violation> {
        let Some(mut host) = self.host.take() else { return Ok(()) };
        if host.status().is_some() {
            return Ok(());
        }
        host.signal(Signal::SIGTERM);
        let end = Instant::now() + HOST_WAIT;
        while Instant::now() < end {
            match host.status() {
                Some(0) => return Ok(()),
                Some(status) => return Err(Violation::of(Rule::Ended, format!("the host stopped with {status}"))),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        Err(Violation::of(Rule::Slow, format!("the host does not stop within {HOST_WAIT:?}")))
    }

    /// Arms the proxy, lets the inputs flow, and waits for the frame. Says when the fault was made, if it was.
    async fn on_the_wire(
        &mut self,
        case: &Case,
        inputs: &[(Command, Option<(String, u64)>)],
    ) -> Result<Option<Instant>, Violation> {
        if case.inputs().iter().any(|(command, _)| *command == Command::Full) {
            self.fill().await;
        }
        if let Some(armed) = case.fault.armed() {
            self.proxy.arm(armed);
        }
        if case.fault.at_start() {
            let (some, others) = inputs.split_at(inputs.len() / 2);
            self.send(case, some).await;
            self.proxy.cut_all();
            self.send(case, others).await;
        } else {
            self.send(case, inputs).await;
        }
        let mut ended = None;
        loop {
            if let Some(fired) = self.proxy.fired() {
                return Ok(Some(fired));
            }
            self.drain().await;
            if self.missing().is_empty() && ended.get_or_insert_with(Instant::now).elapsed() > FRAME_WAIT {
                return Ok(self.proxy.disarm());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets the inputs flow until the host dies, and starts another.
    async fn die(
        &mut self,
        case: &Case,
        inputs: &[(Command, Option<(String, u64)>)],
    ) -> Result<Option<Instant>, Violation> {
        self.send(case, inputs).await;
        let mut ended = None;
        loop {
            if self.host.as_mut().is_none_or(|host| host.status().is_some()) {
                return Ok(Some(self.start_again().await?));
            }
            self.drain().await;
            if self.missing().is_empty() && ended.get_or_insert_with(Instant::now).elapsed() > FRAME_WAIT / 3 {
                // Some points are come to while it stops.
                if let Some(host) = &mut self.host {
                    host.signal(Signal::SIGTERM);
                    let status = host.ended(HOST_WAIT).await;
                    let gone = self.start_again().await?;
                    return Ok((status != 0).then_some(gone));
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts a host that has ended again, without a point to die at, and says when it did.
    async fn start_again(&mut self) -> Result<Instant, Violation> {
        let gone = Instant::now();
        if let Some(host) = &mut self.host {
            host.start_again_as(self.subject.binary.as_deref(), &self.subject.environment);
        }
        self.wait_until_ready().await?;
        Ok(gone)
    }

    /// Sends new inputs until the host has worked on them, and says how long that took since the cause was gone.
    async fn recover(&mut self, gone: Instant) -> Result<Duration, Violation> {
        let mut waiting: Vec<String> = Vec::new();
        let mut sent = [false; 2];
        loop {
            self.connect().await;
            let orders = [None, Some(("canary".to_owned(), u64::from(self.inputs)))];
            for (order, sent) in orders.into_iter().zip(&mut sent) {
                // A queue that was deleted is not there yet.
                if !*sent {
                    let (id, taken) = self.publish_one(Command::Publish(1), order).await;
                    *sent = taken;
                    waiting.extend(Some(id).filter(|_| taken));
                }
            }
            waiting.retain(|id| self.proxy.observer().seen(id).acks == 0);
            let took = gone.elapsed();
            if sent == [true; 2] && waiting.is_empty() {
                return Ok(took);
            }
            if took > RECOVERY_MAX + self.subject.end_max() {
                return Err(Violation::of(Rule::Slow, format!("nothing was consumed for {took:?}")));
            }
            tokio::time::sleep(Duration::from_millis(if sent == [true; 2] { 5 } else { 50 })).await;
        }
    }

    /// Waits until every input has ended and nothing is left anywhere.
    async fn finish(&mut self) -> Result<(), Violation> {
        let most = self.subject.end_max();
        let end = Instant::now() + most;
        let mut left = String::new();
        let mut quiet = 0;
        while Instant::now() < end {
            if self.subject.patience.is_some() && self.proxy.observer().has_violations() {
                return Ok(());
            }
            self.connect().await;
            self.drain().await;
            let missing = self.missing().len();
            let held = self.proxy.observer().unsettled();
            left = format!("{missing} inputs have not ended, {held} deliveries are held");
            if missing == 0 && held == 0 {
                let (work, keyed) = (self.count("work").await, self.count("keyed").await);
                left = format!("{work:?} messages on `work`, {keyed:?} on `keyed`");
                if (work, keyed) == (Some(0), Some(0)) {
                    quiet += 1;
                    if quiet == 2 {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Violation::of(Rule::Leftover, format!("after {most:?}: {left}")))
    }

    /// Begins anew after something went wrong: with another host, and with empty queues.
    async fn reset(&mut self) {
        self.host = None;
        self.proxy.cut_all();
        self.connect().await;
        for queue in ["work", "keyed", "odd"].iter().chain(ENDS) {
            let Some(channel) = self.channel().await else { return };
            let _ = channel.queue_delete((*queue).into(), lapin::options::QueueDeleteOptions::default()).await;
            let _ = channel.close(200, "done".into()).await;
        }
        let _ = self.proxy.observer().take_violations();
    }
}

/// What a process has in memory.
fn rss_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The main worker: every command.
fn work(quorum: bool) -> String {
    let quorum = if quorum { "quorum = true\n" } else { "" };
    format!(
        "plugin = \"probe.wasm\"\n[[exchange]]\nname = \"ex\"\ntype = \"direct\"\n[[queue]]\nname = \"work\"\n{quorum}\
         [[queue]]\nname = \"out\"\nconsume = false\nbind = [{{ exchange = \"ex\", routing-key = \"out\" }}]\n\
         [[queue]]\nname = \"full\"\nconsume = false\n\
         arguments = {{ x-max-length = 1, x-overflow = \"reject-publish\" }}\n\
         [consume]\nprefetch = {PREFETCH}\nconcurrency = 8\n\
         [failure]\nattempts = 2\nbackoff = {{ first = \"100ms\" }}\n\
         [grant]\npublish = [\"/out\", \"ex/out\", \"/full\", \"/nobody\"]\n"
    )
}

/// The worker that keeps an order.
fn keyed() -> String {
    format!(
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"keyed\"\n\
         [[queue]]\nname = \"out\"\nconsume = false\n\
         [consume]\nprefetch = {PREFETCH}\nconcurrency = 8\norder = {{ key = \"header:key\" }}\n\
         [failure]\nattempts = 2\nbackoff = {{ first = \"100ms\" }}\n\
         [grant]\npublish = [\"/out\"]\n"
    )
}

/// A table without entries.
pub(super) fn nothing() -> FieldTable {
    FieldTable::default()
}
