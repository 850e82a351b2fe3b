//! When it is time to look at the folders: the system tells of changes, and where it does not, they are looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, MetadataKind, ModifyKind},
};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};

use super::settings::{Reload, Settings, WatchBy};
use crate::{
    clock,
    folder::Stamp,
    reload::{Calm, Told},
};

/// Changes that were told and not taken yet; where there are more, all is looked at.
const TOLD_MAX: usize = 1024;

/// Looks out for changes of the plugins, the manifests and the settings. Subfolders do not matter.
pub(super) struct Watch {
    /// The folders of plugins and of manifests: in full, and as the settings name them.
    folders: [(PathBuf, PathBuf); 2],
    /// The settings' file, the only one that matters in its folder; in full.
    file: PathBuf,
    calm: Calm,
    poll: Option<Interval>,
    /// What was there when it was looked for.
    stamps: BTreeMap<PathBuf, Stamp>,
    /// The folders that the system has told of since: what changed in these is known, and how.
    heard: BTreeSet<PathBuf>,
    events: Option<Events>,
}

/// What the system tells.
struct Events {
    watcher: RecommendedWatcher,
    told: mpsc::Receiver<(PathBuf, Told)>,
    missed: Arc<AtomicBool>,
    /// The folders that are watched, and what they were then: where a name leads to another one, that is.
    watched: BTreeMap<PathBuf, Option<Stamp>>,
}

impl Watch {
    pub(super) fn new(settings: &Settings) -> Self {
        let folders = [&settings.plugins, &settings.manifests].map(|folder| (absolute(folder), folder.clone()));
        let Reload { watch, poll } = settings.reload;
        let events = match watch {
            WatchBy::Events => Events::new().map_err(|error| {
                tracing::warn!("the system does not tell of changes, they are looked for every {poll:?}: {error}");
            }),
            WatchBy::Poll | WatchBy::Off => Err(()),
        };
        let poll = (watch != WatchBy::Off).then(|| {
            let mut poll = interval(poll);
            poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
            poll.reset();
            poll
        });
        let calm = Calm::default();
        let mut watch = Self {
            folders,
            file: absolute(&settings.file),
            calm,
            poll,
            stamps: BTreeMap::new(),
            heard: BTreeSet::new(),
            events: events.ok(),
        };
        watch.stamps = stamps(&watch.folders, &watch.file);
        watch.watch();
        watch
    }

    /// Waits until it is time to look; gives the files that are being written then.
    pub(super) async fn changed(&mut self) -> BTreeSet<PathBuf> {
        loop {
            let due = self.calm.due();
            let Self { poll, events, .. } = self;
            tokio::select! {
                Some((path, told)) = next(events) => self.told(&path, told),
                () = sleep_until(due.unwrap_or_else(clock::now).into()), if due.is_some() => {
                    self.watch();
                    let written = self.calm.look(clock::now());
                    return self.as_named(written);
                }
                () = tick(poll) => self.look_for_changes().await,
            }
        }
    }

    /// Takes note of what was told. In the folders around those that are looked at only their own names matter.
    fn told(&mut self, path: &Path, told: Told) {
        let within = self.folders.iter().any(|(folder, _)| path.parent() == Some(folder) || path == folder);
        if within || path == self.file {
            self.calm.told(path, told, clock::now());
            self.heard.extend(path.parent().map(Path::to_owned));
        }
        self.look_at_missed();
    }

    /// Where not all was told, all is looked at; says so.
    fn look_at_missed(&mut self) -> bool {
        let missed = self.events.as_ref().is_some_and(|events| events.missed.swap(false, Ordering::Relaxed));
        if missed {
            self.calm.told(&self.file, Told::Other, clock::now());
        }
        missed
    }

    /// Where the system does not tell, a file is looked at when it did not change from one time to the next.
    async fn look_for_changes(&mut self) {
        self.watch();
        let (folders, file) = (self.folders.clone(), self.file.clone());
        let Ok(stamps) = tokio::task::spawn_blocking(move || stamps(&folders, &file)).await else { return };
        let now = clock::now();
        let mut heard = std::mem::take(&mut self.heard);
        if self.look_at_missed() {
            heard.clear();
        }
        let is_heard = |path: &Path| path.parent().is_some_and(|folder| heard.contains(folder));
        for (path, stamp) in stamps.iter().filter(|(path, _)| !is_heard(path)) {
            if self.stamps.get(path) != Some(stamp) {
                self.calm.told(path, Told::Written, now);
            }
        }
        for path in self.stamps.keys().filter(|path| !is_heard(path) && !stamps.contains_key(*path)) {
            self.calm.told(path, Told::Other, now);
        }
        self.stamps = stamps;
    }

