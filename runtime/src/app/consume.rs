//! The way of a delivery, carried out: one task for a worker and an epoch.
//!
//! The task owns everything that settlement depends on: the channels, the unsettled deliveries, the publications
//! without a verdict. So no lock is held anywhere on the way, nothing of an epoch outlives it, and the order in which
//! frames leave is the order in which this code decides. Only handlers run beside it.

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    worker::{State, Version, Worker},
};
use crate::{
    amqp::{self, Consumer, Declared, Publisher, Reason, Received, Sent, Session, Trouble},
    delivery::Delivery,
    outcome::{Checked, Failure, FailureKind, Outcome},
    route::{Route, route},
    settle::{
        Action, Facts, Progress, PutBack, Verdict, Window,
        copy::{Origin, dead_letter},
    },
    telemetry::Settled,
};

/// How long an ack may wait for others to leave with.
const ACK_DELAY_MAX: Duration = Duration::from_millis(2);
/// How many acks leave at once, where the prefetch allows that many.
const ACK_BATCH_MAX: usize = 100;
/// The pause before a delivery goes back on its queue, where the handler named none.
const PUT_BACK_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: the broker ends a channel whose deliveries stay unsettled for 30 minutes.
const PUT_BACK_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
/// How often overdue confirms are looked for.
const TICK: Duration = Duration::from_secs(1);

