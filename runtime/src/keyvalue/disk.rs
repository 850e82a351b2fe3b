//! Values on disk, in one file that a single host has open.
//!
//! A thread of its own takes what is to be changed: all that waits goes into one transaction, which is synced before
//! anybody is answered. So what a handler was told is written is there after a SIGKILL or a power cut, and a hundred
//! writers at once wait for one sync instead of a hundred.

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    thread,
};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, backends::FileBackend,
};
use tokio::sync::{mpsc, oneshot};

use super::{Change, Error, Keys, LIST_KEYS_MAX, Limits, Start, Usage, decide};

/// The file in the state folder.
const FILE: &str = "keyvalue.redb";
/// What is kept of the file in memory, in bytes.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Changes that wait for the thread; who has one more waits for a place.
const WAITING_MAX: usize = 1024;
/// Changes in one transaction. One takes 2.7 ms here, with 256 changes 4.2 ms: nearly all of it is the sync.
const BATCH_MAX: usize = 256;

/// Values by namespace and key.
const VALUES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("values");
/// Bytes of each namespace.
const BYTES: TableDefinition<'_, &str, u64> = TableDefinition::new("bytes");

/// The file that is open.
#[derive(Debug, Clone)]
pub struct Disk {
    file: Arc<Database>,
    changes: mpsc::Sender<Asked>,
}

/// One namespace of it.
#[derive(Debug, Clone)]
pub struct Namespace {
    disk: Disk,
    name: Arc<str>,
}

/// A change that waits for the thread.
#[derive(Debug)]
struct Asked {
    namespace: Arc<str>,
    key: String,
    change: Change,
    answer: oneshot::Sender<Result<u64, Error>>,
}

impl Disk {
    /// Opens the file in this folder; both are made when they are not there. After a crash this reads all of it, at about
    /// 5 s a GiB.
    ///
    /// Errors: another host has it open, it is damaged, or the folder cannot be used.
    pub(super) fn open(folder: &Path, limits: Limits) -> Result<(Self, thread::JoinHandle<()>), String> {
        let path = folder.join(FILE);
        let told = |error: &dyn std::fmt::Display| format!("the key-value store `{}` {error}", path.display());
        let cannot = |error: std::io::Error| told(&format_args!("cannot be opened: {error}"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(cannot)?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_repair_callback(|repair| {
            if repair.progress() == 0.0 {
                tracing::info!("a host died with its key-value store open: reading all of it");
            }
        });
        let opened = FileBackend::new(file).and_then(|file| builder.create_with_backend(file));
        let file = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => told(
                &"is in use by another host; hint: give each host a folder of its own with `--state`, or keep the values \
                  in memory: `memory = true`",
            ),
            error => told(&format_args!("cannot be opened: {error}")),
        })?;
        let total = prepare(&file).map_err(|error| told(&format_args!("cannot be read: {error}")))?;
        let (changes, asked) = mpsc::channel(WAITING_MAX);
        let file = Arc::new(file);
        let writer = Writer { file: Arc::clone(&file), limits, total };
        let thread = thread::Builder::new().name("wabbit-keyvalue".into());
        let thread = thread.spawn(move || writer.run(asked)).map_err(cannot)?;
        Ok((Self { file, changes }, thread))
    }

    pub(super) fn namespace(&self, name: &str) -> Namespace {
        Namespace { disk: self.clone(), name: name.into() }
    }
}

/// Makes the tables. Returns the bytes of all namespaces.
fn prepare(file: &Database) -> Result<usize, redb::Error> {
    let transaction = file.begin_write()?;
    let mut total = 0;
    {
        transaction.open_table(VALUES)?;
        for entry in transaction.open_table(BYTES)?.iter()? {
            total += bytes(entry?.1.value());
        }
    }
    transaction.commit()?;
    Ok(total)
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Storage(error.to_string())
}

