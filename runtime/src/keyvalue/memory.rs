//! Values in memory: fast, and gone with the host.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Change, Error, Keys, LIST_KEYS_MAX, Limits, Start, Usage, decide};

/// All namespaces in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    kept: Arc<Mutex<Kept>>,
    limits: Arc<Limits>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Namespace {
    memory: Memory,
    name: Arc<str>,
}

#[derive(Debug, Default)]
struct Kept {
    namespaces: HashMap<Arc<str>, Entries>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Entries {
    values: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(limits: Limits) -> Self {
        Self { kept: Arc::default(), limits: limits.into() }
    }

    pub(super) fn namespace(&self, name: &str) -> Namespace {
        Namespace { memory: self.clone(), name: name.into() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Namespace {
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.memory.lock().namespaces.get(&self.name)?.values.get(key).cloned()
    }

    pub(super) fn change(&self, key: &str, change: Change) -> Result<u64, Error> {
        let limits = &self.memory.limits;
        let mut kept = self.memory.lock();
        let total = kept.bytes;
        let entries = kept.namespaces.entry(Arc::clone(&self.name)).or_default();
        let old = entries.values.get(key).map(Vec::as_slice);
        let usage = Usage { store: entries.bytes, total };
        let decision = decide(key, old, change, usage, limits, limits.memory)?;
        match decision.value {
            Some(value) => entries.values.insert(key.to_owned(), value),
            None => entries.values.remove(key),
        };
        entries.bytes = decision.usage.store;
        kept.bytes = decision.usage.total;
        Ok(decision.sum)
    }

    pub(super) fn keys(&self, from: &Start) -> Keys {
        let kept = self.memory.lock();
        let Some(entries) = kept.namespaces.get(&self.name) else { return (Vec::new(), false) };
        let (start, skip) = match from {
            Start::After(key) => (Bound::Excluded(key.as_str()), 0),
            Start::Skip(count) => (Bound::Unbounded, usize::try_from(*count).unwrap_or(usize::MAX)),
        };
        let mut keys = entries.values.range::<str, _>((start, Bound::Unbounded)).skip(skip).map(|(key, _)| key.clone());
        let listed = keys.by_ref().take(LIST_KEYS_MAX).collect();
        (listed, keys.next().is_some())
    }
}
