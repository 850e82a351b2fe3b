//! When it is time to look at folders that change: soon after the last change, and no file while it is being written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Nothing has changed for so long: then it is looked.
const CALM: Duration = Duration::from_millis(15);
/// Where changes do not cease, it is looked after so long all the same.
const BURST_MAX: Duration = Duration::from_secs(1);
/// A file that was made and not closed is taken for finished after so long: a link is never closed.
const MADE: Duration = Duration::from_millis(200);
/// A file that was written to and not closed is taken for finished after so long.
const WRITTEN: Duration = Duration::from_secs(2);

/// What changed since it was looked last.
#[derive(Debug, Default)]
pub struct Calm {
    /// The first change and the last.
    changes: Option<(Instant, Instant)>,
    /// Files that are being written, and until when that is believed.
    written: BTreeMap<PathBuf, Instant>,
}

/// A change of a file, as the system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is there, perhaps to be written.
    Made,
    /// It was written to.
    Written,
    /// Whoever wrote to it has closed it.
    Closed,
    /// It has its name by now, or lost it; or something else happened.
    Other,
}

impl Calm {
    /// Takes note of a change.
    pub fn told(&mut self, path: &Path, told: Told, now: Instant) {
        let until = match told {
            // What is made while it is known to be written is written.
            Told::Made => self.written.get(path).copied().max(Some(now + MADE)),
            Told::Written => Some(now + WRITTEN),
            Told::Closed | Told::Other => None,
        };
        match until {
            Some(until) => _ = self.written.insert(path.to_owned(), until),
            None => {
                self.written.remove(path);
                let first = self.changes.map_or(now, |(first, _)| first);
                self.changes = Some((first, now));
            }
        }
    }

    /// When it is time to look, if there is anything to look at.
    pub fn due(&self) -> Option<Instant> {
        let calm = self.changes.map(|(first, last)| (last + CALM).min(first + BURST_MAX));
        calm.into_iter().chain(self.written.values().copied()).min()
    }

    /// Begins anew; gives the files that are still being written.
    pub fn look(&mut self, now: Instant) -> BTreeSet<PathBuf> {
        self.changes = None;
        self.written.retain(|_, until| *until > now);
        self.written.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Changes as `TIME KIND`, then when it is due.
    #[track_caller]
    fn check(told: &[(u64, Told)], due: Option<u64>) -> Calm {
        let (start, path) = (Instant::now(), Path::new("a.wasm"));
        let mut calm = Calm::default();
        for (at, told) in told {
            calm.told(path, *told, start + ms(*at));
        }
        assert_eq!(calm.due(), due.map(|due| start + ms(due)), "{told:?}");
        calm
    }

    #[test]
    fn it_is_looked_when_it_is_calm() {
        check(&[], None);
        check(&[(0, Told::Other)], Some(15));
        check(&[(0, Told::Other), (20, Told::Other)], Some(35));
        check(&[(0, Told::Made), (1, Told::Written), (2, Told::Closed)], Some(17));
        let burst: Vec<_> = (0..200).map(|at| (at * 10, Told::Other)).collect();
        check(&burst, Some(1000));
    }

    #[test]
    fn what_is_being_written_is_waited_for() {
        check(&[(0, Told::Made)], Some(200));
        check(&[(0, Told::Made), (5, Told::Written)], Some(2005));
        check(&[(0, Told::Written), (5, Told::Made)], Some(2000));
        check(&[(0, Told::Written), (1900, Told::Written)], Some(3900));
        check(&[(0, Told::Written), (1900, Told::Written), (1950, Told::Closed)], Some(1965));
    }

    #[test]
    fn others_are_looked_at_meanwhile() {
        let (start, slow) = (Instant::now(), Path::new("slow.wasm"));
        let mut calm = Calm::default();
        calm.told(slow, Told::Written, start);
        calm.told(Path::new("a.toml"), Told::Closed, start + ms(100));
        assert_eq!(calm.due(), Some(start + ms(115)));
        assert_eq!(calm.look(start + ms(115)), BTreeSet::from([slow.to_owned()]));
        assert_eq!(calm.due(), Some(start + ms(2000)));
        assert_eq!(calm.look(start + ms(2000)), BTreeSet::new());
        assert_eq!(calm.due(), None);
    }
}
