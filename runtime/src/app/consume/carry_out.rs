//! What was decided for a delivery, done: publications, dead letters, acks and nacks.

use super::{ACK_DELAY_MAX, InHand, Key, Role, Run};
use crate::{
    amqp::{Consumer, Reason, Trouble},
    app::running::Running,
    clock,
    manifest::Ack,
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
            if let Action::Fail { failure, .. } = &mut action {
                // From here on it is told: in the log, at the admin address, in a header.
                if let Some(in_hand) = self.in_hand(key) {
                    let redactor = &in_hand.version.scope.grants.redactor;
                    failure.error = redactor.text(std::mem::take(&mut failure.error));
                }
                if self.given_to_old(key, failure) {
                    return Ok(());
                }
            }
            if self.worker.manifest.consume.ack == Ack::None
                && let Some(lost) = lost(&action)
            {
                self.let_go(key, lost);
                return Ok(());
            }
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
                    self.worker.came_through();
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
        in_hand.publishing = Some(clock::now());
        let role = Role::Publication(key, in_hand.round);
        self.worker.metrics.publications.inc_by(checked.len() as u64);
        for checked in checked {
            self.publisher.send(checked, role);
        }
        Action::Wait
    }

    fn ack(&mut self, key: Key) {
        let Some(in_hand) = self.settle(key) else { return };
        self.worker.metrics.settle(in_hand.copied.unwrap_or(Settled::Acked));
        if in_hand.copied.is_none() {
            self.worker.came_through();
            self.worker.handled_by(&in_hand.version);
            if let Some(before) = &in_hand.failed_by {
                self.worker.failed_before(before, false);
            }
            if let (Some(id), Some(dedupe)) = (in_hand.id, &self.worker.dedupe) {
                dedupe.done(id);
            }
        }
        Self::no_longer_suspect(&self.shared.running, &in_hand);
        if let Some(lane) = in_hand.lane {
            self.ready.extend(self.lanes.leave(&lane));
        }
    }

    /// Acks a delivery whose message was done before.
    pub(super) fn skip(&mut self, key: Key) {
        if let Some(in_hand) = self.in_hand(key) {
            in_hand.copied = Some(Settled::Skipped);
        }
        self.ack(key);
    }

    /// Acks a delivery whose handler has not begun. From then on its failures are told, and lost.
    pub(super) fn ack_first(&mut self, key: Key) {
        let Some(in_hand) = self.settle(key) else { return };
        self.worker.metrics.settle(Settled::Acked);
        if let Some(queue) = self.queues.get_mut(key.queue) {
            queue.gone.insert(key.tag, in_hand);
        }
    }

    /// Nothing more is to be done for a delivery that was acked first; one that did not come so far is acked now.
    fn let_go(&mut self, key: Key, lost: Option<Failure>) {
        if let Some(failure) = &lost {
            self.worker.metrics.fail(failure.kind, &failure.error);
            tracing::warn!(worker = %self.worker.name, reason = %failure.kind, "a delivery is lost: {}", failure.error);
        }
        let Some(queue) = self.queues.get_mut(key.queue) else { return };
        let Some(in_hand) = queue.gone.remove(&key.tag) else { return self.ack(key) };
        Self::no_longer_suspect(&self.shared.running, &in_hand);
        if let Some(lane) = in_hand.lane {
            self.ready.extend(self.lanes.leave(&lane));
        }
    }

    /// Notes the ack of a delivery, which leaves with others.
    fn settle(&mut self, key: Key) -> Option<InHand> {
        let queue = self.queues.get_mut(key.queue)?;
        let in_hand = queue.unsettled.ack(key.tag)?;
        self.holds.less();
        let batch = usize::from(self.worker.manifest.consume.prefetch / 4).clamp(1, ACK_BATCH_MAX);
        if queue.unsettled.unsent() >= batch
            && let Some(up_to) = queue.unsettled.take_cumulative()
        {
            queue.consumer.ack(up_to, true);
        }
        if queue.unsettled.unsent() > 0 {
            self.flush_at.get_or_insert_with(|| clock::now() + ACK_DELAY_MAX);
        }
        Some(in_hand)
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
            self.holds.less();
            Self::no_longer_suspect(&self.shared.running, &in_hand);
            how(&mut queue.consumer, key.tag);
            if let Some(lane) = in_hand.lane {
                self.ready.extend(self.lanes.leave(&lane));
            }
        }
    }

    /// One that was convicted did not run: where it is now, it harms nobody.
    fn no_longer_suspect(running: &Running, in_hand: &InHand) {
        if in_hand.suspicion.is_some() {
            running.cleared(in_hand.fingerprint);
        }
    }

    /// Gives up on confirms that do not come.
    pub(super) async fn overdue(&mut self) -> Result<(), Trouble> {
        let limit = self.version.publish_timeout;
        // While the broker blocks publishers the time stands still. What waits leaves when it takes publications again:
        // to put the deliveries back would only publish it once more, and once more, into what waits.
        let blocked = self.session.blocked();
        let mut overdue = Vec::new();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let gone = queue.gone.iter_mut().map(|(tag, in_hand)| (*tag, in_hand));
            for (tag, in_hand) in queue.unsettled.iter_mut().chain(gone) {
                if blocked {
                    in_hand.publishing = in_hand.publishing.map(|_| clock::now());
                } else if in_hand.publishing.is_some_and(|since| clock::since(since) > limit) {
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

/// What a delivery that was acked first is let go with: its failure, where it has one; nothing where more is to be done.
fn lost(action: &Action) -> Option<Option<Failure>> {
    let refused = |what: &str| {
        let error = format!("with `ack = \"none\"` a delivery cannot be {what}");
        Some(Some(Failure::new(FailureKind::MalformedOutcome, error)))
    };
    match action {
        Action::Publish(_) | Action::Wait => None,
        Action::Ack => Some(None),
        Action::Requeue => refused("requeued"),
        Action::Fail { failure, .. } if failure.kind == FailureKind::RetryAsked => refused("retried"),
        Action::Fail { failure, .. } => Some(Some(failure.clone())),
        Action::PutBack(_) => {
            Some(Some(Failure::new(FailureKind::BrokerNack, "the broker did not confirm what it published")))
        }
    }
}
