//! What became of each worker's versions: in the log, in the metrics, and to be asked for.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    reload::{Cause, Entry, Event, History},
    telemetry::Metrics,
};

/// So many workers' histories are kept. Those of workers that are gone make room first.
const WORKERS_MAX: usize = 10_000;

/// Bytes of what is kept of a reason; the log has all of it.
const REASON_BYTES_MAX: usize = 1024;

/// All of them.
pub struct Histories {
    workers: Mutex<BTreeMap<String, History>>,
    metrics: Metrics,
}

/// What plugin an entry is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// Its file.
    pub plugin: &'a str,
    /// Its digest; empty where it was not read.
    pub digest: &'a str,
}

impl Histories {
    /// None so far.
    pub fn new(metrics: Metrics) -> Self {
        Self { workers: Mutex::default(), metrics }
    }

    /// Notes what happened, and tells it.
    pub fn note(
        &self,
        worker: &str,
        event: Event,
        cause: Cause,
        about: About<'_>,
        mut reason: String,
        took: Option<Duration>,
    ) {
        let About { plugin, digest } = about;
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        let (word, took) = (event.as_str(), took.unwrap_or_default());
        match event {
            // What is wrong was told in full, with its file and line.
            Event::Refused => tracing::debug!(%worker, %plugin, %digest, "refused"),
            Event::RolledBack => tracing::error!(%worker, %plugin, %digest, "rolled back: {reason}"),
            Event::Kept => tracing::warn!(%worker, %plugin, "{reason}"),
            Event::Started if cause == Cause::Start => tracing::debug!(%worker, %plugin, %digest, ?took, "{word}"),
            _ if reason.is_empty() => tracing::info!(%worker, %plugin, %digest, ?took, "{word}"),
            _ => tracing::info!(%worker, %plugin, %digest, ?took, "{word}: {reason}"),
        }
        self.metrics.reloaded(worker, event);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (plugin, digest) = (plugin.to_owned(), digest.to_owned());
        let entry = Entry { at: SystemTime::now(), event, cause, plugin, digest, reason, took_ms };
        let mut workers = self.lock();
        if !workers.contains_key(worker) && workers.len() == WORKERS_MAX {
            let gone = workers.iter().find(|(_, history)| history.is_over()).map(|(name, _)| name.clone());
            match gone {
                Some(name) => _ = workers.remove(&name),
                None => _ = workers.pop_first(),
            }
        }
        workers.entry(worker.to_owned()).or_default().add(entry);
    }

    /// The history of a worker, as far as it is kept.
    pub fn of(&self, worker: &str) -> Option<Vec<Entry>> {
        self.lock().get(worker).map(|history| history.entries().cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, History>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_gone_make_room() {
        let histories = Histories::new(Metrics::default());
        let note = |worker: &str, event| {
            let about = About { plugin: "a.wasm", digest: "" };
            histories.note(worker, event, Cause::File, about, String::new(), None);
        };
        for number in 0..WORKERS_MAX {
            note(&format!("w{number:05}"), Event::Started);
        }
        note("w00700", Event::Stopped);
        note("another", Event::Started);
        assert!(histories.of("w00700").is_none());
        assert!(histories.of("w00000").is_some() && histories.of("another").is_some());
        note("one-more", Event::Started);
        assert_eq!(histories.lock().len(), WORKERS_MAX);
    }
}
