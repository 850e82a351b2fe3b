//! What failed: copied to the ladder or the dead-letter queue, tried again in place, or given back.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;

use super::{Done, Key, Queue, Role, Run, WayBack};
use crate::{
    amqp::{self, Consumer, Reason, Session, Trouble},
    app::worker::Worker,
    clock,
    manifest::{Declare, Order},
    outcome::{Checked, Failure, FailureKind, Publication},
    settle::{
        Progress, PutBack, Verdict, copy,
        ladder::Rung,
        retry::{Next, may_be_held, next},
    },
    telemetry::Settled,
};

/// The pause before a delivery goes back on its queue.
const PUT_BACK_PAUSE: Duration = Duration::from_secs(1);
/// For how long a rung that was just declared is not used. A RabbitMQ (3.10.8) that is killed within about half a second
/// of the declaration forgets what the new quorum queue had confirmed.
const NEW_RUNG_REST: Duration = Duration::from_secs(1);

impl Run {
    /// Decides over a delivery that failed, and sends its copy or begins its pause.
    pub(super) async fn fail(&mut self, key: Key, failure: &Failure, after: Option<Duration>) {
        let worker = Arc::clone(&self.worker);
        worker.metrics.fail(failure.kind, &failure.error);
        let charge = self.charge(key, failure.kind);
        let Some(in_hand) = self.in_hand(key) else { return };
        if is_the_handlers(failure.kind) {
            Worker::failed_by(&in_hand.version);
        }
        if let Some(before) = in_hand.failed_by.take() {
            worker.failed_before(&before, is_the_handlers(failure.kind));
        }
        // What it published has its verdicts: a wait for a new rung is not one for a confirm.
        in_hand.publishing = None;
        let attempt = in_hand.delivery.attempt;
        let (pause, counted) =
            match next(&in_hand.version.manifest.failure, attempt, failure, after, charge, fastrand::f64()) {
                Next::DeadLetter => return self.dead_letter(key, failure),
                Next::Retry { pause, counted } => (pause, counted),
            };
        match self.waiting_copy(key, failure, Rung::of(pause), counted).await {
            Ok(Some((copy, rest))) if rest.is_zero() => self.send_copy(key, copy, Settled::Retried),
            Ok(Some((copy, rest))) => {
                let Some(round) = self.in_hand(key).map(|in_hand| in_hand.round) else { return };
                self.tasks.spawn(async move {
                    sleep(rest).await;
                    Done::Copy(key, round, Box::new(copy))
                });
            }
            Ok(None) => self.hold(key, failure, pause, counted),
            Err(trouble) => {
                tracing::warn!(worker = %worker.name, "cannot retry: {trouble}");
                self.put_back(key, &PutBack::BrokerTrouble);
            }
        }
    }

    /// Whether a delivery that a version on probation has failed goes to the version before it. Nothing is charged to it,
    /// and it keeps its place.
    pub(super) fn given_to_old(&mut self, key: Key, failure: &Failure) -> bool {
        if !is_the_handlers(failure.kind) {
            return false;
        }
        let Some(in_hand) = self.in_hand(key) else { return false };
        let new = Arc::clone(&in_hand.version);
        let Some(old) = new.fallback() else { return false };
        tracing::debug!(digest = %new.digest, "failed on probation: {}", failure.error);
        self.begin_again(key);
        if let Some(in_hand) = self.in_hand(key) {
            in_hand.version = old;
            in_hand.failed_by = Some(new);
            self.ready.push_back(key);
        }
        true
    }

    /// Tries a delivery again in place: after a pause, during which it stays unsettled.
    fn hold(&mut self, key: Key, failure: &Failure, pause: Duration, counted: bool) {
        let Some(in_hand) = self.in_hand(key) else { return };
        if counted {
            let held = clock::since(*in_hand.held_since.get_or_insert_with(clock::now));
            if !may_be_held(held, pause) {
                return self.dead_letter(key, failure);
            }
            let delivery = Arc::make_mut(&mut in_hand.delivery);
            delivery.attempt = delivery.attempt.saturating_add(1);
        } else {
            // Its time does not run while it is not its own fault.
            in_hand.held_since = None;
        }
        self.worker.metrics.settle(Settled::Retried);
        self.begin_again(key);
        self.tasks.spawn(async move {
            sleep(pause).await;
            Done::Again(key)
        });
    }

    /// Whether a delivery is tried again without being settled: where an order is kept, and where the queue may be gone
    /// when a copy comes back.
    fn in_place(&self, key: Key) -> bool {
        self.worker.manifest.consume.order != Order::None
            || self.queues.get(key.queue).is_some_and(|queue| queue.declared.temporary)
    }

    fn dead_letter(&mut self, key: Key, failure: &Failure) {
        let worker = Arc::clone(&self.worker);
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        let Some(dead_letter) = &queue.declared.dead_letter else {
            worker.metrics.settle(Settled::DeadLettered);
            return self.nack(key, Consumer::reject);
        };
        let Some(in_hand) = queue.unsettled.get_mut(key.tag) else { return };
        let origin = copy::Origin { worker: &worker.name, plugin: &in_hand.version.digest, at: SystemTime::now() };
        let letter = copy::dead_letter(&in_hand.delivery, failure, origin, dead_letter);
        self.send_copy(key, letter, Settled::DeadLettered);
    }

