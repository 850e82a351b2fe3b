//! A queue: what waits in it, in which order, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::types::FieldTable;

use crate::Name;
use crate::arguments::QueueArguments;
use crate::broker::ConnectionId;
use crate::consumer::ConsumerId;
use crate::message::Message;

/// A queue for as long as it exists. A queue that is declared again under its name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub(crate) u64);

/// Where a message stands in its queue. The least is the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Less for what is more urgent.
    rank: u8,
    /// False for what came back to a quorum queue that counts deliveries, or whose channel ended: it goes first.
    fresh: bool,
    number: u64,
}

/// A message of a queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub message: Arc<Message>,
    pub place: Place,
    /// Since the broker began.
    pub expires_at: Option<Duration>,
    pub redelivered: bool,
    /// How often it came back.
    pub returns: u64,
}

/// What a queue was declared with.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub durable: bool,
    /// The connection that alone may use it.
    pub owner: Option<ConnectionId>,
    pub auto_delete: bool,
    pub table: FieldTable,
    pub arguments: QueueArguments,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub id: QueueId,
    pub vhost: Name,
    pub name: Name,
    pub options: Options,
    ready: BTreeMap<Place, Entry>,
    ready_bytes: u64,
    next_number: u64,
    /// How many were delivered and are not settled.
    pub unacked: usize,
    /// Those with a higher priority first, then in the order in which they have their turns.
    pub consumers: Vec<ConsumerId>,
    /// The consumer that has it for itself.
    pub exclusive: Option<ConsumerId>,
    /// The one that gets messages, of a queue with a single active consumer.
    pub active: Option<ConsumerId>,
    /// When it was last used, since the broker began.
    pub used_at: Duration,
    /// The exchanges that have bindings to it.
    pub bound_to: BTreeSet<Name>,
    /// When the broker looks after it next.
    pub timer: Option<Duration>,
    /// Whether the broker is about to look after it.
    pub dirty: bool,
}

/// Whether a queue takes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    DropHead,
    Reject,
    RejectDeadLetter,
}

impl Queue {
    pub(crate) fn new(id: QueueId, vhost: Name, name: Name, options: Options, now: Duration) -> Queue {
        Queue {
            id,
            vhost,
            name,
            options,
            ready: BTreeMap::new(),
            ready_bytes: 0,
            next_number: 0,
            unacked: 0,
            consumers: Vec::new(),
            exclusive: None,
            active: None,
            used_at: now,
            bound_to: BTreeSet::new(),
            timer: None,
            dirty: false,
        }
    }

    /// How many messages wait.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn is_quorum(&self) -> bool {
        self.options.arguments.quorum
    }

    /// A message as it would stand at the end of this queue.
    pub(crate) fn entry(&mut self, message: Arc<Message>, now: Duration) -> Entry {
        let arguments = &self.options.arguments;
        let lives = match (arguments.message_ttl, message.expiration()) {
            (Some(queue), Some(own)) => Some(queue.min(own)),
            (queue, own) => queue.or(own),
        };
        let priority = message.properties.priority().unwrap_or(0).min(arguments.priority_max);
        let place = Place { rank: u8::MAX - priority, fresh: true, number: self.next_number };
        self.next_number += 1;
        let expires_at = lives.and_then(|lives| now.checked_add(lives));
        Entry { message, place, expires_at, redelivered: false, returns: 0 }
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        self.ready_bytes += entry.message.body.len() as u64;
        self.ready.insert(entry.place, entry);
    }

    /// Where an entry goes that comes back to a quorum queue since its channel ended: to the front, in the old order.
    pub(crate) fn returned(&self, mut entry: Entry) -> Entry {
        entry.place.fresh = false;
        entry
    }

    /// Where an entry goes that a client gives back to a quorum queue.
    pub(crate) fn moved(&mut self, mut entry: Entry) -> Entry {
        entry.place.fresh = self.options.arguments.delivery_limit.is_none();
        entry.place.number = self.next_number;
        self.next_number += 1;
        entry
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let (_, entry) = self.ready.pop_first()?;
        self.ready_bytes -= entry.message.body.len() as u64;
        Some(entry)
    }

    /// The next one, where its time is over.
    pub(crate) fn pop_expired(&mut self, now: Duration) -> Option<Entry> {
        let (_, head) = self.ready.first_key_value()?;
        if head.expires_at? > now {
            return None;
        }
        self.pop()
    }

    /// The next one, where there are more than may be.
    pub(crate) fn pop_surplus(&mut self) -> Option<Entry> {
        let arguments = &self.options.arguments;
        let too_many = arguments.length_max.is_some_and(|most| self.ready.len() as u64 > most);
        let too_large = arguments.bytes_max.is_some_and(|most| self.ready_bytes > most);
        if (too_many || too_large) && arguments.overflow == Overflow::DropHead { self.pop() } else { None }
    }

    /// Whether it refuses a message of so many bytes.
    pub(crate) fn refuses(&self, bytes: usize) -> bool {
        let arguments = &self.options.arguments;
        if arguments.overflow == Overflow::DropHead {
            return false;
        }
        let bytes = self.ready_bytes + bytes as u64;
        arguments.length_max.is_some_and(|most| self.ready.len() as u64 >= most)
            || arguments.bytes_max.is_some_and(|most| bytes > most)
    }

    /// Forgets all that waits. How many there were.
    pub(crate) fn purge(&mut self) -> usize {
        self.ready_bytes = 0;
        std::mem::take(&mut self.ready).len()
    }

    /// When the first message expires, or the queue itself.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let head = self.ready.first_key_value().and_then(|(_, head)| head.expires_at);
        [head, self.expires_at()].into_iter().flatten().min()
    }

    /// When the queue itself expires, unless it is used before.
    pub(crate) fn expires_at(&self) -> Option<Duration> {
        let idle = self.consumers.is_empty();
        self.options.arguments.expires.filter(|_| idle).and_then(|lives| self.used_at.checked_add(lives))
    }
}
