//! The way of a delivery, carried out: one task for a worker and an epoch.
//!
//! The task owns everything that settlement depends on: the channels, the unsettled deliveries, the publications
//! without a verdict. So no lock is held anywhere on the way, nothing of an epoch outlives it, and the order in which
//! frames leave is the order in which this code decides. Only handlers run beside it.

mod breaker;
mod carry_out;
mod fail;
mod handle;

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    worker::{State, Version, Worker},
};
use crate::{
    amqp::{Consumer, Declared, Publisher, Reason, Received, Sent, Session, Trouble},
    clock,
    delivery::Delivery,
    manifest::{Ack, Declare},
    outcome::{Failure, Outcome, Publication},
    settle::{Lanes, Progress, Stage, Verdict, Window, ladder::Rung, seen::Id},
    telemetry::Settled,
};

/// Deliveries that are taken in one go before everything else is looked at again.
const BATCH_MAX: usize = 64;
/// How long an ack may wait for others to leave with.
const ACK_DELAY_MAX: Duration = Duration::from_millis(4);
/// How often overdue confirms are looked for.
const TICK: Duration = Duration::from_secs(1);

/// How a run ended.
pub(super) enum Ended {
    /// It was to stop, and all that was in hand is settled.
    Drained,
    /// The breaker opened, or closed after a try, and all that was in hand is settled. What was not begun is given back.
    Paused,
    /// The connection is gone; what was unsettled is delivered again.
    Lost,
    /// Trouble of this worker alone.
    Trouble(Trouble),
}

/// Declares, consumes and settles until the connection is lost, trouble comes up, or `stop`.
pub(super) async fn run(
    worker: &Arc<Worker>,
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    stop: &CancellationToken,
) -> Ended {
    let own = match session.for_worker(&worker.name).await {
        Ok(own) => own,
        Err(_) if session.lost().is_cancelled() => return Ended::Lost,
        Err(trouble) => return Ended::Trouble(trouble),
    };
    let alone = !Arc::ptr_eq(&own, session);
    let consuming = async {
        let mut run = Run::open(worker, shared, &own).await?;
        tracing::info!(worker = %worker.name, epoch = session.epoch(), "consuming");
        run.until(stop).await?;
        run.close().await
    };
    let ended = tokio::select! {
        biased;
        // A mistake of the host's ends this run, and the next one begins with what was unsettled.
        ended = AssertUnwindSafe(consuming).catch_unwind() => {
            ended.unwrap_or_else(|_| Err(Trouble::new(Reason::Other, "the host panicked")))
        }
        () = own.lost().cancelled() => Err(Trouble::new(Reason::Connection, "the connection was lost")),
        () = own.watch_consuming(), if alone => {
            Err(own.cause().unwrap_or_else(|| Trouble::new(Reason::Connection, "the connection was lost")))
        }
    };
    if alone {
        own.close_consuming().await;
    }
    match ended {
        Ok(()) if !stop.is_cancelled() => Ended::Paused,
        Ok(()) => Ended::Drained,
        Err(_) if session.lost().is_cancelled() => Ended::Lost,
        Err(trouble) if alone && trouble.reason == Reason::Undecodable => {
            let queues: Vec<_> = worker.manifest.queues.iter().map(|queue| format!("`{}`", queue.name)).collect();
            let message = format!(
                "a message at the front of queue {} cannot be read ({}); hint: take it off with another client",
                queues.join(" or "),
                trouble.message
            );
            Ended::Trouble(Trouble::new(Reason::Undecodable, message))
        }
        Err(trouble) if !alone && matches!(trouble.reason, Reason::Connection | Reason::Undecodable) => {
            // The session finds out by itself within a second; nothing can be done before that.
            session.lost().cancelled().await;
            Ended::Lost
        }
        Err(trouble) => Ended::Trouble(trouble),
    }
}

/// Which delivery: the queue's place, and the tag on that queue's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    queue: usize,
    tag: u64,
}

/// What a verdict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Publication(Key, Round),
    Copy(Key, Round),
}

/// Counts the tries of a delivery that stays unsettled.
type Round = u32;

/// What is handled one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    /// What keeps its order: a queue, or those of its deliveries that have this in common.
    Order(usize, Vec<u8>),
    /// Copies of one message: what becomes of the first decides over the next.
    Message(Id),
}

