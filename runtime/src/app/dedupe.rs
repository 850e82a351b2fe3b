//! What a worker with `dedupe` has done, while it runs and for the next host.
//!
//! In memory is what counts, so that no delivery waits for a disk. What is kept on disk follows, after the ack was decided:
//! a crash in between leads to one more handling at most, and nothing is ever kept of what is not done.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    delivery::Delivery,
    keyvalue::{Error, Start, Store},
    manifest::{self, DedupeBy},
    settle::seen::{Changes, Id, Mark, Seen, millis},
};

/// Marks that are written together.
const BATCH_MAX: usize = 256;

/// The messages that a worker has done. It outlives connections.
pub struct Dedupe {
    by: DedupeBy,
    seen: Mutex<Seen>,
    /// Where it is kept beyond the life of the host, and whether there is more of it.
    disk: Option<(Store, Notify)>,
    /// When the host began, by the wall clock, which may be set, and by the one that only goes on.
    began: (u64, Instant),
}

impl Dedupe {
    /// In memory, and in the store where there is one.
    pub fn new(policy: &manifest::Dedupe, store: Option<Store>) -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            by: policy.by.clone(),
            seen: Mutex::new(Seen::new(policy)),
            disk: store.map(|store| (store, Notify::new())),
            began: (millis(wall), clock::now()),
        }
    }

    /// What this delivery's message is known by, if by anything.
    pub fn id(&self, delivery: &Delivery) -> Option<Id> {
        Id::of(&self.by, delivery)
    }

    /// Whether the message was done within the window.
    pub fn is_done(&self, id: Id) -> bool {
        self.lock().contains(id, self.now())
    }

    /// Notes that the message is done: acked, and all that it caused confirmed.
    pub fn done(&self, id: Id) {
        self.lock().add(id, self.now());
        if let Some((_, more)) = &self.disk {
            more.notify_one();
        }
    }

    fn now(&self) -> u64 {
        self.began.0.saturating_add(millis(clock::since(self.began.1)))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what a host before this one has kept. What cannot be read is handled again.
    pub(super) async fn load(&self, worker: &str) {
        let Some((store, _)) = &self.disk else { return };
        let mut from = Start::Skip(0);
        loop {
            match store.keys(from).await {
                Ok((keys, more)) => {
                    self.lock().load(keys.iter().filter_map(|key| Mark::parse(key)), self.now());
                    match keys.into_iter().next_back().filter(|_| more) {
                        Some(last) => from = Start::After(last),
                        None => return,
                    }
                }
                Err(error) => return tracing::error!(worker, "what was done before is not known: {error}"),
            }
        }
    }

    /// Keeps what is done, until `end` and then to the last of it.
    pub(super) async fn keep(self: Arc<Self>, worker: Arc<str>, end: CancellationToken) {
        let Some((store, more)) = &self.disk else { return };
        let mut failing = false;
        loop {
            let changes = self.lock().changes(BATCH_MAX);
            if changes != Changes::default() {
                let result = write(store, changes).await;
                match &result {
                    // Told once, however long it lasts.
                    Err(error) if !failing => {
                        tracing::error!(%worker, "what is done is not kept beyond the life of this host: {error}");
                    }
                    Ok(()) if failing => tracing::info!(%worker, "what is done is kept again"),
                    _ => {}
                }
                failing = result.is_err();
            } else if end.is_cancelled() {
                return;
            } else {
                tokio::select! {
                    biased;
                    () = more.notified() => {}
                    () = end.cancelled() => {}
                }
            }
        }
    }
}

/// Writes all of it in one go. Errors: the first; what it was about is not tried again.
async fn write(store: &Store, changes: Changes) -> Result<(), Error> {
    let mut writes = JoinSet::new();
    for mark in changes.remove {
        let store = store.clone();
        writes.spawn(async move { store.delete(&mark.to_string()).await });
    }
    for mark in changes.add {
        let store = store.clone();
        writes.spawn(async move { store.set(&mark.to_string(), Vec::new()).await });
    }
    let mut result = Ok(());
    while let Some(written) = writes.join_next().await {
        let written = written.unwrap_or_else(|error| Err(Error::Storage(error.to_string())));
        result = result.and(written);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        delivery::Properties,
        keyvalue::{Limits, Places},
    };

    const LIMITS: Limits = Limits { value: 100, store: 1 << 20, memory: 1 << 20, disk: 1 << 20 };

    fn policy(ids: usize) -> manifest::Dedupe {
        manifest::Dedupe { by: DedupeBy::MessageId, window: Duration::from_secs(60), ids, memory: false }
    }

    fn id(dedupe: &Dedupe, n: usize) -> Id {
        let properties = Properties { message_id: Some(n.to_string()), ..Properties::default() };
        let delivery = Delivery {
            body: Vec::new(),
            properties,
            exchange: String::new(),
            routing_key: "k".to_owned(),
            queue: "q".into(),
            redelivered: false,
            attempt: 1,
        };
        dedupe.id(&delivery).unwrap()
    }

    #[tokio::test]
    async fn what_is_done_is_known_to_the_next_host_and_the_disk_keeps_no_more_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        for first in [0, 2000] {
            let mut places = Places::new(LIMITS);
            let store = places.disk(folder.path(), "host/dedupe/w").unwrap();
            let dedupe = Arc::new(Dedupe::new(&policy(1500), Some(store.clone())));
            dedupe.load("w").await;
            let known = |upto: usize| (0..upto).filter(|n| dedupe.is_done(id(&dedupe, *n))).count();
            // Of those before, the last: the first life's end is known, and no more than the bound.
            assert_eq!(known(first), first.min(1500));
            let end = CancellationToken::new();
            let keeping = tokio::spawn(Arc::clone(&dedupe).keep("w".into(), end.clone()));
            for n in first..first + 2000 {
                dedupe.done(id(&dedupe, n));
                if n % 400 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            end.cancel();
            keeping.await.unwrap();
            assert_eq!((known(first + 2000), known(first + 500)), (1500, 0));
            let (keys, more) = store.keys(Start::Skip(1000)).await.unwrap();
            assert_eq!((keys.len(), more), (500, false), "what falls out is taken off");
            drop((dedupe, store));
            places.close();
        }
    }

    #[tokio::test]
    async fn a_store_that_is_full_costs_nothing_but_the_next_host() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Places::new(Limits { disk: 1000, ..LIMITS });
        let store = places.disk(folder.path(), "host/dedupe/w").unwrap();
        let dedupe = Arc::new(Dedupe::new(&policy(1500), Some(store.clone())));
        for n in 0..100 {
            dedupe.done(id(&dedupe, n));
        }
        let end = CancellationToken::new();
        end.cancel();
        Arc::clone(&dedupe).keep("w".into(), end).await;
        assert!((0..100).all(|n| dedupe.is_done(id(&dedupe, n))));
        assert_eq!(store.keys(Start::Skip(0)).await.unwrap().0.len(), 9);
    }
}
