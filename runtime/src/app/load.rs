//! From manifests and the files that they name to versions that can run. What is wrong is told and left out; the rest goes
//! on.

mod turns;

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinSet,
};
use turns::Turns;

use super::{dedupe::Dedupe, grants::Grantor, plugin_path, settings::Settings, worker::Version};
use crate::{
    delivery,
    manifest::{Manifest, read_folder, report},
    outcome::{Failure, FailureKind, Outcome, Rules, Settlement, check},
    sandbox::{CallLimits, Digest, LoadError, LogSink, Plugin, Sandbox, Scope, Source},
};

/// Workers that were looked into and are not taken yet.
const LOOKED_MAX: usize = 16;
/// Versions that are tried at once: one that takes its time holds up no other.
const TRIED_MAX: usize = 64;
/// For an instance to be made of one.
const TRY_TIME: Duration = Duration::from_secs(5);

/// What makes versions, one for the host.
pub struct Loader {
    sandbox: Arc<Sandbox>,
    /// What the versions that run are granted.
    grantor: Arc<Grantor>,
    /// What versions are tried with before they are given; none where they are not.
    trying: Option<Arc<Semaphore>>,
    /// A permit for each plugin that may be compiled at once.
    compiling: Arc<Semaphore>,
}

/// A manifest that was looked into to the end.
pub struct Looked {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// What runs it, or why nothing does.
    pub result: Result<Ready, report::Problem>,
}

/// A version that can run.
pub struct Ready {
    /// The version.
    pub version: Version,
    /// Where the manifest asks for it.
    pub dedupe: Option<Dedupe>,
}

/// A manifest that is to be looked into.
#[derive(Clone)]
pub struct Wish {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Where its handlers write already.
    pub log: Option<Arc<LogSink>>,
    /// The plugin that it is to have; none for the one whose file it names.
    pub plugin: Option<Arc<Plugin>>,
}

/// All that was found in the folders.
#[derive(Default)]
pub struct Loaded {
    /// By name.
    pub versions: Vec<Version>,
    /// Manifests that are left out.
    pub refused: Vec<Refused>,
}

/// A manifest that is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The worker's name.
    pub name: String,
    /// The manifest's file.
    pub path: PathBuf,
    /// The problems of the manifest, or the one of its plugin.
    pub problems: Vec<report::Problem>,
}

impl Refused {
    /// Many lines for a person, one for a program.
    pub(super) fn tell(&self) {
        tracing::error!(
            manifest = %self.path.display(),
            "left out:\n{}",
            report::render(&self.path, &self.problems, report::Style::Plain).trim_end()
        );
    }
}

/// Reads all manifests and loads the plugins that they name, each once. Errors: the folder of manifests cannot be read.
pub async fn load(settings: &Settings, loader: &Arc<Loader>) -> anyhow::Result<Loaded> {
    let folder = read_folder(&settings.manifests, &settings.host.ceilings(), |_| true)
        .with_context(|| format!("cannot read the folder of manifests `{}`", settings.manifests.display()))?;
    let mut loaded = Loaded::default();
    for (path, problems) in folder.problems {
        loaded.refused.push(Refused { name: name_of(&path), path, problems });
    }
    let (sender, mut looked) = mpsc::channel(LOOKED_MAX);
    let wishes =
        folder.manifests.into_iter().map(|manifest| Wish { manifest: Arc::new(manifest), log: None, plugin: None });
    let take = async {
        while let Some(Looked { manifest, result }) = looked.recv().await {
            match result {
                Ok(ready) => loaded.versions.push(ready.version),
                Err(problem) => loaded.refused.push(Refused {
                    name: manifest.name.clone(),
                    path: manifest.path.clone(),
                    problems: vec![problem],
                }),
            }
        }
    };
    tokio::join!(loader.look(Arc::new(settings.clone()), wishes.collect(), sender), take);
    loaded.versions.sort_by(|a, b| a.manifest.name.cmp(&b.manifest.name));
    loaded.refused.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(loaded)
}

