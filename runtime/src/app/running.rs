//! The deliveries that are with their handlers now, in a file that outlives the process.
//!
//! The file is mapped: to note a delivery is to write a word of memory, and the kernel keeps what a killed process has
//! written. A host that starts reads who was there when the last one died ([`crate::settle::poison`]).

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;
use memmap2::MmapMut;

use crate::settle::poison::{self, Left};

/// Hosts that share a state folder.
const HOSTS_MAX: usize = 64;
/// Suspects that are kept; the ones that killed a host come first.
const SUSPECTS_MAX: usize = 4096;
/// A place with room for two deliveries for each handler, so that a free one is near.
const PLACES_PER_SLOT: usize = 2;
/// How the file begins. It changes with what follows, in words: the number of places, the places, and for each suspect
/// its fingerprint and how often the host died of it.
const MAGIC: [u8; 8] = *b"wabbit\0\x01";

/// The deliveries that are with their handlers, and the suspects of a former crash.
pub(super) struct Running {
    file: Option<Mapped>,
    /// How often the host died of each, and its place in the file.
    suspects: Mutex<HashMap<u64, (u32, usize)>>,
    /// How many suspects there are, so that a host without any does not lock for each delivery.
    count: AtomicUsize,
}

/// A fingerprint, and how often the host died of it.
type Suspect = (u64, u32);

struct Mapped {
    map: MmapMut,
    /// Where the places are, in words.
    places: Range<usize>,
    /// Held for as long as the file is in use.
    _lock: File,
}

/// A delivery that is noted until this is dropped.
pub(super) struct Entered<'a>(Option<&'a AtomicU64>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(0, Ordering::Release);
        }
    }
}

impl Running {
    /// Reads what the last host left in the folder, and begins anew. Without a folder that can be written to, the host
    /// runs without this.
    pub(super) fn open(folder: Option<&Path>, slots: usize) -> Self {
        let opened = match folder {
            Some(folder) => open(folder, slots).with_context(|| format!("cannot use {}", folder.display())),
            None => Err(anyhow::anyhow!("there is no folder for it")),
        };
        match opened {
            Ok((file, suspects)) => {
                if !suspects.is_empty() {
                    tracing::warn!(
                        deliveries = suspects.len(),
                        "a host died with deliveries in hand: each of them runs alone when it comes again"
                    );
                }
                let suspects: HashMap<_, _> = suspects
                    .into_iter()
                    .enumerate()
                    .map(|(index, (fingerprint, crashes))| (fingerprint, (crashes, index)))
                    .collect();
                Self { file: Some(file), count: suspects.len().into(), suspects: suspects.into() }
            }
            Err(error) => {
                tracing::warn!(
                    "no record of running deliveries, so each that was delivered before runs alone: {error:#}; hint: \
                     name a folder with --state"
                );
                Self { file: None, count: 0.into(), suspects: Mutex::default() }
            }
        }
    }

    /// Where the delivery is a suspect: how often the host died of it. Without the file, whoever was delivered before
    /// is one.
    pub(super) fn suspicion(&self, fingerprint: u64, redelivered: bool) -> Option<u32> {
        if self.file.is_none() {
            return redelivered.then_some(0);
        }
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.get(&key(fingerprint)).map(|(crashes, _)| *crashes)
    }

    /// Notes a delivery for as long as it is with its handler.
    pub(super) fn enter(&self, fingerprint: u64, alone: bool) -> Entered<'_> {
        let Some(file) = &self.file else { return Entered(None) };
        let word = key(fingerprint) | u64::from(alone);
        let places = file.places();
        let start = usize::try_from(fingerprint >> 2).unwrap_or_default();
        // There are more places than handlers, so that one is found at once, nearly always.
        let free = (0..places.len()).filter_map(|offset| places.get((start + offset) % places.len())).find(|place| {
            place.load(Ordering::Relaxed) == 0
                && place.compare_exchange(0, word, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        });
        Entered(free)
    }

    /// It came through, or is where it harms nobody: no longer a suspect.
    pub(super) fn cleared(&self, fingerprint: u64) {
        let Some(file) = &self.file else { return };
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, index)) = suspects.remove(&key(fingerprint)) {
            self.count.store(suspects.len(), Ordering::Relaxed);
            if let Some(word) = file.suspects().get(2 * index) {
                word.store(0, Ordering::Release);
            }
        }
    }
}

impl Mapped {
    fn words(&self) -> &[AtomicU64] {
        #[expect(unsafe_code, reason = "memory that another process may read is shared by atomics")]
        // SAFETY: any bytes are a valid `AtomicU64`, and nothing else of this process refers to the mapping.
        let (_, words, _) = unsafe { self.map.align_to::<AtomicU64>() };
        words
    }

    fn places(&self) -> &[AtomicU64] {
        self.words().get(self.places.clone()).unwrap_or_default()
    }

    fn suspects(&self) -> &[AtomicU64] {
        self.words().get(self.places.end..).unwrap_or_default()
    }
}

/// What a fingerprint is in the file. Its lowest bit is left to say that the delivery runs alone; the next is always set,
/// for a place with 0 is free.
fn key(fingerprint: u64) -> u64 {
    (fingerprint & !0b01) | 0b10
}

