//! Acknowledgements: which deliveries they mean, and what becomes of the messages.

use crate::broker::{At, Broker};
use crate::connection::{Transaction, Unacked, Verdict};
use crate::deadletter::Reason;
use crate::failure::{Code, Failure};
use crate::queue::{Entry, QueueId};

impl Broker {
    /// Settles the delivery `tag`, with `multiple` all up to it.
    pub(crate) fn settle_up_to(&mut self, at: At, tag: u64, multiple: bool, verdict: Verdict) -> Result<(), Failure> {
        let Some(channel) = self.channel(at) else { return Ok(()) };
        let everything = multiple && tag == 0;
        if !everything && !channel.unacked.contains_key(&tag) {
            return Err(Failure::precondition(format!("unknown delivery tag {tag}")));
        }
        if !multiple {
            if let Some(unacked) = channel.unacked.remove(&tag) {
                self.settle_or_note(at, tag, unacked, verdict);
            }
            return Ok(());
        }
        let taken = if everything {
            std::mem::take(&mut channel.unacked)
        } else {
            let rest = channel.unacked.split_off(&(tag.saturating_add(1)));
            std::mem::replace(&mut channel.unacked, rest)
        };
        for (tag, unacked) in taken {
            self.settle_or_note(at, tag, unacked, verdict);
        }
        Ok(())
    }

    fn settle_or_note(&mut self, at: At, tag: u64, unacked: Unacked, verdict: Verdict) {
        match self.channel(at).and_then(|channel| channel.transaction.as_mut()) {
            Some(transaction) => transaction.settled.push((tag, unacked, verdict)),
            None => self.settle_one(at, unacked, verdict),
        }
    }

    fn settle_one(&mut self, at: At, unacked: Unacked, verdict: Verdict) {
        let Unacked { queue, consumer, entry } = unacked;
        if let Some(consumer) = consumer {
            let mut limited = false;
            if let Some(channel) = self.channel(at) {
                limited = channel.prefetch_global > 0;
                channel.consumed = channel.consumed.saturating_sub(1);
            }
            if let Some(known) = self.consumers.get_mut(&consumer) {
                known.unacked = known.unacked.saturating_sub(1);
            }
            if limited {
                self.mark_channel(at);
            }
        }
        match verdict {
            Verdict::Requeue => return self.requeue(queue, entry, false),
            Verdict::DeadLetter => self.dead_letter(queue, entry, Reason::Rejected),
            Verdict::Done => {}
        }
        if let Some(known) = self.queues.get_mut(&queue) {
            known.unacked = known.unacked.saturating_sub(1);
            // One that has nothing to deliver has nothing to do, either.
            if !known.is_empty() {
                self.mark(queue);
            }
        }
    }

    /// All queues that the consumers of a channel are at may have something for them.
    fn mark_channel(&mut self, at: At) {
        let Some(channel) = self.channel(at) else { return };
        let consumers: Vec<_> = channel.consumers.values().copied().collect();
        for consumer in consumers {
            if let Some(queue) = self.consumers.get(&consumer).map(|consumer| consumer.queue) {
                self.mark(queue);
            }
        }
    }

    /// Puts a delivered message back to its queue: to its old place, or, where the queue counts deliveries, in front of
    /// or behind the others.
    pub(crate) fn requeue(&mut self, id: QueueId, mut entry: Entry, channel_ended: bool) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.unacked = queue.unacked.saturating_sub(1);
        entry.redelivered = true;
        if queue.is_quorum() {
            entry.returns += 1;
            if queue.options.arguments.delivery_limit.is_some_and(|most| entry.returns > most) {
                self.dead_letter(id, entry, Reason::DeliveryLimit);
                return;
            }
            entry = if channel_ended { queue.returned(entry) } else { queue.moved(entry) };
        }
        queue.insert(entry);
        self.mark(id);
    }

    /// Puts back all that the channel has not settled.
    pub(crate) fn recover(&mut self, at: At, requeue: bool) -> Result<(), Failure> {
        if !requeue {
            return Err(Failure::new(Code::NotImplemented, "requeue=false"));
        }
        let Some(channel) = self.channel(at) else { return Ok(()) };
        for unacked in std::mem::take(&mut channel.unacked).into_values() {
            self.settle_one(at, unacked, Verdict::Requeue);
        }
        Ok(())
    }

    /// Does what was put off until now.
    pub(crate) fn commit(&mut self, at: At) {
        let Transaction { publishes, settled } = self.take_transaction(at);
        for publication in publishes {
            self.distribute(Some(at), publication);
        }
        for (_, unacked, verdict) in settled {
            self.settle_one(at, unacked, verdict);
        }
    }

    /// Forgets what was put off: what was acknowledged is to be acknowledged again.
    pub(crate) fn roll_back(&mut self, at: At) {
        let Transaction { settled, .. } = self.take_transaction(at);
        if let Some(channel) = self.channel(at) {
            channel.unacked.extend(settled.into_iter().map(|(tag, unacked, _)| (tag, unacked)));
        }
    }

    fn take_transaction(&mut self, at: At) -> Transaction {
        let transaction = self.channel(at).and_then(|channel| channel.transaction.as_mut());
        transaction.map(std::mem::take).unwrap_or_default()
    }
}
