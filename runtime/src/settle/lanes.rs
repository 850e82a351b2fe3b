//! Lanes: what keeps its order waits in one, each behind the delivery before it.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// The lanes that have a delivery in them. Bounded by the prefetch: all that waits here is unsettled.
#[derive(Debug)]
pub struct Lanes<L, K> {
    waiting: HashMap<L, VecDeque<K>>,
}

impl<L, K> Default for Lanes<L, K> {
    fn default() -> Self {
        Self { waiting: HashMap::new() }
    }
}

impl<L: Hash + Eq, K> Lanes<L, K> {
    /// Puts a delivery into its lane. Gives it back where nothing is before it: then it is the one that goes on.
    #[must_use]
    pub fn enter(&mut self, lane: L, delivery: K) -> Option<K> {
        match self.waiting.get_mut(&lane) {
            Some(waiting) => {
                waiting.push_back(delivery);
                None
            }
            None => {
                self.waiting.insert(lane, VecDeque::new());
                Some(delivery)
            }
        }
    }

    /// The one that went on is settled: gives the next of its lane.
    #[must_use]
    pub fn leave(&mut self, lane: &L) -> Option<K> {
        let next = self.waiting.get_mut(lane)?.pop_front();
        if next.is_none() {
            self.waiting.remove(lane);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_the_one_before_it_in_its_lane() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.enter("a", 1), Some(1));
        assert_eq!(lanes.enter("a", 2), None);
        assert_eq!(lanes.enter("b", 3), Some(3), "another lane goes on by itself");
        assert_eq!(lanes.enter("a", 4), None);
        assert_eq!(lanes.leave(&"a"), Some(2));
        assert_eq!(lanes.leave(&"a"), Some(4));
        assert_eq!(lanes.leave(&"a"), None);
        assert_eq!(lanes.enter("a", 5), Some(5));
        assert_eq!(lanes.leave(&"b"), None);
        assert_eq!(lanes.leave(&"b"), None, "nothing is in it");
        assert_eq!(lanes.waiting.len(), 1, "an empty lane leaves nothing behind");
    }
}
