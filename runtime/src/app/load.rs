//! From the two folders to workers that can run. What is wrong is told and left out; the rest goes on.

mod turns;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use turns::Turns;

use super::{
    grants::Grantor,
    plugin_path,
    settings::Settings,
    worker::{Version, Worker},
};
use crate::{
    manifest::{Manifest, read_folder, report},
    outcome::Rules,
    sandbox::{CallLimits, Digest, LoadError, LogSink, Plugin, Sandbox, Scope, Source},
    telemetry::Metrics,
};

/// Workers that were found and are not taken yet.
pub(super) const FOUND_MAX: usize = 16;

/// A manifest that was looked into to the end.
pub enum Found {
    /// It can run.
    Worker(Arc<Worker>),
    /// It is left out; this has been logged.
    Refused(Refused),
}

/// All that was found in the folders.
#[derive(Default)]
pub struct Loaded {
    /// By name.
    pub workers: Vec<Arc<Worker>>,
    /// Manifests that are left out.
    pub refused: Vec<Refused>,
}

/// A manifest that is left out.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The worker's name.
    pub name: String,
    /// The manifest's file.
    pub path: PathBuf,
    /// The problems of the manifest, or the one of its plugin.
    pub problems: Vec<report::Problem>,
}

impl Loaded {
    /// Adds what was found; both lists stay sorted.
    pub fn add(&mut self, found: Found) {
        match found {
            Found::Worker(worker) => {
                let at = self.workers.partition_point(|other| other.name < worker.name);
                self.workers.insert(at, worker);
            }
            Found::Refused(refused) => {
                let at = self.refused.partition_point(|other| other.path < refused.path);
                self.refused.insert(at, refused);
            }
        }
    }
}

/// Reads all manifests and loads the plugins that they name, each once. Errors: the folder of manifests cannot be read.
pub async fn load(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    grantor: &Grantor,
    metrics: &Metrics,
) -> anyhow::Result<Loaded> {
    let (sender, mut found) = mpsc::channel(FOUND_MAX);
    let mut loaded = Loaded::default();
    let take = async {
        while let Some(found) = found.recv().await {
            loaded.add(found);
        }
    };
    let (result, ()) = tokio::join!(load_into(sender, settings, sandbox, grantor, metrics), take);
    result.map(|()| loaded)
}

/// The same, each worker as soon as it is there: one that is in the cache waits for no compiler.
pub async fn load_into(
    found: mpsc::Sender<Found>,
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    grantor: &Grantor,
    metrics: &Metrics,
) -> anyhow::Result<()> {
    let folder = read_folder(&settings.manifests, &settings.host.ceilings())
        .with_context(|| format!("cannot read the folder of manifests `{}`", settings.manifests.display()))?;
    // Whoever takes them has stopped when this fails, and then nobody wants the rest.
    for (path, problems) in folder.problems {
        let _ = found.send(refuse(Refused { name: name_of(&path), path, problems })).await;
    }
    let mut by_plugin: BTreeMap<String, Vec<Manifest>> = BTreeMap::new();
    for manifest in folder.manifests {
        by_plugin.entry(manifest.plugin.clone()).or_default().push(manifest);
    }
    let (sender, mut plugins) = mpsc::channel(FOUND_MAX);
    let wanted = by_plugin.iter().map(|(name, workers)| (name.clone(), Wanted::by(workers)));
    let load = load_plugins(settings, sandbox, wanted.collect(), sender);
    let take = async {
        while let Some((name, loaded)) = plugins.recv().await {
            for manifest in by_plugin.remove(&name).unwrap_or_default() {
                let _ = found.send(worker(settings, grantor, manifest, loaded.clone(), metrics)).await;
            }
        }
    };
    tokio::join!(load, take);
    Ok(())
}

/// What becomes of a manifest with its plugin.
fn worker(
    settings: &Settings,
    grantor: &Grantor,
    manifest: Manifest,
    loaded: Result<Arc<Plugin>, Unloaded>,
    metrics: &Metrics,
) -> Found {
    let log = log(settings, &manifest);
    let version = match loaded {
        Ok(plugin) => version(settings, grantor, &manifest, plugin, Arc::clone(&log))
            .and_then(|version| Ok((version, grantor.dedupe(&manifest)?))),
        Err(Unloaded::Unwanted(digest)) => Err(check_digest(settings, manifest.digest, digest)
            .err()
            .unwrap_or_else(|| LoadError::Digest("is wanted by no manifest".into()))),
        Err(Unloaded::Bad(error)) => {
            return refuse(Refused {
                name: manifest.name,
                path: manifest.path,
                problems: vec![report::Problem::new(error)],
            });
        }
    };
    let version = version.map_err(|error| error.of(&plugin_path(settings, &manifest.plugin)));
    match version {
        Ok((version, dedupe)) => {
            let metrics = metrics.worker(&manifest.name);
            Found::Worker(Arc::new(Worker::new(manifest, version, log, metrics, dedupe)))
        }
        Err(problem) => {
            refuse(Refused { name: manifest.name, path: manifest.path, problems: vec![report::Problem::new(problem)] })
        }
    }
}

fn refuse(refused: Refused) -> Found {
    // Many lines for a person, one for a program.
    tracing::error!(
        manifest = %refused.path.display(),
        "left out:\n{}",
        report::render(&refused.path, &refused.problems, report::Style::Plain).trim_end()
    );
    Found::Refused(refused)
}

/// Loads every plugin that is named, off the executor. First those that are in the cache, and then, as many at once as
/// may be, those that have to be compiled, in turns.
async fn load_plugins(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    wanted: BTreeMap<String, Wanted>,
    found: mpsc::Sender<(String, Result<Arc<Plugin>, Unloaded>)>,
) {
    let names = wanted.keys().cloned().collect::<Vec<_>>();
    let loading = Arc::new(Loading {
        settings: settings.clone(),
        sandbox: Arc::clone(sandbox),
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
    settings: Settings,
    sandbox: Arc<Sandbox>,
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
    fn by(manifests: &[Manifest]) -> Self {
        Self {
            pins: manifests.iter().map(|manifest| manifest.digest).collect(),
            files: manifests.iter().any(|manifest| !manifest.grant.files.is_empty()),
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
        let sandbox = Arc::clone(&self.sandbox);
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
    manifest: &Manifest,
    plugin: Arc<Plugin>,
    log: Arc<LogSink>,
) -> Result<Version, LoadError> {
    check_digest(settings, manifest.digest, plugin.digest)?;
    plugin.check_granted(&manifest.grant.keys())?;
    let limits = CallLimits {
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
    };
    let grants = grantor.grant(manifest, plugin.is_command())?;
    Ok(Version {
        digest: plugin.digest.to_string(),
        plugin,
        scope: Arc::new(Scope { limits, grants, log }),
        rules: Rules {
            grants: manifest.grant.publish.clone(),
            unroutable: manifest.publish.unroutable,
            user: settings.amqp.urls.user().to_owned(),
            max_body: settings.host.max_body,
        },
    })
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

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