/// How a run ended.
pub(super) enum Ended {
    /// It was to stop, and all that was in hand is settled.
    Drained,
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
    let consuming = async {
        let mut run = Run::open(worker, shared, session).await?;
        worker.set_state(State::Consuming);
        tracing::info!(worker = %worker.name, epoch = session.epoch(), "consuming");
        run.until(stop).await?;
        run.close().await
    };
    let ended = tokio::select! {
        // A mistake of the host's ends this run, and the next one begins with what was unsettled.
        ended = AssertUnwindSafe(consuming).catch_unwind() => {
            ended.unwrap_or_else(|_| Err(Trouble::new(Reason::Other, "the host panicked")))
        }
        () = session.lost().cancelled() => Err(Trouble::new(Reason::Connection, "the connection was lost")),
    };
    worker.metrics.in_flight.set(0);
    match ended {
        Ok(()) => Ended::Drained,
        Err(_) if session.lost().is_cancelled() => Ended::Lost,
        Err(trouble) if trouble.reason == Reason::Connection => {
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
    Publication(Key),
    DeadLetter(Key),
}

struct Run {
    worker: Arc<Worker>,
    shared: Arc<Shared>,
    session: Arc<Session>,
    queues: Vec<Queue>,
    publisher: Publisher<Role>,
    verdicts: Vec<(Sent<Role>, Verdict)>,
    tasks: JoinSet<Done>,
    /// Handlers at work.
    handling: usize,
    /// A delivery that has no slot to run in yet, and the place in line for one.
    waiting: Option<(Key, Slot)>,
    /// When acks that wait must leave.
    flush_at: Option<Instant>,
    /// Which queue is asked first, so that a busy one does not keep others out.
    turn: usize,
}

struct Queue {
    declared: Declared,
    consumer: Consumer,
    unsettled: Window<InHand>,
}

/// A delivery between its arrival and its settlement.
struct InHand {
    delivery: Arc<Delivery>,
    version: Arc<Version>,
    progress: Progress,
    /// Since when its confirms are awaited.
    publishing: Option<Instant>,
    /// Why it failed, if it did.
    failed: Option<FailureKind>,
}

enum Done {
    Handled(Key, Result<Outcome, Failure>),
    Paused(Key),
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
        let declared = amqp::declare(session, &worker.manifest).await?;
        let publisher = Publisher::open(Arc::clone(session)).await?;
        let mut queues = Vec::with_capacity(declared.len());
        for declared in declared {
            let name = Arc::clone(&declared.name);
            let consumer = Consumer::open(session, name, worker.manifest.consume.prefetch).await?;
            queues.push(Queue { declared, consumer, unsettled: Window::default() });
        }
        Ok(Self {
            worker: Arc::clone(worker),
            shared: Arc::clone(shared),
            session: Arc::clone(session),
            queues,
            publisher,
            verdicts: Vec::new(),
            tasks: JoinSet::new(),
            handling: 0,
            waiting: None,
            flush_at: None,
            turn: 0,
        })
    }

    /// The loop. Ends well when it was to stop and nothing is in hand.
    async fn until(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = false;
        while !(draining && self.is_done()) {
            let taking =
                !draining && self.waiting.is_none() && self.handling < self.worker.manifest.consume.concurrency;
            let flush_at = self.flush_at;
            let event = {
                let Self { tasks, queues, publisher, verdicts, waiting, turn, .. } = self;
                tokio::select! {
                    biased;
                    () = stop.cancelled(), if !draining => Event::Stop,
                    Some(done) = tasks.join_next(), if !tasks.is_empty() => match done {
                        Ok(done) => Event::Done(done),
                        Err(error) => return Err(Trouble::new(Reason::Other, format!("a task ended early: {error}"))),
                    },
                    result = poll_fn(|cx| publisher.poll_verdicts(cx, verdicts)) => Event::Verdicts(result),
                    permit = slot(waiting), if waiting.is_some() => match permit {
                        Ok(permit) => Event::Slot(permit),
                        Err(_) => return Err(Trouble::new(Reason::Other, "the host is stopping")),
                    },
                    received = poll_fn(|cx| poll_queues(queues, turn, taking, cx)) => {
                        let (queue, received) = received?;
                        Event::Received(queue, received)
                    }
                    () = sleep_until(flush_at.unwrap_or_else(Instant::now).into()), if flush_at.is_some() => Event::Flush,
                    _ = tick.tick() => Event::Tick,
                }
            };
            match event {
                Event::Stop => {
                    draining = true;
                    self.worker.set_state(State::Draining);
                    // It was never begun: closing the channel gives it back.
                    self.waiting = None;
                    for queue in &mut self.queues {
                        queue.consumer.cancel().await?;
                    }
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
                        self.handle(key, permit);
                    }
                }
                Event::Received(queue, received) => {
                    self.received(queue, received).await?;
                    self.receive_more().await?;
                }
                Event::Flush => self.flush(),
                Event::Tick => self.overdue().await?,
            }
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
        while self.waiting.is_none() && self.handling < self.worker.manifest.consume.concurrency {
            let Poll::Ready(received) = self.received_already() else { break };
            let (queue, received) = received?;
            self.received(queue, received).await?;
        }
        Ok(())
    }

    fn received_already(&mut self) -> Poll<Result<(usize, Received), Trouble>> {
        poll_received(&mut self.queues, &mut self.turn, &mut Context::from_waker(Waker::noop()))
    }

    async fn received(&mut self, queue: usize, received: Received) -> Result<(), Trouble> {
        let Received { tag, delivery } = received;
        let key = Key { queue, tag };
        let way = route(&delivery, self.shared.limits.max_body);
        let in_hand = InHand {
            delivery,
            version: Arc::clone(&self.worker.version),
            progress: Progress::default(),
            publishing: None,
            failed: None,
        };
        let held = self.queues.get_mut(queue).is_some_and(|queue| queue.unsettled.hold(tag, in_hand));
        if !held {
            return Err(Trouble::new(Reason::Other, format!("the broker sent delivery tag {tag} out of order")));
        }
        self.worker.metrics.in_flight.inc();
        match way {
            Route::Refused(failure) => self.handled(key, Err(failure)).await,
            Route::Handler => {
                match Arc::clone(&self.shared.slots).try_acquire_owned() {
                    Ok(permit) => self.handle(key, permit),
                    // One place in line for each worker, and the line moves in order: fair, however many wait behind it.
                    Err(_) => self.waiting = Some((key, Box::pin(Arc::clone(&self.shared.slots).acquire_owned()))),
                }
                Ok(())
            }
        }
    }

    /// Starts the handler.
    fn handle(&mut self, key: Key, permit: OwnedSemaphorePermit) {
        let Some(in_hand) = self.in_hand(key) else { return };
        let (delivery, version) = (Arc::clone(&in_hand.delivery), Arc::clone(&in_hand.version));
        let worker = Arc::clone(&self.worker);
        self.handling += 1;
        self.tasks.spawn(async move {
            let start = Instant::now();
            let handling = version.plugin.handle(&delivery, &version.limits, &worker.log);
            // The host's own mistake must cost this delivery only, and must not lose sight of it.
            let result = AssertUnwindSafe(handling)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(Failure::new(FailureKind::Host, "the host panicked while the handler ran")));
            drop(permit);
            worker.metrics.handling.observe(start.elapsed().as_secs_f64());
            Done::Handled(key, result)
        });
    }

