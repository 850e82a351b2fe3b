//! Publications: where they are routed, what is returned, and what is confirmed.

use std::collections::BTreeSet;
use std::sync::Arc;

use amq_protocol::protocol::{BasicProperties, basic};
use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::Bytes;

use crate::Name;
use crate::arguments::{TTL_MILLISECONDS_MAX, type_name};
use crate::broker::{At, Broker, ConnectionId, ack};
use crate::connection::{Confirms, Publication};
use crate::deadletter::Reason;
use crate::exchange::Destination;
use crate::failure::{Code, Failure, short};
use crate::message::{Message, with_headers};
use crate::output::{ContentKind, Outgoing};
use crate::queue::{Overflow, QueueId};

/// The pseudo queue that a requester consumes from, and what its addresses begin with.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Broker {
    /// A whole message has come.
    pub(crate) fn publish(
        &mut self,
        at: At,
        publish: basic::Publish,
        properties: BasicProperties,
        body: Bytes,
    ) -> Result<(), Failure> {
        if publish.immediate {
            return Err(Failure::new(Code::NotImplemented, "immediate=true"));
        }
        let exchange = self.publishable(at, publish.exchange.as_str())?;
        self.check_properties(at, &properties)?;
        let further = match properties.headers() {
            Some(headers) => further_keys(headers)?,
            None => Vec::new(),
        };
        let properties = self.stored_properties(at, properties)?;
        let routing_key = Name::from(publish.routing_key.as_str());
        let message = Arc::new(Message::new(&self.account, exchange, routing_key, properties, body));
        let publication = Publication { message, further, mandatory: publish.mandatory };
        let Some(connection) = self.connections.get_mut(&at.connection) else { return Ok(()) };
        let first = !std::mem::replace(&mut connection.publishes, true);
        let Some(channel) = connection.channels.get_mut(&at.channel) else { return Ok(()) };
        if let Some(transaction) = &mut channel.transaction {
            transaction.publishes.push(publication);
            if self.alarm && first {
                self.block(at.connection);
            }
            return Ok(());
        }
        let number = channel.confirms.as_mut().map(|confirms| {
            confirms.last += 1;
            confirms.last
        });
        let accepted = self.distribute(Some(at), publication);
        if let Some(number) = number {
            self.note_confirm(at, number, accepted);
        }
        if self.alarm {
            self.block(at.connection);
        }
        Ok(())
    }

    /// The exchange that a client may publish to.
    fn publishable(&self, at: At, name: &str) -> Result<Name, Failure> {
        if name.is_empty() {
            return Ok(self.default_exchange.clone());
        }
        let vhost = self.vhost_name(at);
        let exchange = self.vhosts.get(&vhost).and_then(|vhost| vhost.exchanges.get(name));
        let exchange = exchange.ok_or_else(|| Failure::missing("exchange", name, &vhost))?;
        if exchange.internal {
            let text = format!("cannot publish to internal exchange '{name}' in vhost '{vhost}'");
            return Err(Failure::new(Code::AccessRefused, text));
        }
        Ok(exchange.name.clone())
    }

    fn check_properties(&self, at: At, properties: &BasicProperties) -> Result<(), Failure> {
        if let Some(user) = properties.user_id() {
            let actual = self.connections.get(&at.connection).map_or("", |connection| &*connection.user);
            if user.as_str() != actual {
                let text = format!("user_id property set to '{user}' but authenticated user was '{actual}'");
                return Err(Failure::precondition(text));
            }
        }
        if let Some(expiration) = properties.expiration() {
            let text = expiration.as_str();
            let digits = text.strip_prefix('+').unwrap_or(text);
            let reason = match digits.parse::<u64>() {
                Ok(number) if i64::try_from(number).is_ok_and(|number| number <= TTL_MILLISECONDS_MAX) => return Ok(()),
                Ok(number) => format!("{{value_too_large,{number}}}"),
                Err(_) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    format!("{{value_too_large,{digits}}}")
                }
                Err(_) => match text.parse::<i64>() {
                    Ok(number) => format!("{{value_negative,{number}}}"),
                    Err(_) => unparsed(text),
                },
            };
            return Err(Failure::precondition(format!("invalid expiration '{text}': {reason}")));
        }
        Ok(())
    }

    /// The properties as consumers get them: without `BCC`, and with an address for the answer.
    fn stored_properties(&mut self, at: At, mut properties: BasicProperties) -> Result<BasicProperties, Failure> {
        if let Some(headers) = properties.headers()
            && headers.contains_key("BCC")
        {
            let mut headers = headers.inner().clone();
            headers.remove("BCC");
            properties = with_headers(&properties, Some(headers.into()), true);
        }
        if properties.reply_to().as_ref().is_some_and(|to| to.as_str() == REPLY_TO) {
            let reply = self.channel(at).and_then(|channel| channel.reply.as_ref());
            let reply = reply.ok_or_else(|| Failure::precondition("fast reply consumer does not exist"))?;
            properties = properties.with_reply_to(short(format!("{REPLY_TO}.{}", reply.token)));
        }
        Ok(properties)
    }

    /// Brings a message to all queues that it is routed to. False where one of them refused it.
    pub(crate) fn distribute(&mut self, at: Option<At>, publication: Publication) -> bool {
        let Publication { message, further, mandatory } = publication;
        let vhost = at.map(|at| self.vhost_name(at)).unwrap_or_default();
        if message.exchange.is_empty() && message.routing_key.starts_with(REPLY_TO) {
            self.reply(&message);
        }
        let queues = self.route(&vhost, &message, &further);
        if let (true, true, Some(at)) = (mandatory, queues.is_empty(), at) {
            let kind = ContentKind::Return;
            self.push(at.connection, Outgoing::Content { channel: at.channel, kind, message, delivery_count: None });
            return true;
        }
        self.enqueue_all(&queues, &message)
    }

    /// Puts a message into queues. False where one of them refused it.
    pub(crate) fn enqueue_all(&mut self, queues: &[QueueId], message: &Arc<Message>) -> bool {
        let mut accepted = true;
        for queue in queues {
            accepted &= self.enqueue(*queue, message.clone());
        }
        accepted
    }

    fn enqueue(&mut self, id: QueueId, message: Arc<Message>) -> bool {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(&id) else { return true };
        if queue.refuses(message.body.len()) {
            if queue.options.arguments.overflow == Overflow::RejectDeadLetter {
                let entry = queue.entry(message, now);
                self.dead_letter(id, entry, Reason::MaxLength);
            }
            return false;
        }
        let entry = queue.entry(message, now);
        if queue.is_empty()
            && !queue.consumers.is_empty()
            && let Some(consumer) = self.next_consumer(id)
        {
            self.deliver(id, consumer, entry);
            return true;
        }
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.insert(entry);
        }
        while let Some(surplus) = self.queues.get_mut(&id).and_then(crate::queue::Queue::pop_surplus) {
            self.dead_letter(id, surplus, Reason::MaxLength);
        }
        self.mark(id);
        true
    }

    /// The queues that a message goes to, each once, in the order in which they were declared.
    pub(crate) fn route(&self, vhost: &str, message: &Message, further: &[String]) -> Vec<QueueId> {
        let Some(vhost) = self.vhosts.get(vhost) else { return Vec::new() };
        if message.exchange.is_empty() && further.is_empty() {
            return vhost.queues.get(&message.routing_key).into_iter().copied().collect();
        }
        let mut queues = BTreeSet::new();
        let keys = || std::iter::once(&*message.routing_key).chain(further.iter().map(|key| &**key));
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![&message.exchange]);
        while let Some(name) = ahead.pop() {
            if !seen.insert(name) {
                continue;
            }
            if name.is_empty() {
                queues.extend(keys().filter_map(|key| vhost.queues.get(key)).copied());
                continue;
            }
            let Some(exchange) = vhost.exchanges.get(name) else { continue };
            let mut routed = false;
            for key in keys() {
                exchange.route(key, message.properties.headers().as_ref(), |destination| {
                    routed = true;
                    match destination {
                        Destination::Queue(queue) => {
                            queues.insert(*queue);
                        }
                        Destination::Exchange(next) => ahead.push(next),
                    }
                });
            }
            if !routed {
                ahead.extend(&exchange.alternate);
            }
        }
        queues.into_iter().collect()
    }

    /// Brings an answer to the channel that asked. It is lost where nobody waits for it any more, or where there is too
    /// much to write to it.
    fn reply(&mut self, message: &Arc<Message>) {
        let token = message.routing_key.strip_prefix(REPLY_TO).and_then(|rest| rest.strip_prefix('.'));
        let Some(at) = token.and_then(|token| self.replies.get(token)).copied() else { return };
        let most = self.settings.limits.output_bytes_max;
        if self.connections.get(&at.connection).is_none_or(|connection| connection.output_bytes > most) {
            return;
        }
        let Some(channel) = self.channel(at) else { return };
        let Some(consumer_tag) = channel.reply.as_ref().map(|reply| reply.tag.clone()) else { return };
        channel.last_tag += 1;
        let kind = ContentKind::Deliver { consumer_tag, delivery_tag: channel.last_tag, redelivered: false };
        let message = message.clone();
        self.push(at.connection, Outgoing::Content { channel: at.channel, kind, message, delivery_count: None });
    }

    /// Notes that a message was accepted or refused. Those that are accepted in a row are confirmed together.
    fn note_confirm(&mut self, at: At, number: u64, accepted: bool) {
        if !accepted {
            self.confirm(at);
            self.send(
                at,
                basic::AMQPMethod::Nack(basic::Nack { delivery_tag: number, multiple: false, requeue: false }),
            );
            return;
        }
        let Some(connection) = self.connections.get_mut(&at.connection) else { return };
        let Some(channel) = connection.channels.get_mut(&at.channel) else { return };
        if let Some(Confirms { pending, .. }) = &mut channel.confirms {
            match pending {
                Some((_, last)) => *last = number,
                None => {
                    *pending = Some((number, number));
                    connection.confirming.insert(at.channel);
                    self.wake(at.connection);
                }
            }
        }
    }

    /// Sends the confirms of a channel that wait.
    pub(crate) fn confirm(&mut self, at: At) {
        let Some(connection) = self.connections.get_mut(&at.connection) else { return };
        if !connection.confirming.remove(&at.channel) {
            return;
        }
        let channel = connection.channels.get_mut(&at.channel);
        let pending = channel.and_then(|channel| channel.confirms.as_mut()?.pending.take());
        if let Some((first, last)) = pending {
            self.send(at, ack(last, last > first));
        }
    }

    /// Sends the confirms of all channels of a connection.
    pub(crate) fn confirm_all(&mut self, connection: ConnectionId) {
        while let Some(channel) = self.connections.get(&connection).and_then(|known| known.confirming.first().copied())
        {
            self.confirm(At { connection, channel });
        }
    }
}

/// How Erlang says that a text is no integer.
fn unparsed(text: &str) -> String {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match text.split_at_checked(digits) {
        Some((_, rest)) if digits > 0 => format!("{{leftover_string,\"{rest}\"}}"),
        _ => "no_integer".to_owned(),
    }
}

/// The routing keys in the headers `CC` and `BCC`.
fn further_keys(headers: &FieldTable) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for name in ["CC", "BCC"] {
        let refused = |kind: &str| {
            Failure::precondition(format!("invalid message: {{unacceptable_type_in_header,{name:?},{kind}}}"))
        };
        match headers.inner().get(name) {
            None => {}
            Some(AMQPValue::FieldArray(array)) => {
                // What is no text is no key.
                let texts = array.as_slice().iter().filter_map(AMQPValue::as_long_string);
                keys.extend(texts.map(ToString::to_string));
            }
            Some(other) => return Err(refused(type_name(other))),
        }
    }
    Ok(keys)
}
