//! A worker that is rehearsed: the real handler in the real sandbox, with the limits and grants of its manifest, without a
//! broker and in a world that is given. So the same deliveries come to the same outcomes.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{
    grants::of_command,
    load::{limits, rules},
    settings::Settings,
    worker::Version,
};
use crate::{
    delivery::Delivery,
    keyvalue::{Places, Start, Store},
    manifest::{FilesGrant, Manifest},
    outbound,
    outcome::{Failure, FailureKind, Outcome, check},
    route::{Route, route},
    sandbox::{
        Config, Determined, Effects, Folder, Grants, HttpGrants, KeyValue, LogSink, Plugin, Redactor, Scope, Secret,
        Traces, Usage,
    },
    scenario::{Contents, Given, Got},
};

/// Files of a rehearsal's folders that are looked at afterwards.
const FILES_MAX: usize = 10_000;

/// A version without a broker.
pub struct Rehearsal {
    version: Version,
    world: Arc<Determined>,
    log: Arc<LogSink>,
    store: Option<Store>,
    folders: Vec<(String, PathBuf)>,
    /// Where the folders are.
    _scratch: TempDir,
    queue: Arc<str>,
    max_body: usize,
    /// Where the clocks begin; none when they have begun.
    clock: Option<Duration>,
    handled: u64,
}

impl Rehearsal {
    /// A version of this manifest and plugin, in this world. Nothing outside of it is read or changed: no variable of the
    /// environment, no folder, no store. With `complete` what is not said of the key-value store is not in it; without, the
    /// store cannot be opened unless something is said of it.
    ///
    /// Errors: the plugin asks for what the manifest does not grant, or a secret is not given or cannot be one.
    pub async fn new(
        settings: &Settings,
        manifest: Manifest,
        plugin: Arc<Plugin>,
        given: &Given,
        complete: bool,
    ) -> anyhow::Result<Self> {
        let stores = complete || given.keyvalue.is_some();
        let world = Determined::new(given.step, given.seed, given.http.clone(), stores);
        let log = LogSink::keeping(manifest.name.as_str().into());
        let scratch = tempfile::tempdir().context("cannot make a folder for the handler's files")?;
        plugin.check_granted(&manifest.grant.keys())?;

        let mut config = Config { values: manifest.grant.config.clone().unwrap_or_default(), ..Config::default() };
        config.values.extend(given.config.iter().map(|(name, (value, _))| (name.clone(), value.clone())));
        for name in manifest.grant.secrets.keys() {
            let (value, _) = given.secrets.get(name).with_context(|| format!("secret `{name}` is not given"))?;
            let secret = Secret::new(value).map_err(|problem| anyhow::anyhow!("secret `{name}` {problem}"))?;
            config.secrets.insert(name.clone(), secret);
        }
        let (env, args) = of_command(&manifest, plugin.is_command(), &config.secrets)?;
        let redactor = Arc::new(Redactor::new(config.secrets.values())?);
        let store = match &manifest.grant.keyvalue {
            Some(_) => Some(self::store(settings, given).await?),
            None => None,
        };
        let keyvalue = manifest.grant.keyvalue.as_ref().zip(store.clone());
        let keyvalue = keyvalue.map(|(granted, store)| KeyValue { name: granted.store.clone(), store });
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for (number, grant) in manifest.grant.files.iter().enumerate() {
            let path = scratch.path().join(number.to_string());
            let folder = folder(&path, grant, given.files.get(&grant.guest));
            files.push(folder.with_context(|| format!("cannot make the folder `{}`", grant.guest))?);
            folders.push((grant.guest.clone(), path));
        }
        let client = Arc::new(outbound::Client::new(&settings.http)?);
        let granted = manifest.grant.http.clone();
        let http = (!granted.is_empty()).then(|| Arc::new(HttpGrants::new(granted, client, Effects::Given)));

        let scope = Scope {
            limits: limits(settings, &manifest),
            grants: Grants { config, keyvalue, files, env, args, redactor, http },
            log: Arc::clone(&log),
            determined: Some(Arc::clone(&world)),
        };
        let queue = manifest.queues.first().map_or("", |queue| queue.name.as_str()).into();
        let rules = rules(settings, &manifest);
        let (max_body, clock) = (settings.host.max_body, Some(given.clock));
        let version = Version::new(Arc::new(manifest), plugin, scope, rules, settings.amqp.publish_timeout);
        Ok(Self { version, world, log, store, folders, _scratch: scratch, queue, max_body, clock, handled: 0 })
    }