    async fn done(&mut self, done: Done) -> Result<(), Trouble> {
        match done {
            Done::Handled(key, result) => {
                self.handling -= 1;
                self.handled(key, result).await
            }
            Done::Paused(key) => {
                self.requeue(key);
                Ok(())
            }
        }
    }

    async fn handled(&mut self, key: Key, result: Result<Outcome, Failure>) -> Result<(), Trouble> {
        let Some(in_hand) = self.in_hand(key) else { return Ok(()) };
        let version = Arc::clone(&in_hand.version);
        let delivery = Arc::clone(&in_hand.delivery);
        let facts = Facts { reply_to: delivery.properties.reply_to.as_deref(), redelivered: delivery.redelivered };
        let action = in_hand.progress.handled(result, facts, &version.rules);
        self.act(key, action).await
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
                Role::Publication(key) => {
                    if sent.reply && verdict == Verdict::Returned {
                        self.worker.metrics.replies_lost.inc();
                    }
                    let Some(in_hand) = self.in_hand(key) else { continue };
                    (key, in_hand.progress.published(verdict, sent.charged, &sent.to))
                }
                Role::DeadLetter(key) => {
                    let Some(in_hand) = self.in_hand(key) else { continue };
                    (key, in_hand.progress.copied(verdict))
                }
            };
            self.act(key, action).await?;
        }
        Ok(())
    }

    /// Carries out what was decided, and what that leads to.
    async fn act(&mut self, key: Key, mut action: Action) -> Result<(), Trouble> {
        loop {
            action = match action {
                Action::Wait => return Ok(()),
                Action::Publish(checked) => self.publish(key, checked).await,
                Action::DeadLetter(failure) => {
                    self.dead_letter(key, &failure);
                    return Ok(());
                }
                Action::Ack => {
                    self.ack(key);
                    return Ok(());
                }
                Action::Requeue => {
                    self.worker.metrics.settle(Settled::Requeued);
                    self.requeue(key);
                    return Ok(());
                }
                Action::PutBack(why) => {
                    self.put_back(key, why);
                    return Ok(());
                }
            }
        }
    }

    /// Sends the publications of one outcome: all of them, or none where an exchange is missing.
    async fn publish(&mut self, key: Key, checked: Vec<Checked>) -> Action {
        for checked in &checked {
            if let Err(trouble) = self.publisher.probe(&checked.publication.exchange).await {
                let Some(in_hand) = self.in_hand(key) else { return Action::Wait };
                return match trouble.reason {
                    Reason::NotFound => {
                        in_hand.progress.refused(Failure::new(FailureKind::PublicationRefused, trouble.message))
                    }
                    _ => in_hand.progress.overdue(),
                };
            }
        }
        self.worker.metrics.publications.inc_by(checked.len() as u64);
        for checked in checked {
            self.publisher.send(checked, Role::Publication(key));
        }
        if let Some(in_hand) = self.in_hand(key) {
            in_hand.publishing = Some(Instant::now());
        }
        Action::Wait
    }

    fn dead_letter(&mut self, key: Key, failure: &Failure) {
        let worker = Arc::clone(&self.worker);
        worker.metrics.fail(failure.kind, &failure.error);
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        let Some(in_hand) = queue.unsettled.get_mut(key.tag) else { return };
        let origin = Origin { worker: &worker.name, plugin: &in_hand.version.digest, at: SystemTime::now() };
        let publication = dead_letter(&in_hand.delivery, failure, origin, &queue.declared.dead_letter);
        in_hand.failed = Some(failure.kind);
        in_hand.publishing = Some(Instant::now());
        let copy = Checked { publication, mandatory: true, charged: true, reply: false };
        self.publisher.send(copy, Role::DeadLetter(key));
    }

    fn ack(&mut self, key: Key) {
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        let Some(in_hand) = queue.unsettled.ack(key.tag) else { return };
        self.worker.metrics.in_flight.dec();
        self.worker.metrics.settle(if in_hand.failed.is_some() { Settled::DeadLettered } else { Settled::Acked });
        let batch = usize::from(self.worker.manifest.consume.prefetch / 4).clamp(1, ACK_BATCH_MAX);
        if queue.unsettled.unsent() >= batch
            && let Some(up_to) = queue.unsettled.take_cumulative()
        {
            queue.consumer.ack(up_to, true);
        }
        if queue.unsettled.unsent() > 0 {
            self.flush_at.get_or_insert_with(|| Instant::now() + ACK_DELAY_MAX);
        }
    }

    /// Sends every ack that waits.
    fn flush(&mut self) {
        self.flush_at = None;
        for queue in &mut self.queues {
            let acks = queue.unsettled.take_all();
            if let Some(up_to) = acks.up_to {
                queue.consumer.ack(up_to, true);
            }
            for tag in acks.single {
                queue.consumer.ack(tag, false);
            }
        }
    }

    fn requeue(&mut self, key: Key) {
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        if queue.unsettled.release_for_nack(key.tag).is_some() {
            self.worker.metrics.in_flight.dec();
            queue.consumer.requeue(key.tag);
        }
    }

    /// Gives a delivery back after a pause, during which it counts against the prefetch: that is the pace.
    fn put_back(&mut self, key: Key, why: PutBack) {
        let worker = &self.worker;
        let pause = match &why {
            PutBack::Retry(after) => {
                worker.metrics.settle(Settled::Retried);
                after.unwrap_or(PUT_BACK_PAUSE).min(PUT_BACK_PAUSE_MAX)
            }
            PutBack::BrokerTrouble | PutBack::NoDeadLetter(_) => {
                worker.metrics.settle(Settled::PutBack);
                PUT_BACK_PAUSE
            }
        };
        let declare_again = match (&why, self.queues.get(key.queue)) {
            (PutBack::NoDeadLetter(verdict), Some(queue)) => {
                tracing::warn!(worker = %worker.name, queue = %queue.declared.dead_letter, ?verdict, "no dead letter");
                Some((Arc::clone(&self.session), queue.declared.clone()))
            }
            _ => None,
        };
        let worker = Arc::clone(worker);
        self.tasks.spawn(async move {
            if let Some((session, queue)) = declare_again
                && worker.manifest.declare == crate::manifest::Declare::Create
                && let Err(trouble) = amqp::declare_dead_letter(&session, &queue).await
            {
                tracing::error!(worker = %worker.name, queue = %queue.dead_letter, "no dead-letter queue: {trouble}");
            }
            sleep(pause).await;
            Done::Paused(key)
        });
    }

    /// Gives up on confirms that do not come.
    async fn overdue(&mut self) -> Result<(), Trouble> {
        let limit = self.shared.publish_timeout;
        let mut overdue = Vec::new();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            for (tag, in_hand) in queue.unsettled.iter_mut() {
                if in_hand.publishing.is_some_and(|since| since.elapsed() > limit) {
                    in_hand.publishing = None;
                    overdue.push((Key { queue: index, tag }, in_hand.progress.overdue()));
                }
            }
        }
        if !overdue.is_empty() {
            tracing::warn!(worker = %self.worker.name, deliveries = overdue.len(), "confirms are overdue");
        }
        for (key, action) in overdue {
            self.act(key, action).await?;
        }
        Ok(())
    }

    fn in_hand(&mut self, key: Key) -> Option<&mut InHand> {
        self.queues.get_mut(key.queue)?.unsettled.get_mut(key.tag)
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
