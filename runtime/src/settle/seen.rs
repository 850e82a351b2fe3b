//! Which messages are done: the ids of what was acked within a window, so that another copy of one need not be handled.

use std::{
    collections::{HashMap, VecDeque},
    fmt, iter,
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::{
    delivery::{Delivery, Value},
    manifest::{Dedupe, DedupeBy},
};

/// What is kept of an id's SHA-256.
const ID_BYTES: usize = 16;
/// Digits of the time in a mark's text, so that texts sort by time.
const TIME_DIGITS: usize = 13;

/// What a message is known by, whatever its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id([u8; ID_BYTES]);

impl Id {
    /// The id of a delivery, where it has one. What stands in another place is another id, and an empty one is none.
    pub fn of(by: &DedupeBy, delivery: &Delivery) -> Option<Self> {
        let properties = &delivery.properties;
        match by {
            DedupeBy::MessageId => properties.message_id.as_deref().and_then(|id| Self::digest("p", "", id.as_bytes())),
            DedupeBy::Header(name) => match properties.header(name)? {
                Value::Text(text) => Self::digest("t", name, text),
                value => Self::digest("v", name, format!("{value:?}").as_bytes()),
            },
        }
    }

    fn digest(kind: &str, name: &str, id: &[u8]) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(id);
        let digest: [u8; 32] = hash.finalize().into();
        digest.first_chunk().filter(|_| !id.is_empty()).map(|bytes| Self(*bytes))
    }
}

/// That a message was done, and when: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// When.
    pub at: u64,
    /// Which.
    pub id: Id,
}

/// As it is kept: the texts of marks sort by their time.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0TIME_DIGITS$}-{:032x}", self.at, u128::from_be_bytes(self.id.0))
    }
}

impl Mark {
    /// Reads what was kept.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('-')?;
        Some(Self { at: at.parse().ok()?, id: Id(u128::from_str_radix(id, 16).ok()?.to_be_bytes()) })
    }
}

/// The marks of a worker. The oldest fall out when their window is over, or where there are too many.
#[derive(Debug)]
pub struct Seen {
    window: u64,
    most: usize,
    /// When each was done last.
    done: HashMap<Id, u64>,
    /// The oldest first.
    marks: VecDeque<Mark>,
    /// How many of them, from the oldest on, were given out to be kept.
    kept: usize,
    /// Those that were, and fell out since.
    dropped: VecDeque<Mark>,
}

/// What a place that keeps marks does not know yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub add: Vec<Mark>,
    /// Those that fell out.
    pub remove: Vec<Mark>,
}

impl Seen {
    /// None so far.
    pub fn new(policy: &Dedupe) -> Self {
        Self {
            window: millis(policy.window),
            most: policy.ids,
            done: HashMap::new(),
            marks: VecDeque::new(),
            kept: 0,
            dropped: VecDeque::new(),
        }
    }

    /// Takes what was kept, in its order, before anything is added. A mark of the future is of a clock that was wrong, and
    /// is not believed.
    pub fn load(&mut self, kept: impl IntoIterator<Item = Mark>, now: u64) {
        for mark in kept {
            if now.checked_sub(mark.at).is_some_and(|age| age < self.window) {
                self.done.insert(mark.id, mark.at);
                self.marks.push_back(mark);
                self.kept += 1;
                self.make_room();
            } else {
                self.dropped.push_back(mark);
            }
        }
    }

    /// Whether a message was done within the window.
    pub fn contains(&self, id: Id, now: u64) -> bool {
        self.done.get(&id).is_some_and(|at| now.saturating_sub(*at) < self.window)
    }

