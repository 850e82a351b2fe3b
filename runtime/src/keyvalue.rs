//! Key-value stores: what handlers keep from one delivery to the next.
//!
//! A [`Store`] is one namespace of a place where values are kept: in memory, or on disk. Another place, such as a server
//! that several hosts share, is a further variant of it.

mod disk;
mod memory;

use crate::clock;
use std::{path::Path, str, thread, time::Duration};

pub use disk::Disk;
pub use memory::Memory;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// Keys that are listed at once.
pub const LIST_KEYS_MAX: usize = 1000;
/// How long the file may take to be closed, and how often that is looked at.
const CLOSE_MAX: Duration = Duration::from_secs(2);
const CLOSE_LOOK: Duration = Duration::from_millis(5);
/// What an entry counts beside its key and its value, in bytes: about what it takes to keep it.
const ENTRY_BYTES: usize = 64;

/// `[keyvalue]` of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one value. Default 1 MiB.
    pub value: usize,
    /// Bytes of one namespace. Default 64 MiB.
    pub store: usize,
    /// Bytes of all namespaces in memory. Default 256 MiB.
    pub memory: usize,
    /// Bytes of all namespaces on disk. Default 1 GiB.
    pub disk: usize,
}

/// Why a store did not do as it was asked: what the handler is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than a limit allows.
    #[error("{what} would have {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is limited.
        what: &'static str,
        /// What it would come to.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A value that is to be added to, and is no number.
    #[error("the value of `{0}` is not a whole number in decimal digits")]
    NotANumber(String),
    /// A sum that does not fit 64 bits.
    #[error("the sum at `{0}` does not fit 64 bits")]
    Overflow(String),
    /// The disk, or the file on it.
    #[error("the key-value store failed: {0}")]
    Storage(String),
}

/// One namespace.
#[derive(Debug, Clone)]
pub enum Store {
    /// Gone with the host.
    Memory(memory::Namespace),
    /// There again after a restart.
    Disk(disk::Namespace),
}

/// Where a list of keys begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Behind this key.
    After(String),
    /// Behind so many.
    Skip(u64),
}

/// The keys of one call, and whether there are more.
pub type Keys = (Vec<String>, bool);

impl Store {
    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        check_key(key)?;
        match self {
            Self::Memory(namespace) => Ok(namespace.get(key)),
            Self::Disk(namespace) => namespace.get(key.to_owned()).await,
        }
    }

    /// Gives a key a value.
    pub async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Error> {
        self.change(key, Change::Set(value)).await.map(|_| ())
    }

    /// Takes a key away, where it is there.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.change(key, Change::Delete).await.map(|_| ())
    }

    /// Adds to a number, which is 0 where there is none, and returns the sum.
    pub async fn increment(&self, key: &str, by: u64) -> Result<u64, Error> {
        self.change(key, Change::Increment(by)).await
    }

    /// The keys in their order, at most [`LIST_KEYS_MAX`].
    pub async fn keys(&self, from: Start) -> Result<Keys, Error> {
        match self {
            Self::Memory(namespace) => Ok(namespace.keys(&from)),
            Self::Disk(namespace) => namespace.keys(from).await,
        }
    }

    async fn change(&self, key: &str, change: Change) -> Result<u64, Error> {
        check_key(key)?;
        match self {
            Self::Memory(namespace) => namespace.change(key, change),
            Self::Disk(namespace) => namespace.change(key.to_owned(), change).await,
        }
    }
}

/// What is done to a key, in one step that nothing comes in between.
#[derive(Debug)]
enum Change {
    Set(Vec<u8>),
    Delete,
    Increment(u64),
}

/// How many bytes are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    /// In this namespace.
    store: usize,
    /// In all of them.
    total: usize,
}

/// What comes of a change: the key's new value, the sum, and what is kept then.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    value: Option<Vec<u8>>,
    sum: u64,
    usage: Usage,
}

fn check_key(key: &str) -> Result<(), Error> {
    at_most("the key", key.len(), KEY_BYTES_MAX)
}

fn at_most(what: &'static str, size: usize, limit: usize) -> Result<(), Error> {
    if size > limit { Err(Error::TooLarge { what, size, limit }) } else { Ok(()) }
}