impl Loader {
    /// With `trying`, slots for handlers, each version is tried before it is given: made once, and where the manifest has a
    /// smoke test, run.
    pub fn new(
        settings: &Settings,
        sandbox: Arc<Sandbox>,
        grantor: Arc<Grantor>,
        trying: Option<Arc<Semaphore>>,
    ) -> Self {
        Self { sandbox, grantor, trying, compiling: Arc::new(Semaphore::new(settings.compile.at_once.max(1))) }
    }

    /// Looks into manifests, each as soon as its plugin is there: one that is in the cache waits for no compiler.
    pub async fn look(self: &Arc<Self>, settings: Arc<Settings>, wishes: Vec<Wish>, looked: mpsc::Sender<Looked>) {
        let (with_plugin, without): (Vec<_>, Vec<_>) = wishes.into_iter().partition(|wish| wish.plugin.is_some());
        let mut by_plugin: BTreeMap<String, Vec<Wish>> = BTreeMap::new();
        for wish in without {
            by_plugin.entry(wish.manifest.plugin.clone()).or_default().push(wish);
        }
        let (sender, mut plugins) = mpsc::channel(LOOKED_MAX);
        let wanted = by_plugin.iter().map(|(name, wishes)| (name.clone(), Wanted::by(wishes)));
        let load = load_plugins(self, &settings, wanted.collect(), sender);
        let mut tries = JoinSet::new();
        let take = async {
            for wish in with_plugin {
                let Some(plugin) = wish.plugin.clone() else { continue };
                self.try_beside(&mut tries, &settings, wish, Ok(plugin), &looked).await;
            }
            while let Some((name, loaded)) = plugins.recv().await {
                for wish in by_plugin.remove(&name).unwrap_or_default() {
                    self.try_beside(&mut tries, &settings, wish, loaded.clone(), &looked).await;
                }
            }
            while tries.join_next().await.is_some() {}
        };
        tokio::join!(load, take);
    }

    /// Has a manifest tried with its plugin beside the others, once there is a place.
    async fn try_beside(
        self: &Arc<Self>,
        tries: &mut JoinSet<()>,
        settings: &Arc<Settings>,
        wish: Wish,
        loaded: Result<Arc<Plugin>, Unloaded>,
        looked: &mpsc::Sender<Looked>,
    ) {
        while tries.len() >= TRIED_MAX {
            tries.join_next().await;
        }
        let (loader, settings, looked) = (Arc::clone(self), Arc::clone(settings), looked.clone());
        tries.spawn(async move { loader.tell(&settings, wish, loaded, &looked).await });
    }

    /// What becomes of a manifest with its plugin, told to whoever waits for it.
    async fn tell(
        &self,
        settings: &Settings,
        wish: Wish,
        loaded: Result<Arc<Plugin>, Unloaded>,
        looked: &mpsc::Sender<Looked>,
    ) {
        // A mistake of the host's refuses this version alone.
        let result = AssertUnwindSafe(self.ready(settings, &wish, loaded)).catch_unwind().await;
        let result =
            result.unwrap_or_else(|_| Err(report::Problem::new("the host panicked while it tried the plugin")));
        // Whoever takes them has stopped when this fails, and then nobody wants the rest.
        let _ = looked.send(Looked { manifest: wish.manifest, result }).await;
    }

    async fn ready(
        &self,
        settings: &Settings,
        wish: &Wish,
        loaded: Result<Arc<Plugin>, Unloaded>,
    ) -> Result<Ready, report::Problem> {
        let manifest = &wish.manifest;
        let ready = match loaded {
            Ok(plugin) => self.version(settings, wish, plugin).await,
            Err(Unloaded::Unwanted(digest)) => Err(check_digest(settings, manifest.digest, digest)
                .err()
                .unwrap_or_else(|| LoadError::Digest("is wanted by no manifest".into()))),
            Err(Unloaded::Bad(error)) => return Err(report::Problem::new(error)),
        };
        ready.map_err(|error| report::Problem::new(error.of(&plugin_path(settings, &manifest.plugin))))
    }

