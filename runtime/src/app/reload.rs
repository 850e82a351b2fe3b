//! Carries out what the files say: looks, plans, has versions made, and puts them where they belong.
//!
//! One loop owns what runs and what was refused. It waits for nothing but the next change: versions are made beside it,
//! and workers that end are awaited by those that come after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{
    signal::unix::Signal,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Host, Shared,
    histories::About,
    load::{Loader, Looked, Ready, Refused, Wish},
    look::{self, Digests},
    settings::{Settings, SettingsError},
    watching::Watch,
    worker::{State, Worker},
};
use crate::{
    amqp::Link,
    clock,
    manifest::{self, report::Problem},
    reload::{Candidate, Cause, Change, Event, Refusal, Running, Step, changes, plan},
    telemetry::Metrics,
};

/// Versions that were made and are not taken yet.
const MADE_MAX: usize = 16;
/// What is asked of the loop and not taken yet.
pub(super) const ASKED_MAX: usize = 16;
/// Those who wait for what they asked for; more are told to try again.
const WAITING_MAX: usize = 64;
/// A worker that takes the place of another one, whose queues must not be without a consumer, has so long to begin.
const HANDOVER_MAX: Duration = Duration::from_secs(10);

/// What may be asked of a host that runs.
pub enum Ask {
    /// What it would do now.
    Plan(oneshot::Sender<Planned>),
    /// To do it. The answer comes when all of it is done.
    Reload(oneshot::Sender<Done>),
}

/// What would be done, by worker.
#[derive(Debug, Default, Serialize)]
pub struct Planned {
    /// Workers that change.
    pub steps: BTreeMap<String, Step>,
    /// Manifests that are wrong, by file: their workers stay as they are.
    pub problems: BTreeMap<PathBuf, Vec<String>>,
}

/// What was done.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Done {
    /// What became of each worker that had to change.
    pub workers: BTreeMap<String, Did>,
}

/// What was done with a worker.
#[derive(Debug, Clone, Serialize)]
pub struct Did {
    /// What.
    pub event: Event,
    /// What was different, or what was wrong; may be empty.
    pub reason: String,
}

/// How the settings are read again.
pub type Reread = Box<dyn Fn() -> Result<Settings, SettingsError> + Send>;

pub(super) struct Reloader {
    host: Arc<Host>,
    shared: Arc<Shared>,
    link: watch::Receiver<Link>,
    metrics: Metrics,
    loader: Arc<Loader>,
    settings: Arc<Settings>,
    reread: Reread,
    /// What was last wrong with the settings' file, or could not be applied.
    settings_trouble: Option<String>,
    digests: Arc<Mutex<Digests>>,
    workers: JoinSet<()>,
    /// Workers that finish what they have in hand.
    draining: Vec<Arc<Worker>>,
    refused: BTreeMap<String, Refusal>,
    /// What is wrong with manifests, as it was told.
    problems: BTreeMap<PathBuf, Vec<Problem>>,
    /// Workers whose plugin is gone, as it was told.
    kept: BTreeSet<String>,
    /// Workers whose versions were made by settings that have changed since.
    stale: BTreeSet<String>,
    /// What is being made.
    orders: BTreeMap<String, Order>,
    made: mpsc::Sender<Looked>,
    /// Who waits for what is being made.
    waiting: Vec<Waiting>,
    stop: CancellationToken,
}

/// A version that is being made.
struct Order {
    candidate: Candidate,
    cause: Cause,
    since: Instant,
    /// Whether settings that changed are its reason, or one of them.
    anew: bool,
}

struct Waiting {
    for_workers: BTreeSet<String>,
    done: Done,
    answer: oneshot::Sender<Done>,
}

impl Reloader {
    pub(super) fn new(
        host: Arc<Host>,
        shared: Arc<Shared>,
        loader: Arc<Loader>,
        (settings, reread): (Arc<Settings>, Reread),
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Looked>) {
        let (made, to_take) = mpsc::channel(MADE_MAX);
        let (link, metrics) = (host.link.clone(), host.metrics.clone());
        let reloader = Self {
            host,
            shared,
            link,
            metrics,
            loader,
            settings,
            reread,
            settings_trouble: None,
            digests: Arc::default(),
            workers: JoinSet::new(),
            draining: Vec::new(),
            refused: BTreeMap::new(),
            problems: BTreeMap::new(),
            kept: BTreeSet::new(),
            stale: BTreeSet::new(),
            orders: BTreeMap::new(),
            made,
            waiting: Vec::new(),
            stop,
        };
        (reloader, to_take)
    }

