//! A worker: a manifest with the version of its plugin that runs, and its life.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    consume::{self, Ended},
    dedupe::Dedupe,
    histories::{About, Histories},
};
use crate::{
    amqp::{self, Declared, Link, Session, Trouble},
    clock,
    delivery::Delivery,
    manifest::{Instance, Manifest, Queue},
    outcome::{Failure, Outcome, Rules},
    reload::{Candidate, Cause, Event, Refusal, Standing, Verdict},
    sandbox::{Kept, Plugin, Scope},
    settle::{Breaker, Stage},
    telemetry::WorkerMetrics,
};

/// The pause after trouble of this worker's own (a queue that differs, a missing right) before it is tried again.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);

/// A worker that runs.
pub struct Worker {
    /// The manifest's name.
    pub name: Arc<str>,
    /// What its queues are consumed by. What can change while they are is the version's.
    pub manifest: Arc<Manifest>,
    /// What handles the next delivery.
    current: watch::Sender<Arc<Version>>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Whether another one counts by the same metrics, and says whether the queues are consumed.
    replaced: AtomicBool,
    /// What became of its versions.
    pub(super) histories: Arc<Histories>,
    /// The last version that was taken back.
    rolled_back: Mutex<Option<Refusal>>,
    state: watch::Sender<State>,
    /// Where the manifest has one. It outlives connections.
    breaker: Option<Mutex<Breaker>>,
    /// What it has done, where the manifest asks for it.
    pub(super) dedupe: Option<Arc<Dedupe>>,
    /// Has it finish what is in hand, and end.
    pub(super) stop: CancellationToken,
    /// It has ended.
    pub(super) ended: CancellationToken,
    /// Its queues in the session of this epoch.
    pub(super) declared: Mutex<Option<(u64, Vec<Arc<str>>)>>,
    /// Whose queues it takes over, for as long as these are there.
    pub(super) before: Mutex<Option<Arc<Worker>>>,
}

/// What one delivery is handled with, from the first to the last; a reload makes a new one and changes none.
pub struct Version {
    /// The manifest that it was made by.
    pub manifest: Arc<Manifest>,
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// `sha256:…` of the plugin, as it goes into dead letters.
    pub digest: String,
    /// What its calls may use and reach.
    pub scope: Arc<Scope>,
    /// What its publications are checked against.
    pub rules: Rules,
    /// How long a confirm is waited for.
    pub publish_timeout: Duration,
    /// Instances that wait for their next delivery, where the manifest has them reused.
    kept: Option<Kept>,
    /// How it does.
    standing: Mutex<Standing>,
    /// What takes the deliveries that it fails, until it has proved itself.
    fallback: Mutex<Option<Arc<Version>>>,
}

impl Version {
    /// A version that nobody watches.
    pub fn new(
        manifest: Arc<Manifest>,
        plugin: Arc<Plugin>,
        scope: Scope,
        rules: Rules,
        publish_timeout: Duration,
    ) -> Self {
        let Instance { reuse, max_deliveries } = manifest.instance;
        Self {
            kept: reuse.then(|| Kept::new(max_deliveries)),
            manifest,
            digest: plugin.digest.to_string(),
            plugin,
            scope: Arc::new(scope),
            rules,
            publish_timeout,
            standing: Mutex::default(),
            fallback: Mutex::default(),
        }
    }

    /// Runs the handler on one delivery: in an instance of its own, or in one that is kept.
    pub(super) async fn handle(&self, delivery: &Delivery) -> Result<Outcome, Failure> {
        match &self.kept {
            None => self.plugin.handle(delivery, &self.scope).await,
            Some(kept) => self.plugin.handle_again(delivery, &self.scope, kept).await,
        }
    }

    /// What takes the deliveries that it fails; nothing where it has proved itself.
    pub(super) fn fallback(&self) -> Option<Arc<Self>> {
        lock(&self.fallback).clone()
    }

    /// What it is made of.
    pub(super) fn candidate(&self) -> Candidate {
        Candidate { manifest: Arc::clone(&self.manifest), plugin: Some(self.plugin.digest) }
    }

    /// Deliveries that it had while it is watched, and how many it failed; nothing where it is not.
    pub fn on_probation(&self) -> Option<(u32, u32)> {
        lock(&self.standing).progress()
    }
}

/// Where a worker is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "kebab-case")]
pub enum State {
    /// There is no broker.
    Waiting,
    /// Declaring and opening channels.
    Starting,
    /// Taking deliveries from all its queues.
    Consuming,
    /// Too many deliveries failed: none is taken for a while.
    Paused(String),
    /// Taking one delivery, to see whether it comes through.
    Trying,
    /// Finishing what is in hand.
    Draining,
    /// Trouble of its own; tried again every 5 s.
    Failed(String),
    /// Done.
    Stopped,
}

