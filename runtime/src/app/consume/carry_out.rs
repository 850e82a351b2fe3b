//! What was decided for a delivery, done: publications, dead letters, acks and nacks.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;

use super::{ACK_DELAY_MAX, Done, Key, Role, Run};
use crate::{
    amqp::{self, Reason, Trouble},
    manifest::Declare,
    outcome::{Checked, Failure, FailureKind},
    settle::{
        Action, PutBack,
        copy::{Origin, dead_letter},
    },
    telemetry::Settled,
};

/// How many acks leave at once, where the prefetch allows that many.
const ACK_BATCH_MAX: usize = 250;
/// The pause before a delivery goes back on its queue, where the handler named none.
const PUT_BACK_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: the broker ends a channel whose deliveries stay unsettled for 30 minutes.
const PUT_BACK_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
impl Run {
    /// Carries out what was decided, and what that leads to.
    pub(super) async fn act(&mut self, key: Key, mut action: Action) -> Result<(), Trouble> {
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
    pub(super) fn flush(&mut self) {
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

    pub(super) fn requeue(&mut self, key: Key) {
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
                && worker.manifest.declare == Declare::Create
                && let Err(trouble) = amqp::declare_dead_letter(&session, &queue).await
            {
                tracing::error!(worker = %worker.name, queue = %queue.dead_letter, "no dead-letter queue: {trouble}");
            }
            sleep(pause).await;
            Done::Paused(key)
        });
    }

    /// Gives up on confirms that do not come.
    pub(super) async fn overdue(&mut self) -> Result<(), Trouble> {
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
}
