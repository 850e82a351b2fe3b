//! What becomes of a delivery that failed: another try after a while, or the dead-letter queue.

use std::time::Duration;

use super::ladder::DELAY_MAX;
use crate::{
    manifest::{Backoff, FailurePolicy},
    outcome::{Failure, FailureKind},
};

/// A backoff comes early or late by up to this share, so that what failed together does not come back together.
const JITTER: f64 = 0.1;

/// For how long a delivery is tried again without being settled. The broker ends a channel whose deliveries stay
/// unsettled for 30 minutes.
const IN_PLACE_MAX: Duration = Duration::from_secs(15 * 60);

/// What is next for a delivery that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another try.
    Retry {
        /// After this time.
        pause: Duration,
        /// Whether this one counts among the attempts.
        counted: bool,
    },
    /// No other try.
    DeadLetter,
}

/// What a failure is charged with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// An attempt, and the last one ends it.
    Full,
    /// An attempt, but another one follows the last.
    NotTheLast,
    /// Nothing.
    Free,
}

/// Decides over a delivery whose try number `attempt` (from 1) failed. `after` is the time that the handler named,
/// which has no jitter; `chance` is a random number from 0 to 1.
pub fn next(
    policy: &FailurePolicy,
    attempt: u32,
    failure: &Failure,
    after: Option<Duration>,
    charge: Charge,
    chance: f64,
) -> Next {
    let last = attempt >= policy.attempts;
    if is_final(failure.kind) || last && charge == Charge::Full {
        return Next::DeadLetter;
    }
    let pause = after.unwrap_or_else(|| {
        let factor = 1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        backoff(&policy.backoff, attempt).mul_f64(factor)
    });
    Next::Retry { pause, counted: !last && charge != Charge::Free }
}

/// Whether a delivery that has been held for so long may be held for one more pause.
pub fn may_be_held(held: Duration, pause: Duration) -> bool {
    held.saturating_add(pause) <= IN_PLACE_MAX
}

/// Another try would end the same way, or is not wanted.
fn is_final(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::DeadLettered | FailureKind::BodyTooLarge | FailureKind::HostCrash)
}

/// The pause after try number `attempt`, without jitter: `first`, then each `factor` times the one before, up to `max`.
fn backoff(backoff: &Backoff, attempt: u32) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    // Infinite where it is too large for a number: `min` makes it the largest pause.
    let seconds = backoff.first.as_secs_f64() * backoff.factor.powi(exponent);
    Duration::from_secs_f64(seconds.min(backoff.max.as_secs_f64()).min(DELAY_MAX.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32) -> FailurePolicy {
        FailurePolicy { attempts, ..FailurePolicy::default() }
    }

    #[test]
    fn attempts_are_bounded() {
        let failure = Failure::new(FailureKind::Trap, "x");
        for attempt in 1..10 {
            let expected = if attempt < 5 { None } else { Some(Next::DeadLetter) };
            let next = next(&policy(5), attempt, &failure, None, Charge::Full, 0.5);
            assert_eq!((next == Next::DeadLetter).then_some(next), expected, "{attempt}");
        }
        assert_eq!(next(&policy(1), 1, &failure, Some(Duration::from_secs(1)), Charge::Full, 0.5), Next::DeadLetter);
    }

    #[test]
    fn what_cannot_end_otherwise_is_not_tried_again() {
        for kind in FailureKind::ALL {
            let is_final =
                matches!(kind, FailureKind::DeadLettered | FailureKind::BodyTooLarge | FailureKind::HostCrash);
            let next = next(&policy(5), 1, &Failure::new(kind, "x"), None, Charge::Full, 0.5);
            assert_eq!(next == Next::DeadLetter, is_final, "{kind}");
        }
    }

    #[test]
    fn what_is_not_charged_is_tried_again_without_being_counted() {
        let failure = Failure::new(FailureKind::HandlerError, "x");
        let counted = |attempt, charge| match next(&policy(5), attempt, &failure, None, charge, 0.5) {
            Next::Retry { counted, .. } => Some(counted),
            Next::DeadLetter => None,
        };
        assert_eq!(
            [Charge::Full, Charge::NotTheLast, Charge::Free].map(|charge| counted(4, charge)),
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(
            [Charge::Full, Charge::NotTheLast, Charge::Free].map(|charge| counted(5, charge)),
            [None, Some(false), Some(false)]
        );
        let asked = Failure::new(FailureKind::DeadLettered, "x");
        assert_eq!(next(&policy(5), 1, &asked, None, Charge::Free, 0.5), Next::DeadLetter);
    }

    #[test]
    fn the_backoff_grows_up_to_its_largest() {
        let policy = FailurePolicy {
            attempts: 100,
            backoff: Backoff { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(60) },
            ..FailurePolicy::default()
        };
        let failure = Failure::new(FailureKind::HandlerError, "x");
        let pause = |attempt, chance| match next(&policy, attempt, &failure, None, Charge::Full, chance) {
            Next::Retry { pause, .. } => pause.as_millis(),
            Next::DeadLetter => panic!("no pause"),
        };
        let seen: Vec<_> = [1, 2, 3, 6, 7, 99].map(|attempt| pause(attempt, 0.5)).into();
        assert_eq!(seen, [1000, 2000, 4000, 32_000, 60_000, 60_000]);
        assert_eq!((pause(1, 0.0), pause(1, 1.0)), (900, 1100));
    }

    #[test]
    fn what_is_tried_in_place_ends_within_a_quarter_of_an_hour() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert!(may_be_held(minutes(0), minutes(15)) && may_be_held(minutes(10), minutes(5)));
        assert!(!may_be_held(minutes(0), minutes(16)) && !may_be_held(minutes(11), minutes(5)));
        assert!(!may_be_held(Duration::MAX, Duration::MAX));
    }

    #[test]
    fn a_named_time_has_no_jitter() {
        let failure = Failure::new(FailureKind::RetryAsked, "x");
        for chance in [0.0, 1.0] {
            let next = next(&policy(5), 4, &failure, Some(Duration::from_millis(700)), Charge::Full, chance);
            assert_eq!(next, Next::Retry { pause: Duration::from_millis(700), counted: true });
        }
    }
}
