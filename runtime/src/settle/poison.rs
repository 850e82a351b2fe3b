//! Messages that may have killed the host.
//!
//! Which delivery a host died of is not known: many were with their handlers. All of them are suspects, and each is then
//! run alone. Whoever is there when the host dies again has done it; everybody else is cleared by coming through.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

use crate::{
    delivery::Delivery,
    outcome::{Failure, FailureKind},
};

/// How often a host may die of one message, however many attempts its worker allows: each time takes everybody's
/// handlers with it.
const CRASHES_MAX: u32 = 3;

/// What a message is known by across lives of the host: where it is and what it is, but not how often it came.
pub fn fingerprint(delivery: &Delivery) -> u64 {
    let mut hash = Xxh3::new();
    let message_id = delivery.properties.message_id.as_deref().unwrap_or_default();
    for text in [&delivery.queue, delivery.exchange.as_str(), delivery.routing_key.as_str(), message_id] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update(&delivery.body);
    hash.digest()
}

/// A delivery that was with its handler when the host died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Its [`fingerprint`].
    pub fingerprint: u64,
    /// Whether no other was.
    pub alone: bool,
}

/// How often the host died of each suspect, run alone; after a life that ended with these in hand. Who was a suspect
/// before stays one.
pub fn suspects(
    before: impl IntoIterator<Item = (u64, u32)>,
    left: impl IntoIterator<Item = Left>,
) -> HashMap<u64, u32> {
    let mut suspects: HashMap<u64, u32> = before.into_iter().collect();
    for Left { fingerprint, alone } in left {
        let crashes = suspects.entry(fingerprint).or_default();
        *crashes = crashes.saturating_add(alone.into());
    }
    suspects
}

/// Whether a delivery has killed the host often enough: its tries are used up, those counted in that it died of, or
/// there were too many of these.
pub fn convicted(attempt: u32, attempts: u32, crashes: u32) -> Option<Failure> {
    let times = match crashes {
        0 => return None,
        1 => "once".to_owned(),
        n => format!("{n} times"),
    };
    (attempt > attempts || crashes >= CRASHES_MAX).then(|| {
        Failure::new(FailureKind::HostCrash, format!("the host died {times} while it ran this delivery and no other"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Properties;

    fn delivery(queue: &str, body: &str) -> Delivery {
        Delivery {
            body: body.into(),
            properties: Properties::default(),
            exchange: "x".into(),
            routing_key: "k".into(),
            queue: queue.into(),
            redelivered: false,
            attempt: 1,
        }
    }

    #[test]
    fn a_message_is_known_again() {
        let first = delivery("q", "body");
        let mut again = Delivery { redelivered: true, attempt: 2, ..first.clone() };
        again.properties.headers.push(("x-delivery-count".into(), crate::delivery::Value::I64(1)));
        assert_eq!(fingerprint(&first), fingerprint(&again));
        let mut named = first.clone();
        named.properties.message_id = Some("1".into());
        let keyed = Delivery { routing_key: "kx".into(), exchange: String::new(), ..first.clone() };
        let others = [delivery("q", "bodx"), delivery("other", "body"), named, keyed];
        for other in others {
            assert_ne!(fingerprint(&first), fingerprint(&other), "{other:?}");
        }
    }

    #[test]
    fn only_who_was_alone_is_charged() {
        let left = |fingerprint, alone| Left { fingerprint, alone };
        let together = suspects([], [left(1, false), left(2, false)]);
        assert_eq!(together, HashMap::from([(1, 0), (2, 0)]));
        let alone = suspects(together, [left(2, true)]);
        assert_eq!(alone, HashMap::from([(1, 0), (2, 1)]));
        let again = suspects(alone, [left(2, true), left(3, false)]);
        assert_eq!(again, HashMap::from([(1, 0), (2, 2), (3, 0)]));
    }

    #[test]
    fn a_killer_is_convicted_when_its_tries_are_used_up() {
        let convicted = |attempt, attempts, crashes| convicted(attempt, attempts, crashes).is_some();
        assert!(!convicted(9, 5, 0), "a suspect is not convicted for what else it did");
        assert!(!convicted(2, 5, 1) && !convicted(3, 5, 2));
        assert!(convicted(2, 1, 1) && convicted(6, 5, 1));
        assert!(convicted(4, 1000, 3), "not more often than the host can bear");
    }
}
