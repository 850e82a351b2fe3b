//! What became of a worker's versions, for people to read.

use std::{collections::VecDeque, time::SystemTime};

use serde::{Serialize, Serializer};

/// So many entries are kept of a worker.
const ENTRIES_MAX: usize = 100;

/// The last things that happened to a worker.
#[derive(Debug, Clone, Default)]
pub struct History(VecDeque<Entry>);

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// When it was done.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// What happened.
    pub event: Event,
    /// What brought it about.
    pub cause: Cause,
    /// The plugin's file.
    pub plugin: String,
    /// `sha256:…` of the plugin that it is about; empty where that was not read.
    pub digest: String,
    /// What was different, or what was wrong; may be empty.
    pub reason: String,
    /// Milliseconds from the moment when it was noticed.
    pub took_ms: u64,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// It began.
    Started,
    /// A new version takes deliveries.
    Swapped,
    /// Its queues are consumed anew, by a new version.
    Reconsumed,
    /// A new version has proved itself.
    Proved,
    /// A version was not taken.
    Refused,
    /// A version was taken back.
    RolledBack,
    /// Its plugin's file is gone, or cannot be read; it goes on.
    Kept,
    /// Its manifest is gone.
    Stopped,
}

impl Event {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Started,
        Self::Swapped,
        Self::Reconsumed,
        Self::Proved,
        Self::Refused,
        Self::RolledBack,
        Self::Kept,
        Self::Stopped,
    ];

    /// A word in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Swapped => "swapped",
            Self::Reconsumed => "reconsumed",
            Self::Proved => "proved",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Kept => "kept",
            Self::Stopped => "stopped",
        }
    }
}

/// What brings about that files are looked at, or that a version goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The host began.
    Start,
    /// A file changed.
    File,
    /// `SIGHUP`.
    Signal,
    /// `wabbit reload`.
    Request,
    /// How a version did.
    Probation,
}

impl History {
    /// Adds what happened last; the oldest goes where there are too many.
    pub fn add(&mut self, entry: Entry) {
        if self.0.len() == ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// The oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Whether the worker is gone.
    pub fn is_over(&self) -> bool {
        self.0.back().is_some_and(|entry| entry.event == Event::Stopped)
    }
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let mut history = History::default();
        assert!(!history.is_over());
        for took_ms in 0..250 {
            history.add(Entry {
                at: SystemTime::UNIX_EPOCH,
                event: Event::Swapped,
                cause: Cause::File,
                plugin: "a.wasm".into(),
                digest: "sha256:00".into(),
                reason: String::new(),
                took_ms,
            });
        }
        let kept: Vec<_> = history.entries().map(|entry| entry.took_ms).collect();
        assert_eq!(kept, (150..250).collect::<Vec<_>>());
        let json = serde_json::to_value(history.entries().next().unwrap()).unwrap();
        assert_eq!(json["at"], "1970-01-01T00:00:00.000Z");
        for event in Event::ALL {
            assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
        }
    }
}