    async fn version(&self, settings: &Settings, wish: &Wish, plugin: Arc<Plugin>) -> Result<Ready, LoadError> {
        let manifest = &wish.manifest;
        let log = wish.log.clone().unwrap_or_else(|| log(settings, manifest));
        let version = version(settings, &self.grantor, Arc::clone(manifest), plugin, log)?;
        if let Some(slots) = &self.trying {
            let slot = slots.acquire().await;
            try_out(settings, &self.grantor.scratch(), &version).await?;
            drop(slot);
        }
        let dedupe = self.grantor.dedupe(manifest)?;
        Ok(Ready { version, dedupe })
    }
}

/// Makes an instance of a version, and has it handle its smoke test. Leaves no trace, unless the manifest says so.
async fn try_out(settings: &Settings, scratch: &Grantor, version: &Version) -> Result<(), LoadError> {
    let scope = |time: Duration| {
        let mut manifest = Manifest::clone(&version.manifest);
        manifest.limits.time = time;
        let (plugin, log) = (Arc::clone(&version.plugin), Arc::clone(&version.scope.log));
        self::version(settings, scratch, Arc::new(manifest), plugin, log).map(|version| version.scope)
    };
    let time = version.scope.limits.time;
    let failed = |what: &str, failure: Failure| {
        let Failure { kind, error } = version.scope.grants.redactor.failure(failure);
        LoadError::Tried(format!("{what}: {kind}: {error}"))
    };
    version
        .plugin
        .instantiate(&scope(time.min(TRY_TIME))?)
        .await
        .map_err(|failure| failed("cannot be instantiated", failure))?;
    let reload = &version.manifest.reload;
    let Some(smoke) = &reload.smoke else { return Ok(()) };
    let path = settings.project().join(smoke);
    let queue = version.manifest.queues.first().map_or("", |queue| queue.name.as_str());
    let delivery = crate::folder::read(&path, settings.host.max_body as u64)
        .map_err(|error| error.to_string())
        .and_then(|text| delivery::json::parse_delivery(&text, queue).map_err(|error| error.to_string()))
        .map_err(|error| LoadError::Grant(format!("the smoke test `{}` cannot be read: {error}", path.display())))?;
    let scope = if reload.smoke_effects { Arc::clone(&version.scope) } else { scope(time)? };
    let what = format!("fails its smoke test `{}`", path.display());
    let Outcome { settlement, publications } =
        version.plugin.handle(&delivery, &scope).await.map_err(|failure| failed(&what, failure))?;
    let answered = match settlement {
        Settlement::Ack => Ok(()),
        Settlement::DeadLetter(reason) => Err(Failure::new(FailureKind::DeadLettered, reason)),
        Settlement::Requeue | Settlement::Retry(_) => {
            Err(Failure::new(FailureKind::RetryAsked, "the handler asked for another try"))
        }
    };
    let reply_to = delivery.properties.reply_to.as_deref();
    let check = |publication| check(publication, reply_to, &version.rules).map(drop);
    answered.and_then(|()| publications.into_iter().try_for_each(check)).map_err(|failure| failed(&what, failure))
}