impl Worker {
    /// A worker that has not started, and ends with `stop`. It takes the place of another one where there is one.
    pub fn new(
        version: Version,
        metrics: Arc<WorkerMetrics>,
        histories: Arc<Histories>,
        dedupe: Option<Arc<Dedupe>>,
        stop: CancellationToken,
        before: Option<Arc<Self>>,
    ) -> Self {
        let manifest = Arc::clone(&version.manifest);
        let before = before.map(last_that_declared);
        // What the one before it had to take back is no better with this one.
        let rolled_back = Mutex::new(before.as_ref().and_then(|before| before.rolled_back()));
        let version = match &before {
            Some(before) => after(&before.version(), version),
            None => version,
        };
        Self {
            name: manifest.name.as_str().into(),
            breaker: manifest.breaker.map(|policy| Mutex::new(Breaker::new(policy))),
            dedupe,
            manifest,
            current: watch::Sender::new(Arc::new(version)),
            metrics,
            replaced: AtomicBool::new(false),
            histories,
            rolled_back,
            state: watch::Sender::new(State::Waiting),
            stop,
            ended: CancellationToken::new(),
            declared: Mutex::default(),
            before: Mutex::new(before),
        }
    }

    /// What handles the next delivery.
    pub fn version(&self) -> Arc<Version> {
        Arc::clone(&self.current.borrow())
    }

    /// The same, for who wants to know when it is another one.
    pub(super) fn versions(&self) -> watch::Receiver<Arc<Version>> {
        self.current.subscribe()
    }

    /// Has another version handle the next delivery. One with another plugin is on probation, and what it fails goes to
    /// the last version that was not.
    pub(super) fn swap(&self, version: Version) {
        self.current.send_modify(|current| *current = Arc::new(after(current, version)));
    }

    /// The version that was taken back, for as long as its files are there.
    pub fn rolled_back(&self) -> Option<Refusal> {
        lock(&self.rolled_back).clone()
    }

    /// What lies there is this: something else than was taken back may be tried.
    pub(super) fn lies_there(&self, candidate: &Candidate) {
        lock(&self.rolled_back).take_if(|refusal| !refusal.holds_back(candidate));
    }

    /// Takes care of its topology. Queues that the broker gave a name to are those of the worker whose place it takes,
    /// where these are still there.
    pub(super) async fn declare(&self, session: &Session) -> Result<Vec<Declared>, Trouble> {
        let before = lock(&self.before).clone();
        let known = before.map_or_else(HashMap::new, |before| before.named_in(session.epoch(), &self.manifest));
        let declared = amqp::declare(session, &self.manifest, &known).await?;
        let names = declared.iter().map(|queue| Arc::clone(&queue.name)).collect();
        *lock(&self.declared) = Some((session.epoch(), names));
        *lock(&self.before) = None;
        Ok(declared)
    }

    /// The names that the broker gave to those of its queues that this manifest has, too, by their places there.
    fn named_in(&self, epoch: u64, manifest: &Manifest) -> HashMap<usize, Arc<str>> {
        let declared = lock(&self.declared);
        let Some((_, names)) = declared.as_ref().filter(|(declared_in, _)| *declared_in == epoch) else {
            return HashMap::new();
        };
        let unnamed = |manifest: &Manifest| {
            let queues = manifest.queues.iter().enumerate().filter(|(_, queue)| queue.name.is_empty());
            let queues = queues.map(|(at, queue)| (at, Queue { bind: Vec::new(), ..queue.clone() }));
            queues.collect::<Vec<_>>()
        };
        let mut mine = unnamed(&self.manifest);
        let mut known = HashMap::new();
        for (at, queue) in unnamed(manifest) {
            let Some(found) = mine.iter().position(|(_, other)| *other == queue) else { continue };
            let (was_at, _) = mine.swap_remove(found);
            known.extend(names.get(was_at).map(|name| (at, Arc::clone(name))));
        }
        known
    }

    /// A delivery came through.
    pub(super) fn handled_by(&self, version: &Arc<Version>) {
        let verdict = lock(&version.standing).came_through(clock::now());
        self.judge(version, verdict);
    }

    /// A delivery failed that goes to no other version.
    pub(super) fn failed_by(version: &Version) {
        lock(&version.standing).failed();
    }

    /// A delivery failed that another version was given, which failed, too, or did not.
    pub(super) fn failed_before(&self, version: &Arc<Version>, failed_after: bool) {
        let verdict = lock(&version.standing).failed_on_probation(failed_after, clock::now());
        self.judge(version, verdict);
    }

    /// Ends a probation whose time is over.
    pub(super) fn look_at(&self, version: &Arc<Version>) {
        let verdict = lock(&version.standing).look(clock::now());
        self.judge(version, verdict);
    }

