//! What was decided for a delivery, done: publications, dead letters, acks and nacks.

use std::time::Instant;

use super::{ACK_DELAY_MAX, Key, Role, Run};
use crate::{
    amqp::{Consumer, Reason, Trouble},
    outcome::{Checked, Failure, FailureKind},
    settle::Action,
    telemetry::Settled,
};

/// How many acks leave at once, where the prefetch allows that many.
const ACK_BATCH_MAX: usize = 250;

impl Run {
    /// Carries out what was decided, and what that leads to.
    pub(super) async fn act(&mut self, key: Key, mut action: Action) -> Result<(), Trouble> {
        loop {
            action = match action {
                Action::Wait => return Ok(()),
                Action::Publish(checked) => self.publish(key, checked).await,
                Action::Fail { failure, after } => {
                    self.fail(key, &failure, after).await;
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
                    self.put_back(key, &why);
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
        let Some(in_hand) = self.in_hand(key) else { return Action::Wait };
        in_hand.publishing = Some(Instant::now());
        let role = Role::Publication(key, in_hand.round);
        self.worker.metrics.publications.inc_by(checked.len() as u64);
        for checked in checked {
            self.publisher.send(checked, role);
        }
        Action::Wait
    }

    fn ack(&mut self, key: Key) {
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        let Some(in_hand) = queue.unsettled.ack(key.tag) else { return };
        self.worker.metrics.in_flight.dec();
        self.worker.metrics.settle(in_hand.copied.unwrap_or(Settled::Acked));
        if let Some(lane) = in_hand.lane {
            self.ready.extend(self.lanes.leave(&lane));
        }
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
        self.nack(key, Consumer::requeue);
    }

    /// Settles a delivery with a nack.
    pub(super) fn nack(&mut self, key: Key, how: fn(&mut Consumer, u64)) {
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        if let Some(in_hand) = queue.unsettled.release_for_nack(key.tag) {
            self.worker.metrics.in_flight.dec();
            how(&mut queue.consumer, key.tag);
            if let Some(lane) = in_hand.lane {
                self.ready.extend(self.lanes.leave(&lane));
            }
        }
    }

    /// Gives up on confirms that do not come.
    pub(super) async fn overdue(&mut self) -> Result<(), Trouble> {
        let limit = self.shared.publish_timeout;
        // While the broker blocks publishers the time stands still. What waits leaves when it takes publications again:
        // to put the deliveries back would only publish it once more, and once more, into what waits.
        let blocked = self.session.blocked();
        let mut overdue = Vec::new();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            for (tag, in_hand) in queue.unsettled.iter_mut() {
                if blocked {
                    in_hand.publishing = in_hand.publishing.map(|_| Instant::now());
                } else if in_hand.publishing.is_some_and(|since| since.elapsed() > limit) {
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
