//! The circuit breaker of a worker: when most deliveries fail, it is not the deliveries.
//!
//! Closed, it watches the last deliveries. When too many of them failed it opens: the worker pauses. After the pause it
//! tries one delivery, and closes when that one comes through. What fails meanwhile is not charged.

use std::{
    collections::{HashSet, VecDeque},
    time::Instant,
};

use super::retry::Charge;
use crate::manifest::BreakerPolicy;

/// Whether a worker takes deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// All of them.
    Closed,
    /// None, until then.
    Open(Instant),
    /// One, to see whether it comes through.
    Trying,
}

/// The breaker of one worker. A message is known by its fingerprint.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    stage: Stage,
    /// How the last deliveries ended: the message of each that failed.
    last: VecDeque<Option<u64>>,
    /// The message that was tried last, and how often in a row.
    tried: (u64, usize),
}

impl Breaker {
    /// One that is closed.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, stage: Stage::Closed, last: VecDeque::new(), tried: (0, 0) }
    }

    /// Where it stands now.
    pub fn stage(&mut self, now: Instant) -> Stage {
        if let Stage::Open(until) = self.stage
            && until <= now
        {
            self.stage = Stage::Trying;
        }
        self.stage
    }

    /// A delivery came through. What was begun before the breaker opened says nothing of the time after.
    pub fn succeeded(&mut self, now: Instant) {
        match self.stage(now) {
            Stage::Closed => self.note(None),
            Stage::Open(_) => {}
            Stage::Trying => self.stage = Stage::Closed,
        }
    }

    /// A delivery failed: says how that is counted.
    pub fn failed(&mut self, message: u64, now: Instant) -> Charge {
        match self.stage(now) {
            Stage::Closed => {
                self.note(Some(message));
                let failed: Vec<_> = self.last.iter().flatten().collect();
                let one_message = failed.iter().collect::<HashSet<_>>().len() == 1;
                #[expect(clippy::cast_precision_loss, reason = "at most 1,000")]
                let too_many = failed.len() as f64 > self.policy.share * self.policy.window as f64;
                if too_many && !one_message && self.last.len() == self.policy.window {
                    self.open(now);
                    return Charge::Free;
                }
                // Only failures, and not of one message: the next ones may open it, so nothing is given up yet.
                if failed.len() == self.last.len() && !one_message { Charge::NotTheLast } else { Charge::Full }
            }
            Stage::Open(_) => Charge::Free,
            Stage::Trying => {
                self.tried = if self.tried.0 == message { (message, self.tried.1 + 1) } else { (message, 1) };
                self.open(now);
                // It is this message after all that keeps everything waiting behind it.
                if self.tried.1 > self.policy.window { Charge::Full } else { Charge::Free }
            }
        }
    }

    fn note(&mut self, failed: Option<u64>) {
        if self.last.len() == self.policy.window {
            self.last.pop_front();
        }
        self.last.push_back(failed);
    }

    fn open(&mut self, now: Instant) {
        self.last.clear();
        self.stage = Stage::Open(now + self.policy.pause);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        manifest::FailurePolicy,
        outcome::{Failure, FailureKind},
        settle::retry::{Next, next},
    };

    const PAUSE: Duration = Duration::from_secs(10);

    fn breaker(window: usize) -> (Breaker, Instant) {
        (Breaker::new(BreakerPolicy { share: 0.5, window, pause: PAUSE }), Instant::now())
    }

    #[test]
    fn it_opens_when_more_than_the_share_of_the_last_ones_failed() {
        let (mut breaker, now) = breaker(4);
        for message in 0..2 {
            breaker.succeeded(now);
            assert_eq!(breaker.failed(message, now), Charge::Full, "half of them is not more than half");
        }
        assert_eq!(breaker.stage(now), Stage::Closed);
        assert_eq!(breaker.failed(2, now), Charge::Free, "three of four");
        assert_eq!(breaker.stage(now), Stage::Open(now + PAUSE));
    }

    #[test]
    fn a_dead_downstream_dead_letters_nothing() {
        let (mut breaker, now) = breaker(20);
        assert_eq!(breaker.failed(0, now), Charge::Full, "it may be the message");
        for message in 1..19 {
            assert_eq!(breaker.failed(message, now), Charge::NotTheLast, "{message}");
        }
        assert_eq!(breaker.failed(19, now), Charge::Free);
        assert_eq!(breaker.stage(now), Stage::Open(now + PAUSE));
        // Those that were in hand.
        assert_eq!(breaker.failed(20, now), Charge::Free);
        breaker.succeeded(now);
        assert_eq!(breaker.stage(now), Stage::Open(now + PAUSE));
        let mut later = now + PAUSE;
        for message in 21..100 {
            assert_eq!(breaker.stage(later), Stage::Trying);
            assert_eq!(breaker.failed(message, later), Charge::Free);
            assert_eq!(breaker.stage(later), Stage::Open(later + PAUSE));
            later += PAUSE;
        }
        breaker.succeeded(later);
        assert_eq!(breaker.stage(later), Stage::Closed);
        assert_eq!(breaker.failed(1, later), Charge::Full, "it begins anew");
    }

    /// Ten messages a second for ten minutes, none of which comes through: queue, wait queues and breaker by the second.
    #[test]
    fn ten_minutes_of_a_dead_downstream_leave_every_message_its_tries() {
        let policy = FailurePolicy::default();
        let failure = Failure::new(FailureKind::HandlerError, "no connection");
        let (mut breaker, start) = breaker(20);
        let mut ready: VecDeque<(u64, u32)> = VecDeque::new();
        let mut waiting: Vec<(Instant, u64, u32)> = Vec::new();
        let mut tries = 0;
        for tick in 0..6_000 {
            let now = start + Duration::from_millis(100) * tick;
            ready.push_back((tick.into(), 1));
            ready.extend(
                waiting.extract_if(.., |(until, ..)| *until <= now).map(|(_, message, attempt)| (message, attempt)),
            );
            while !matches!(breaker.stage(now), Stage::Open(_))
                && let Some((message, attempt)) = ready.pop_front()
            {
                tries += 1;
                let charge = breaker.failed(message, now);
                let Next::Retry { pause, counted } = next(&policy, attempt, &failure, None, charge, 0.5) else {
                    panic!("message {message} is given up after try {tries}, {:?} into it", now - start);
                };
                waiting.push((now + pause, message, attempt + u32::from(counted)));
            }
        }
        assert!((60..=100).contains(&tries), "{tries} tries, of which one each 10 s");
        assert_eq!(ready.len() + waiting.len(), 6_000);
        // It is over: all of them come through, whatever they have been charged with.
        let later = start + Duration::from_secs(1_000);
        breaker.stage(later);
        breaker.succeeded(later);
        assert_eq!(breaker.stage(later), Stage::Closed);
        assert!(waiting.iter().all(|(_, _, attempt)| *attempt < policy.attempts));
    }

    #[test]
    fn one_bad_message_is_charged() {
        let (mut breaker, now) = breaker(3);
        for _ in 0..10 {
            assert_eq!(breaker.failed(1, now), Charge::Full);
        }
        assert_eq!(breaker.stage(now), Stage::Closed);
    }

    #[test]
    fn a_message_that_alone_keeps_it_open_is_charged_in_the_end() {
        let (mut breaker, now) = breaker(2);
        breaker.failed(1, now);
        breaker.failed(2, now);
        let charges: Vec<_> = (1..=4).map(|n| breaker.failed(1, now + n * PAUSE)).collect();
        assert_eq!(charges, [Charge::Free, Charge::Free, Charge::Full, Charge::Full]);
    }

    #[test]
    fn a_success_among_failures_lets_the_last_try_be_the_last() {
        let (mut breaker, now) = breaker(10);
        breaker.succeeded(now);
        breaker.failed(1, now);
        assert_eq!(breaker.failed(2, now), Charge::Full);
    }
}
