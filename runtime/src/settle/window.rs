//! The unsettled deliveries of one channel, and which acks may leave.
//!
//! An ack with `multiple` settles every delivery up to its tag, so it may name a tag only when everything below is
//! settled. What is done behind a delivery that takes long is acked singly instead: it never waits for its neighbour.

use std::collections::{BTreeMap, BTreeSet};

/// Deliveries by tag. Tags count up from 1 on each channel and never mean anything on another. What is settled leaves
/// nothing behind, however long a delivery before it is held.
#[derive(Debug)]
pub struct Window<T> {
    /// The tag that comes next.
    next: u64,
    held: BTreeMap<u64, T>,
    /// To be acked, and not yet sent.
    unsent: BTreeSet<u64>,
}

/// Acks to be sent, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Acks {
    /// An ack with `multiple` for this tag.
    pub up_to: Option<u64>,
    /// Acks of one delivery each.
    pub single: Vec<u64>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { next: 1, held: BTreeMap::new(), unsent: BTreeSet::new() }
    }
}

impl<T> Window<T> {
    /// Takes in a delivery. Answers false, and takes nothing, for a tag that is not the next one: then tags do not
    /// mean what they should, and nothing may be acked by them.
    #[must_use]
    pub fn hold(&mut self, tag: u64, delivery: T) -> bool {
        if tag != self.next {
            return false;
        }
        self.next += 1;
        self.held.insert(tag, delivery);
        true
    }

    /// A delivery that is held.
    pub fn get_mut(&mut self, tag: u64) -> Option<&mut T> {
        self.held.get_mut(&tag)
    }

    /// Marks a delivery as done: its ack leaves with one of the next [`Acks`]. Nothing for a tag that is not held.
    pub fn ack(&mut self, tag: u64) -> Option<T> {
        let delivery = self.held.remove(&tag)?;
        self.unsent.insert(tag);
        Some(delivery)
    }

    /// Gives up a delivery that the caller settles by itself, with a nack. Nothing for a tag that is not held.
    pub fn release_for_nack(&mut self, tag: u64) -> Option<T> {
        self.held.remove(&tag)
    }

    /// How many deliveries are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many acks have not left.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// All deliveries that are held, by tag.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.held.iter_mut().map(|(tag, delivery)| (*tag, delivery))
    }

    /// The ack that covers all that is done before the first delivery that is held.
    pub fn take_cumulative(&mut self) -> Option<u64> {
        let behind = match self.held.first_key_value() {
            Some((first_held, _)) => self.unsent.split_off(first_held),
            None => BTreeSet::new(),
        };
        // The tag itself must be unsettled until now: RabbitMQ closes the channel for one that is not.
        std::mem::replace(&mut self.unsent, behind).pop_last()
    }

    /// All acks that have not left.
    pub fn take_all(&mut self) -> Acks {
        let up_to = self.take_cumulative();
        Acks { up_to, single: std::mem::take(&mut self.unsent).into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(deliveries: u64) -> Window<u64> {
        let mut window = Window::default();
        for tag in 1..=deliveries {
            assert!(window.hold(tag, tag));
        }
        window
    }

    #[test]
    fn what_is_contiguous_leaves_as_one() {
        let mut window = window(5);
        for tag in [2, 1, 3] {
            assert_eq!(window.ack(tag), Some(tag));
        }
        assert_eq!(window.take_all(), Acks { up_to: Some(3), single: vec![] });
        assert_eq!((window.held(), window.unsent()), (2, 0));
    }

    #[test]
    fn nothing_passes_a_delivery_that_is_held() {
        let mut window = window(5);
        for tag in [2, 3, 5] {
            window.ack(tag);
        }
        assert_eq!(window.take_cumulative(), None);
        assert_eq!(window.take_all(), Acks { up_to: None, single: vec![2, 3, 5] });
        window.ack(1);
        assert_eq!(window.take_all(), Acks { up_to: Some(1), single: vec![] });
        window.ack(4);
        assert_eq!(window.take_all(), Acks { up_to: Some(4), single: vec![] });
    }

    #[test]
    fn a_nacked_delivery_is_passed_but_never_named() {
        let mut window = window(3);
        assert_eq!(window.release_for_nack(3), Some(3));
        window.ack(1);
        window.ack(2);
        assert_eq!(window.take_all(), Acks { up_to: Some(2), single: vec![] });
        assert_eq!(window.held(), 0);
    }

    #[test]
    fn nothing_is_settled_twice() {
        let mut window = window(2);
        assert_eq!(window.ack(1), Some(1));
        assert_eq!(window.ack(1), None);
        assert_eq!(window.release_for_nack(1), None);
        window.take_all();
        assert_eq!(window.ack(1), None);
        assert_eq!(window.get_mut(1), None);
    }

    #[test]
    fn nothing_grows_behind_a_delivery_that_is_held() {
        let mut window = window(1);
        for tag in 2..100_000 {
            assert!(window.hold(tag, tag));
            window.ack(tag);
            window.take_all();
        }
        assert_eq!((window.held.len(), window.unsent.len()), (1, 0));
    }

    #[test]
    fn a_tag_out_of_order_is_not_taken() {
        let mut window = window(2);
        assert!(!window.hold(4, 4));
        assert!(!window.hold(2, 2));
        assert!(window.hold(3, 3));
    }

    /// Random orders: each delivery is settled exactly once, and a cumulative ack never covers one that is held.
    #[test]
    fn every_order_settles_each_delivery_once() {
        for seed in 0..2_000_u64 {
            let mut random = crate::settle::returns::tests::Random(seed);
            let count = 1 + random.below(40);
            let mut window = window(count);
            let mut held: Vec<u64> = (1..=count).collect();
            let mut settled = vec![0; usize::try_from(count).unwrap() + 1];
            let mut acked = Vec::new();
            while !held.is_empty() {
                let tag = held.swap_remove(usize::try_from(random.below(held.len() as u64)).unwrap());
                if random.below(4) == 0 {
                    window.release_for_nack(tag).unwrap();
                    settled[usize::try_from(tag).unwrap()] += 1;
                } else {
                    window.ack(tag).unwrap();
                    acked.push(tag);
                }
                if random.below(3) == 0 {
                    let acks = window.take_all();
                    let covered =
                        |tag: &u64| acks.up_to.is_some_and(|up_to| *tag <= up_to) || acks.single.contains(tag);
                    assert!(!held.iter().any(covered), "seed {seed}: an ack covers a delivery that is held");
                    for tag in acked.extract_if(.., |tag| covered(tag)) {
                        settled[usize::try_from(tag).unwrap()] += 1;
                    }
                    assert!(acked.is_empty(), "seed {seed}: an ack did not leave");
                }
            }
            for _ in acked {
                // The rest leaves with the last acks.
            }
            let rest = window.take_all();
            assert_eq!(window.unsent(), 0);
            assert!(rest.single.is_empty(), "nothing is held, so one ack is enough");
        }
    }
}
