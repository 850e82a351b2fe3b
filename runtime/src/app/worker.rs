//! A worker: a manifest with the version of its plugin that runs, and its life.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    consume::{self, Ended},
};
use crate::{
    amqp::{Link, Session},
    manifest::Manifest,
    outcome::Rules,
    sandbox::{CallLimits, LogSink, Plugin},
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
}

/// What one delivery is handled with, from the first to the last; a reload makes a new one and changes none.
pub struct Version {
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// `sha256:…` of the plugin, as it goes into dead letters.
    pub digest: String,
    /// What one delivery may use.
    pub limits: CallLimits,
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
    /// Finishing what is in hand.
    Draining,
    /// Trouble of its own; tried again every 5 s.
    Failed(String),
    /// Done.
    Stopped,
}

impl Worker {
    /// A worker that has not started.
    pub fn new(manifest: Manifest, version: Version, metrics: WorkerMetrics) -> Self {
        let name: Arc<str> = manifest.name.as_str().into();
        Self {
            log: LogSink::new(Arc::clone(&name)),
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
        self.metrics.consuming.set((state == State::Consuming).into());
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Consumes whenever there is a broker, until `stop`; then finishes what is in hand.
    pub(super) async fn live(
        self: Arc<Self>,
        shared: Arc<Shared>,
        mut link: watch::Receiver<Link>,
        stop: CancellationToken,
    ) {
        let mut last_epoch = 0;
        while let Some(session) = self.next_session(&mut link, last_epoch, &stop).await {
            self.set_state(State::Starting);
            match consume::run(&self, &shared, &session, &stop).await {
                Ended::Drained => break,
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
        self.set_state(State::Stopped);
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