    /// Follows the files until it is to stop; gives the workers that are still there, and the settings as they are by
    /// then. Errors: at the beginning, the folder of manifests cannot be read.
    pub(super) async fn follow(
        mut self,
        mut made: mpsc::Receiver<Looked>,
        mut asked: mpsc::Receiver<Ask>,
        mut hangup: Signal,
    ) -> anyhow::Result<(JoinSet<()>, Arc<Settings>)> {
        let mut watch = Watch::new(&self.settings);
        let stop = self.stop.clone();
        let found = self.look(&BTreeSet::new()).await;
        let found = found.map_err(|error| {
            let folder = self.settings.manifests.display();
            anyhow::anyhow!("cannot read the folder of manifests `{folder}`: {error}")
        })?;
        self.follow_plan(found, Cause::Start);
        self.begun();
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                written = watch.changed() => self.turn(&written, Cause::File, None).await,
                Some(()) = hangup.recv() => self.turn(&BTreeSet::new(), Cause::Signal, None).await,
                Some(ask) = asked.recv() => match ask {
                    // Who is not answered is told that there is no answer now.
                    Ask::Plan(answer) => _ = self.planned().await.map(|planned| answer.send(planned)),
                    Ask::Reload(answer) => self.turn(&BTreeSet::new(), Cause::Request, Some(answer)).await,
                },
                Some(looked) = made.recv() => {
                    self.take(looked);
                    while let Ok(looked) = made.try_recv() {
                        self.take(looked);
                    }
                    self.begun();
                }
                Some(ended) = self.workers.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("a worker ended early: {error}");
                    }
                    self.draining.retain(|worker| !worker.ended.is_cancelled());
                }
            }
        }
        Ok((self.workers, self.settings))
    }

    /// Everything that was there at the start was looked into.
    fn begun(&self) {
        let begun = self.orders.values().all(|order| order.cause != Cause::Start);
        if begun && self.host.loading.swap(false, Ordering::Relaxed) && self.host.present().workers.is_empty() {
            let manifests = self.settings.manifests.display();
            tracing::warn!(%manifests, "no manifest can run: nothing to do");
        }
    }

    /// One look at the files, and what follows from it.
    async fn turn(&mut self, written: &BTreeSet<PathBuf>, cause: Cause, answer: Option<oneshot::Sender<Done>>) {
        self.read_settings();
        match self.look(written).await {
            Ok(found) => {
                let told = self.follow_plan(found, cause);
                if let Some(answer) = answer.filter(|_| self.waiting.len() < WAITING_MAX) {
                    let for_workers = self.orders.keys().cloned().collect();
                    self.waiting.push(Waiting { for_workers, done: told, answer });
                    self.answer();
                }
            }
            // In the middle of an exchange of the folder it may not be there.
            Err(error) => self.tell_unreadable(&error),
        }
    }

    fn tell_unreadable(&self, error: &std::io::Error) {
        let folder = self.settings.manifests.display();
        tracing::error!("all workers stay as they are: the folder of manifests `{folder}` cannot be read: {error}");
    }

    /// Off the executor.
    async fn look(&self, written: &BTreeSet<PathBuf>) -> std::io::Result<look::Looked> {
        let (digests, settings, written) = (Arc::clone(&self.digests), Arc::clone(&self.settings), written.clone());
        let looking = tokio::task::spawn_blocking(move || {
            digests.lock().unwrap_or_else(PoisonError::into_inner).look(&settings, &written)
        });
        looking.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
    }

    /// Takes over settings that can change. Those that versions depend on make all that there are stale.
    fn read_settings(&mut self) {
        let (live, trouble) = match (self.reread)() {
            Ok(new) => {
                let live = self.settings.live(&new);
                let held = live.held.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
                let trouble =
                    (!held.is_empty()).then(|| format!("changes of {held} hold when the host is started again"));
                (Some(live), trouble)
            }
            Err(error) => (None, Some(format!("the settings stay as they are:\n{error}"))),
        };
        if let Some(text) = &trouble
            && self.settings_trouble != trouble
        {
            tracing::warn!("{text}");
        }
        self.settings_trouble = trouble;
        let Some(live) = live.filter(|live| !live.applied.is_empty()) else { return };
        tracing::info!(keys = live.applied.join(", "), "new settings");
        self.settings = Arc::new(live.settings);
        // The grace alone is of no version.
        if live.applied != ["grace"] {
            let names = self.running().into_keys().chain(self.orders.keys().cloned());
            self.stale = names.chain(self.refused.keys().cloned()).collect();
        }
    }

    fn running(&self) -> BTreeMap<String, Running> {
        let present = self.host.present();
        let running = present.workers.iter().map(|worker| {
            let version = worker.version();
            let (setup, manifest) = (Arc::clone(&worker.manifest), Arc::clone(&version.manifest));
            (worker.name.to_string(), Running { setup, manifest, plugin: version.plugin.digest })
        });
        running.collect()
    }

    /// What was refused, and what was taken back.
    fn all_refused(&self) -> BTreeMap<String, Vec<Refusal>> {
        let mut refused = BTreeMap::<_, Vec<_>>::new();
        let present = self.host.present();
        let taken_back = present.workers.iter().filter_map(|worker| {
            let refusal = worker.rolled_back()?;
            Some((worker.name.to_string(), refusal))
        });
        for (name, refusal) in taken_back.chain(self.refused.clone()) {
            refused.entry(name).or_default().push(refusal);
        }
        refused
    }

    /// What would be done; nothing where that cannot be seen.
    async fn planned(&self) -> Option<Planned> {
        let found = self.look(&BTreeSet::new()).await.inspect_err(|error| self.tell_unreadable(error)).ok()?;
        let steps = plan(&self.running(), &found.wanted, &self.all_refused(), true, &self.stale);
        let problems = found.problems.into_iter();
        let texts = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.to_string()).collect();
        Some(Planned { steps, problems: problems.map(|(path, problems)| (path, texts(problems))).collect() })
    }

    /// Plans, does what can be done at once, and has made what has to be made. Gives what is done already.
    fn follow_plan(&mut self, found: look::Looked, cause: Cause) -> Done {
        let mut done = Done::default();
        self.tell_problems(found.problems, cause, &mut done);
        let asked = matches!(cause, Cause::Signal | Cause::Request);
        let steps = plan(&self.running(), &found.wanted, &self.all_refused(), asked, &self.stale);
        // What is as it runs by now is not wanted in another way any more.
        self.orders.retain(|name, _| steps.contains_key(name));
        let candidates = &found.wanted.candidates;
        self.kept.retain(|name| steps.get(name) == Some(&Step::Keep));
        let settled = |name: &String| candidates.contains_key(name) || found.wanted.unsaid.contains(name);
        // What was refused is forgotten with its files.
        self.refused.retain(|name, refusal| match candidates.get(name) {
            Some(candidate) => *candidate == refusal.candidate,
            None => settled(name),
        });
        self.host.retain_refused(|refused| settled(&refused.name));
        for (name, candidate) in candidates {
            if let Some(worker) = self.host.worker(name) {
                worker.lies_there(candidate);
            }
        }
        self.show_refusals();
        let mut wishes = Vec::new();
        for (name, step) in steps {
            match step {
                Step::Stop => self.stop_worker(&name, cause, &mut done),
                Step::Keep => {
                    let why = found.missing.get(&name).map_or("", String::as_str);
                    self.keep(&name, why, cause, &mut done);
                }
                Step::Start | Step::Swap { .. } | Step::Reconsume { .. } => {
                    let Some(candidate) = candidates.get(&name) else { continue };
                    let anew = self.stale.remove(&name);
                    if !anew && self.orders.get(&name).is_some_and(|order| order.candidate == *candidate) {
                        continue;
                    }
                    wishes.push(self.wish(candidate, anew));
                    let order = Order { candidate: candidate.clone(), cause, since: clock::now(), anew };
                    self.orders.insert(name, order);
                }
            }
        }
        let goes_on = |name: &String| self.host.worker(name).is_some() || self.refused.contains_key(name);
        self.stale.retain(goes_on);
        if !wishes.is_empty() {
            let (loader, settings, made) = (Arc::clone(&self.loader), Arc::clone(&self.settings), self.made.clone());
            self.shared.executors.long.spawn(async move { loader.look(settings, wishes, made).await });
        }
        done
    }

    fn wish(&self, candidate: &Candidate, anew: bool) -> Wish {
        let (worker, manifest) = (self.host.worker(&candidate.manifest.name), Arc::clone(&candidate.manifest));
        let Some(worker) = worker else { return Wish { manifest, log: None, plugin: None } };
        let version = worker.version();
        let same = !anew && version.manifest.limits.log == manifest.limits.log;
        let log = same.then(|| Arc::clone(&version.scope.log));
        let held_back = worker.rolled_back().is_some_and(|refusal| refusal.holds_back(candidate));
        let plugin = held_back.then(|| Arc::clone(&version.plugin));
        Wish { manifest, log, plugin }
    }

    fn tell_problems(&mut self, found: BTreeMap<PathBuf, Vec<Problem>>, cause: Cause, done: &mut Done) {
        for (path, problems) in &found {
            if self.problems.get(path) == Some(problems) {
                continue;
            }
            let name = super::load::name_of(path);
            self.refuse(Refused { name, path: path.clone(), problems: problems.clone() }, "", cause, None, done);
        }
        self.problems = found;
    }

    /// Tells what is wrong. The worker that there is goes on.
    fn refuse(&self, refused: Refused, digest: &str, cause: Cause, took: Option<Duration>, done: &mut Done) {
        refused.tell();
        let reason = all(&refused.problems);
        let worker = self.host.worker(&refused.name);
        let plugin = worker.as_ref().map_or_else(String::new, |worker| worker.manifest.plugin.clone());
        let about = About { plugin: &plugin, digest };
        self.host.histories.note(&refused.name, Event::Refused, cause, about, reason.clone(), took);
        done.workers.insert(refused.name.clone(), Did { event: Event::Refused, reason });
        if worker.is_none() {
            self.host.add_refused(refused);
        }
    }

    /// Shows what is wrong beside the workers that go on all the same.
    fn show_refusals(&self) {
        let of_manifest = |(path, problems): (&PathBuf, &Vec<Problem>)| (super::load::name_of(path), all(problems));
        let of_manifests = self.problems.iter().map(of_manifest);
        let of_versions = self.refused.iter().map(|(name, refusal)| (name.clone(), refusal.reason.clone()));
        self.host.change().refusals = of_versions.chain(of_manifests).collect();
    }

    fn keep(&mut self, name: &str, why: &str, cause: Cause, done: &mut Done) {
        let Some(worker) = self.host.worker(name) else { return };
        if !self.kept.insert(name.to_owned()) {
            return;
        }
        let version = worker.version();
        let about = About { plugin: &version.manifest.plugin, digest: &version.digest };
        let reason = format!("the worker keeps the version that it has: the plugin {why}");
        self.host.histories.note(name, Event::Kept, cause, about, reason.clone(), None);
        done.workers.insert(name.to_owned(), Did { event: Event::Kept, reason });
    }

    fn stop_worker(&mut self, name: &str, cause: Cause, done: &mut Done) {
        let Some(worker) = self.host.remove(name) else { return };
        worker.stop.cancel();
        let version = worker.version();
        let about = About { plugin: &version.manifest.plugin, digest: &version.digest };
        self.host.histories.note(name, Event::Stopped, cause, about, "its manifest is gone".into(), None);
        self.metrics.forget(name);
        done.workers.insert(name.to_owned(), Did { event: Event::Stopped, reason: String::new() });
        self.draining.push(worker);
    }

    /// A version was made, or could not be.
    fn take(&mut self, Looked { manifest, result }: Looked) {
        let name = manifest.name.clone();
        // What is wanted by now may be something else.
        let wanted = self.orders.get(&name).is_some_and(|order| Arc::ptr_eq(&order.candidate.manifest, &manifest));
        let Some(order) = wanted.then(|| self.orders.remove(&name)).flatten() else { return };
        let (cause, took) = (order.cause, Some(clock::since(order.since)));
        let mut done = Done::default();
        match result {
            Err(problem) => {
                let digest = order.candidate.plugin.map_or_else(String::new, |digest| digest.to_string());
                let reason = problem.to_string();
                let refused = Refused { name: name.clone(), path: manifest.path.clone(), problems: vec![problem] };
                self.refuse(refused, &digest, cause, took, &mut done);
                let refusal = Refusal { candidate: order.candidate, reason, rolled_back: false };
                self.refused.insert(name.clone(), refusal);
            }
            Ok(ready) => {
                self.refused.remove(&name);
                self.host.retain_refused(|refused| refused.name != name);
                let digest = ready.version.digest.clone();
                let (event, reason) = self.put_in_place(&name, ready, order.anew);
                let about = About { plugin: &manifest.plugin, digest: &digest };
                self.host.histories.note(&name, event, cause, about, reason.clone(), took);
                done.workers.insert(name.clone(), Did { event, reason });
            }
        }
        self.show_refusals();
        for waiting in &mut self.waiting {
            if waiting.for_workers.remove(&name) {
                waiting.done.workers.extend(done.workers.clone());
            }
        }
        self.answer();
    }

    /// Answers those whose last worker it was that they waited for.
    fn answer(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.for_workers.iter().any(|name| self.orders.contains_key(name)) {
                true => self.waiting.push(waiting),
                // Whoever has gone does not want to know.
                false => _ = waiting.answer.send(waiting.done),
            }
        }
    }

    fn put_in_place(&mut self, name: &str, Ready { version, dedupe }: Ready, anew: bool) -> (Event, String) {
        let Some(old) = self.host.worker(name) else {
            let dedupe = dedupe.map(Arc::new);
            let metrics = Arc::new(self.metrics.worker(name));
            let stop = self.stop.child_token();
            let worker = Worker::new(version, metrics, Arc::clone(&self.host.histories), dedupe, stop, None);
            self.begin(Arc::new(worker), None);
            return (Event::Started, String::new());
        };
        let current = old.version();
        let found = changes(&old.manifest, &current.manifest, &version.manifest);
        let (change, mut keys) = found.unwrap_or((Change::InPlace, BTreeSet::new()));
        if current.plugin.digest != version.plugin.digest {
            keys.insert("plugin");
        }
        if anew {
            keys.insert("wabbit.toml");
        }
        let reason = keys.into_iter().collect::<Vec<_>>().join(", ");
        if change == Change::InPlace {
            old.swap(version);
            return (Event::Swapped, reason);
        }
        let same = old.manifest.consume.dedupe == version.manifest.consume.dedupe;
        let dedupe = old.dedupe.clone().filter(|_| same).or(dedupe.map(Arc::new));
        let (metrics, histories) = (Arc::clone(&old.metrics), Arc::clone(&self.host.histories));
        let stop = self.stop.child_token();
        let worker = Worker::new(version, metrics, histories, dedupe, stop, Some(Arc::clone(&old)));
        self.begin(Arc::new(worker), Some(old));
        (Event::Reconsumed, reason)
    }

    /// A worker begins, when those have ended that have its queues. The one whose place it takes goes on until it consumes,
    /// where that does not matter, or where the queues would go with their last consumer.
    fn begin(&mut self, worker: Arc<Worker>, old: Option<Arc<Worker>>) {
        let shares = |other: &Worker| {
            let names = |worker: &Worker| {
                let queues = worker.manifest.queues.iter().filter(|queue| !queue.name.is_empty());
                queues.map(|queue| queue.name.clone()).collect::<BTreeSet<_>>()
            };
            other.name == worker.name || !names(other).is_disjoint(&names(&worker))
        };
        let after = self.draining.iter().filter(|other| shares(other));
        let mut after: Vec<_> = after.map(|other| other.ended.clone()).collect();
        if let Some(old) = old {
            old.replaced();
            let vanish = old.manifest.queues.iter().any(|queue| queue.exclusive || queue.auto_delete);
            if vanish || (stands_another(&old) && stands_another(&worker)) {
                tokio::spawn(hand_over(Arc::clone(&old), Arc::clone(&worker)));
            } else {
                old.stop.cancel();
                after.push(old.ended.clone());
            }
            self.draining.push(old);
        }
        self.host.put(Arc::clone(&worker));
        self.workers.spawn(worker.live(Arc::clone(&self.shared), self.link.clone(), after));
    }
}

fn all(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether another worker may handle deliveries of its queues beside it.
fn stands_another(worker: &Worker) -> bool {
    let version = worker.version();
    let consume = &version.manifest.consume;
    consume.order == manifest::Order::None && consume.dedupe.is_none() && consume.concurrency > 1
}

/// Stops a worker when the one that takes its place consumes, or could have.
async fn hand_over(old: Arc<Worker>, new: Arc<Worker>) {
    let mut states = new.states();
    let consumes = states.wait_for(|state| matches!(state, State::Consuming | State::Trying | State::Stopped));
    if tokio::time::timeout(HANDOVER_MAX, consumes).await.is_err() {
        tracing::warn!(worker = %new.name, "takes over queues that it does not consume yet");
    }
    old.stop.cancel();
}
