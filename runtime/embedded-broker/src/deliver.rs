//! Consumers: how they come and go, and which of them gets a message.

use amq_protocol::protocol::basic;
use amq_protocol::types::AMQPValue;

use crate::Name;
use crate::arguments::integer;
use crate::broker::{At, Broker, Method};
use crate::connection::{Connection, Phase, ReplyConsumer, Unacked};
use crate::consumer::{Consumer, ConsumerId};
use crate::deadletter::Reason;
use crate::failure::{Code, Failure, short};
use crate::output::{ContentKind, Outgoing};
use crate::publish::REPLY_TO;
use crate::queue::{Entry, QueueId};

impl Broker {
    pub(crate) fn consume(&mut self, at: At, consume: basic::Consume) -> Result<(), Failure> {
        let tag = match consume.consumer_tag.as_str() {
            "" => Name::from(self.next_name("amq.ctag-")),
            tag => Name::from(tag),
        };
        let Some(connection) = self.connections.get(&at.connection) else { return Ok(()) };
        let Some(channel) = connection.channels.get(&at.channel) else { return Ok(()) };
        if consume.queue.as_str() == REPLY_TO {
            return self.consume_replies(at, &consume, tag);
        }
        let is_reply = channel.reply.as_ref().is_some_and(|reply| reply.tag == tag);
        if channel.consumers.contains_key(&tag) || is_reply {
            return Err(Failure::new(Code::NotAllowed, format!("attempt to reuse consumer tag '{tag}'")));
        }
        let most = self.settings.limits.consumers_max;
        if connection.consumers >= most {
            return Err(Failure::precondition(format!("consumer limit per connection ({most}) is reached")));
        }
        let (prefetch, prefetch_global) = (channel.prefetch, channel.prefetch_global);
        let id = self.find_queue(at, consume.queue.as_str())?;
        let number = self.next_number();
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(()) };
        let whose = format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
        let keeps_turns = consume.exclusive && queue.options.arguments.single_active;
        if keeps_turns || queue.exclusive.is_some() || (consume.exclusive && !queue.consumers.is_empty()) {
            return Err(Failure::new(Code::AccessRefused, format!("{whose} in exclusive use")));
        }
        if queue.is_quorum() && prefetch_global > 0 {
            return Err(Failure::new(Code::NotImplemented, format!("{whose} does not support global qos")));
        }
        let priority = consume.arguments.inner().get("x-priority").and_then(integer).unwrap_or(0);
        let consumer = ConsumerId(number);
        if consume.exclusive {
            queue.exclusive = Some(consumer);
        }
        queue.active.get_or_insert(consumer);
        queue.used_at = self.now;
        let consumers = &self.consumers;
        let behind = |other: &ConsumerId| consumers.get(other).is_some_and(|other| other.priority < priority);
        let place = queue.consumers.iter().position(behind).unwrap_or(queue.consumers.len());
        queue.consumers.insert(place, consumer);
        let known =
            Consumer { at, tag: tag.clone(), queue: id, no_ack: consume.no_ack, prefetch, unacked: 0, priority };
        self.consumers.insert(consumer, known);
        if let Some(connection) = self.connections.get_mut(&at.connection) {
            connection.consumers += 1;
            if let Some(channel) = connection.channels.get_mut(&at.channel) {
                channel.consumers.insert(tag.clone(), consumer);
            }
        }
        if !consume.nowait {
            self.send(at, basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: short(&*tag) }));
        }
        self.mark(id);
        Ok(())
    }

    fn consume_replies(&mut self, at: At, consume: &basic::Consume, tag: Name) -> Result<(), Failure> {
        let token = Name::from(self.next_name(""));
        let Some(channel) = self.channel(at) else { return Ok(()) };
        if channel.reply.is_some() {
            return Err(Failure::precondition("reply consumer already set"));
        }
        if !consume.no_ack {
            return Err(Failure::precondition("reply consumer cannot acknowledge"));
        }
        channel.reply = Some(ReplyConsumer { tag: tag.clone(), token: token.clone() });
        self.replies.insert(token, at);
        if !consume.nowait {
            self.send(at, basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: short(&*tag) }));
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self, at: At, cancel: basic::Cancel) -> Result<(), Failure> {
        let Some(channel) = self.channel(at) else { return Ok(()) };
        let consumer = channel.consumers.remove(cancel.consumer_tag.as_str());
        let reply = channel.reply.take_if(|reply| *reply.tag == *cancel.consumer_tag.as_str());
        if let Some(reply) = reply {
            self.replies.remove(&reply.token);
        }
        let queue = consumer.and_then(|consumer| self.remove_consumer(consumer));
        if !cancel.nowait {
            let consumer_tag = cancel.consumer_tag;
            self.send(at, basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag }));
        }
        if let Some(queue) = queue {
            self.delete_if_unused(queue);
        }
        Ok(())
    }

    /// Takes a consumer from its queue, which is returned.
    pub(crate) fn remove_consumer(&mut self, consumer: ConsumerId) -> Option<QueueId> {
        let known = self.consumers.remove(&consumer)?;
        if let Some(connection) = self.connections.get_mut(&known.connection()) {
            connection.consumers -= 1;
        }
        let queue = self.queues.get_mut(&known.queue)?;
        queue.consumers.retain(|other| *other != consumer);
        queue.exclusive.take_if(|exclusive| *exclusive == consumer);
        if queue.active == Some(consumer) {
            queue.active = queue.consumers.first().copied();
        }
        queue.used_at = self.now;
        self.mark(known.queue);
        Some(known.queue)
    }

    pub(crate) fn set_prefetch(&mut self, at: At, qos: &basic::Qos) -> Result<(), Failure> {
        let Some(channel) = self.channel(at) else { return Ok(()) };
        if qos.global {
            channel.prefetch_global = qos.prefetch_count;
            let consumers: Vec<_> = channel.consumers.values().copied().collect();
            for consumer in consumers {
                if let Some(queue) = self.consumers.get(&consumer).map(|consumer| consumer.queue) {
                    self.mark(queue);
                }
            }
        } else {
            channel.prefetch = qos.prefetch_count;
        }
        self.send(at, basic::AMQPMethod::QosOk(basic::QosOk {}));
        Ok(())
    }

    pub(crate) fn get(&mut self, at: At, get: &basic::Get) -> Result<(), Failure> {
        let id = self.find_queue(at, get.queue.as_str())?;
        self.drop_expired(id);
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(()) };
        queue.used_at = self.now;
        let (entry, quorum) = (queue.pop(), queue.is_quorum());
        let message_count = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        self.mark(id);
        let Some(entry) = entry else {
            self.send(at, basic::AMQPMethod::GetEmpty(basic::GetEmpty {}));
            return Ok(());
        };
        self.confirm(at);
        let Some(channel) = self.channel(at) else { return Ok(()) };
        channel.last_tag += 1;
        let (delivery_tag, redelivered) = (channel.last_tag, entry.redelivered);
        let message = entry.message.clone();
        let delivery_count = quorum.then_some(entry.returns);
        if !get.no_ack {
            channel.unacked.insert(delivery_tag, Unacked { queue: id, consumer: None, entry });
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.unacked += 1;
            }
        }
        let kind = ContentKind::GetOk { delivery_tag, redelivered, message_count };
        self.push(at.connection, Outgoing::Content { channel: at.channel, kind, message, delivery_count });
        Ok(())
    }

    /// Delivers what a queue has, for as long as somebody takes it.
    pub(crate) fn pump(&mut self, id: QueueId) {
        loop {
            self.drop_expired(id);
            match self.queues.get(&id) {
                Some(queue) if !queue.is_empty() && !queue.consumers.is_empty() => {}
                _ => return,
            }
            let Some(consumer) = self.next_consumer(id) else { return };
            if let Some(entry) = self.queues.get_mut(&id).and_then(crate::queue::Queue::pop) {
                self.deliver(id, consumer, entry);
            }
        }
    }

    fn drop_expired(&mut self, id: QueueId) {
        while let Some(entry) = self.queues.get_mut(&id).and_then(|queue| queue.pop_expired(self.now)) {
            self.dead_letter(id, entry, Reason::Expired);
        }
    }

    /// The consumer that is to get the next message of a queue. It is then the last of its priority.
    pub(crate) fn next_consumer(&mut self, id: QueueId) -> Option<ConsumerId> {
        let queue = self.queues.get(&id)?;
        if queue.options.arguments.single_active {
            let active = queue.active?;
            return self.takes(active).then_some(active);
        }
        let mut chosen = None;
        for at in 0..queue.consumers.len() {
            let candidate = self.queues.get(&id)?.consumers.get(at).copied()?;
            if self.takes(candidate) {
                chosen = Some((at, candidate));
                break;
            }
        }
        let (at, chosen) = chosen?;
        let queue = self.queues.get_mut(&id)?;
        if queue.consumers.len() > 1 {
            let priority = self.consumers.get(&chosen)?.priority;
            queue.consumers.remove(at);
            let consumers = &self.consumers;
            let behind = |other: &ConsumerId| consumers.get(other).is_some_and(|other| other.priority < priority);
            let place = queue.consumers.iter().position(behind).unwrap_or(queue.consumers.len());
            queue.consumers.insert(place, chosen);
        }
        Some(chosen)
    }

    /// Whether a consumer can take one more.
    fn takes(&mut self, id: ConsumerId) -> bool {
        let Some(consumer) = self.consumers.get(&id) else { return false };
        let Some(connection) = self.connections.get_mut(&consumer.at.connection) else { return false };
        if !consumer.has_room() || connection.phase != Phase::Running {
            return false;
        }
        if connection.output_bytes > self.settings.limits.output_bytes_max {
            connection.starved = true;
            return false;
        }
        let channel = connection.channels.get(&consumer.at.channel);
        channel.is_some_and(|channel| consumer.no_ack || channel.has_room())
    }

    pub(crate) fn deliver(&mut self, id: QueueId, consumer_id: ConsumerId, entry: Entry) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(consumer) = self.consumers.get_mut(&consumer_id) else { return };
        let at = consumer.at;
        let Some(Connection { channels, .. }) = self.connections.get_mut(&at.connection) else { return };
        let Some(channel) = channels.get_mut(&at.channel) else { return };
        channel.last_tag += 1;
        let delivery_tag = channel.last_tag;
        let kind =
            ContentKind::Deliver { consumer_tag: consumer.tag.clone(), delivery_tag, redelivered: entry.redelivered };
        let delivery_count = count(queue.is_quorum(), &entry);
        let message = if consumer.no_ack {
            entry.message
        } else {
            consumer.unacked += 1;
            queue.unacked += 1;
            channel.consumed += 1;
            let message = entry.message.clone();
            channel.unacked.insert(delivery_tag, Unacked { queue: id, consumer: Some(consumer_id), entry });
            message
        };
        self.push(at.connection, Outgoing::Content { channel: at.channel, kind, message, delivery_count });
    }

    /// Tells a client that a consumer of it has lost its queue, where it wants to know.
    pub(crate) fn notify_cancelled(&mut self, consumer: ConsumerId) {
        let Some(known) = self.consumers.remove(&consumer) else { return };
        let Some(connection) = self.connections.get_mut(&known.at.connection) else { return };
        connection.consumers -= 1;
        let notifies = connection.capabilities.consumer_cancel_notify;
        if let Some(channel) = connection.channels.get_mut(&known.at.channel) {
            channel.consumers.remove(&known.tag);
        }
        if notifies {
            let cancel = basic::Cancel { consumer_tag: short(&*known.tag), nowait: true };
            self.send(known.at, Method::from(basic::AMQPMethod::Cancel(cancel)));
        }
    }
}

/// What the header `x-delivery-count` is to say.
fn count(quorum: bool, entry: &Entry) -> Option<u64> {
    // A client may have published the header itself.
    let foreign = matches!(entry.message.header("x-delivery-count"), Some(AMQPValue::Void));
    (quorum && !foreign && entry.returns > 0).then_some(entry.returns)
}