struct Run {
    worker: Arc<Worker>,
    /// What handles the next delivery, and how it is told that this is another one.
    version: Arc<Version>,
    versions: watch::Receiver<Arc<Version>>,
    shared: Arc<Shared>,
    session: Arc<Session>,
    queues: Vec<Queue>,
    holds: Holds,
    publisher: Publisher<Role>,
    verdicts: Vec<(Sent<Role>, Verdict)>,
    tasks: JoinSet<Done>,
    /// Handlers at work.
    handling: usize,
    /// What a handler takes, averaged over the last ones.
    usual_time: Duration,
    /// A delivery that has no slot to run in yet, and the place in line for one.
    waiting: Option<(Key, Slot)>,
    /// Deliveries that were received and may run now: those whose pause is over, and those whose turn it is.
    ready: VecDeque<Key>,
    /// Where the worker keeps an order, and where copies of a message wait for the first.
    lanes: Lanes<Lane, Key>,
    /// The rungs that are known to be there, and from when on they are used.
    rungs: HashMap<Rung, Instant>,
    /// When acks that wait must leave.
    flush_at: Option<Instant>,
    /// Which queue is asked first, so that a busy one does not keep others out.
    turn: usize,
    /// Where the breaker stood when this was last looked at.
    stage: Stage,
}

/// How many deliveries a run holds, shown in the worker's metrics; it takes them with it.
struct Holds {
    worker: Arc<Worker>,
    deliveries: i64,
}

impl Holds {
    fn more(&mut self) {
        self.deliveries += 1;
        self.worker.metrics.in_flight.inc();
    }

    fn less(&mut self) {
        self.deliveries -= 1;
        self.worker.metrics.in_flight.dec();
    }
}

impl Drop for Holds {
    fn drop(&mut self) {
        self.worker.metrics.in_flight.dec_by(self.deliveries);
    }
}

struct Queue {
    declared: Declared,
    consumer: Consumer,
    prefetch: u16,
    unsettled: Window<InHand>,
    /// Acked before their handlers began, with `ack = "none"`, and not done. No more than the prefetch.
    gone: HashMap<u64, InHand>,
    way_back: WayBack,
}

/// Whether what waits on the ladder comes back to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayBack {
    Unknown,
    Open,
    /// The broker does not let this user declare it or publish to it, or something else is in its place.
    Refused,
}

/// A delivery between its arrival and its settlement.
struct InHand {
    delivery: Arc<Delivery>,
    /// What it is known by if the host dies of it.
    fingerprint: u64,
    /// Where it may have killed a host: how often it certainly did.
    suspicion: Option<u32>,
    version: Arc<Version>,
    /// What has failed it before, and is on probation.
    failed_by: Option<Arc<Version>>,
    progress: Progress,
    /// Since when its confirms are awaited.
    publishing: Option<Instant>,
    round: Round,
    /// What it is known by, where that is asked for.
    id: Option<Id>,
    /// What its ack means where it is not done: that its copy is confirmed, or that it was done before.
    copied: Option<Settled>,
    /// Since when it is tried again without being settled.
    held_since: Option<Instant>,
    /// What it is in line with.
    lane: Option<Lane>,
}

enum Done {
    Handled(Key, Duration, Result<Outcome, Failure>),
    /// A pause is over: to be given back.
    Paused(Key),
    /// A pause is over: to be tried again.
    Again(Key),
    /// A rung may be used now: the copy for it.
    Copy(Key, Round, Box<Publication>),
}

type Slot = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// What the task woke up for.
enum Event {
    Stop,
    Done(Done),
    Verdicts(Result<(), Trouble>),
    Slot(OwnedSemaphorePermit),
    Received(usize, Received),
    Flush,
    Tick,
}

impl Run {
    async fn open(worker: &Arc<Worker>, shared: &Arc<Shared>, session: &Arc<Session>) -> Result<Self, Trouble> {
        let declared = worker.declare(session).await?;
        let publisher = Publisher::open(Arc::clone(session)).await?;
        let stage = worker.stage();
        // One that is tried alone is to leave all others where they are.
        let prefetch = if stage == Stage::Trying { 1 } else { worker.manifest.consume.prefetch };
        let mut queues = Vec::with_capacity(declared.len());
        for declared in declared {
            let name = Arc::clone(&declared.name);
            let consumer = Consumer::open(session, name, prefetch).await?;
            queues.push(Queue {
                declared,
                consumer,
                prefetch,
                unsettled: Window::default(),
                gone: HashMap::new(),
                way_back: WayBack::Unknown,
            });
        }
        // What waits on the ladder since a former life of a queue comes back, too.
        let retries = worker.manifest.consume.ack == Ack::Done && worker.version().manifest.failure.attempts > 1;
        if worker.manifest.declare == Declare::Create && retries {
            for queue in queues.iter_mut().filter(|queue| !queue.declared.temporary) {
                queue.open_way_back(session, &worker.name).await?;
            }
        }
        worker.show(stage);
        let mut versions = worker.versions();
        let version = Arc::clone(&versions.borrow_and_update());
        Ok(Self {
            worker: Arc::clone(worker),
            version,
            versions,
            shared: Arc::clone(shared),
            session: Arc::clone(session),
            queues,
            holds: Holds { worker: Arc::clone(worker), deliveries: 0 },
            publisher,
            verdicts: Vec::new(),
            tasks: JoinSet::new(),
            handling: 0,
            usual_time: Duration::ZERO,
            waiting: None,
            ready: VecDeque::new(),
            lanes: Lanes::default(),
            rungs: HashMap::new(),
            flush_at: None,
            turn: 0,
            stage,
        })
    }

