//! Where a delivery goes, decided before anything runs.

use crate::{
    delivery::Delivery,
    outcome::{Failure, FailureKind},
};

/// The way of one delivery.
#[derive(Debug, PartialEq)]
pub enum Route {
    /// To the handler.
    Handler,
    /// Past it, for this reason.
    Refused(Failure),
}

/// A body larger than `max_body` bytes never reaches a handler: with the prefetch, that bounds what is in memory.
pub fn route(delivery: &Delivery, max_body: usize) -> Route {
    let bytes = delivery.body.len();
    if bytes > max_body {
        return Route::Refused(Failure::new(
            FailureKind::BodyTooLarge,
            format!("a body of {bytes} bytes, the limit is {max_body}"),
        ));
    }
    Route::Handler
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_does_not_reach_the_handler() {
        let delivery = |bytes| Delivery {
            body: vec![0; bytes],
            properties: crate::delivery::Properties::default(),
            exchange: String::new(),
            routing_key: "q".into(),
            queue: "q".into(),
            redelivered: false,
            attempt: 1,
        };
        assert_eq!(route(&delivery(10), 10), Route::Handler);
        assert!(
            matches!(route(&delivery(11), 10), Route::Refused(failure) if failure.kind == FailureKind::BodyTooLarge)
        );
    }
}