/// Decides over a change. `total` is the limit of all namespaces together.
fn decide(
    key: &str,
    old: Option<&[u8]>,
    change: Change,
    usage: Usage,
    limits: &Limits,
    total: usize,
) -> Result<Decision, Error> {
    let (value, sum) = match change {
        Change::Set(value) => (Some(value), 0),
        Change::Delete => (None, 0),
        Change::Increment(by) => {
            let number = |value| str::from_utf8(value).ok()?.parse::<u64>().ok();
            let old = old.map_or(Some(0), number).ok_or_else(|| Error::NotANumber(key.to_owned()))?;
            let sum = old.checked_add(by).ok_or_else(|| Error::Overflow(key.to_owned()))?;
            (Some(sum.to_string().into_bytes()), sum)
        }
    };
    let entry = |value: &[u8]| key.len() + value.len() + ENTRY_BYTES;
    let (less, more) = (old.map_or(0, entry), value.as_deref().map_or(0, entry));
    let after = |bytes: usize| bytes.saturating_sub(less).saturating_add(more);
    let usage = Usage { store: after(usage.store), total: after(usage.total) };
    // What gets smaller is always taken, also where a limit was lowered.
    if more > less {
        at_most("the value", value.as_deref().map_or(0, <[u8]>::len), limits.value)?;
        at_most("the store", usage.store, limits.store)?;
        at_most("all stores together", usage.total, total)?;
    }
    Ok(Decision { value, sum, usage })
}

/// Where a host keeps values, once it has to.
#[derive(Debug)]
pub struct Places {
    limits: Limits,
    memory: Memory,
    disk: Option<Result<Open, String>>,
}

#[derive(Debug)]
struct Open {
    disk: Disk,
    thread: thread::JoinHandle<()>,
}

impl Places {
    /// Within these limits.
    pub fn new(limits: Limits) -> Self {
        Self { memory: Memory::new(limits.clone()), limits, disk: None }
    }

    /// A namespace in memory.
    pub fn memory(&self, namespace: &str) -> Store {
        Store::Memory(self.memory.namespace(namespace))
    }

    /// A namespace on disk, in this folder, which is opened with the first one.
    ///
    /// Errors: the folder cannot be used; always the same from then on.
    pub fn disk(&mut self, folder: &Path, namespace: &str) -> Result<Store, String> {
        let open = || Disk::open(folder, self.limits.clone()).map(|(disk, thread)| Open { disk, thread });
        let open = self.disk.get_or_insert_with(open).as_ref();
        open.map(|open| Store::Disk(open.disk.namespace(namespace))).map_err(Clone::clone)
    }

