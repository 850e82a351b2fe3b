//! Which publications were confirmed, and which came back.
//!
//! The broker sends a return before the confirm of the same publication. The client library keeps returns in a queue
//! and gives the oldest to whichever confirm completes next, so a confirm may carry the return of *another*
//! publication; who came back is told by a header of our own. What can be relied on is the order of completion:
//!
//! - when a confirm completes, the return of its publication, if there is one, has arrived;
//! - a confirm that completes without carrying anything shows that at that moment no return was left waiting.
//!
//! Confirms are handed over in batches such that all that completed before a member of a batch is in the same batch
//! or an earlier one. So a confirm that carries nothing is decided at the end of its batch. One that carries another's
//! return stays open until a later batch holds a confirm that carries nothing, or nothing is outstanding any more:
//! each return that arrived belongs to a publication that is still outstanding, or has been carried.

use std::collections::{HashMap, HashSet};

/// What a confirm said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// The publication that it is of.
    pub id: u64,
    /// Whether the broker took the publication (ack) or refused it (nack).
    pub taken: bool,
    /// The publication whose return it carried: this one's or another's.
    pub carried: Option<u64>,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has it, and a queue took it (or `mandatory` was not asked for).
    Confirmed,
    /// No queue took it.
    Returned,
    /// The broker refused it with a nack.
    Nacked,
    /// The broker closed the channel over it: this user may not publish there.
    Forbidden,
    /// The channel went away before the broker's last word.
    Lost,
}

/// The publications of one channel that have no verdict yet. `T` is whatever the verdict is for.
#[derive(Debug)]
pub struct Returns<T> {
    outstanding: HashMap<u64, T>,
    /// Confirmed by the broker, but their return may still be among those that wait.
    open: Vec<(u64, bool, T)>,
    /// Returns that were carried by another's confirm, of publications without a verdict.
    returned: HashSet<u64>,
}

impl<T> Default for Returns<T> {
    fn default() -> Self {
        Self { outstanding: HashMap::new(), open: Vec::new(), returned: HashSet::new() }
    }
}

impl<T> Returns<T> {
    /// Notes a publication that is on its way.
    pub fn sent(&mut self, id: u64, what: T) {
        self.outstanding.insert(id, what);
    }

    /// How many publications have no verdict yet.
    pub fn pending(&self) -> usize {
        self.outstanding.len() + self.open.len()
    }

    /// Takes in a batch of confirms (see the module's head for what a batch must be), and gives the verdicts that are
    /// now certain.
    pub fn batch(&mut self, confirms: &[Confirm], verdicts: &mut Vec<(T, Verdict)>) {
        let mut silent = false;
        let opened = self.open.len();
        let mut decided = Vec::new();
        for confirm in confirms {
            silent |= confirm.carried.is_none();
            self.returned.extend(confirm.carried);
            if let Some(what) = self.outstanding.remove(&confirm.id) {
                if confirm.carried.is_none() {
                    decided.push((confirm.id, confirm.taken, what));
                } else {
                    self.open.push((confirm.id, confirm.taken, what));
                }
            }
        }
        // A confirm that carries nothing decides for those of earlier batches; those of this one may have completed
        // after it. Without anything outstanding, no return can be left waiting.
        let certain = match (self.outstanding.is_empty(), silent) {
            (true, _) => self.open.len(),
            (false, true) => opened,
            (false, false) => 0,
        };
        decided.extend(self.open.drain(..certain));
        // Whoever came back for certain need not wait for more.
        decided.extend(self.open.extract_if(.., |(id, ..)| self.returned.contains(id)));
        for (id, taken, what) in decided {
            let returned = self.returned.remove(&id);
            let verdict = match (taken, returned) {
                (false, _) => Verdict::Nacked,
                (true, true) => Verdict::Returned,
                (true, false) => Verdict::Confirmed,
            };
            verdicts.push((what, verdict));
        }
        if self.pending() == 0 {
            self.returned.clear();
        }
    }

    /// The channel is gone: what has no verdict is lost.
    pub fn lose_all(&mut self, verdicts: &mut Vec<(T, Verdict)>) {
        self.returned.clear();
        let open = self.open.drain(..).map(|(.., what)| what);
        verdicts.extend(self.outstanding.drain().map(|(_, what)| what).chain(open).map(|what| (what, Verdict::Lost)));
    }
}