    /// The loop. Ends well when it was to stop and nothing is in hand.
    async fn until(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Made once, for each registers itself with a lock; the alarm is moved instead.
        let mut stopped = pin!(stop.cancelled());
        let mut alarm = pin!(sleep(ACK_DELAY_MAX));
        let mut alarm_at = None;
        let mut draining = false;
        while !(draining && self.is_done()) {
            if self.flush_at != alarm_at {
                alarm_at = self.flush_at;
                alarm.as_mut().reset(alarm_at.unwrap_or_else(clock::now).into());
            }
            if !draining && self.breaker_moved() {
                draining = true;
                self.cancel().await?;
            }
            while !draining
                && self.has_room()
                && let Some(key) = self.ready.pop_front()
            {
                self.start(key).await?;
            }
            self.publisher.flush();
            let room = self.has_room() && !draining;
            let event = {
                let Self { tasks, queues, publisher, verdicts, waiting, turn, .. } = self;
                // What gives room comes before what takes it, and nothing that is always ready before what has a time.
                tokio::select! {
                    biased;
                    () = &mut stopped, if !draining => Event::Stop,
                    Some(done) = tasks.join_next(), if !tasks.is_empty() => match done {
                        Ok(done) => Event::Done(done),
                        Err(error) => return Err(Trouble::new(Reason::Other, format!("a task ended early: {error}"))),
                    },
                    result = poll_fn(|cx| publisher.poll_verdicts(cx, verdicts)) => Event::Verdicts(result),
                    () = &mut alarm, if alarm_at.is_some() => Event::Flush,
                    _ = tick.tick() => Event::Tick,
                    permit = slot(waiting), if waiting.is_some() => match permit {
                        Ok(permit) => Event::Slot(permit),
                        Err(_) => return Err(Trouble::new(Reason::Other, "the host is stopping")),
                    },
                    received = poll_fn(|cx| poll_queues(queues, turn, room, cx)) => {
                        let (queue, received) = received?;
                        Event::Received(queue, received)
                    }
                }
            };
            match event {
                Event::Stop => {
                    draining = true;
                    self.worker.set_state(State::Draining);
                    self.cancel().await?;
                }
                Event::Done(done) => {
                    self.done(done).await?;
                    while let Some(Ok(done)) = self.tasks.try_join_next() {
                        self.done(done).await?;
                    }
                    if !draining {
                        self.receive_more().await?;
                    }
                }
                Event::Verdicts(result) => self.verdicts(result).await?,
                Event::Slot(permit) => {
                    if let Some((key, _)) = self.waiting.take() {
                        self.handle(key, permit).await?;
                    }
                }
                Event::Received(queue, received) => {
                    self.received(queue, received).await?;
                    self.receive_more().await?;
                    // lapin's streams know nothing of tokio's budget: others on this thread get their turn here.
                    tokio::task::consume_budget().await;
                }
                Event::Flush => self.flush(),
                Event::Tick => {
                    self.take_version();
                    self.worker.look_at(&self.version);
                    self.version.scope.log.report_dropped();
                    self.overdue().await?;
                }
            }
        }
        Ok(())
    }

    /// Whether one more delivery may be taken.
    fn has_room(&self) -> bool {
        let most = match self.worker.stage() {
            Stage::Closed => self.version.manifest.consume.concurrency,
            // What is published has not come through yet.
            Stage::Trying => usize::from(self.publisher.pending() == 0),
            Stage::Open(_) => 0,
        };
        self.waiting.is_none() && self.handling < most && self.queues.iter().all(Queue::has_room)
    }

    /// Has the next deliveries handled by the version that is there now.
    fn take_version(&mut self) {
        if self.versions.has_changed().unwrap_or(false) {
            self.version = Arc::clone(&self.versions.borrow_and_update());
        }
    }

