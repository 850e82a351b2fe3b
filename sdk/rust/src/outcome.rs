//! What a handler answers.

use std::time::Duration;

use crate::{Publication, publication::whole_ms};

/// The answer to a delivery: what is to be published, and then what becomes of the delivery.
///
/// ```
/// # use std::time::Duration;
/// # use wabbit_sdk::{Outcome, Publication};
/// let done = Outcome::ack().publish(Publication::new("audit", "order.paid").text("7").persistent());
/// let later = Outcome::retry_after(Duration::from_secs(30));
/// let never = Outcome::dead_letter("the order has no lines");
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Outcome {
    /// What becomes of the delivery once every publication is confirmed.
    pub settlement: Settlement,
    /// Published and confirmed, whatever the settlement, before it is carried out.
    pub publications: Vec<Publication>,
}

/// What becomes of a delivery. All but `Ack` are nacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the broker forgets it.
    Ack,
    /// Back on the queue at once.
    Requeue,
    /// Again after this many milliseconds; by the manifest's backoff where none is given.
    Retry(Option<u32>),
    /// Never again: to the dead-letter queue, with this reason.
    DeadLetter(String),
}

impl Outcome {
    /// Done: the broker forgets the delivery.
    pub fn ack() -> Self {
        Settlement::Ack.into()
    }

    /// Back on the queue at once, for whoever takes it next. It counts no attempt the first time; a delivery that is
    /// already marked redelivered is retried by the manifest's backoff instead.
    pub fn requeue() -> Self {
        Settlement::Requeue.into()
    }

    /// Again after the manifest's backoff.
    pub fn retry() -> Self {
        Settlement::Retry(None).into()
    }

    /// Again after that time, in whole milliseconds. The host bounds how long it waits.
    pub fn retry_after(time: Duration) -> Self {
        Settlement::Retry(Some(whole_ms(time))).into()
    }

    /// Never again: to the dead-letter queue, with this reason.
    pub fn dead_letter(reason: impl Into<String>) -> Self {
        Settlement::DeadLetter(reason.into()).into()
    }

    /// Adds a message to be published, after those already added. It is published whatever the settlement: with
    /// `requeue` or `retry`, again at each attempt.
    pub fn publish(mut self, publication: Publication) -> Self {
        self.publications.push(publication);
        self
    }

    /// Adds any number of messages to be published, such as the one or none of [`Delivery::reply`](crate::Delivery::reply).
    pub fn publish_all(mut self, publications: impl IntoIterator<Item = Publication>) -> Self {
        self.publications.extend(publications);
        self
    }
}

impl From<Settlement> for Outcome {
    fn from(settlement: Settlement) -> Self {
        Self { settlement, publications: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settlements_carry_their_arguments() {
        assert_eq!(Outcome::ack().settlement, Settlement::Ack);
        assert_eq!(Outcome::requeue().settlement, Settlement::Requeue);
        assert_eq!(Outcome::retry().settlement, Settlement::Retry(None));
        assert_eq!(Outcome::retry_after(Duration::from_secs(2)).settlement, Settlement::Retry(Some(2000)));
        assert_eq!(Outcome::dead_letter("why").settlement, Settlement::DeadLetter("why".into()));
    }

    #[test]
    fn publications_keep_their_order() {
        let [a, b, c] = ["a", "b", "c"].map(|key| Publication::new("x", key));
        let outcome = Outcome::ack().publish(a.clone()).publish_all([b.clone(), c.clone()]).publish_all(None);
        assert_eq!(outcome.publications, [a, b, c]);
    }
}
