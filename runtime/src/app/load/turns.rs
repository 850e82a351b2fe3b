//! Which plugin is compiled next, and for how long, so that many that compile slowly do not keep a good one waiting.
//!
//! Each has a share of time that goes by the size of its file, smaller files first. Those that are not done in their
//! share come again, after all others, with one that is four times as large. So before a plugin that takes a second is
//! compiled, each of the others has cost at most a few, and not the whole limit.

use std::{collections::BTreeSet, time::Duration};

/// The time that a plugin has at first, where others wait, and what it has more for each MiB of its file. Python's 18 MiB
/// take 15 s of one core.
const SHARE_FIRST: Duration = Duration::from_secs(1);
const SHARE_MIB: Duration = Duration::from_secs(2);
/// By how much it grows each time.
const SHARE_FACTOR: u32 = 4;

/// The plugins that wait, by round, size and name.
pub(super) struct Turns {
    waiting: BTreeSet<(u32, usize, String)>,
    time_max: Duration,
}

/// One plugin's turn.
#[derive(Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) name: String,
    /// How long it may compile.
    pub(super) time: Duration,
    round: u32,
    size: usize,
}

impl Turns {
    /// Plugins with the sizes of their files; none compiles for longer than `time_max`.
    pub(super) fn new(plugins: impl IntoIterator<Item = (String, usize)>, time_max: Duration) -> Self {
        Self { waiting: plugins.into_iter().map(|(name, size)| (0, size, name)).collect(), time_max }
    }

    /// Whose turn it is; who is the last has all the time, for nobody waits for it.
    pub(super) fn next(&mut self) -> Option<Turn> {
        let (round, size, name) = self.waiting.pop_first()?;
        let mib = u32::try_from(size >> 20).unwrap_or(u32::MAX);
        let first = SHARE_FIRST.saturating_add(SHARE_MIB.saturating_mul(mib));
        let share = first.saturating_mul(SHARE_FACTOR.saturating_pow(round));
        let time = if self.waiting.is_empty() { self.time_max } else { share.min(self.time_max) };
        Some(Turn { name, time, round, size })
    }

    /// This one was not done in its time. Whether it comes again.
    pub(super) fn again(&mut self, turn: &Turn) -> bool {
        turn.time < self.time_max && self.waiting.insert((turn.round + 1, turn.size, turn.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// When each plugin is compiled, one at a time; a plugin is its size and the seconds that it takes.
    fn play(plugins: &[(usize, u64)]) -> Vec<Option<u64>> {
        let mut turns = Turns::new(plugins.iter().enumerate().map(|(n, (size, _))| (n.to_string(), *size)), LIMIT);
        let (mut now, mut done) = (0, vec![None; plugins.len()]);
        while let Some(turn) = turns.next() {
            let n: usize = turn.name.parse().unwrap();
            let takes = plugins[n].1;
            now += takes.min(turn.time.as_secs());
            if takes <= turn.time.as_secs() {
                done[n] = Some(now);
            } else {
                turns.again(&turn);
            }
        }
        done
    }

    #[test]
    fn a_thousand_that_never_end_cost_a_good_one_no_more_than_its_own_share_each() {
        let hostile = vec![(10, u64::MAX); 1000];
        for (takes, by) in [(1, 1001), (4, 5 * 1000 + 5), (16, 21 * 1000 + 21)] {
            let done = play(&[&hostile[..], &[(1000, takes)]].concat());
            assert!(done[1000].unwrap() <= by, "{takes} s: {:?}", done[1000]);
            assert!(done[..1000].iter().all(Option::is_none));
        }
    }

    #[test]
    fn a_large_file_has_more_time_at_first() {
        // Two handlers in Python are compiled once each, and nothing that was begun is thrown away.
        assert_eq!(play(&[(18 << 20, 15), (18 << 20, 15)]), [Some(15), Some(30)]);
    }

    #[test]
    fn what_is_alone_has_all_the_time_at_once() {
        let mut turns = Turns::new([("a".to_owned(), 1)], LIMIT);
        let turn = turns.next().unwrap();
        assert_eq!((turn.name.as_str(), turn.time), ("a", LIMIT));
        assert!(!turns.again(&turn));
        assert_eq!(turns.next(), None);
    }

    #[test]
    fn small_files_come_first_and_everyone_has_the_whole_limit_in_the_end() {
        let done = play(&[(300, 59), (200, 59), (100, 1)]);
        assert_eq!(done[2], Some(1));
        assert!(done.iter().all(Option::is_some), "{done:?}");
    }
}