    /// Takes no more from any queue.
    async fn cancel(&mut self) -> Result<(), Trouble> {
        // It was never begun: closing the channel gives it back.
        self.waiting = None;
        for queue in &mut self.queues {
            queue.consumer.cancel().await?;
        }
        Ok(())
    }

    /// Whether nothing is in hand that could still be finished. What waits for the end of a pause could not.
    fn is_done(&self) -> bool {
        self.handling == 0 && self.publisher.pending() == 0
    }

    /// Sends the last acks, and closes the channels behind them.
    async fn close(mut self) -> Result<(), Trouble> {
        self.flush();
        for queue in self.queues {
            queue.consumer.close().await?;
        }
        self.publisher.close().await
    }

    /// Takes what has arrived already, without going to sleep in between. Whoever polls with the task's own waker next
    /// is woken for the rest.
    async fn receive_more(&mut self) -> Result<(), Trouble> {
        for _ in 0..BATCH_MAX {
            if !self.has_room() {
                break;
            }
            let Poll::Ready(received) = self.received_already() else { break };
            let (queue, received) = received?;
            self.received(queue, received).await?;
        }
        Ok(())
    }

    fn received_already(&mut self) -> Poll<Result<(usize, Received), Trouble>> {
        poll_received(&mut self.queues, &mut self.turn, &mut Context::from_waker(Waker::noop()))
    }

    /// Takes the verdicts on publications; opens a new channel where the old one is gone.
    async fn verdicts(&mut self, result: Result<(), Trouble>) -> Result<(), Trouble> {
        if let Err(trouble) = result {
            if trouble.reason == Reason::Connection {
                return Err(trouble);
            }
            tracing::warn!(worker = %self.worker.name, "the publishing channel was closed: {trouble}");
            self.publisher = Publisher::open(Arc::clone(&self.session)).await?;
        }
        for (sent, verdict) in std::mem::take(&mut self.verdicts) {
            let (key, action) = match sent.what {
                Role::Publication(key, round) => {
                    if sent.reply && verdict == Verdict::Returned {
                        self.worker.metrics.replies_lost.inc();
                    }
                    let Some(in_hand) = self.in_round(key, round) else { continue };
                    (key, in_hand.progress.published(verdict, sent.charged, &sent.to()))
                }
                Role::Copy(key, round) => {
                    let Some(in_hand) = self.in_round(key, round) else { continue };
                    (key, in_hand.progress.copied(verdict))
                }
            };
            self.act(key, action).await?;
        }
        Ok(())
    }

    /// A delivery, unless it has been begun again since.
    fn in_round(&mut self, key: Key, round: Round) -> Option<&mut InHand> {
        self.in_hand(key).filter(|in_hand| in_hand.round == round)
    }

    fn in_hand(&mut self, key: Key) -> Option<&mut InHand> {
        let Queue { unsettled, gone, .. } = self.queues.get_mut(key.queue)?;
        unsettled.get_mut(key.tag).or_else(|| gone.get_mut(&key.tag))
    }
}

impl Queue {
    /// What is gone counts against no prefetch of the broker's, so it is counted here.
    fn has_room(&self) -> bool {
        self.gone.len() < usize::from(self.prefetch)
    }
}

/// The next delivery of any queue, beginning with another one each time.
fn poll_received(
    queues: &mut [Queue],
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<(usize, Received), Trouble>> {
    let count = queues.len();
    for offset in 0..count {
        let index = (*turn + offset) % count;
        let Some(queue) = queues.get_mut(index) else { continue };
        if let Poll::Ready(received) = queue.consumer.poll_next(cx) {
            *turn = (index + 1) % count;
            return Poll::Ready(received.map(|received| (index, received)));
        }
    }
    Poll::Pending
}

/// Follows what was sent, and takes a delivery where one may be taken.
fn poll_queues(
    queues: &mut [Queue],
    turn: &mut usize,
    taking: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<(usize, Received), Trouble>> {
    for queue in queues.iter_mut() {
        if let Poll::Ready(trouble) = queue.consumer.poll_settled(cx) {
            return Poll::Ready(Err(trouble));
        }
    }
    if taking { poll_received(queues, turn, cx) } else { Poll::Pending }
}

async fn slot(waiting: &mut Option<(Key, Slot)>) -> Result<OwnedSemaphorePermit, AcquireError> {
    match waiting {
        Some((_, slot)) => slot.await,
        None => std::future::pending().await,
    }
}
