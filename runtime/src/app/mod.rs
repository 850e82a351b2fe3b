//! Start and stop: from settings to a host that runs, and to its end.

mod consume;
mod dedupe;
mod grants;
mod load;
mod running;
pub mod settings;
mod worker;

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use grants::{Grantor, Reach};
use load::{FOUND_MAX, load_into};
pub use load::{Found, Loaded, Refused, load, log, version};
pub use worker::{State, Version, Worker};

use crate::{
    admin,
    amqp::{self, Link},
    sandbox::Sandbox,
    telemetry::Metrics,
};
use running::Running;
use settings::{HostLimits, Settings};

/// How long connections may take to close when the grace is over already.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What all workers share.
struct Shared {
    /// A permit for each handler that may run at once. Never more than the sandbox has room for.
    slots: Arc<Semaphore>,
    /// How many there are: who takes all of them runs alone.
    slots_total: u32,
    /// Who has one, for the host that comes after a crash.
    running: Running,
    limits: HostLimits,
    publish_timeout: Duration,
    /// Where handlers run that are not quick.
    handlers: tokio::runtime::Handle,
}

/// A running host, as it can be looked at from outside.
pub struct Host {
    loaded: RwLock<Loaded>,
    /// Whether there are manifests that were not looked into yet.
    loading: AtomicBool,
    /// All counters.
    pub metrics: Metrics,
    link: watch::Receiver<Link>,
}

/// Why a host did not start or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `--strict`, and something is wrong; it has been reported.
    #[error("refused to start: --strict, and not every manifest can run")]
    Strict,
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Runs on the current executor, which does best with a single thread: whatever arrives while it is busy is taken in one
/// go. Handlers that take their time run on `handlers`. Ends after `stop`: it finishes what is in hand for as long as `settings.grace`, or until `hurry`.
pub async fn run(
    settings: Settings,
    handlers: tokio::runtime::Handle,
    stop: CancellationToken,
    hurry: CancellationToken,
) -> Result<(), RunError> {
    let sandbox = Arc::new(Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache))?);
    let metrics = Metrics::default();
    let grantor = Grantor::new(&settings, Reach::Real)?;
    let first = if settings.strict { load(&settings, &sandbox, &grantor, &metrics).await? } else { Loaded::default() };
    if settings.strict && !first.refused.is_empty() {
        return Err(RunError::Strict);
    }
    let (link_sender, link) = watch::channel(Link::Down("not connected yet".into()));
    let host = Arc::new(Host { loaded: RwLock::default(), loading: true.into(), metrics, link });
    let shared = Arc::new(Shared {
        slots: Arc::new(Semaphore::new(sandbox.slots())),
        slots_total: u32::try_from(sandbox.slots()).map_err(anyhow::Error::from)?,
        running: Running::open(settings.state.as_deref(), sandbox.slots()),
        limits: settings.host.clone(),
        publish_timeout: settings.amqp.publish_timeout,
        handlers,
    });

    let mut services = JoinSet::new();
    if let Some(address) = settings.admin {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            anyhow::anyhow!("cannot listen on the admin address {address}: {error}; hint: choose another with --admin")
        })?;
        tracing::info!("admin address http://{}", listener.local_addr().map_err(anyhow::Error::from)?);
        services.spawn(admin::serve(listener, Arc::clone(&host)));
    }
    services.spawn(amqp::maintain(settings.amqp.clone(), link_sender, stop.clone()));
    services.spawn(count_connections(host.link.clone(), host.metrics.clone()));

    let mut workers = JoinSet::new();
    for worker in first.workers {
        host.begin(Found::Worker(worker), &mut workers, &shared, &stop);
    }
    // The others begin one by one, each as soon as its plugin is there.
    {
        let (sender, mut found) = mpsc::channel(FOUND_MAX);
        let load = async {
            match settings.strict {
                true => Ok(()),
                false => load_into(sender, &settings, &sandbox, &grantor, &host.metrics).await,
            }
        };
        let mut load = pin!(load);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                Some(found) = found.recv() => host.begin(found, &mut workers, &shared, &stop),
                ended = &mut load, if host.loading.load(Ordering::Relaxed) => {
                    ended?;
                    while let Ok(found) = found.try_recv() {
                        host.begin(found, &mut workers, &shared, &stop);
                    }
                    host.loading.store(false, Ordering::Relaxed);
                    if host.loaded().workers.is_empty() {
                        tracing::warn!(manifests = %settings.manifests.display(), "no manifest can run: nothing to do");
                    }
                }
            }
        }
    }
    tracing::info!(grace = %humantime::format_duration(settings.grace), "stopping: finishing what is in hand");
    let drained = tokio::select! {
        () = all(&mut workers) => true,
        () = tokio::time::sleep(settings.grace) => false,
        () = hurry.cancelled() => false,
    };
    if !drained {
        tracing::warn!("stopping before all was finished: what is unsettled goes back to its queues");
        workers.shutdown().await;
    }
    let link = host.link.borrow().clone();
    if let Link::Up(session) = link {
        // A broker that does not answer has had its time.
        let limit = if drained { settings.grace } else { LAST_WORD };
        if tokio::time::timeout(limit.max(LAST_WORD), session.close()).await.is_err() {
            tracing::debug!("the connections were not closed in order");
        }
    }
    services.shutdown().await;
    // What the versions of the workers have open is closed before that.
    drop((host, shared, workers));
    grantor.close();
    tracing::info!("stopped");
    Ok(())
}

async fn all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!("a worker ended early: {error}");
        }
    }
}

async fn count_connections(mut link: watch::Receiver<Link>, metrics: Metrics) {
    loop {
        metrics.broker(matches!(&*link.borrow_and_update(), Link::Up(_)));
        if link.changed().await.is_err() {
            return;
        }
    }
}

impl Host {
    /// The workers that run, by name, and what was left out, and why; as far as that is known.
    pub fn loaded(&self) -> RwLockReadGuard<'_, Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A manifest was looked into; its worker begins.
    fn begin(&self, found: Found, workers: &mut JoinSet<()>, shared: &Arc<Shared>, stop: &CancellationToken) {
        if let Found::Worker(worker) = &found {
            workers.spawn(Arc::clone(worker).live(Arc::clone(shared), self.link.clone(), stop.clone()));
        }
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).add(found);
    }

    /// Whether every worker consumes; else what keeps them from it.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.loading.load(Ordering::Relaxed) {
            reasons.push("plugins are being compiled".to_owned());
        }
        match &*self.link.borrow() {
            Link::Down(cause) => reasons.push(format!("no broker: {cause}")),
            Link::Up(session) if session.blocked() => reasons.push("the broker blocks publishers".to_owned()),
            Link::Up(_) => {}
        }
        for worker in &self.loaded().workers {
            match worker.state() {
                State::Consuming | State::Trying => {}
                State::Paused(reason) => reasons.push(format!("worker `{}`: {reason}", worker.name)),
                State::Failed(reason) => reasons.push(format!("worker `{}`: {reason}", worker.name)),
                State::Waiting => reasons.push(format!("worker `{}` waits for the broker", worker.name)),
                State::Starting => reasons.push(format!("worker `{}` is starting", worker.name)),
                State::Draining | State::Stopped => reasons.push(format!("worker `{}` is stopping", worker.name)),
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

/// Where a manifest's plugin is.
fn plugin_path(settings: &Settings, plugin: &str) -> PathBuf {
    settings.plugins.join(plugin)
}
