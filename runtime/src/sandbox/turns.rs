//! Handlers that compute for long take turns, so that one that has just begun need not wait behind all of them.
//!
//! A handler runs freely until the first tick of the clock. From then on it needs a turn, which lasts from one tick to the
//! next, and there are as many as cores: whatever computes, a thread's queue has few others in it. The turns are the
//! process's, as the cores are.

use std::{
    future::poll_fn,
    mem::replace,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    thread::available_parallelism,
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// From one tick to the next while a handler takes turns.
const TURN: Duration = Duration::from_millis(1);
/// From one tick to the next otherwise: a host that is idle hardly wakes.
const IDLE_TICK: Duration = Duration::from_millis(5);

static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));
static TAKEN: AtomicBool = AtomicBool::new(false);

/// How long the clock waits until it ticks again.
pub(super) fn until_tick() -> Duration {
    if TAKEN.swap(false, Ordering::Relaxed) { TURN } else { IDLE_TICK }
}

/// The turn of one handler, if it has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<Mutex<Option<SemaphorePermit<'static>>>>);

impl Turn {
    /// Ends this turn and waits for the next, behind those who wait already.
    pub(super) fn next(&self) -> impl Future<Output = ()> + Send + use<> {
        TAKEN.store(true, Ordering::Relaxed);
        self.end();
        let turn = self.clone();
        async move {
            // Also where nobody waits for a turn: tasks of other kinds do.
            step_back().await;
            turn.put(TURNS.acquire().await.ok());
        }
    }

    /// Ends this turn: the handler waits for something else, or is done.
    pub(super) fn end(&self) {
        self.put(None);
    }

    fn put(&self, permit: Option<SemaphorePermit<'static>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// Lets all others go first. tokio's own `yield_now` wakes its task when the drivers were looked at, and a task that is
/// woken there goes before all that wait in line: an executor that looks often runs it again and again, and them never.
pub(super) async fn step_back() {
    let mut is_back = false;
    poll_fn(|cx| {
        if replace(&mut is_back, true) {
            return Poll::Ready(());
        }
        // A task that wakes itself goes to the end of the line.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::atomic::AtomicUsize, time::Instant};

    use futures_util::poll;

    use super::*;

    /// The turns are the process's: one test at a time.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    #[tokio::test]
    async fn there_are_as_many_turns_as_cores_and_they_go_round() {
        let _alone = ALONE.lock().await;
        let cores = TURNS.available_permits();
        let has = |turn: &Turn| turn.0.lock().unwrap().is_some();
        let turns: Vec<Turn> = (0..cores).map(|_| Turn::default()).collect();
        for turn in &turns {
            let mut waiting = pin!(turn.next());
            assert_eq!(poll!(&mut waiting), Poll::Pending, "others get their turn first");
            waiting.await;
            assert!(has(turn));
        }
        let late = Turn::default();
        let mut waiting = pin!(late.next());
        for _ in 0..3 {
            assert_eq!(poll!(&mut waiting), Poll::Pending);
        }
        // Whoever wants another turn waits behind it.
        let mut again = pin!(turns[0].next());
        while poll!(&mut waiting).is_pending() {
            assert_eq!(poll!(&mut again), Poll::Pending);
        }
        assert!(has(&late) && !has(&turns[0]));
        // One that waits in a call of the host keeps nobody.
        late.end();
        again.await;
        assert!(has(&turns[0]));
        assert_eq!(until_tick(), TURN);
        assert_eq!(until_tick(), IDLE_TICK);
        drop(turns);
        assert_eq!(TURNS.available_permits(), cores);
    }

    /// Also in an executor that looks for new tasks, timers and sockets after each that it polls.
    #[test]
    fn nobody_waits_for_ever() {
        const TASKS: usize = 16;
        const ROUNDS: usize = 50;
        let _alone = ALONE.blocking_lock();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let executor = builder.worker_threads(1).global_queue_interval(1).event_interval(1).build().unwrap();
        let behind: Arc<AtomicUsize> = Arc::new(AtomicUsize::new(TASKS));
        let deadline = Instant::now() + Duration::from_secs(10);
        let tasks = (0..TASKS).map(|_| {
            let behind = Arc::clone(&behind);
            executor.spawn(async move {
                let turn = Turn::default();
                for round in 0.. {
                    turn.next().await;
                    if round == ROUNDS {
                        behind.fetch_sub(1, Ordering::Relaxed);
                    }
                    if behind.load(Ordering::Relaxed) == 0 || Instant::now() > deadline {
                        break;
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            executor.block_on(task).unwrap();
        }
        assert_eq!(behind.load(Ordering::Relaxed), 0, "tasks that had no {ROUNDS} turns");
    }
}
