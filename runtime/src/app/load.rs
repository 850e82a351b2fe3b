//! From the two folders to workers that can run. What is wrong is told and left out; the rest goes on.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use tokio::{sync::Semaphore, task::JoinSet};

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

/// What was found in the folders.
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

/// Reads all manifests and loads the plugins that they name, each once. Errors: the folder of manifests cannot be read.
pub async fn load(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    grantor: &Grantor,
    metrics: &Metrics,
) -> anyhow::Result<Loaded> {
    let folder = read_folder(&settings.manifests, &settings.host.ceilings())
        .with_context(|| format!("cannot read the folder of manifests `{}`", settings.manifests.display()))?;
    let mut refused: Vec<Refused> =
        folder.problems.into_iter().map(|(path, problems)| Refused { name: name_of(&path), path, problems }).collect();

    let plugins = load_plugins(settings, sandbox, &folder.manifests).await;
    let mut workers = Vec::new();
    for manifest in folder.manifests {
        let Some(loaded) = plugins.get(&manifest.plugin) else { continue };
        let log = LogSink::new(manifest.name.as_str().into());
        let version = loaded.clone().and_then(|plugin| {
            version(settings, grantor, &manifest, plugin, Arc::clone(&log))
                .map_err(|error| error.of(&plugin_path(settings, &manifest.plugin)))
        });
        match version {
            Ok(version) => {
                let metrics = metrics.worker(&manifest.name);
                workers.push(Arc::new(Worker::new(manifest, version, log, metrics)));
            }
            Err(problem) => refused.push(Refused {
                name: manifest.name,
                path: manifest.path,
                problems: vec![report::Problem::new(problem)],
            }),
        }
    }
    refused.sort_by(|a, b| a.path.cmp(&b.path));
    for refused in &refused {
        // Many lines for a person, one for a program.
        tracing::error!(
            manifest = %refused.path.display(),
            "left out:\n{}",
            report::render(&refused.path, &refused.problems, report::Style::Plain).trim_end()
        );
    }
    Ok(Loaded { workers, refused })
}

/// Plugins that were loaded, by what they are and whether they can be given folders.
type ByDigest = tokio::sync::Mutex<HashMap<(Digest, bool), Arc<Plugin>>>;

/// Loads every plugin that is named, at most so many at once, off the executor.
async fn load_plugins(
    settings: &Settings,
    sandbox: &Arc<Sandbox>,
    manifests: &[Manifest],
) -> BTreeMap<String, Result<Arc<Plugin>, String>> {
    let at_once = Arc::new(Semaphore::new(settings.host.compile_threads.max(1)));
    let by_digest: Arc<ByDigest> = Arc::default();
    let mut tasks = JoinSet::new();
    // By name, whether one of its workers has folders.
    let mut names: BTreeMap<String, bool> = BTreeMap::new();
    for manifest in manifests {
        *names.entry(manifest.plugin.clone()).or_default() |= !manifest.grant.files.is_empty();
    }
    for (name, files) in names {
        let path = plugin_path(settings, &name);
        let (sandbox, at_once, by_digest) = (Arc::clone(sandbox), Arc::clone(&at_once), Arc::clone(&by_digest));
        tasks.spawn(async move {
            let _permit = at_once.acquire_owned().await;
            let loaded = load_plugin(&sandbox, &path, files, &by_digest).await;
            (name, loaded.map_err(|error| error.of(&path)))
        });
    }
    let mut plugins = BTreeMap::new();
    while let Some(Ok((name, loaded))) = tasks.join_next().await {
        plugins.insert(name, loaded);
    }
    plugins
}

async fn load_plugin(
    sandbox: &Arc<Sandbox>,
    path: &Path,
    files: bool,
    by_digest: &ByDigest,
) -> Result<Arc<Plugin>, LoadError> {
    let interrupted = |error: tokio::task::JoinError| LoadError::Compile(error.to_string());
    let from = path.to_owned();
    let source = tokio::task::spawn_blocking(move || Source::read(&from)).await.map_err(interrupted)??;
    if let Some(plugin) = by_digest.lock().await.get(&(source.digest, files)) {
        return Ok(Arc::clone(plugin));
    }
    let sandbox = Arc::clone(sandbox);
    let plugin = tokio::task::spawn_blocking(move || sandbox.load(&source, files)).await.map_err(interrupted)??;
    tracing::info!(
        plugin = %path.display(), digest = %plugin.digest,
        "{}", if plugin.cached { "loaded from the cache" } else { "compiled" }
    );
    by_digest.lock().await.insert((plugin.digest, files), Arc::clone(&plugin));
    Ok(plugin)
}

/// The version of a worker that this plugin makes. Its output goes to `log`.
///
/// Errors: the plugin asks for what the manifest does not grant, or what it grants is not to be had.
pub fn version(
    settings: &Settings,
    grantor: &Grantor,
    manifest: &Manifest,
    plugin: Arc<Plugin>,
    log: Arc<LogSink>,
) -> Result<Version, LoadError> {
    plugin.check_granted(&manifest.grant.keys())?;
    let limits = CallLimits {
        time: manifest.limits.time,
        memory: manifest.limits.memory,
        output: settings.host.max_output,
        publications: settings.host.max_publications,
        requests: manifest.limits.requests,
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

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
