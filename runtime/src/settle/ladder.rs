//! The ladder of wait queues that retries climb: which rung a delay takes.
//!
//! A broker without plugins delays a message by letting it expire in a queue that nobody consumes. Expiry is only
//! looked at at the head of a queue, so messages of different delays must not share one: there is a queue for each of
//! a fixed set of delays, the rungs, shared by all workers of a vhost. Their steps are small enough that the nearest
//! rung is near any delay that can be asked for.

use std::time::Duration;

/// Where a message goes when its wait is over: a direct exchange, to which queues are bound by their names.
pub const RETRY_EXCHANGE: &str = "wabbit.retry";
/// Where it goes when no queue of its name is there: a fanout exchange, and the queue that keeps it.
pub const LOST_QUEUE: &str = "wabbit.lost";
/// The shortest delay.
pub const DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest delay: seven days.
pub const DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many rungs there are. With this many, each is about 1.267 times the one below.
pub const RUNGS: u32 = 67;
/// By how much a message may come early, as a share of its delay.
const EARLY_MAX: f64 = 0.13;

/// A rung: the time that its queue holds a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung(Duration);

impl Rung {
    /// The rung for a delay: the next one below where that is early by no more than is allowed, else the one above.
    /// Delays outside the ladder take its first or last rung.
    pub fn of(delay: Duration) -> Self {
        let wanted = delay.clamp(DELAY_MIN, DELAY_MAX).as_secs_f64();
        let mut below = Self::at(0);
        for step in 0..RUNGS {
            let rung = Self::at(step);
            if rung.0.as_secs_f64() > wanted {
                let early = 1.0 - below.0.as_secs_f64() / wanted;
                return if early <= EARLY_MAX { below } else { rung };
            }
            below = rung;
        }
        below
    }

    /// How long a message waits.
    pub fn delay(self) -> Duration {
        self.0
    }

    /// The rung's queue, and the fanout exchange that leads to it.
    pub fn name(self) -> String {
        format!("wabbit.wait.{}", self.0.as_millis())
    }

    /// Whole milliseconds, for that is what a queue's `x-message-ttl` takes.
    fn at(step: u32) -> Self {
        let share = f64::from(step) / f64::from(RUNGS - 1);
        let (min, max) = (DELAY_MIN.as_secs_f64(), DELAY_MAX.as_secs_f64());
        let millis = (min * (max / min).powf(share) * 1e3).round();
        Self(Duration::from_millis(millis as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_spans_its_range_in_small_steps() {
        let rungs: Vec<Rung> = (0..RUNGS).map(Rung::at).collect();
        assert_eq!(rungs.first().unwrap().delay(), DELAY_MIN);
        assert_eq!(rungs.last().unwrap().delay(), DELAY_MAX);
        for pair in rungs.windows(2) {
            let step = pair[1].0.as_secs_f64() / pair[0].0.as_secs_f64();
            assert!(step > 1.0 && step < 1.3, "{pair:?}");
        }
    }

    #[test]
    fn every_delay_has_a_rung_that_is_near() {
        let mut delay = DELAY_MIN;
        while delay <= DELAY_MAX {
            let share = Rung::of(delay).delay().as_secs_f64() / delay.as_secs_f64();
            assert!((0.868..=1.11).contains(&share), "{delay:?} waits {share} of it");
            delay = delay.mul_f64(1.001);
        }
        assert_eq!(Rung::of(Duration::ZERO).delay(), DELAY_MIN);
        assert_eq!(Rung::of(DELAY_MAX * 2).delay(), DELAY_MAX);
    }
}