/// Takes a file that no other host uses, and what all hosts that are gone left in theirs.
fn open(folder: &Path, slots: usize) -> anyhow::Result<(Mapped, Vec<Suspect>)> {
    fs::create_dir_all(folder)?;
    let (mut before, mut left, mut locked) = (HashMap::new(), Vec::new(), Vec::new());
    for host in 0..HOSTS_MAX {
        let lock_path = folder.join(format!("running-{host}.lock"));
        if !locked.is_empty() && !lock_path.exists() {
            continue;
        }
        let lock = OpenOptions::new().create(true).append(true).open(&lock_path)?;
        if lock.try_lock().is_err() {
            continue;
        }
        let path = folder.join(format!("running-{host}"));
        if let Some((suspects, deliveries)) = fs::read(&path).ok().and_then(|bytes| parse(&bytes)) {
            for (fingerprint, crashes) in suspects {
                let most = before.entry(fingerprint).or_insert(crashes);
                *most = crashes.max(*most);
            }
            left.extend(deliveries);
        }
        locked.push((path, lock));
    }
    let mut locked = locked.into_iter();
    let (path, lock) = locked.next().with_context(|| format!("{HOSTS_MAX} hosts use it already"))?;
    let mut suspects: Vec<_> = poison::suspects(before, left).into_iter().collect();
    suspects.sort_by_key(|(fingerprint, crashes)| (std::cmp::Reverse(*crashes), *fingerprint));
    suspects.truncate(SUSPECTS_MAX);
    let (map, places) = write_and_map(&path, slots.saturating_mul(PLACES_PER_SLOT), &suspects)?;
    // What the others left is in this file now.
    for (path, _lock) in locked {
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok((Mapped { map, places, _lock: lock }, suspects))
}

/// Replaces the file: all of it is written, for a mapped page without room on the disk would end the process later.
fn write_and_map(path: &Path, places: usize, suspects: &[Suspect]) -> anyhow::Result<(MmapMut, Range<usize>)> {
    let mut words = vec![u64::from_ne_bytes(MAGIC), places as u64];
    let places = words.len()..words.len() + places;
    words.resize(places.end, 0);
    words.extend(suspects.iter().flat_map(|(fingerprint, crashes)| [*fingerprint, u64::from(*crashes)]));
    words.resize(places.end + 2 * SUSPECTS_MAX, 0);
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
    let folder = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&bytes)?;
    file.as_file().sync_all()?;
    let file = file.persist(path)?;
    #[expect(unsafe_code, reason = "a mapped file can be changed by others")]
    // SAFETY: the lock keeps other hosts from it, and whatever else writes there changes words that are read as words.
    let map = unsafe { MmapMut::map_mut(&file) }?;
    Ok((map, places))
}

/// The suspects of a file, and the deliveries that were noted in it. Nothing for one that is not of this format.
fn parse(bytes: &[u8]) -> Option<(Vec<Suspect>, Vec<Left>)> {
    let (words, rest) = bytes.as_chunks();
    let words: Vec<u64> = words.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let (&[magic, places], words) = words.split_first_chunk()?;
    let (places, suspects) = words.split_at_checked(usize::try_from(places).ok()?)?;
    if magic != u64::from_ne_bytes(MAGIC) || !rest.is_empty() || suspects.len() != 2 * SUSPECTS_MAX {
        return None;
    }
    let (pairs, _) = suspects.as_chunks::<2>();
    let suspects = pairs.iter().filter(|[fingerprint, _]| *fingerprint != 0);
    let suspects = suspects.map(|[fingerprint, crashes]| (*fingerprint, u32::try_from(*crashes).unwrap_or(u32::MAX)));
    let left = places.iter().filter(|word| **word != 0);
    let left = left.map(|word| Left { fingerprint: key(*word), alone: word & 0b01 != 0 });
    Some((suspects.collect(), left.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_dies_leaves_its_suspects_behind() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Running::open(Some(folder.path()), 4);
        let first = open();
        assert_eq!(first.suspicion(1000, true), None);
        // Ends as if killed: what was entered is not left.
        for (fingerprint, alone) in [(1000, false), (2000, false)] {
            std::mem::forget(first.enter(fingerprint, alone));
        }
        drop(first.enter(3000, false));
        drop(first);

        let second = open();
        assert_eq!([1000, 2000, 3000].map(|fingerprint| second.suspicion(fingerprint, true)), [Some(0), Some(0), None]);
        second.cleared(1000);
        std::mem::forget(second.enter(2000, true));
        drop(second);

        let third = open();
        assert_eq!([1000, 2000].map(|fingerprint| third.suspicion(fingerprint, false)), [None, Some(1)]);
        third.cleared(2000);
        drop(third);
        assert_eq!(open().suspicion(2000, true), None);
    }

    #[test]
    fn hosts_share_a_folder_and_find_what_others_left() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Running::open(Some(folder.path()), 4);
        let (first, second) = (open(), open());
        std::mem::forget(second.enter(1000, true));
        assert!(first.file.is_some() && second.file.is_some());
        drop(second);
        drop(first);
        let third = open();
        assert_eq!(third.suspicion(1000, false), Some(1));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "two locks and a file");
    }

    #[test]
    fn more_than_there_are_places_run_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::open(Some(folder.path()), 1);
        let entered: Vec<_> = (0..5).map(|n| running.enter(n << 10, false)).collect();
        assert_eq!(entered.iter().filter(|entered| entered.0.is_some()).count(), 2);
    }

    #[test]
    fn what_is_not_of_this_format_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for content in [&b"x"[..], &[0; 100_000], &[255; 16]] {
            fs::write(folder.path().join("running-0"), content).unwrap();
            assert!(Running::open(Some(folder.path()), 4).file.is_some());
        }
    }

    #[test]
    fn without_a_folder_whoever_came_before_runs_alone() {
        for running in [Running::open(None, 4), Running::open(Some(Path::new("/proc/nothing")), 4)] {
            assert_eq!((running.suspicion(1, true), running.suspicion(1, false)), (Some(0), None));
            running.cleared(1);
            drop(running.enter(1, true));
        }
    }
}
