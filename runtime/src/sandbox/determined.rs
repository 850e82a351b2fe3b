//! Calls that are determined: all that a handler sees of the world is given, so that the same input gives the same
//! outcome. For trying handlers out; in a host that serves a broker there is none of this.

mod answers;
mod clock;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand_core::TryRng;

pub(super) use answers::answer;
pub use answers::{Answer, AnswerError, Answered, Asked};
pub(super) use clock::{Clock, add_to_linker};

use clock::Time;

/// What the calls of one version see of the world. They run one after the other.
pub struct Determined {
    state: Mutex<State>,
    /// Whether the contents of key-value stores are given; else no store can be opened.
    stores: bool,
    seed: u64,
}

struct State {
    time: Time,
    random: fastrand::Rng,
    /// HTTP answers that nobody asked for yet, in their order.
    answers: Vec<Answer>,
    asked: Vec<Asked>,
    missing: Option<String>,
}

/// What a call did with its world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traces {
    /// The HTTP requests, in the order in which they were sent.
    pub asked: Vec<Asked>,
    /// The first thing that it asked for and that was not given.
    pub missing: Option<String>,
}

impl Determined {
    /// A world whose clocks go forward by `step` with each look at one of them, whose randomness comes from `seed`, and
    /// in which these answers are given to HTTP requests. `stores` says whether the contents of key-value stores are
    /// given.
    pub fn new(step: Duration, seed: u64, answers: Vec<Answer>, stores: bool) -> Arc<Self> {
        let random = fastrand::Rng::with_seed(seed);
        let state = State { time: Time::new(step), random, answers, asked: Vec::new(), missing: None };
        Arc::new(Self { state: Mutex::new(state), stores, seed })
    }

    /// The next call begins: its wall clock stands at `wall` since the Unix epoch, or goes on where none is given. It
    /// may take `limit`. The randomness of each call is its own, so that one does not depend on what others took.
    pub fn begin(&self, wall: Option<Duration>, number: u64, limit: Duration) {
        let mut state = self.lock();
        state.time.begin(wall, limit);
        // An odd number whose multiples lie far apart: calls one after the other have little in common.
        let far = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state.random = fastrand::Rng::with_seed(self.seed.wrapping_add(far));
        state.asked = Vec::new();
        state.missing = None;
    }

    /// The call has ended.
    pub fn end(&self) -> Traces {
        let mut state = self.lock();
        Traces { asked: std::mem::take(&mut state.asked), missing: state.missing.take() }
    }

    /// Whether a store may be opened. If not, the call has failed.
    pub(super) fn has_stores(&self, name: &str) -> bool {
        if !self.stores {
            self.miss(format!("the key-value store `{name}`"));
        }
        self.stores
    }

    /// When the call began, since the Unix epoch.
    pub(super) fn began(&self) -> Duration {
        self.lock().time.began()
    }

    /// A generator whose numbers come from the seed.
    pub(super) fn random(self: &Arc<Self>) -> Seeded {
        Seeded(Arc::clone(self))
    }

    /// What guests seed their hash tables with.
    pub(super) fn insecure_seed(&self) -> u128 {
        let mut random = fastrand::Rng::with_seed(self.seed);
        random.u128(..)
    }

    fn miss(&self, what: String) {
        self.lock().missing.get_or_insert(what);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random numbers by the seed of the world that it is of.
pub(super) struct Seeded(Arc<Determined>);

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.lock().random.u32(..))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.lock().random.u64(..))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.lock().random.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand_core::Rng as _;

    use super::*;

    #[test]
    fn randomness_is_of_the_seed_and_of_the_call_alone() {
        let taken = |seed, number, before: usize| {
            let world = Determined::new(Duration::from_millis(1), seed, Vec::new(), true);
            world.begin(None, 1, Duration::MAX);
            let mut random = world.random();
            (0..before).for_each(|_| _ = random.next_u64());
            world.begin(None, number, Duration::MAX);
            let mut bytes = [0; 5];
            random.fill_bytes(&mut bytes);
            (bytes, random.next_u32(), random.next_u64())
        };
        assert_eq!(taken(1, 2, 0), taken(1, 2, 3));
        assert_ne!(taken(1, 2, 0), taken(1, 3, 0));
        assert_ne!(taken(1, 2, 0), taken(2, 2, 0));
        let seed = |seed| Determined::new(Duration::ZERO, seed, Vec::new(), true).insecure_seed();
        assert_eq!((seed(1), seed(1) == seed(2)), (seed(1), false));
    }

    #[test]
    fn the_first_that_is_missing_is_told() {
        let world = Determined::new(Duration::ZERO, 1, Vec::new(), false);
        assert!(!world.has_stores("orders") && !world.has_stores("others"));
        assert_eq!(world.end().missing.as_deref(), Some("the key-value store `orders`"));
        assert_eq!(world.end(), Traces::default());
    }
}
