//! A worker: a manifest with the version of its plugin that runs, and its life.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    consume::{self, Ended},
    dedupe::Dedupe,
};
use crate::{
    amqp::{Link, Session},
    manifest::Manifest,
    outcome::Rules,
    sandbox::{LogSink, Plugin, Scope},
    settle::{Breaker, Stage},
    telemetry::WorkerMetrics,
};

/// The pause after trouble of this worker's own (a queue that differs, a missing right) before it is tried again.
const TROUBLE_PAUSE: Duration = Duration::from_secs(5);

/// A worker that runs.
pub struct Worker {
    /// The manifest's name.
    pub name: Arc<str>,
    /// The manifest.
    pub manifest: Manifest,
    /// What handles deliveries.
    pub version: Arc<Version>,
    /// Where the handler's output goes.
    pub log: Arc<LogSink>,
    /// Its counters.
    pub metrics: WorkerMetrics,
    state: Mutex<State>,
    /// Where the manifest has one. It outlives connections.
    breaker: Option<Mutex<Breaker>>,
    /// What it has done, where the manifest asks for it.
    pub(super) dedupe: Option<Arc<Dedupe>>,
}

/// What one delivery is handled with, from the first to the last; a reload makes a new one and changes none.
pub struct Version {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// `sha256:…` of the plugin, as it goes into dead letters.
    pub digest: String,
    /// What its calls may use and reach.
    pub scope: Arc<Scope>,
    /// What its publications are checked against.
    pub rules: Rules,
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
    /// A worker that has not started.
    pub fn new(
        manifest: Manifest,
        version: Version,
        log: Arc<LogSink>,
        metrics: WorkerMetrics,
        dedupe: Option<Dedupe>,
    ) -> Self {
        let name: Arc<str> = manifest.name.as_str().into();
        Self {
            log,
            breaker: manifest.breaker.map(|policy| Mutex::new(Breaker::new(policy))),
            dedupe: dedupe.map(Arc::new),
            name,
            manifest,
            version: Arc::new(version),
            metrics,
            state: Mutex::new(State::Waiting),
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_state(&self, state: State) {
        self.metrics.consuming.set(matches!(state, State::Consuming | State::Trying).into());
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Consumes whenever there is a broker, until `stop`; then finishes what is in hand.
    pub(super) async fn live(
        self: Arc<Self>,
        shared: Arc<Shared>,
        mut link: watch::Receiver<Link>,
        stop: CancellationToken,
    ) {
        let ended = CancellationToken::new();
        let mut keeping = JoinSet::new();
        if let Some(dedupe) = &self.dedupe {
            dedupe.load(&self.name).await;
            keeping.spawn_on(Arc::clone(dedupe).keep(Arc::clone(&self.name), ended.clone()), &shared.handlers);
        }
        let mut last_epoch = 0;
        while let Some(session) = self.next_session(&mut link, last_epoch, &stop).await {
            self.set_state(State::Starting);
            match consume::run(&self, &shared, &session, &stop).await {
                Ended::Drained => break,
                Ended::Paused => {
                    tokio::select! {
                        () = self.breaker_closed_or_trying() => {}
                        () = stop.cancelled() => {}
                    }
                }
                Ended::Lost => last_epoch = session.epoch(),
                Ended::Trouble(trouble) => {
                    tracing::error!(worker = %self.name, "stopped, next try in 5s: {trouble}");
                    self.set_state(State::Failed(trouble.message));
                    tokio::select! {
                        () = tokio::time::sleep(TROUBLE_PAUSE) => {}
                        () = session.lost().cancelled() => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        ended.cancel();
        while keeping.join_next().await.is_some() {}
        self.set_state(State::Stopped);
    }

    /// Where the breaker stands; closed where there is none.
    pub(super) fn stage(&self) -> Stage {
        self.with_breaker(|breaker| breaker.stage(Instant::now())).unwrap_or(Stage::Closed)
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
                changed = link.changed() => changed.ok()?,
                () = stop.cancelled() => return None,
            }
        }
    }
}