#[cfg(test)]
pub(in crate::settle) mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;

    /// A small generator (SplitMix64), so that a failing case is repeated by its seed.
    pub(in crate::settle) struct Random(pub u64);

    impl Random {
        pub(in crate::settle) fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % n
        }
    }

    fn confirm(id: u64, carried: Option<u64>) -> Confirm {
        Confirm { id, taken: true, carried }
    }

    #[track_caller]
    fn check(returns: &mut Returns<u64>, confirms: &[Confirm], expected: &[(u64, Verdict)]) {
        let mut verdicts = Vec::new();
        returns.batch(confirms, &mut verdicts);
        verdicts.sort_by_key(|(id, _)| *id);
        assert_eq!(verdicts, expected);
    }

    fn sent(count: u64) -> Returns<u64> {
        let mut returns = Returns::default();
        for id in 1..=count {
            returns.sent(id, id);
        }
        returns
    }

    #[test]
    fn confirms_that_carry_nothing_are_decided_at_once() {
        check(&mut sent(3), &[confirm(2, None), confirm(1, None)], &[(1, Verdict::Confirmed), (2, Verdict::Confirmed)]);
    }

    #[test]
    fn a_confirm_that_carries_its_own_return_is_decided_at_once() {
        check(&mut sent(3), &[confirm(2, Some(2))], &[(2, Verdict::Returned)]);
    }

    #[test]
    fn a_confirm_that_carries_another_return_waits() {
        let mut returns = sent(4);
        check(&mut returns, &[confirm(1, Some(3))], &[]);
        check(&mut returns, &[confirm(3, Some(1))], &[(1, Verdict::Returned), (3, Verdict::Returned)]);
        check(&mut returns, &[confirm(2, Some(4))], &[]);
        check(&mut returns, &[confirm(4, None)], &[(2, Verdict::Confirmed), (4, Verdict::Returned)]);
    }

    #[test]
    fn a_nack_is_a_nack() {
        let mut returns = sent(1);
        let nack = Confirm { id: 1, taken: false, carried: None };
        check(&mut returns, &[nack], &[(1, Verdict::Nacked)]);
        assert_eq!(returns.pending(), 0);
    }

    #[test]
    fn a_lost_channel_decides_all() {
        let mut returns = sent(2);
        check(&mut returns, &[confirm(1, Some(2))], &[]);
        let mut verdicts = Vec::new();
        returns.lose_all(&mut verdicts);
        verdicts.sort_by_key(|(id, _)| *id);
        assert_eq!(verdicts, [(1, Verdict::Lost), (2, Verdict::Lost)]);
    }

    /// A model of broker and library: returns wait in a queue, each confirm takes the oldest, confirms come in any
    /// order and are handed over in batches. Every verdict must be right, and none may be missing at the end.
    #[test]
    fn every_interleaving_gives_the_right_verdicts() {
        for seed in 0..20_000_u64 {
            let mut random = Random(seed);
            let count = 1 + random.below(30);
            let unroutable = 1 + random.below(4);
            let mut returns = Returns::default();
            let mut unsent: VecDeque<u64> = (1..=count).collect();
            let mut truth = BTreeMap::new();
            // Publications at the broker; the second part says whether the return has been sent.
            let mut at_broker: Vec<(u64, bool)> = Vec::new();
            let mut waiting = VecDeque::new();
            let mut completed = Vec::new();
            let mut verdicts = Vec::new();
            while verdicts.len() < usize::try_from(count).unwrap() {
                match random.below(4) {
                    0 => {
                        if let Some(id) = unsent.pop_front() {
                            returns.sent(id, id);
                            truth.insert(
                                id,
                                if random.below(4) < unroutable - 1 { Verdict::Returned } else { Verdict::Confirmed },
                            );
                            at_broker.push((id, false));
                        }
                    }
                    1 if !at_broker.is_empty() => {
                        let index = usize::try_from(random.below(at_broker.len() as u64)).unwrap();
                        let (id, sent) = &mut at_broker[index];
                        if truth[id] == Verdict::Returned && !*sent {
                            waiting.push_back(*id);
                            *sent = true;
                        }
                    }
                    2 if !at_broker.is_empty() => {
                        let index = usize::try_from(random.below(at_broker.len() as u64)).unwrap();
                        let (id, sent) = at_broker.swap_remove(index);
                        if truth[&id] == Verdict::Returned && !sent {
                            waiting.push_back(id);
                        }
                        completed.push(confirm(id, waiting.pop_front()));
                    }
                    3 => {
                        // Within a batch the order of completion is not known.
                        let mut batch = std::mem::take(&mut completed);
                        for last in (1..batch.len()).rev() {
                            batch.swap(last, usize::try_from(random.below(last as u64 + 1)).unwrap());
                        }
                        returns.batch(&batch, &mut verdicts);
                    }
                    _ => {}
                }
            }
            for (id, verdict) in verdicts {
                assert_eq!(verdict, truth[&id], "seed {seed}, publication {id}");
            }
            assert_eq!(returns.pending(), 0);
        }
    }
}