    /// The copy that waits on a rung, and how long the rung is still too young for it; nothing where the delivery is to
    /// be tried again in place. The first one of a rung, and of a queue, waits until the way there and back is open.
    async fn waiting_copy(
        &mut self,
        key: Key,
        failure: &Failure,
        rung: Rung,
        counted: bool,
    ) -> Result<Option<(Publication, Duration)>, Trouble> {
        let worker = Arc::clone(&self.worker);
        if self.in_place(key) {
            return Ok(None);
        }
        let Some(queue) = self.queues.get_mut(key.queue) else { return Ok(None) };
        if queue.way_back == WayBack::Unknown {
            queue.open_way_back(&self.session, &worker.name).await?;
        }
        if queue.way_back == WayBack::Open && !self.rungs.contains_key(&rung) {
            match amqp::declare_rung(&self.session, rung).await {
                Ok(new) => {
                    let rest = if new { NEW_RUNG_REST } else { Duration::ZERO };
                    self.rungs.insert(rung, clock::now() + rest);
                }
                Err(trouble) => queue.no_way_back(trouble, &worker.name)?,
            }
        }
        if queue.way_back != WayBack::Open {
            return Ok(None);
        }
        let Some(in_hand) = queue.unsettled.get_mut(key.tag) else { return Ok(None) };
        let origin = copy::Origin { worker: &worker.name, plugin: &in_hand.version.digest, at: SystemTime::now() };
        let rest = self.rungs.get(&rung).map_or(Duration::ZERO, |from| from.saturating_duration_since(clock::now()));
        Ok(copy::retry(&in_hand.delivery, failure, origin, rung, counted).map(|copy| (copy, rest)))
    }

    pub(super) fn send_copy(&mut self, key: Key, publication: Publication, settled: Settled) {
        let Some(in_hand) = self.in_hand(key) else { return };
        in_hand.copied = Some(settled);
        in_hand.publishing = Some(clock::now());
        let role = Role::Copy(key, in_hand.round);
        let copy = Checked { publication, mandatory: true, charged: true, reply: false };
        self.publisher.send(copy, role);
    }

    /// Gives a delivery back, or begins again where an order is kept, after a pause. Until then it counts against the
    /// prefetch: that is the pace.
    pub(super) fn put_back(&mut self, key: Key, why: &PutBack) {
        let worker = Arc::clone(&self.worker);
        worker.metrics.settle(Settled::PutBack);
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        let mut declare_again = None;
        if let PutBack::NoCopy(verdict) = why {
            tracing::warn!(worker = %worker.name, queue = %queue.declared.name, ?verdict, "a copy was not taken");
            declare_again = Some((Arc::clone(&self.session), queue.declared.clone()));
            // Whatever led there may be gone.
            queue.way_back = if *verdict == Verdict::Forbidden { WayBack::Refused } else { WayBack::Unknown };
            self.rungs.clear();
        }
        let done = if self.in_place(key) {
            self.begin_again(key);
            Done::Again(key)
        } else {
            Done::Paused(key)
        };
        self.tasks.spawn(async move {
            if let Some((session, queue)) = declare_again
                && worker.manifest.declare == Declare::Create
                && let Err(trouble) = amqp::declare_dead_letter(&session, &queue).await
            {
                tracing::error!(worker = %worker.name, queue = ?queue.dead_letter, "no dead-letter queue: {trouble}");
            }
            sleep(PUT_BACK_PAUSE).await;
            done
        });
    }

    /// What is still to come of this try counts for nothing in the next, which is of the version that is there now.
    fn begin_again(&mut self, key: Key) {
        let version = Arc::clone(&self.version);
        let Some(in_hand) = self.in_hand(key) else { return };
        in_hand.version = version;
        in_hand.failed_by = None;
        in_hand.round = in_hand.round.wrapping_add(1);
        in_hand.progress = Progress::default();
        in_hand.publishing = None;
        in_hand.copied = None;
    }
}

/// Whether a failure says something about the handler: it ran, and has not just asked for another try.
fn is_the_handlers(kind: FailureKind) -> bool {
    !matches!(
        kind,
        FailureKind::RetryAsked
            | FailureKind::BodyTooLarge
            | FailureKind::HostCrash
            | FailureKind::Host
            | FailureKind::BrokerNack
    )
}

impl Queue {
    /// Lets what waits on the ladder come back to this queue. Errors: trouble with the connection.
    pub(super) async fn open_way_back(&mut self, session: &Session, worker: &str) -> Result<(), Trouble> {
        match amqp::bind_for_retries(session, &self.declared.name).await {
            Ok(()) => self.way_back = WayBack::Open,
            Err(trouble) => self.no_way_back(trouble, worker)?,
        }
        Ok(())
    }

    /// Where the broker refuses the ladder, deliveries are tried again in place.
    fn no_way_back(&mut self, trouble: Trouble, worker: &str) -> Result<(), Trouble> {
        let hint = match trouble.reason {
            Reason::Connection | Reason::Undecodable | Reason::TimedOut => return Err(trouble),
            Reason::AccessRefused => "; hint: give the user all rights on `wabbit\\..*`",
            _ => "",
        };
        tracing::warn!(worker, queue = %self.declared.name, "retries hold on to their deliveries: {trouble}{hint}");
        self.way_back = WayBack::Refused;
        Ok(())
    }
}