    fn judge(&self, version: &Arc<Version>, verdict: Verdict) {
        let (event, reason) = match verdict {
            Verdict::Open => return,
            Verdict::Stays => {
                *lock(&version.fallback) = None;
                (Event::Proved, String::new())
            }
            Verdict::Goes(reason) => {
                let Some(old) = version.fallback() else { return };
                let taken_back = self.current.send_if_modified(|current| {
                    let is_it = Arc::ptr_eq(current, version);
                    if is_it {
                        *current = old;
                    }
                    is_it
                });
                // Where there is a newer one already, that goes on.
                if !taken_back {
                    return;
                }
                let refusal = Refusal { candidate: version.candidate(), reason: reason.clone(), rolled_back: true };
                *lock(&self.rolled_back) = Some(refusal);
                (Event::RolledBack, reason)
            }
        };
        let about = About { plugin: &version.manifest.plugin, digest: &version.digest };
        self.histories.note(&self.name, event, Cause::Probation, about, reason, None);
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The same, for who wants to know when it changes.
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Another one takes its place.
    pub(super) fn replaced(&self) {
        self.replaced.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_state(&self, state: State) {
        if !self.replaced.load(Ordering::Relaxed) {
            self.metrics.consuming.set(matches!(state, State::Consuming | State::Trying).into());
        }
        self.state.send_replace(state);
    }

    /// Consumes whenever there is a broker, until it is to stop; then finishes what is in hand. Begins when these have
    /// ended.
    pub(super) async fn live(
        self: Arc<Self>,
        shared: Arc<Shared>,
        mut link: watch::Receiver<Link>,
        after: Vec<CancellationToken>,
    ) {
        let _ending = Ending(&self);
        for ended in after {
            ended.cancelled().await;
        }
        let keeping_ended = CancellationToken::new();
        let mut keeping = JoinSet::new();
        if let Some(dedupe) = &self.dedupe {
            dedupe.load(&self.name).await;
            keeping.spawn_on(
                Arc::clone(dedupe).keep(Arc::clone(&self.name), keeping_ended.clone()),
                &shared.executors.long,
            );
        }
        let mut last_epoch = 0;
        while let Some(session) = self.next_session(&mut link, last_epoch, &self.stop).await {
            self.set_state(State::Starting);
            match consume::run(&self, &shared, &session, &self.stop).await {
                Ended::Drained => break,
                Ended::Paused => {
                    tokio::select! {
                        biased;
                        () = self.breaker_closed_or_trying() => {}
                        () = self.stop.cancelled() => {}
                    }
                }
                Ended::Lost => last_epoch = session.epoch(),
                Ended::Trouble(trouble) => {
                    tracing::error!(worker = %self.name, "stopped, next try in 5s: {trouble}");
                    self.set_state(State::Failed(trouble.message));
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(TROUBLE_PAUSE) => {}
                        () = session.lost().cancelled() => {}
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
        keeping_ended.cancel();
        while keeping.join_next().await.is_some() {}
        self.set_state(State::Stopped);
    }

    /// Where the breaker stands; closed where there is none.
    pub(super) fn stage(&self) -> Stage {
        self.with_breaker(|breaker| breaker.stage(clock::now())).unwrap_or(Stage::Closed)
    }

    /// Asks the breaker, where there is one.
    pub(super) fn with_breaker<T>(&self, ask: impl FnOnce(&mut Breaker) -> T) -> Option<T> {
        let breaker = self.breaker.as_ref()?;
        Some(ask(&mut breaker.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Waits for as long as the breaker is open.
    async fn breaker_closed_or_trying(&self) {
        while let Stage::Open(until) = self.stage() {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// A session that is not the one that was lost; nothing once it is time to stop.
    async fn next_session(
        &self,
        link: &mut watch::Receiver<Link>,
        last_epoch: u64,
        stop: &CancellationToken,
    ) -> Option<Arc<Session>> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            match &*link.borrow_and_update() {
                Link::Up(session) if session.epoch() > last_epoch && !session.lost().is_cancelled() => {
                    return Some(Arc::clone(session));
                }
                _ => self.set_state(State::Waiting),
            }
            tokio::select! {
                biased;
                changed = link.changed() => changed.ok()?,
                () = stop.cancelled() => return None,
            }
        }
    }
}

/// Whoever waits for a worker's end gets it, also where that is not the one that was meant.
struct Ending<'a>(&'a Worker);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.0.state() != State::Stopped {
            self.0.set_state(State::Failed("its task ended early, which is a mistake of the host's".into()));
        }
        self.0.ended.cancel();
    }
}

/// A worker that waits for a broker has no queues to take over; the one before it may have.
fn last_that_declared(worker: Arc<Worker>) -> Arc<Worker> {
    if lock(&worker.declared).is_some() || worker.state() != State::Waiting {
        return worker;
    }
    let before = lock(&worker.before).clone();
    before.unwrap_or(worker)
}

/// A version that comes after another one.
fn after(current: &Arc<Version>, mut version: Version) -> Version {
    let fallback = current.fallback().unwrap_or_else(|| Arc::clone(current));
    if fallback.plugin.digest != version.plugin.digest {
        let policy = &version.manifest.reload;
        let standing = Standing::on_probation(policy, &lock(&fallback.standing), clock::now());
        if standing.is_on_probation() {
            version.standing = Mutex::new(standing);
            version.fallback = Mutex::new(Some(fallback));
        }
    }
    version
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