    /// The same files by the names of their folders in the settings.
    fn as_named(&self, paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let as_named = |path: PathBuf| {
            let mut named =
                self.folders.iter().filter_map(|(full, given)| Some(given.join(path.strip_prefix(full).ok()?)));
            named.next().unwrap_or(path)
        };
        paths.into_iter().map(as_named).collect()
    }

    /// Has the system tell of the folders, and of the places where they and the settings' file have their names. A folder
    /// that is another one by now is looked at.
    fn watch(&mut self) {
        let Some(events) = &mut self.events else { return };
        let own: Vec<_> = self.folders.iter().map(|(folder, _)| folder.clone()).collect();
        let around = own.iter().chain([&self.file]).filter_map(|path| path.parent()).map(Path::to_owned);
        let folders: BTreeSet<_> = around.chain(own.iter().cloned()).collect();
        for folder in folders {
            if events.watch(&folder) && own.contains(&folder) {
                self.calm.told(&folder, Told::Other, clock::now());
            }
        }
    }
}

impl Events {
    fn new() -> notify::Result<Self> {
        let (sender, told) = mpsc::channel(TOLD_MAX);
        let missed = Arc::new(AtomicBool::new(false));
        let miss = Arc::clone(&missed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return miss.store(true, Ordering::Relaxed) };
            if event.need_rescan() {
                miss.store(true, Ordering::Relaxed);
            }
            let Some(told) = meaning(event.kind) else { return };
            for path in event.paths {
                if sender.try_send((path, told)).is_err() {
                    miss.store(true, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { watcher, told, missed, watched: BTreeMap::new() })
    }

    /// Watches a folder, if it is there; says whether it was not, or was another one before.
    fn watch(&mut self, folder: &Path) -> bool {
        let stamp = Stamp::of(folder).ok();
        let known = self.watched.get(folder).copied();
        let same = match (known, stamp) {
            (Some(Some(then)), Some(now)) => then.is_of_same(&now),
            (Some(None), None) => true,
            _ => false,
        };
        if same {
            return false;
        }
        // What is gone is not watched any more, whether or not this is known.
        let _ = self.watcher.unwatch(folder);
        let watched = stamp.is_some()
            && match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), "the system does not tell of changes here: {error}");
                    false
                }
            };
        self.watched.insert(folder.to_owned(), stamp.filter(|_| watched));
        known.is_some()
    }
}

async fn next(events: &mut Option<Events>) -> Option<(PathBuf, Told)> {
    match events {
        Some(events) => events.told.recv().await,
        None => std::future::pending().await,
    }
}

async fn tick(poll: &mut Option<Interval>) {
    match poll {
        Some(poll) => _ = poll.tick().await,
        None => std::future::pending().await,
    }
}

/// What all files look like now.
fn stamps(folders: &[(PathBuf, PathBuf)], file: &Path) -> BTreeMap<PathBuf, Stamp> {
    let mut paths = vec![file.to_owned()];
    for (folder, _) in folders {
        let entries = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        paths.extend(entries.filter(|path| !path.is_dir()));
    }
    paths.into_iter().filter_map(|path| Stamp::of(&path).ok().map(|stamp| (path, stamp))).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What a change means to who waits until it is over.
fn meaning(kind: EventKind) -> Option<Told> {
    match kind {
        EventKind::Create(CreateKind::Folder) => Some(Told::Other),
        EventKind::Create(_) => Some(Told::Made),
        EventKind::Modify(ModifyKind::Data(_)) => Some(Told::Written),
        EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)) => None,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Told::Closed),
        EventKind::Access(_) => None,
        _ => Some(Told::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::settings::{Defaults, Overrides};

    #[tokio::test]
    async fn what_was_missed_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let within = |name: &str| Some(folder.path().join(name));
        let overrides = Overrides {
            plugins: within("plugins"),
            manifests: within("manifests"),
            cache: within("cache"),
            ..Overrides::default()
        };
        let mut settings = Settings::resolve(None, &overrides, Defaults::default()).unwrap();
        settings.reload.watch = WatchBy::Events;
        std::fs::create_dir(&settings.plugins).unwrap();
        std::fs::create_dir(&settings.manifests).unwrap();
        let mut watch = Watch::new(&settings);
        watch.look_for_changes().await;
        assert_eq!(watch.calm.due(), None, "nothing happened");
        // The folder was heard of, and not all that happened in it.
        let manifest = settings.manifests.join("a.toml");
        std::fs::write(&manifest, "").unwrap();
        watch.heard.insert(settings.manifests.clone());
        watch.events.as_ref().unwrap().missed.store(true, Ordering::Relaxed);
        watch.look_for_changes().await;
        assert!(watch.calm.due().is_some());
        assert!(watch.calm.look(clock::now()).contains(&manifest), "it may still be written");
        assert!(!watch.look_at_missed(), "it is known by now");
    }
}
