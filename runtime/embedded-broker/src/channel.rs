//! Channels: which method does what, and how messages come in parts.

use amq_protocol::frame::AMQPContentHeader;
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, tx};
use bytes::{Bytes, BytesMut};

use crate::broker::{At, Broker, ConnectionId};
use crate::connection::{Channel, Confirms, Partial, Phase, Transaction, Verdict};
use crate::failure::{Code, Failure};

/// The class of messages.
const BASIC: u16 = 60;

fn unexpected(text: impl Into<String>) -> Failure {
    Failure::new(Code::UnexpectedFrame, text)
}

impl Broker {
    /// Handles a method on a channel that is not 0.
    pub(crate) fn channel_method(&mut self, at: At, method: AMQPClass) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(&at.connection) else { return Ok(()) };
        if connection.phase != Phase::Running {
            return Err(Failure::new(Code::ChannelError, "the connection is not open"));
        }
        let opens = matches!(method, AMQPClass::Channel(channel::AMQPMethod::Open(_)));
        let Some(known) = connection.channels.get_mut(&at.channel) else {
            if !opens {
                return Err(Failure::new(Code::ChannelError, "expected 'channel.open'"));
            }
            let most = connection.channels_max;
            if connection.channels.len() >= usize::from(most) {
                let text =
                    format!("number of channels opened ({most}) has reached the negotiated channel_max ({most})");
                // RabbitMQ names no method here.
                self.fail(At { channel: 0, ..at }, (0, 0), &Failure::new(Code::NotAllowed, text));
                return Ok(());
            }
            connection.channels.insert(at.channel, Channel::default());
            self.send(at, channel::AMQPMethod::OpenOk(channel::OpenOk {}));
            return Ok(());
        };
        if known.closing {
            match method {
                AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
                    connection.channels.remove(&at.channel);
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                    self.send(at, channel::AMQPMethod::CloseOk(channel::CloseOk {}));
                }
                _ => {}
            }
            return Ok(());
        }
        if let Some(partial) = known.partial.take() {
            return Err(unexpected(match partial.header {
                None => "expected content header for class 60, got non content header frame instead",
                Some(_) => "expected content body, got non content body frame instead",
            }));
        }
        match method {
            AMQPClass::Basic(method) => self.basic_method(at, method),
            AMQPClass::Queue(method) => self.queue_method(at, method),
            AMQPClass::Exchange(method) => self.exchange_method(at, method),
            AMQPClass::Channel(method) => self.own_method(at, method),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => self.select_confirms(at, &select),
            AMQPClass::Tx(method) => self.transaction_method(at, &method),
            AMQPClass::Access(amq_protocol::protocol::access::AMQPMethod::Request(_)) => {
                self.push(
                    at.connection,
                    crate::output::Outgoing::Method(
                        at.channel,
                        AMQPClass::Access(amq_protocol::protocol::access::AMQPMethod::RequestOk(
                            amq_protocol::protocol::access::RequestOk {},
                        )),
                    ),
                );
                Ok(())
            }
            _ => Err(Failure::new(Code::CommandInvalid, "unimplemented method")),
        }
    }

    fn own_method(&mut self, at: At, method: channel::AMQPMethod) -> Result<(), Failure> {
        use channel::AMQPMethod as M;
        match method {
            M::Open(_) => Err(Failure::new(Code::ChannelError, "second 'channel.open' seen")),
            M::Flow(channel::Flow { active: true }) => {
                self.send(at, M::FlowOk(channel::FlowOk { active: true }));
                Ok(())
            }
            M::Flow(_) => Err(Failure::new(Code::NotImplemented, "active=false")),
            M::Close(_) => {
                self.confirm(at);
                self.end_channel(at);
                self.send(at, M::CloseOk(channel::CloseOk {}));
                if let Some(connection) = self.connections.get_mut(&at.connection) {
                    connection.channels.remove(&at.channel);
                }
                Ok(())
            }
            M::OpenOk(_) | M::FlowOk(_) | M::CloseOk(_) => {
                Err(Failure::new(Code::CommandInvalid, "unimplemented method"))
            }
        }
    }

    fn basic_method(&mut self, at: At, method: basic::AMQPMethod) -> Result<(), Failure> {
        use basic::AMQPMethod as M;
        match method {
            M::Publish(publish) => {
                let charge = self.partial.charge(0);
                if let Some(channel) = self.channel(at) {
                    channel.partial = Some(Partial { publish, header: None, body: BytesMut::new(), charge });
                }
                Ok(())
            }
            M::Ack(ack) => self.settle_up_to(at, ack.delivery_tag, ack.multiple, Verdict::Done),
            M::Nack(nack) => {
                let verdict = if nack.requeue { Verdict::Requeue } else { Verdict::DeadLetter };
                self.settle_up_to(at, nack.delivery_tag, nack.multiple, verdict)
            }
            M::Reject(reject) => {
                let verdict = if reject.requeue { Verdict::Requeue } else { Verdict::DeadLetter };
                self.settle_up_to(at, reject.delivery_tag, false, verdict)
            }
            M::Consume(consume) => self.consume(at, consume),
            M::Cancel(cancel) => self.cancel(at, cancel),
            M::Get(get) => self.get(at, &get),
            M::Qos(qos) => self.set_prefetch(at, &qos),
            M::Recover(basic::Recover { requeue }) => {
                self.recover(at, requeue)?;
                self.send(at, M::RecoverOk(basic::RecoverOk {}));
                Ok(())
            }
            M::RecoverAsync(basic::RecoverAsync { requeue }) => self.recover(at, requeue),
            M::QosOk(_)
            | M::ConsumeOk(_)
            | M::CancelOk(_)
            | M::Return(_)
            | M::Deliver(_)
            | M::GetOk(_)
            | M::GetEmpty(_)
            | M::RecoverOk(_) => Err(Failure::new(Code::CommandInvalid, "unimplemented method")),
        }
    }

    /// The header of a message: how large it is, and its properties.
    pub(crate) fn content_header(&mut self, at: At, header: AMQPContentHeader) -> Result<(), Failure> {
        let most = self.settings.limits.body_bytes_max;
        let Some(channel) = self.receiving(at)? else { return Ok(()) };
        let Some(partial) = channel.partial.as_mut().filter(|partial| partial.header.is_none()) else {
            return Err(match channel.partial {
                None => unexpected("expected method frame, got non method frame instead"),
                Some(_) => unexpected("expected content body, got non content body frame instead"),
            });
        };
        if header.class_id != BASIC {
            let text = format!("expected content header for class 60, got one for class {} instead", header.class_id);
            return Err(unexpected(text));
        }
        if header.body_size > most {
            let text = format!("message size {} is larger than configured max size {most}", header.body_size);
            return Err(Failure::precondition(text));
        }
        if header.body_size > 0 {
            partial.header = Some(header);
            return Ok(());
        }
        match channel.partial.take() {
            Some(partial) => self.publish(at, partial.publish, header.properties, Bytes::new()),
            None => Ok(()),
        }
    }

    /// A part of a message's body, the last of which completes it.
    pub(crate) fn content_body(&mut self, at: At, body: Vec<u8>) -> Result<(), Failure> {
        let (held, most) = (self.partial.held(), self.settings.limits.partial_bytes_max);
        let Some(channel) = self.receiving(at)? else { return Ok(()) };
        let (publish, header, known, mut charge) = match channel.partial.take() {
            Some(Partial { publish, header: Some(header), body, charge }) => (publish, header, body, charge),
            Some(Partial { header: None, .. }) => {
                return Err(unexpected("expected content header for class 60, got non content header frame instead"));
            }
            None => return Err(unexpected("expected method frame, got non method frame instead")),
        };
        let length = (known.len() + body.len()) as u64;
        if length == header.body_size {
            let whole = if known.is_empty() { Bytes::from(body) } else { joined(known, &body).freeze() };
            drop(charge);
            return self.publish(at, publish, header.properties, whole);
        }
        if length > header.body_size {
            return Err(Failure::new(Code::FrameError, "more of a body than its header announced"));
        }
        if held + body.len() > most {
            return Err(Failure::new(Code::ResourceError, "too many bodies that are not complete"));
        }
        charge.add(body.len());
        channel.partial = Some(Partial { publish, header: Some(header), body: joined(known, &body), charge });
        Ok(())
    }

    /// The channel that content is for; none where it was closed and the client does not know yet.
    fn receiving(&mut self, at: At) -> Result<Option<&mut Channel>, Failure> {
        match self.channel(at) {
            None => Err(unexpected("expected method frame, got non method frame instead")),
            Some(channel) if channel.closing => Ok(None),
            Some(channel) => Ok(Some(channel)),
        }
    }

    fn select_confirms(&mut self, at: At, select: &confirm::Select) -> Result<(), Failure> {
        let Some(channel) = self.channel(at) else { return Ok(()) };
        if channel.transaction.is_some() {
            return Err(Failure::precondition("cannot switch from tx to confirm mode"));
        }
        channel.confirms.get_or_insert_with(Confirms::default);
        if !select.nowait {
            self.send(at, confirm::AMQPMethod::SelectOk(confirm::SelectOk {}));
        }
        Ok(())
    }

    fn transaction_method(&mut self, at: At, method: &tx::AMQPMethod) -> Result<(), Failure> {
        use tx::AMQPMethod as M;
        let Some(channel) = self.channel(at) else { return Ok(()) };
        let transactional = channel.transaction.is_some();
        match method {
            M::Select(_) if channel.confirms.is_some() => {
                return Err(Failure::precondition("cannot switch from confirm to tx mode"));
            }
            M::Select(_) => {
                channel.transaction.get_or_insert_with(Transaction::default);
                self.send(at, M::SelectOk(tx::SelectOk {}));
            }
            M::Commit(_) | M::Rollback(_) if !transactional => {
                return Err(Failure::precondition("channel is not transactional"));
            }
            M::Commit(_) => {
                self.commit(at);
                self.send(at, M::CommitOk(tx::CommitOk {}));
            }
            M::Rollback(_) => {
                self.roll_back(at);
                self.send(at, M::RollbackOk(tx::RollbackOk {}));
            }
            M::SelectOk(_) | M::CommitOk(_) | M::RollbackOk(_) => {
                return Err(Failure::new(Code::CommandInvalid, "unimplemented method"));
            }
        }
        Ok(())
    }

    /// Takes everything from the channels of a connection, and from the connection what was for it alone.
    pub(crate) fn end_channels(&mut self, connection: ConnectionId) {
        let Some(known) = self.connections.get(&connection) else { return };
        let channels: Vec<u16> = known.channels.keys().copied().collect();
        for channel in channels {
            self.end_channel(At { connection, channel });
        }
        if let Some(known) = self.connections.get_mut(&connection) {
            known.channels.clear();
            known.confirming.clear();
        }
        let exclusive = self.queues.values().filter(|queue| queue.options.owner == Some(connection));
        let exclusive: Vec<_> = exclusive.map(|queue| queue.id).collect();
        for queue in exclusive {
            self.delete_queue(queue);
        }
    }

    /// Takes everything from a channel: its consumers go, and what they have not settled goes back.
    pub(crate) fn end_channel(&mut self, at: At) {
        let Some(channel) = self.channel(at) else { return };
        let consumers: Vec<_> = std::mem::take(&mut channel.consumers).into_values().collect();
        let mut unacked = std::mem::take(&mut channel.unacked);
        if let Some(transaction) = channel.transaction.take() {
            unacked.extend(transaction.settled.into_iter().map(|(tag, unacked, _)| (tag, unacked)));
        }
        channel.partial = None;
        channel.confirms = None;
        channel.consumed = 0;
        if let Some(reply) = channel.reply.take() {
            self.replies.remove(&reply.token);
        }
        let queues: Vec<_> = consumers.into_iter().filter_map(|consumer| self.remove_consumer(consumer)).collect();
        for unacked in unacked.into_values() {
            self.requeue(unacked.queue, unacked.entry);
        }
        for queue in queues {
            self.delete_if_unused(queue);
        }
    }
}

fn joined(mut known: BytesMut, more: &[u8]) -> BytesMut {
    known.extend_from_slice(more);
    known
}