/// Loads every plugin that is named, off the executor. First those that are in the cache, and then, as many at once as
/// may be, those that have to be compiled, in turns.
async fn load_plugins(
    loader: &Arc<Loader>,
    settings: &Arc<Settings>,
    wanted: BTreeMap<String, Wanted>,
    found: mpsc::Sender<(String, Result<Arc<Plugin>, Unloaded>)>,
) {
    let names = wanted.keys().cloned().collect::<Vec<_>>();
    let loading = Arc::new(Loading {
        settings: Arc::clone(settings),
        loader: Arc::clone(loader),
        wanted,
        by_digest: Mutex::default(),
        found,
    });
    let at_once = settings.compile.at_once.max(1);
    let looks = Arc::new(std::sync::Mutex::new(names));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (loading, names) = (Arc::clone(&loading), Arc::clone(&looks));
        tasks.spawn(async move {
            let mut uncached = Vec::new();
            let next = || lock(&names).pop();
            while let Some(name) = next() {
                match loading.attempt(&name, None).await {
                    Ok(Attempt::Uncached(size)) => uncached.push((name, size)),
                    ended => loading.tell(name, ended).await,
                }
            }
            uncached
        });
    }
    let mut uncached = Vec::new();
    while let Some(Ok(names)) = tasks.join_next().await {
        uncached.extend(names);
    }
    let turns = Arc::new(std::sync::Mutex::new(Turns::new(uncached, settings.compile.time)));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (loading, turns) = (Arc::clone(&loading), Arc::clone(&turns));
        tasks.spawn(async move {
            let next = || lock(&turns).next();
            while let Some(turn) = next() {
                let ended = loading.attempt(&turn.name, Some(turn.time)).await;
                if matches!(ended, Err(LoadError::TooSlow(_))) && lock(&turns).again(&turn) {
                    continue;
                }
                loading.tell(turn.name, ended).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// What those share that load plugins.
struct Loading {
    settings: Arc<Settings>,
    loader: Arc<Loader>,
    wanted: BTreeMap<String, Wanted>,
    by_digest: Mutex<HashMap<(Digest, bool), Arc<Plugin>>>,
    found: mpsc::Sender<(String, Result<Arc<Plugin>, Unloaded>)>,
}

/// What the manifests that name a plugin say of it.
#[derive(Default)]
struct Wanted {
    /// The digests that they pin.
    pins: Vec<Option<Digest>>,
    /// Whether one of them grants folders.
    files: bool,
}

impl Wanted {
    fn by(wishes: &[Wish]) -> Self {
        Self {
            pins: wishes.iter().map(|wish| wish.manifest.digest).collect(),
            files: wishes.iter().any(|wish| !wish.manifest.grant.files.is_empty()),
        }
    }
}

/// Why a plugin was not loaded.
#[derive(Clone)]
enum Unloaded {
    /// It is bad.
    Bad(String),
    /// It has this digest, which no manifest takes.
    Unwanted(Digest),
}

/// What came of looking at a file.
enum Attempt {
    Loaded(Arc<Plugin>),
    /// It has to be compiled; the bytes of the file.
    Uncached(usize),
    /// No manifest takes it.
    Unwanted(Digest),
}

impl Loading {
    /// Loads a plugin: from the cache, or by compiling for so long.
    async fn attempt(&self, name: &str, time: Option<Duration>) -> Result<Attempt, LoadError> {
        let path = plugin_path(&self.settings, name);
        let (from, file, file_max) = (self.settings.plugins.clone(), name.to_owned(), self.settings.compile.file);
        let source = blocking(move || Source::read_in(&from, &file, file_max)).await?;
        let wanted = self.wanted.get(name);
        let mut pins = wanted.into_iter().flat_map(|wanted| &wanted.pins);
        if !pins.any(|pin| check_digest(&self.settings, *pin, source.digest).is_ok()) {
            return Ok(Attempt::Unwanted(source.digest));
        }
        let files = wanted.is_some_and(|wanted| wanted.files);
        if let Some(plugin) = self.by_digest.lock().await.get(&(source.digest, files)) {
            return Ok(Attempt::Loaded(Arc::clone(plugin)));
        }
        // Several folders' worth of plugins may be on their way; the compiler's places are the host's.
        let _compiling = match time {
            Some(_) => {
                Some(self.loader.compiling.acquire().await.map_err(|error| LoadError::Compile(error.to_string()))?)
            }
            None => None,
        };
        let sandbox = Arc::clone(&self.loader.sandbox);
        let attempt = blocking(move || match time {
            Some(time) => sandbox.load_within(&source, files, time).map(Attempt::Loaded),
            None => sandbox
                .load_cached(&source, files)
                .map_or(Ok(Attempt::Uncached(source.len())), |found| found.map(Attempt::Loaded)),
        });
        let attempt = attempt.await?;
        if let Attempt::Loaded(plugin) = &attempt {
            let how = if plugin.cached { "loaded from the cache" } else { "compiled" };
            tracing::info!(plugin = %path.display(), digest = %plugin.digest, "{how}");
            self.by_digest.lock().await.insert((plugin.digest, files), Arc::clone(plugin));
        }
        Ok(attempt)
    }

    async fn tell(&self, name: String, ended: Result<Attempt, LoadError>) {
        let loaded = match ended {
            Ok(Attempt::Loaded(plugin)) => Ok(plugin),
            Ok(Attempt::Uncached(_)) => return,
            Ok(Attempt::Unwanted(digest)) => Err(Unloaded::Unwanted(digest)),
            Err(error) => Err(Unloaded::Bad(error.of(&plugin_path(&self.settings, &name)))),
        };
        let _ = self.found.send((name, loaded)).await;
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let ended = tokio::task::spawn_blocking(call).await;
    ended.unwrap_or_else(|error| Err(LoadError::Compile(error.to_string())))
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a worker's handlers write.
pub fn log(settings: &Settings, manifest: &Manifest) -> Arc<LogSink> {
    LogSink::new(manifest.name.as_str().into(), manifest.limits.log.unwrap_or(settings.host.max_log))
}

/// The version of a worker that this plugin makes. Its output goes to `log`.
///
/// Errors: the plugin is not the one that the manifest pins, it asks for what the manifest does not grant, or what that
/// grants is not to be had.
pub fn version(
    settings: &Settings,
    grantor: &Grantor,
    manifest: Arc<Manifest>,
    plugin: Arc<Plugin>,
    log: Arc<LogSink>,
) -> Result<Version, LoadError> {
    check_digest(settings, manifest.digest, plugin.digest)?;
    plugin.check_granted(&manifest.grant.keys())?;
    if manifest.instance.reuse && plugin.is_command() {
        return Err(LoadError::NotAHandler(
            "is a command, which ends with its answer; hint: leave `reuse` out of `[instance]`".into(),
        ));
    }
    let (limits, rules) = (limits(settings, &manifest), rules(settings, &manifest));
    let grants = grantor.grant(&manifest, plugin.is_command())?;
    Ok(Version::new(
        manifest,
        plugin,
        Scope { limits, grants, log, determined: None },
        rules,
        settings.amqp.publish_timeout,
    ))
}

/// What one call of this worker may use.
pub(super) fn limits(settings: &Settings, manifest: &Manifest) -> CallLimits {
    CallLimits {
        time: manifest.limits.time,
        memory: manifest.limits.memory,
        output: manifest.limits.output.unwrap_or(settings.host.max_output),
        publications: manifest.limits.publications.unwrap_or(settings.host.max_publications),
        headers: manifest.limits.headers.unwrap_or(settings.host.max_headers),
        requests: manifest.limits.requests,
        host_calls: manifest.limits.host_calls.unwrap_or(settings.host.max_host_calls),
        handles: manifest.limits.handles.unwrap_or(settings.host.max_handles),
        tables: manifest.limits.tables.unwrap_or(settings.host.max_tables),
        random: manifest.limits.random.unwrap_or(settings.host.max_random),
    }
}

/// What its publications are checked against.
pub(super) fn rules(settings: &Settings, manifest: &Manifest) -> Rules {
    Rules {
        grants: manifest.grant.publish.clone(),
        unroutable: manifest.publish.unroutable,
        user: settings.amqp.urls.user().to_owned(),
        max_body: settings.host.max_body,
    }
}

/// Whether a manifest that pins this takes the file with that digest.
fn check_digest(settings: &Settings, pinned: Option<Digest>, found: Digest) -> Result<(), LoadError> {
    match pinned {
        Some(pinned) if pinned != found => Err(LoadError::Digest(format!(
            "is not what the manifest pins, `{pinned}`; hint: if the file is right, write `digest = \"{found}\"`"
        ))),
        None if settings.require_digest => Err(LoadError::Digest(format!(
            "is not pinned, which `require-digest` asks for; hint: if the file is right, add `digest = \"{found}\"`"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
