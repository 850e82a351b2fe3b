//! Clocks that go forward by a fixed step with each look at one of them, and by what is waited for.

use std::{future::pending, sync::Arc, time::Duration};

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiView as _, async_trait,
    clocks::WasiClocksView as _,
    p2::{DynPollable, Pollable, bindings::clocks::monotonic_clock::Host as _, subscribe},
};

use super::Determined;
use crate::sandbox::{host::Host, turns::step_back};

/// Two of its functions are linked by hand: the library's own wait in real time.
const MONOTONIC_CLOCK: &str = "wasi:clocks/monotonic-clock@0.2.12";
/// How often everything else has its turn before a wait ends: what can go on without it does.
const PATIENCE: usize = 64;

/// What the clocks of a world show.
pub(super) struct Time {
    step: Duration,
    /// Since the Unix epoch.
    wall: Duration,
    /// Nanoseconds since the world began. It never goes back.
    monotonic: u64,
    /// The wall clock when the call began.
    began: Duration,
    /// How far the monotonic clock may go by waiting.
    horizon: u64,
    /// What is waited for, by the monotonic clock.
    waits: Vec<u64>,
}

impl Time {
    pub(super) fn new(step: Duration) -> Self {
        let zero = Duration::ZERO;
        Self { step, wall: zero, monotonic: 0, began: zero, horizon: u64::MAX, waits: Vec::new() }
    }

    pub(super) fn begin(&mut self, wall: Option<Duration>, limit: Duration) {
        self.wall = wall.unwrap_or(self.wall);
        self.began = self.wall;
        self.horizon = self.monotonic.saturating_add(nanoseconds(limit));
        self.waits.clear();
    }

    pub(super) fn began(&self) -> Duration {
        self.began
    }

    fn forward(&mut self, by: Duration) {
        self.wall = self.wall.saturating_add(by);
        self.monotonic = self.monotonic.saturating_add(nanoseconds(by));
    }

    /// A look at both clocks, which go on with it.
    fn look(&mut self) -> (Duration, u64) {
        let shown = (self.wall, self.monotonic);
        self.forward(self.step);
        shown
    }

    /// Whether this time has come, of which nothing earlier is waited for: the clocks are then set to it.
    fn arrive(&mut self, until: u64) -> bool {
        if self.monotonic < until && self.waits.iter().all(|other| *other >= until) {
            self.forward(Duration::from_nanos(until - self.monotonic));
        }
        self.monotonic >= until
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Both clocks of a world.
pub(in crate::sandbox) struct Clock(pub(in crate::sandbox) Arc<Determined>);

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        self.0.lock().time.step
    }

    fn now(&self) -> Duration {
        self.0.lock().time.look().0
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        nanoseconds(self.0.lock().time.step)
    }

    fn now(&self) -> u64 {
        self.0.lock().time.look().1
    }
}

/// Links the two functions that wait, in the place of those that are linked.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut clock = linker.instance(MONOTONIC_CLOCK)?;
    clock.func_wrap("subscribe-duration", |mut store: StoreContextMut<'_, Host>, (time,): (u64,)| {
        let host = store.data_mut();
        match host.scope.determined.clone() {
            Some(world) => {
                let until = world.lock().time.monotonic.saturating_add(time);
                wait(host, world, until).map(|pollable| (pollable,))
            }
            None => host.clocks().subscribe_duration(time).map(|pollable| (pollable,)),
        }
    })?;
    clock.func_wrap("subscribe-instant", |mut store: StoreContextMut<'_, Host>, (when,): (u64,)| {
        let host = store.data_mut();
        match host.scope.determined.clone() {
            Some(world) => wait(host, world, when).map(|pollable| (pollable,)),
            None => host.clocks().subscribe_instant(when).map(|pollable| (pollable,)),
        }
    })
}

fn wait(host: &mut Host, world: Arc<Determined>, until: u64) -> wasmtime::Result<Resource<DynPollable>> {
    let table = host.ctx().table;
    let wait = table.push(Wait { world, until })?;
    subscribe(table, wait)
}

/// Waits for a time by the monotonic clock. It takes no time but that of the world.
struct Wait {
    world: Arc<Determined>,
    until: u64,
}

#[async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        let Self { world, until } = self;
        if world.lock().time.monotonic >= *until {
            step_back().await;
            return;
        }
        if *until > world.lock().time.horizon {
            // Longer than the call may take: it ends as it would anywhere, when its time is over.
            return pending().await;
        }
        let _waiting = Waiting::new(world, *until);
        for _ in 0..PATIENCE {
            step_back().await;
        }
        while !world.lock().time.arrive(*until) {
            step_back().await;
        }
    }
}

/// Notes what is waited for, until it is not any more.
struct Waiting<'w> {
    world: &'w Arc<Determined>,
    until: u64,
}

impl<'w> Waiting<'w> {
    fn new(world: &'w Arc<Determined>, until: u64) -> Self {
        world.lock().time.waits.push(until);
        Self { world, until }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waits = &mut self.world.lock().time.waits;
        if let Some(at) = waits.iter().position(|until| *until == self.until) {
            waits.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn world() -> Arc<Determined> {
        Determined::new(Duration::from_millis(1), 1, Vec::new(), true)
    }

    #[test]
    fn each_look_moves_both_clocks_by_a_step() {
        let world = world();
        world.begin(Some(Duration::from_secs(100)), 1, Duration::from_secs(5));
        let clock = Clock(Arc::clone(&world));
        assert_eq!(HostWallClock::now(&clock), Duration::from_secs(100));
        assert_eq!(HostMonotonicClock::now(&clock), 1_000_000);
        assert_eq!(HostWallClock::now(&clock), Duration::from_millis(100_002));
        // The next call goes on there, or where it is told; the monotonic clock never goes back.
        world.begin(None, 2, Duration::from_secs(5));
        assert_eq!(HostWallClock::now(&clock), Duration::from_millis(100_003));
        world.begin(Some(Duration::from_secs(7)), 3, Duration::from_secs(5));
        assert_eq!((world.began(), HostWallClock::now(&clock)), (Duration::from_secs(7), Duration::from_secs(7)));
        assert_eq!(HostMonotonicClock::now(&clock), 5_000_000);
    }

    #[tokio::test]
    async fn what_is_waited_for_comes_at_once_and_in_order() {
        let (world, start) = (world(), Instant::now());
        world.begin(Some(Duration::ZERO), 1, Duration::from_secs(3600));
        let minutes = |count: u64| count * 60_000_000_000;
        let wait = |until| Wait { world: Arc::clone(&world), until };
        let (mut late, mut early) = (wait(minutes(30)), wait(minutes(10)));
        tokio::select! {
            biased;
            () = late.ready() => panic!("the later one came first"),
            () = early.ready() => {}
        }
        assert_eq!(world.lock().time.monotonic, minutes(10));
        late.ready().await;
        assert_eq!(world.lock().time.monotonic, minutes(30));
        assert!(world.lock().time.waits.is_empty());
        assert_eq!(HostWallClock::now(&Clock(Arc::clone(&world))), Duration::from_secs(1800));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_wait_beyond_the_limit_never_ends() {
        let world = world();
        world.begin(None, 1, Duration::from_secs(5));
        let mut wait = Wait { world: Arc::clone(&world), until: 6_000_000_000 };
        tokio::time::timeout(Duration::from_millis(50), wait.ready()).await.unwrap_err();
        assert_eq!(world.lock().time.monotonic, 0);
    }
}