    /// Closes the file, so that the next host need not read all of it. It takes that nobody has a namespace any more;
    /// else, or where the disk does not answer, it is left open after a while.
    pub fn close(&mut self) {
        let Some(Ok(Open { disk, thread })) = self.disk.take() else { return };
        drop(disk);
        let end = clock::now() + CLOSE_MAX;
        while !thread.is_finished() && clock::now() < end {
            thread::sleep(CLOSE_LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const LIMITS: Limits = Limits { value: 100, store: 1000, memory: 1500, disk: 1500 };

    #[test]
    fn changes_are_decided() {
        let usage = Usage { store: 500, total: 900 };
        let check = |old: Option<&str>, change: Change, expected: Result<(Option<&str>, u64, usize), Error>| {
            let decided = decide("k", old.map(str::as_bytes), change, usage, &LIMITS, 1000);
            let decided = decided.map(|decision| {
                assert_eq!(decision.usage.total, decision.usage.store + 400);
                (decision.value.map(|value| String::from_utf8(value).unwrap()), decision.sum, decision.usage.store)
            });
            let expected = expected.map(|(value, sum, store)| (value.map(str::to_owned), sum, store));
            assert_eq!(decided, expected);
        };
        let set = |length: usize| Change::Set(vec![b'x'; length]);
        check(None, set(2), Ok((Some("xx"), 0, 567)));
        check(Some("old"), set(2), Ok((Some("xx"), 0, 499)));
        check(Some("old"), Change::Delete, Ok((None, 0, 432)));
        check(None, Change::Delete, Ok((None, 0, 500)));
        check(None, Change::Increment(7), Ok((Some("7"), 7, 566)));
        check(Some("99"), Change::Increment(1), Ok((Some("100"), 100, 501)));
        check(Some("x"), Change::Increment(1), Err(Error::NotANumber("k".into())));
        check(Some("-1"), Change::Increment(1), Err(Error::NotANumber("k".into())));
        check(Some(&u64::MAX.to_string()), Change::Increment(1), Err(Error::Overflow("k".into())));
        let too_large = |what, size, limit| Err(Error::TooLarge { what, size, limit });
        check(None, set(101), too_large("the value", 101, 100));
        check(None, set(40), too_large("all stores together", 1005, 1000));
        let full = decide("k", None, set(50), Usage { store: 990, total: 990 }, &LIMITS, 2000).unwrap_err();
        assert_eq!(full.to_string(), "the store would have 1105 bytes, the limit is 1000");
        // Out of a store that is too full already something can be taken.
        let over = Usage { store: 5000, total: 5000 };
        assert!(decide("k", Some(b"abc"), Change::Delete, over, &LIMITS, 1000).is_ok());
        assert!(decide("k", Some(b"abc"), set(1), over, &LIMITS, 1000).is_ok());
    }

    /// The same on every place.
    async fn check_place(open: impl Fn(&str) -> Store) {
        let (store, other) = (open("a"), open("b"));
        assert_eq!(store.get("k").await, Ok(None));
        store.set("k", b"v".to_vec()).await.unwrap();
        assert_eq!((store.get("k").await, other.get("k").await), (Ok(Some(b"v".to_vec())), Ok(None)));
        assert_eq!(open("a").get("k").await, Ok(Some(b"v".to_vec())));
        store.delete("k").await.unwrap();
        store.delete("k").await.unwrap();
        assert_eq!(store.get("k").await, Ok(None));

        let key = "k".repeat(KEY_BYTES_MAX + 1);
        let refused = Error::TooLarge { what: "the key", size: 1025, limit: 1024 };
        assert_eq!(store.get(&key).await, Err(refused.clone()));
        assert_eq!(store.increment(&key, 1).await, Err(refused));

        // Nothing is lost between many at once.
        let additions = (0..200).map(|n| {
            let store = open(if n % 2 == 0 { "a" } else { "b" });
            tokio::spawn(async move { store.increment("sum", 1).await })
        });
        let mut sums = Vec::new();
        for addition in additions.collect::<Vec<_>>() {
            sums.push(addition.await.unwrap().unwrap());
        }
        sums.sort_unstable();
        assert_eq!(sums, (1..=100).flat_map(|n| [n, n]).collect::<Vec<_>>());

        // The limits of one namespace, and of all.
        store.delete("sum").await.unwrap();
        for n in 0..6 {
            store.set(&n.to_string(), vec![0; 95]).await.unwrap();
        }
        assert!(matches!(store.set("6", vec![0; 95]).await, Err(Error::TooLarge { what: "the store", .. })));
        for n in 0..2 {
            other.set(&n.to_string(), vec![0; 95]).await.unwrap();
        }
        assert!(matches!(other.set("2", vec![0; 95]).await, Err(Error::TooLarge { what: "all stores together", .. })));
        store.delete("0").await.unwrap();
        other.set("2", vec![0; 95]).await.unwrap();

        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(store.keys(Start::Skip(0)).await, Ok((names(&["1", "2", "3", "4", "5"]), false)));
        assert_eq!(store.keys(Start::Skip(3)).await, Ok((names(&["4", "5"]), false)));
        assert_eq!(store.keys(Start::After("3x".into())).await, Ok((names(&["4", "5"]), false)));
        assert_eq!(store.keys(Start::After("5".into())).await, Ok((Vec::new(), false)));
    }

    #[tokio::test]
    async fn memory_keeps_values() {
        let places = Places::new(LIMITS);
        check_place(|namespace| places.memory(namespace)).await;
    }

    #[tokio::test]
    async fn a_disk_keeps_values() {
        let folder = tempfile::tempdir().unwrap();
        let places = std::sync::Mutex::new(Places::new(LIMITS));
        check_place(|namespace| places.lock().unwrap().disk(folder.path(), namespace).unwrap()).await;
        places.into_inner().unwrap().close();
        // Also for the next host.
        let store = Places::new(LIMITS).disk(folder.path(), "b").unwrap();
        assert_eq!(store.get("sum").await, Ok(Some(b"100".to_vec())));
        assert!(matches!(store.set("3", vec![0; 95]).await, Err(Error::TooLarge { what: "all stores together", .. })));
    }

    #[tokio::test]
    async fn many_keys_are_listed_some_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut places = Places::new(Limits { value: 100, store: 1 << 20, memory: 1 << 20, disk: 1 << 20 });
        for store in [places.memory("a"), places.disk(folder.path(), "a").unwrap()] {
            let additions = (0..1500).map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.set(&format!("{n:04}"), Vec::new()).await })
            });
            for addition in additions.collect::<Vec<_>>() {
                addition.await.unwrap().unwrap();
            }
            let (first, more) = store.keys(Start::Skip(0)).await.unwrap();
            assert_eq!((first.len(), more, first[999].as_str()), (LIST_KEYS_MAX, true, "0999"));
            let (rest, more) = store.keys(Start::After("0999".into())).await.unwrap();
            assert_eq!((rest.len(), more, rest[0].as_str()), (500, false, "1000"));
            assert_eq!(store.keys(Start::Skip(1000)).await.unwrap().0, rest);
        }
    }

    #[tokio::test]
    async fn a_file_has_one_host() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Places::new(LIMITS);
        let _store = first.disk(folder.path(), "a").unwrap();
        let refused = Places::new(LIMITS).disk(folder.path(), "a").unwrap_err();
        assert!(refused.contains("is in use by another host; hint: "), "{refused}");
        std::fs::write(folder.path().join("other"), b"x").unwrap();
        let no_folder = Places::new(LIMITS).disk(&folder.path().join("other"), "a").unwrap_err();
        assert!(no_folder.starts_with("the key-value store `"), "{no_folder}");
    }
}
