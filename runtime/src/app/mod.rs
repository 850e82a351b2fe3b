//! Start and stop: from settings to a host that runs, and to its end.

mod consume;
mod dedupe;
mod grants;
mod histories;
mod load;
mod look;
mod rehearsal;
mod reload;
mod running;
pub mod settings;
mod watching;
mod worker;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) use grants::secret;
pub use grants::{Grantor, Reach};
pub use histories::Histories;
pub use load::{Loader, Refused, load, log, version};
pub use rehearsal::Rehearsal;
use reload::{ASKED_MAX, Reloader};
pub use reload::{Ask, Done, Planned, Reread};
pub use worker::{State, Version, Worker};

use crate::{
    admin,
    amqp::{self, Link},
    sandbox::Sandbox,
    telemetry::Metrics,
};
use running::Running;
use settings::Settings;

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
    executors: Executors,
}

/// Where handlers run that do not run in the run. They compete by threads, which the system shares fairly: a handler that
/// is brief does not stand in a line with those that compute for long.
pub struct Executors {
    /// For workers whose handlers usually take little time.
    pub brief: tokio::runtime::Handle,
    /// For the others, and for what else takes its time.
    pub long: tokio::runtime::Handle,
}

/// A running host, as it can be looked at from outside.
pub struct Host {
    present: RwLock<Present>,
    /// Whether there are manifests that were not looked into yet.
    loading: AtomicBool,
    /// All counters.
    pub metrics: Metrics,
    /// What became of the workers' versions.
    pub histories: Arc<Histories>,
    /// Takes what is asked of it.
    pub asks: mpsc::Sender<Ask>,
    link: watch::Receiver<Link>,
}

/// What there is at a moment.
#[derive(Default)]
pub struct Present {
    /// The workers that run, by name.
    pub workers: Vec<Arc<Worker>>,
    /// Manifests that are left out, by file. Those of workers that run by an earlier one are not among them.
    pub refused: Vec<Refused>,
    /// Why workers that run do so by an earlier version or manifest, by name.
    pub refusals: BTreeMap<String, String>,
}

impl Present {
    /// Why a worker does not run by what lies there.
    pub fn refusal(&self, worker: &Worker) -> Option<String> {
        let refused = self.refusals.get(&*worker.name).cloned();
        refused.or_else(|| worker.rolled_back().map(|refusal| refusal.reason))
    }
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
/// go. Handlers that take their time run on the `executors`. Ends after `stop`: it finishes what is in hand for as long as
/// `settings.grace`, or until `hurry`.
pub async fn run(
    settings: Settings,
    reread: Reread,
    executors: Executors,
    stop: CancellationToken,
    hurry: CancellationToken,
) -> Result<(), RunError> {
    // From now on it does not end the process.
    let hangup = signal(SignalKind::hangup()).map_err(anyhow::Error::from)?;
    let sandbox = Arc::new(Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache))?);
    let metrics = Metrics::default();
    let grantor = Arc::new(Grantor::new(&settings, Reach::Real)?);
    let slots = Arc::new(Semaphore::new(sandbox.slots()));
    let slots_total = u32::try_from(sandbox.slots()).map_err(anyhow::Error::from)?;
    let running = Running::open(settings.state.as_deref(), sandbox.slots());
    let loader = Arc::new(Loader::new(&settings, sandbox, Arc::clone(&grantor), Some(Arc::clone(&slots))));
    if settings.strict {
        let loaded = load(&settings, &loader).await?;
        loaded.refused.iter().for_each(Refused::tell);
        if !loaded.refused.is_empty() {
            return Err(RunError::Strict);
        }
    }
    let (link_sender, link) = watch::channel(Link::Down("not connected yet".into()));
    let (asks, asked) = mpsc::channel(ASKED_MAX);
    let histories = Arc::new(Histories::new(metrics.clone()));
    let host = Host { present: RwLock::default(), loading: true.into(), metrics, histories, asks, link };
    let host = Arc::new(host);
    let shared = Arc::new(Shared { slots, slots_total, running, executors });

    let mut services = JoinSet::new();
    if let Some(address) = settings.admin {
        let token = settings.admin_token.as_ref().map(|source| grants::secret(source, &settings.project()));
        let token = token.transpose().map_err(|problem| anyhow::anyhow!("`admin-token` {problem}"))?;
        let listener = TcpListener::bind(address).await.map_err(|error| {
            anyhow::anyhow!("cannot listen on the admin address {address}: {error}; hint: choose another with --admin")
        })?;
        tracing::info!("admin address http://{}", listener.local_addr().map_err(anyhow::Error::from)?);
        services.spawn(admin::serve(listener, Arc::clone(&host), token));
    }
    services.spawn(amqp::maintain(settings.amqp.clone(), link_sender, stop.clone()));
    services.spawn(count_connections(host.link.clone(), host.metrics.clone()));

    let settings = (Arc::new(settings), reread);
    let (reloader, made) = Reloader::new(Arc::clone(&host), shared, loader, settings, stop);
    let (mut workers, settings) = reloader.follow(made, asked, hangup).await?;
    tracing::info!(grace = %humantime::format_duration(settings.grace), "stopping: finishing what is in hand");
    let drained = tokio::select! {
        biased;
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
    drop((host, workers));
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
    pub fn present(&self) -> RwLockReadGuard<'_, Present> {
        self.present.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Present> {
        self.present.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker of this name.
    pub fn worker(&self, name: &str) -> Option<Arc<Worker>> {
        self.present().workers.iter().find(|worker| &*worker.name == name).map(Arc::clone)
    }

    /// Adds a worker, in the place of the one of its name.
    fn put(&self, worker: Arc<Worker>) {
        let workers = &mut self.change().workers;
        match workers.binary_search_by(|other| other.name.cmp(&worker.name)) {
            Ok(at) => workers.splice(at..=at, [worker]).for_each(drop),
            Err(at) => workers.insert(at, worker),
        }
    }

    fn remove(&self, name: &str) -> Option<Arc<Worker>> {
        let workers = &mut self.change().workers;
        let at = workers.binary_search_by(|other| (*other.name).cmp(name)).ok()?;
        Some(workers.remove(at))
    }

    /// Adds a manifest that is left out, in the place of what was said of its file.
    fn add_refused(&self, refused: Refused) {
        let all = &mut self.change().refused;
        match all.binary_search_by(|other| other.path.cmp(&refused.path)) {
            Ok(at) => all.splice(at..=at, [refused]).for_each(drop),
            Err(at) => all.insert(at, refused),
        }
    }

    fn retain_refused(&self, keep: impl Fn(&Refused) -> bool) {
        self.change().refused.retain(keep);
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
        for worker in &self.present().workers {
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