impl Namespace {
    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        self.read(move |file, namespace| {
            let table = file.begin_read()?.open_table(VALUES)?;
            let value = table.get((namespace, key.as_str()))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
        .await
    }

    pub(super) async fn keys(&self, from: Start) -> Result<Keys, Error> {
        self.read(move |file, namespace| {
            let table = file.begin_read()?.open_table(VALUES)?;
            let (start, mut skip) = match &from {
                Start::After(key) => (key.as_str(), 0),
                Start::Skip(count) => ("", *count),
            };
            let mut keys = Vec::new();
            for entry in table.range((namespace, start)..)? {
                let entry = entry?;
                let (found, key) = entry.0.value();
                if found != namespace {
                    break;
                }
                if skip > 0 {
                    skip -= 1;
                } else if keys.len() == LIST_KEYS_MAX {
                    return Ok((keys, true));
                } else if !matches!(&from, Start::After(after) if after == key) {
                    keys.push(key.to_owned());
                }
            }
            Ok((keys, false))
        })
        .await
    }

    /// Off the executor, for it may have to wait for the disk. There are never more of these than handlers that run.
    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Database, &str) -> Result<R, redb::Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (file, name) = (Arc::clone(&self.disk.file), Arc::clone(&self.name));
        tokio::task::spawn_blocking(move || read(&file, &name)).await.map_err(failed)?.map_err(failed)
    }

    pub(super) async fn change(&self, key: String, change: Change) -> Result<u64, Error> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { namespace: Arc::clone(&self.name), key, change, answer };
        let gone = || Error::Storage("its thread has ended".into());
        self.disk.changes.send(asked).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The thread that writes.
struct Writer {
    file: Arc<Database>,
    limits: Limits,
    /// Bytes of all namespaces.
    total: usize,
}

type Answer = (oneshot::Sender<Result<u64, Error>>, Result<u64, Error>);

impl Writer {
    /// Until nobody can ask any more; then the file is closed.
    fn run(mut self, mut changes: mpsc::Receiver<Asked>) {
        let mut asked = Vec::with_capacity(BATCH_MAX);
        while changes.blocking_recv_many(&mut asked, BATCH_MAX) > 0 {
            let mut answers = Vec::with_capacity(asked.len());
            let committed = self.commit(asked.drain(..), &mut answers);
            for (waiting, answer) in answers {
                // Who does not wait any more was cut off by its time limit.
                let _ = waiting.send(committed.as_ref().map_err(failed).cloned().and(answer));
            }
        }
    }

    /// Writes all of it, or nothing.
    fn commit(&mut self, asked: impl Iterator<Item = Asked>, answers: &mut Vec<Answer>) -> Result<(), redb::Error> {
        let mut total = self.total;
        // Whoever is cut off before its turn has written nothing.
        let asked: Vec<_> = asked.filter(|asked| !asked.answer.is_closed()).collect();
        let result = self.write(asked, &mut total, answers);
        if result.is_ok() {
            self.total = total;
        }
        result
    }

    fn write(&self, asked: Vec<Asked>, total: &mut usize, answers: &mut Vec<Answer>) -> Result<(), redb::Error> {
        let mut asked = asked.into_iter();
        let result = self.write_each(&mut asked, total, answers);
        if let Err(error) = &result {
            tracing::error!("the key-value store failed: {error}");
            answers.extend(asked.map(|asked| (asked.answer, Err(failed(error)))));
        }
        result
    }

    fn write_each(
        &self,
        asked: &mut impl Iterator<Item = Asked>,
        total: &mut usize,
        answers: &mut Vec<Answer>,
    ) -> Result<(), redb::Error> {
        let transaction = self.file.begin_write()?;
        {
            let mut values = transaction.open_table(VALUES)?;
            let mut sizes = transaction.open_table(BYTES)?;
            for Asked { namespace, key, change, answer } in asked {
                let store = sizes.get(&*namespace)?.map_or(0, |size| bytes(size.value()));
                let decided = {
                    let old = values.get((&*namespace, key.as_str()))?;
                    let old = old.as_ref().map(|old| old.value());
                    decide(&key, old, change, Usage { store, total: *total }, &self.limits, self.limits.disk)
                };
                let decision = match decided {
                    Ok(decision) => decision,
                    Err(error) => {
                        answers.push((answer, Err(error)));
                        continue;
                    }
                };
                // It is answered whatever happens from here on.
                answers.push((answer, Ok(decision.sum)));
                match &decision.value {
                    Some(value) => values.insert((&*namespace, key.as_str()), value.as_slice())?,
                    None => values.remove((&*namespace, key.as_str()))?,
                };
                sizes.insert(&*namespace, decision.usage.store as u64)?;
                *total = decision.usage.total;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}
