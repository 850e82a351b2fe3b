//! The methods of queues, and the end of queues.

use std::sync::Arc;

use amq_protocol::protocol::queue;

use crate::Name;
use crate::arguments::{COMPARED, QueueArguments, same, same_flag};
use crate::broker::{At, Broker};
use crate::exchange::Destination;
use crate::failure::{Code, Failure, short};
use crate::publish::REPLY_TO;
use crate::queue::{Options, Queue, QueueId};

impl Broker {
    pub(crate) fn queue_method(&mut self, at: At, method: queue::AMQPMethod) -> Result<(), Failure> {
        use queue::AMQPMethod as M;
        match method {
            M::Declare(declare) => self.declare_queue(at, declare),
            M::Bind(bind) => {
                let destination = self.queue_destination(at, bind.queue.as_str(), bind.exchange.as_str())?;
                let key = self.binding_key(at, bind.queue.as_str(), bind.routing_key.as_str());
                self.bind(at, bind.exchange.as_str(), destination, &key, &bind.arguments)?;
                if !bind.nowait {
                    self.send(at, M::BindOk(queue::BindOk {}));
                }
                Ok(())
            }
            M::Unbind(unbind) => {
                let destination = self.queue_destination(at, unbind.queue.as_str(), unbind.exchange.as_str());
                if let Some(destination) = known(destination)? {
                    let key = self.binding_key(at, unbind.queue.as_str(), unbind.routing_key.as_str());
                    self.unbind(at, unbind.exchange.as_str(), &destination, &key, &unbind.arguments)?;
                }
                self.send(at, M::UnbindOk(queue::UnbindOk {}));
                Ok(())
            }
            M::Purge(purge) => {
                let id = self.find_queue(at, purge.queue.as_str())?;
                let Some(queue) = self.queues.get_mut(&id) else { return Ok(()) };
                let message_count = counted(queue.purge());
                self.mark(id);
                if !purge.nowait {
                    self.send(at, M::PurgeOk(queue::PurgeOk { message_count }));
                }
                Ok(())
            }
            M::Delete(delete) => {
                let message_count = self.delete(at, &delete)?;
                if !delete.nowait {
                    self.send(at, M::DeleteOk(queue::DeleteOk { message_count }));
                }
                Ok(())
            }
            M::DeclareOk(_) | M::BindOk(_) | M::PurgeOk(_) | M::DeleteOk(_) | M::UnbindOk(_) => {
                Err(Failure::new(Code::CommandInvalid, "unimplemented method"))
            }
        }
    }

    /// The name that a client means: an empty one stands for the queue that its channel declared last.
    fn meant<'a>(&'a self, at: At, name: &'a str) -> Result<&'a str, Failure> {
        if !name.is_empty() {
            return Ok(name);
        }
        let channel = self.connections.get(&at.connection).and_then(|known| known.channels.get(&at.channel));
        channel
            .and_then(|channel| channel.last_queue.as_deref())
            .ok_or_else(|| Failure::new(Code::NotFound, "no previously declared queue"))
    }

    /// The queue of this name, where the connection may use it.
    pub(crate) fn find_queue(&self, at: At, name: &str) -> Result<QueueId, Failure> {
        let name = self.meant(at, name)?;
        let vhost = self.vhost_name(at);
        let id = self.vhosts.get(&vhost).and_then(|vhost| vhost.queues.get(name));
        let queue = id.and_then(|id| self.queues.get(id)).ok_or_else(|| Failure::missing("queue", name, &vhost))?;
        match queue.options.owner {
            Some(owner) if owner != at.connection => Err(locked(queue)),
            _ => Ok(queue.id),
        }
    }

    fn declare_queue(&mut self, at: At, declare: queue::Declare) -> Result<(), Failure> {
        let vhost = self.vhost_name(at);
        if declare.passive {
            if declare.queue.as_str().starts_with(REPLY_TO) {
                return self.look_at_reply_address(at, &declare);
            }
            let id = self.find_queue(at, declare.queue.as_str())?;
            return self.answer_declare(at, id, declare.nowait);
        }
        let name = match declare.queue.as_str() {
            "" => Name::from(self.next_name("amq.gen-")),
            name if name.starts_with("amq.") => {
                let text = format!("queue name '{name}' contains reserved prefix 'amq.*'");
                return Err(Failure::new(Code::AccessRefused, text));
            }
            name => Name::from(name),
        };
        let whose = format!("queue '{name}' in vhost '{vhost}'");
        let known = self.vhosts.get(&vhost).and_then(|vhost| vhost.queues.get(&name));
        if let Some(queue) = known.and_then(|id| self.queues.get(id)) {
            let owner = declare.exclusive.then_some(at.connection);
            if queue.options.owner != owner {
                return Err(locked(queue));
            }
            same_flag(&whose, "durable", queue.options.durable, declare.durable)?;
            same_flag(&whose, "auto_delete", queue.options.auto_delete, declare.auto_delete)?;
            same(&whose, &COMPARED, &queue.options.table, &declare.arguments)?;
            let id = queue.id;
            return self.answer_declare(at, id, declare.nowait);
        }
        let arguments = QueueArguments::read(&declare.arguments, &whose)?;
        if arguments.quorum {
            let refused = [
                (!declare.durable, "non-durable"),
                (declare.auto_delete, "auto-delete"),
                (declare.exclusive, "exclusive-owner"),
            ];
            if let Some((_, property)) = refused.iter().find(|(is, _)| *is) {
                return Err(Failure::precondition(format!("invalid property '{property}' for {whose}")));
            }
        }
        let most = self.settings.limits.queues_max;
        let id = QueueId(self.next_number());
        let Some(known) = self.vhosts.get_mut(&vhost) else { return Ok(()) };
        if known.queues.len() >= most {
            let text = format!("cannot declare queue '{name}': queue limit in vhost '{vhost}' ({most}) is reached");
            return Err(Failure::precondition(text));
        }
        let options = Options {
            durable: declare.durable,
            owner: declare.exclusive.then_some(at.connection),
            auto_delete: declare.auto_delete,
            table: declare.arguments,
            arguments,
        };
        known.queues.insert(name.clone(), id);
        self.queues.insert(id, Queue::new(id, vhost, name, options, self.now));
        self.answer_declare(at, id, declare.nowait)
    }