    /// Notes that a message is done.
    pub fn add(&mut self, id: Id, now: u64) {
        while self.marks.front().is_some_and(|oldest| now.saturating_sub(oldest.at) >= self.window) {
            self.drop_oldest();
        }
        if self.done.insert(id, now) != Some(now) {
            self.marks.push_back(Mark { at: now, id });
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        while self.marks.len() > self.most {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(mark) = self.marks.pop_front() else { return };
        // It may have been done again since.
        if self.done.get(&mark.id) == Some(&mark.at) {
            self.done.remove(&mark.id);
        }
        if self.kept > 0 {
            self.kept -= 1;
            self.dropped.push_back(mark);
        }
    }

    /// What is to be kept, or no longer, since this was asked last; at most so much of each.
    pub fn changes(&mut self, most: usize) -> Changes {
        let add: Vec<_> = self.marks.iter().skip(self.kept).take(most).copied().collect();
        self.kept += add.len();
        Changes { add, remove: iter::from_fn(|| self.dropped.pop_front()).take(most).collect() }
    }
}

/// A duration in the unit of marks.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Properties;

    fn seen(ids: usize) -> Seen {
        Seen::new(&Dedupe { by: DedupeBy::MessageId, window: Duration::from_secs(1), ids, memory: true })
    }

    fn id(n: u8) -> Id {
        Id([n; ID_BYTES])
    }

    fn mark(at: u64, n: u8) -> Mark {
        Mark { at, id: id(n) }
    }

    #[test]
    fn what_was_done_is_known_for_its_window_and_no_longer() {
        let mut seen = seen(10);
        assert!(!seen.contains(id(1), 5000));
        seen.add(id(1), 5000);
        assert!(seen.contains(id(1), 5000) && seen.contains(id(1), 5999) && !seen.contains(id(2), 5999));
        assert!(!seen.contains(id(1), 6000));
        // Done again, its window begins again, and the old mark does not take the new one with it.
        seen.add(id(1), 5500);
        seen.add(id(2), 6100);
        assert!(seen.contains(id(1), 6499) && !seen.contains(id(1), 6500));
        seen.add(id(3), 9000);
        assert_eq!((seen.done.len(), seen.marks.len()), (1, 1), "what is over leaves nothing behind");
        seen.add(id(3), 9000);
        assert_eq!(seen.marks.len(), 1);
    }

    #[test]
    fn the_oldest_fall_out_where_there_are_too_many() {
        let mut seen = seen(3);
        for n in 1..=100 {
            seen.add(id(n), 5000 + u64::from(n));
            assert!(seen.marks.len() <= 3 && seen.done.len() <= 3);
        }
        let known: Vec<_> = (1..=100).filter(|n| seen.contains(id(*n), 5100)).collect();
        assert_eq!(known, [98, 99, 100]);
    }

    #[test]
    fn what_is_kept_is_what_is_known() {
        let mut seen = seen(3);
        let changes = |seen: &mut Seen| {
            let Changes { add, remove } = seen.changes(2);
            let numbers = |marks: Vec<Mark>| marks.iter().map(|mark| mark.id.0[0]).collect::<Vec<_>>();
            (numbers(add), numbers(remove))
        };
        for n in 1..=3 {
            seen.add(id(n), 5000);
        }
        assert_eq!(changes(&mut seen), (vec![1, 2], vec![]));
        // 1 was given out, and falls out; 3 and 4 are new.
        seen.add(id(4), 5001);
        assert_eq!(changes(&mut seen), (vec![3, 4], vec![1]));
        assert_eq!(changes(&mut seen), (vec![], vec![]));
        // What falls out before it was given out is never kept.
        for n in 5..=9 {
            seen.add(id(n), 5002);
        }
        assert_eq!(changes(&mut seen), (vec![7, 8], vec![2, 3]));
        assert_eq!(changes(&mut seen), (vec![9], vec![4]));
    }

    #[test]
    fn what_was_kept_is_believed_within_its_window_and_bound() {
        let mut seen = seen(2);
        seen.load([mark(3999, 1), mark(4100, 2), mark(4200, 3), mark(4300, 4), mark(5001, 5)], 5000);
        let known: Vec<_> = (1..=5).filter(|n| seen.contains(id(*n), 5000)).collect();
        assert_eq!(known, [3, 4]);
        let changes = seen.changes(10);
        assert_eq!((changes.add, changes.remove), (vec![], vec![mark(3999, 1), mark(4100, 2), mark(5001, 5)]));
        seen.add(id(6), 5000);
        assert_eq!(seen.changes(10), Changes { add: vec![mark(5000, 6)], remove: vec![mark(4200, 3)] });
    }

    #[test]
    fn marks_are_read_as_they_were_written_and_sort_by_time() {
        for at in [0, 1, 1_700_000_000_000, 9_999_999_999_999] {
            let mark = mark(at, 0xa5);
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
        assert_eq!(mark(1_700_000_000_000, 1).to_string(), "1700000000000-01010101010101010101010101010101");
        assert!(mark(999, 9).to_string() < mark(1000, 1).to_string());
        for text in ["", "-", "12", "12-", "x-00", "1-zz"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_id_is_of_its_place() {
        let properties = Properties::default();
        let mut delivery = Delivery {
            body: Vec::new(),
            properties,
            exchange: String::new(),
            routing_key: "k".to_owned(),
            queue: "q".into(),
            redelivered: false,
            attempt: 1,
        };
        let header = DedupeBy::Header("id".to_owned());
        assert_eq!((Id::of(&DedupeBy::MessageId, &delivery), Id::of(&header, &delivery)), (None, None));
        delivery.properties = Properties {
            message_id: Some("7".to_owned()),
            headers: vec![("id".to_owned(), Value::Text(b"7".to_vec())), ("n".to_owned(), Value::I64(7))],
            ..Properties::default()
        };
        let all = [DedupeBy::MessageId, header, DedupeBy::Header("n".to_owned())];
        let ids = all.each_ref().map(|by| Id::of(by, &delivery).unwrap());
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        delivery.body = b"another".to_vec();
        assert_eq!(all.each_ref().map(|by| Id::of(by, &delivery).unwrap()), ids);
        delivery.properties.message_id = Some(String::new());
        assert_eq!(Id::of(&DedupeBy::MessageId, &delivery), None, "an empty id is none");
    }
}
