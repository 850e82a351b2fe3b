//! What failed: copied to the ladder or the dead-letter queue, tried again in place, or given back.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;

use super::{Done, Key, Role, Run};
use crate::{
    amqp::{self, Trouble},
    manifest::{Declare, Order},
    outcome::{Checked, Failure, Publication},
    settle::{
        Progress, PutBack, copy,
        ladder::Rung,
        retry::{Next, next},
    },
    telemetry::Settled,
};

/// The pause before a delivery goes back on its queue.
const PUT_BACK_PAUSE: Duration = Duration::from_secs(1);
/// For how long a delivery is tried again without being settled. The broker ends a channel whose deliveries stay
/// unsettled for 30 minutes.
const IN_PLACE_MAX: Duration = Duration::from_secs(15 * 60);

impl Run {
    /// Decides over a delivery that failed, and sends its copy or begins its pause.
    pub(super) async fn fail(&mut self, key: Key, failure: &Failure, after: Option<Duration>) {
        let worker = Arc::clone(&self.worker);
        worker.metrics.fail(failure.kind, &failure.error);
        let in_place = self.in_place(key);
        let Some(in_hand) = self.in_hand(key) else { return };
        let attempt = in_hand.delivery.attempt;
        match next(&worker.manifest.failure, attempt, failure, after, fastrand::f64()) {
            Next::DeadLetter => self.dead_letter(key, failure),
            Next::Retry(pause) if in_place => {
                let held = in_hand.held_since.get_or_insert_with(Instant::now).elapsed();
                if held.saturating_add(pause) > IN_PLACE_MAX {
                    return self.dead_letter(key, failure);
                }
                // Other workers see a copy with its number; here the delivery stays the one that came.
                Arc::make_mut(&mut in_hand.delivery).attempt = attempt.saturating_add(1);
                worker.metrics.settle(Settled::Retried);
                self.begin_again(key);
                self.tasks.spawn(async move {
                    sleep(pause).await;
                    Done::Again(key)
                });
            }
            Next::Retry(pause) => {
                if let Err(trouble) = self.retry(key, failure, Rung::of(pause)).await {
                    tracing::warn!(worker = %worker.name, "cannot retry: {trouble}");
                    self.put_back(key, &PutBack::BrokerTrouble);
                }
            }
        }
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
        let Some(in_hand) = queue.unsettled.get_mut(key.tag) else { return };
        let origin = copy::Origin { worker: &worker.name, plugin: &in_hand.version.digest, at: SystemTime::now() };
        let letter = copy::dead_letter(&in_hand.delivery, failure, origin, &queue.declared.dead_letter);
        self.send_copy(key, letter, Settled::DeadLettered);
    }

    /// Sends a copy to its rung. The first one of a rung, and of a queue, waits until the way there and back is known
    /// to be open.
    async fn retry(&mut self, key: Key, failure: &Failure, rung: Rung) -> Result<(), Trouble> {
        let worker = Arc::clone(&self.worker);
        let Some(queue) = self.queues.get_mut(key.queue) else { return Ok(()) };
        if !queue.comes_back {
            amqp::bind_for_retries(&self.session, &queue.declared.name).await?;
            queue.comes_back = true;
        }
        if !self.rungs.contains(&rung) {
            amqp::declare_rung(&self.session, rung).await?;
            self.rungs.insert(rung);
        }
        let Some(in_hand) = self.in_hand(key) else { return Ok(()) };
        let origin = copy::Origin { worker: &worker.name, plugin: &in_hand.version.digest, at: SystemTime::now() };
        let waiting = copy::retry(&in_hand.delivery, failure, origin, rung);
        self.send_copy(key, waiting, Settled::Retried);
        Ok(())
    }

    fn send_copy(&mut self, key: Key, publication: Publication, settled: Settled) {
        let Some(in_hand) = self.in_hand(key) else { return };
        in_hand.copied = Some(settled);
        in_hand.publishing = Some(Instant::now());
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
            queue.comes_back = false;
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
                tracing::error!(worker = %worker.name, queue = %queue.dead_letter, "no dead-letter queue: {trouble}");
            }
            sleep(PUT_BACK_PAUSE).await;
            done
        });
    }

    /// What is still to come of this try counts for nothing in the next.
    fn begin_again(&mut self, key: Key) {
        let Some(in_hand) = self.in_hand(key) else { return };
        in_hand.round = in_hand.round.wrapping_add(1);
        in_hand.progress = Progress::default();
        in_hand.publishing = None;
        in_hand.copied = None;
    }
}