    fn answer_declare(&mut self, at: At, id: QueueId, nowait: bool) -> Result<(), Failure> {
        let now = self.now;
        let Some(queue) = self.queues.get_mut(&id) else { return Ok(()) };
        queue.used_at = now;
        let name = queue.name.clone();
        let (message_count, consumer_count) = (counted(queue.len()), counted(queue.consumers.len()));
        self.mark(id);
        if let Some(channel) = self.channel(at) {
            channel.last_queue = Some(name.clone());
        }
        if !nowait {
            let queue = short(&*name);
            let answer = queue::DeclareOk { queue, message_count, consumer_count };
            self.send(at, queue::AMQPMethod::DeclareOk(answer));
        }
        Ok(())
    }

    /// Whether somebody still waits at an address for answers.
    fn look_at_reply_address(&mut self, at: At, declare: &queue::Declare) -> Result<(), Failure> {
        let name = declare.queue.as_str();
        let token = name.strip_prefix(REPLY_TO).and_then(|rest| rest.strip_prefix('.'));
        let waits = match token {
            Some(token) => self.replies.contains_key(token),
            None => name == REPLY_TO,
        };
        if !waits {
            return Err(Failure::missing("queue", name, &self.vhost_name(at)));
        }
        if !declare.nowait {
            let answer = queue::DeclareOk { queue: declare.queue.clone(), message_count: 0, consumer_count: 1 };
            self.send(at, queue::AMQPMethod::DeclareOk(answer));
        }
        Ok(())
    }

    fn delete(&mut self, at: At, delete: &queue::Delete) -> Result<u32, Failure> {
        let id = match self.find_queue(at, delete.queue.as_str()) {
            Ok(id) => id,
            // What is not there needs no deletion.
            Err(Failure { code: Code::NotFound, .. }) if !delete.queue.as_str().is_empty() => return Ok(0),
            Err(failure) => return Err(failure),
        };
        let Some(queue) = self.queues.get(&id) else { return Ok(0) };
        let whose = format!("queue '{}' in vhost '{}'", queue.name, queue.vhost);
        if delete.if_unused && !queue.consumers.is_empty() {
            return Err(Failure::precondition(format!("{whose} in use")));
        }
        if delete.if_empty && !queue.is_empty() {
            return Err(Failure::precondition(format!("{whose} not empty")));
        }
        let count = counted(queue.len());
        self.delete_queue(id);
        Ok(count)
    }

    /// Removes a queue with its messages, bindings and consumers.
    pub(crate) fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(&id) else { return };
        self.clear_timer(&queue);
        if let Some(vhost) = self.vhosts.get_mut(&queue.vhost) {
            vhost.queues.remove(&queue.name);
        }
        for exchange in &queue.bound_to {
            self.forget_destination(&queue.vhost, exchange, &Destination::Queue(id));
        }
        for consumer in queue.consumers {
            self.notify_cancelled(consumer);
        }
    }

    /// Removes a queue whose last consumer has gone, where it was declared so.
    pub(crate) fn delete_if_unused(&mut self, id: QueueId) {
        if self.queues.get(&id).is_some_and(|queue| queue.options.auto_delete && queue.consumers.is_empty()) {
            self.delete_queue(id);
        }
    }

    fn queue_destination(&self, at: At, queue: &str, exchange: &str) -> Result<Destination, Failure> {
        let queue = self.meant(at, queue)?;
        not_default(exchange)?;
        let vhost = self.vhost_name(at);
        if !self.vhosts.get(&vhost).is_some_and(|vhost| vhost.exchanges.contains_key(exchange)) {
            // Both may be missing, and RabbitMQ names the exchange then.
            return Err(Failure::missing("exchange", exchange, &vhost));
        }
        self.find_queue(at, queue).map(Destination::Queue)
    }

    /// With neither a queue nor a key, the key is the name of the queue that is meant.
    fn binding_key(&self, at: At, queue: &str, key: &str) -> Name {
        if queue.is_empty() && key.is_empty() {
            return self.meant(at, queue).map(Arc::from).unwrap_or_default();
        }
        Name::from(key)
    }
}

/// Refuses what is not to be done with the default exchange.
pub(crate) fn not_default(exchange: &str) -> Result<(), Failure> {
    if exchange.is_empty() {
        return Err(Failure::new(Code::AccessRefused, "operation not permitted on the default exchange"));
    }
    Ok(())
}

/// What a binding to be removed leads to; nothing where that is not there, for then it is removed already.
pub(crate) fn known(destination: Result<Destination, Failure>) -> Result<Option<Destination>, Failure> {
    match destination {
        Ok(destination) => Ok(Some(destination)),
        Err(Failure { code: Code::NotFound, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn locked(queue: &Queue) -> Failure {
    let text = format!(
        "cannot obtain exclusive access to locked queue '{}' in vhost '{}'. It could be originally declared on another \
         connection or the exclusive property value does not match that of the original declaration.",
        queue.name, queue.vhost
    );
    Failure::new(Code::ResourceLocked, text)
}

fn counted(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