    /// Handles one delivery, after those before it. The wall clock is set to `clock`, since the Unix epoch, or goes on.
    ///
    /// Errors: what came of it cannot be looked at.
    pub async fn handle(&mut self, delivery: &Delivery, clock: Option<Duration>) -> anyhow::Result<Got> {
        let mut delivery = delivery.clone();
        if delivery.queue.is_empty() {
            delivery.queue = Arc::clone(&self.queue);
        }
        self.handled += 1;
        let clock = clock.or(self.clock.take());
        self.world.begin(clock, self.handled, self.version.scope.limits.time);
        let handled = match route(&delivery, self.max_body, None, 1) {
            Route::Refused(failure) => Err(failure),
            Route::Handler | Route::Alone => self.version.handle(&delivery).await,
        };
        let Traces { asked, missing } = self.world.end();
        let result = match missing {
            Some(what) => Err(Failure::new(FailureKind::Host, format!("{what} is not given"))),
            None => handled.and_then(|outcome| self.checked(outcome, delivery.properties.reply_to.as_deref())),
        };
        let result = result.map_err(|failure| self.version.scope.grants.redactor.failure(failure));
        let keyvalue = match &self.store {
            Some(store) => Some(entries(store).await?),
            None => None,
        };
        let mut files = BTreeMap::new();
        for (guest, path) in &self.folders {
            let contents = contents(path).with_context(|| format!("cannot read the folder `{guest}`"))?;
            files.insert(guest.clone(), contents);
        }
        Ok(Got { result, log: self.log.take(), asked, keyvalue, files })
    }

    /// The outcome as the host would carry it out: where it would refuse a publication, the delivery has failed.
    fn checked(&self, outcome: Outcome, reply_to: Option<&str>) -> Result<Outcome, Failure> {
        let check = |publication| check(publication, reply_to, &self.version.rules).map(|checked| checked.publication);
        let publications = outcome.publications.into_iter().map(check).collect::<Result<_, _>>()?;
        Ok(Outcome { publications, ..outcome })
    }
}

/// A store with what is given.
async fn store(settings: &Settings, given: &Given) -> anyhow::Result<Store> {
    let store = Places::new(settings.keyvalue.clone()).memory("rehearsal");
    for (key, value) in given.keyvalue.iter().flatten() {
        store.set(key, value.clone()).await.with_context(|| format!("cannot keep `{key}`"))?;
    }
    Ok(store)
}

/// All that is in a store.
async fn entries(store: &Store) -> anyhow::Result<Contents> {
    let mut entries = Contents::new();
    let mut from = Start::Skip(0);
    loop {
        let (keys, more) = store.keys(from).await?;
        for key in &keys {
            entries.insert(key.clone(), store.get(key).await?.unwrap_or_default());
        }
        match keys.into_iter().next_back() {
            Some(last) if more => from = Start::After(last),
            _ => return Ok(entries),
        }
    }
}

/// A folder with what is given, as the manifest grants it.
fn folder(path: &Path, grant: &FilesGrant, given: Option<&Contents>) -> io::Result<Folder> {
    fs::create_dir(path)?;
    for (name, bytes) in given.into_iter().flatten() {
        let file = path.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, bytes)?;
    }
    let folder = Folder::open(path)?;
    let limit = match grant.write {
        true => Some((Arc::new(Usage::new(folder.try_clone()?)?), grant.max)),
        false => None,
    };
    Ok(Folder::new(&grant.guest, folder, limit))
}

/// All files of a folder, by their paths in it.
fn contents(folder: &Path) -> anyhow::Result<Contents> {
    let mut contents = Contents::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = open.pop() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push((entry.path(), format!("{name}/")));
            } else if kind.is_file() {
                contents.insert(name, fs::read(entry.path())?);
            }
            anyhow::ensure!(contents.len() <= FILES_MAX, "it has more than {FILES_MAX} files");
        }
    }
    Ok(contents)
}
