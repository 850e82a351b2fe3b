//! Where a delivery goes, decided before anything runs.

use crate::{
    delivery::Delivery,
    outcome::{Failure, FailureKind},
    settle::poison::convicted,
};

/// The way of one delivery.
#[derive(Debug, PartialEq)]
pub enum Route {
    /// To the handler.
    Handler,
    /// To the handler, while no other runs in the host: it may have killed the last one.
    Alone,
    /// Past it, for this reason.
    Refused(Failure),
}

/// A body larger than `max_body` bytes never reaches a handler: with the prefetch, that bounds what is in memory.
/// `suspicion` says of a delivery that may have killed the host how often it certainly did, which counts as so many of
/// its `attempts`.
pub fn route(delivery: &Delivery, max_body: usize, suspicion: Option<u32>, attempts: u32) -> Route {
    let bytes = delivery.body.len();
    if bytes > max_body {
        return Route::Refused(Failure::new(
            FailureKind::BodyTooLarge,
            format!("a body of {bytes} bytes, the limit is {max_body}"),
        ));
    }
    let Some(crashes) = suspicion else { return Route::Handler };
    convicted(delivery.attempt, attempts, crashes).map_or(Route::Alone, Route::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(bytes: usize, attempt: u32) -> Delivery {
        Delivery {
            body: vec![0; bytes],
            properties: crate::delivery::Properties::default(),
            exchange: String::new(),
            routing_key: "q".into(),
            queue: "q".into(),
            redelivered: false,
            attempt,
        }
    }

    fn refused(route: &Route, kind: FailureKind) -> bool {
        matches!(route, Route::Refused(failure) if failure.kind == kind)
    }

    #[test]
    fn a_large_body_does_not_reach_the_handler() {
        assert_eq!(route(&delivery(10, 1), 10, None, 5), Route::Handler);
        assert!(refused(&route(&delivery(11, 1), 10, None, 5), FailureKind::BodyTooLarge));
        assert!(refused(&route(&delivery(11, 1), 10, Some(0), 5), FailureKind::BodyTooLarge));
    }

    #[test]
    fn a_suspect_runs_alone_until_it_is_convicted() {
        assert_eq!(route(&delivery(1, 1), 10, Some(0), 1), Route::Alone);
        assert_eq!(route(&delivery(1, 2), 10, Some(1), 2), Route::Alone);
        assert!(refused(&route(&delivery(1, 3), 10, Some(2), 2), FailureKind::HostCrash));
    }
}
