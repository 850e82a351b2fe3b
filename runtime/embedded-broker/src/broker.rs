//! The broker itself: frames of its connections in, what goes to them out. It has no clock, no sockets and no threads,
//! and does the same whenever it is given the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};

use crate::connection::{Channel, Connection, Phase};
use crate::consumer::{Consumer, ConsumerId};
use crate::deadletter::Dead;
use crate::exchange::{Exchange, Kind};
use crate::failure::{Code, Failure};
use crate::limits::Settings;
use crate::message::Account;
use crate::output::Outgoing;
use crate::queue::{Queue, QueueId};
use crate::{Limits, Name};

/// A connection for as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// A channel of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub connection: ConnectionId,
    pub channel: u16,
}

/// Why a connection cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {0} connections, and may not be more")]
pub struct TooManyConnections(usize);

/// What waits to be written to a connection.
#[derive(Debug, Default)]
pub struct Output {
    /// In this order.
    pub items: Vec<Outgoing>,
    /// Whether the connection is at its end, once they are written.
    pub ends: bool,
}

/// The counts of a broker at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections, in whatever state.
    pub connections: usize,
    /// Consumers of all connections.
    pub consumers: usize,
    /// Queues of all vhosts.
    pub queues: usize,
    /// Exchanges of all vhosts, the predeclared ones included.
    pub exchanges: usize,
    /// Bindings of all vhosts, without those to the default exchange.
    pub bindings: usize,
    /// Messages that wait in queues.
    pub ready: usize,
    /// Messages that were delivered and are not settled.
    pub unacked: usize,
    /// Bytes that [`Limits::memory_bytes_max`] bounds.
    pub memory_bytes: usize,
    /// Bytes that [`Limits::partial_bytes_max`] bounds.
    pub partial_bytes: usize,
}

/// A vhost. Names of one mean nothing in another.
#[derive(Debug, Default)]
pub(crate) struct Vhost {
    pub exchanges: BTreeMap<Name, Exchange>,
    pub queues: BTreeMap<Name, QueueId>,
    pub bindings: usize,
}

/// An AMQP 0-9-1 broker in memory, as a value.
#[derive(Debug)]
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) now: Duration,
    pub(crate) vhosts: BTreeMap<Name, Vhost>,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    pub(crate) consumers: BTreeMap<ConsumerId, Consumer>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    /// The channels that answers go to, by what the addresses end in.
    pub(crate) replies: BTreeMap<Name, At>,
    /// The name of the default exchange, which most messages have.
    pub(crate) default_exchange: Name,
    /// The last number that was given to a connection, a queue, a consumer or a name.
    last_number: u64,
    /// Bytes of messages.
    pub(crate) account: Account,
    /// Bytes of bodies of which a part has come.
    pub(crate) partial: Account,
    /// Whether publishers are to wait.
    pub(crate) alarm: bool,
    /// When queues are to be looked after.
    timers: BTreeSet<(Duration, QueueId)>,
    /// Queues that may have something to deliver or to drop.
    dirty: VecDeque<QueueId>,
    /// Messages that are to be dead-lettered.
    pub(crate) dead: VecDeque<Dead>,
    /// Connections that have something to be written.
    ready: BTreeSet<ConnectionId>,
}

impl Broker {
    /// A broker with the vhost `/` and the user `guest`.
    #[must_use]
    pub fn new(limits: Limits) -> Broker {
        Broker::with(Settings::from(limits))
    }

    /// A broker with these settings.
    #[must_use]
    pub fn with(settings: Settings) -> Broker {
        let vhosts = settings.vhosts.iter().map(|name| (Name::from(&**name), Vhost::predeclared())).collect();
        Broker {
            settings,
            now: Duration::ZERO,
            vhosts,
            queues: BTreeMap::new(),
            consumers: BTreeMap::new(),
            connections: BTreeMap::new(),
            replies: BTreeMap::new(),
            default_exchange: Name::default(),
            last_number: 0,
            account: Account::default(),
            partial: Account::default(),
            alarm: false,
            timers: BTreeSet::new(),
            dirty: VecDeque::new(),
            dead: VecDeque::new(),
            ready: BTreeSet::new(),
        }
    }

    /// The bounds that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Begins a connection. `loopback` says whether the client is on the machine itself.
    ///
    /// # Errors
    /// There are as many connections as may be.
    pub fn connect(&mut self, loopback: bool) -> Result<ConnectionId, TooManyConnections> {
        if self.connections.len() >= self.settings.limits.connections_max {
            return Err(TooManyConnections(self.connections.len()));
        }
        let id = ConnectionId(self.next_number());
        self.connections.insert(id, Connection::new(loopback, self.settings.limits.frame_bytes_max));
        Ok(id)
    }

    /// Takes a frame from a connection. The first is to be the protocol header. What follows from it is in the outputs
    /// of the connections when this returns.
    pub fn receive(&mut self, connection: ConnectionId, frame: AMQPFrame) {
        let Some(known) = self.connections.get(&connection) else { return };
        let at = |channel| At { connection, channel };
        match known.phase {
            Phase::Ended => return,
            Phase::Header => {
                match frame {
                    AMQPFrame::ProtocolHeader(version) if version == ProtocolVersion::amqp_0_9_1() => {
                        self.start(connection);
                    }
                    _ => {
                        self.push(connection, Outgoing::ProtocolHeader);
                        self.end(connection);
                    }
                }
                return;
            }
            Phase::Closing => {
                match frame {
                    AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) => {
                        self.end(connection);
                    }
                    AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))) => {
                        self.send(at(0), connection::AMQPMethod::CloseOk(connection::CloseOk {}));
                    }
                    _ => {}
                }
                return;
            }
            Phase::Start | Phase::Tune | Phase::Open | Phase::Running => {}
        }
        let ids = match &frame {
            AMQPFrame::Method(_, method) => (method.get_amqp_class_id(), method.get_amqp_method_id()),
            // What comes as content belongs to the method that announced it.
            AMQPFrame::Header(channel, _) | AMQPFrame::Body(channel, _) => {
                let channel = known.channels.get(channel);
                if channel.is_some_and(|channel| channel.partial.is_some()) { (60, 40) } else { (0, 0) }
            }
            _ => (0, 0),
        };
        let (channel, result) = match frame {
            AMQPFrame::Method(0, method) => (0, self.connection_method(connection, method)),
            AMQPFrame::Method(channel, method) => (channel, self.channel_method(at(channel), method)),
            AMQPFrame::Header(channel, header) => (channel, self.content_header(at(channel), header)),
            AMQPFrame::Body(channel, body) => (channel, self.content_body(at(channel), body)),
            AMQPFrame::Heartbeat => (0, Ok(())),
            AMQPFrame::InvalidHeartbeat(channel) => {
                (0, Err(Failure::new(Code::UnexpectedFrame, format!("heartbeat on channel {channel}"))))
            }
            AMQPFrame::ProtocolHeader(_) => {
                (0, Err(Failure::new(Code::FrameError, "a protocol header in the middle of a connection")))
            }
        };
        if let Err(failure) = result {
            self.fail(at(channel), ids, &failure);
        }
        self.settle();
        self.watch_memory();
    }

    /// Takes what was no frame: the connection is closed with `failure`. The server calls this.
    pub fn receive_nonsense(&mut self, connection: ConnectionId, failure: &Failure) {
        match self.connections.get(&connection).map(|known| known.phase) {
            Some(Phase::Header) => {
                self.push(connection, Outgoing::ProtocolHeader);
                self.end(connection);
            }
            Some(Phase::Start) => self.end(connection),
            Some(Phase::Tune | Phase::Open | Phase::Running) => {
                self.fail(At { connection, channel: 0 }, failure.method, failure);
            }
            Some(Phase::Closing | Phase::Ended) | None => {}
        }
        self.settle();
    }

    /// The connection is lost, or its end was written: what it held goes back to the queues.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.end_channels(connection);
        self.connections.remove(&connection);
        self.ready.remove(&connection);
        self.settle();
        self.watch_memory();
    }

    /// Closes all connections in order, with 320. Each is at its end when the client has answered.
    pub fn shut_down(&mut self) {
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        let failure = Failure::new(Code::ConnectionForced, "broker forced connection closure with reason 'shutdown'");
        for connection in connections {
            match self.connections.get(&connection).map(|connection| connection.phase) {
                Some(Phase::Running) => self.fail(At { connection, channel: 0 }, (0, 0), &failure),
                _ => self.end(connection),
            }
        }
        self.settle();
    }

    /// Time has passed: `now` is how long ago the broker began. Messages and queues whose time is over go.
    pub fn tick(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some(&(at, queue)) = self.timers.first() {
            if at > self.now {
                break;
            }
            self.timers.pop_first();
            let Some(known) = self.queues.get_mut(&queue) else { continue };
            known.timer = None;
            if known.expires_at().is_some_and(|at| at <= self.now) {
                self.delete_queue(queue);
            } else {
                self.mark(queue);
            }
        }
        self.settle();
        self.watch_memory();
    }

    /// When [`Broker::tick`] is to be called next, since the broker began; never where it is none.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The connections for which something waits, each once.
    pub fn take_ready(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.ready).into_iter().collect()
    }

    /// Takes what waits to be written to a connection. That there is room again may bring more, so this is to be called
    /// until it gives nothing.
    pub fn take_output(&mut self, connection: ConnectionId) -> Output {
        self.confirm_all(connection);
        let Some(known) = self.connections.get_mut(&connection) else {
            return Output { ends: true, ..Output::default() };
        };
        let output = Output { items: std::mem::take(&mut known.output), ends: known.phase == Phase::Ended };
        known.output_bytes = 0;
        if std::mem::take(&mut known.starved) {
            let channels = known.channels.values();
            let consumers: Vec<ConsumerId> = channels.flat_map(|channel| channel.consumers.values().copied()).collect();
            for consumer in consumers {
                if let Some(queue) = self.consumers.get(&consumer).map(|consumer| consumer.queue) {
                    self.mark(queue);
                }
            }
            self.settle();
        }
        self.watch_memory();
        output
    }

    /// Whether frames of this connection are to be read now. A caller that reads regardless breaks the bounds.
    #[must_use]
    pub fn reads(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|known| {
            !known.blocked && known.output_bytes <= self.settings.limits.output_bytes_max && known.phase != Phase::Ended
        })
    }

    /// Whether this connection is blocked since too much memory is held.
    #[must_use]
    pub fn is_blocked(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|known| known.blocked)
    }

    /// The largest frame that goes to this connection, in bytes, as it was negotiated.
    #[must_use]
    pub fn frame_max(&self, connection: ConnectionId) -> u32 {
        let most = self.settings.limits.frame_bytes_max;
        self.connections.get(&connection).map_or(most, |known| known.frame_max)
    }

    /// The heartbeat interval that was negotiated; none before that, or where the client wants none.
    #[must_use]
    pub fn heartbeat(&self, connection: ConnectionId) -> Option<Duration> {
        let known = self.connections.get(&connection)?;
        (known.heartbeat > 0).then(|| Duration::from_secs(known.heartbeat.into()))
    }

    /// Whether this connection is open.
    #[must_use]
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|known| known.phase == Phase::Running)
    }

    /// Whether the broker has asked this connection to close, or has ended it.
    #[must_use]
    pub fn is_closing(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_none_or(|known| matches!(known.phase, Phase::Closing | Phase::Ended))
    }

    /// What there is now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let channels = self.connections.values().flat_map(|connection| connection.channels.values());
        Stats {
            connections: self.connections.len(),
            consumers: self.consumers.len(),
            queues: self.queues.len(),
            exchanges: self.vhosts.values().map(|vhost| vhost.exchanges.len()).sum(),
            bindings: self.vhosts.values().map(|vhost| vhost.bindings).sum(),
            ready: self.queues.values().map(Queue::len).sum(),
            unacked: channels.map(|channel| channel.unacked.len()).sum(),
            memory_bytes: self.account.held(),
            partial_bytes: self.partial.held(),
        }
    }

    /// How many messages wait in a queue; none where it does not exist.
    #[must_use]
    pub fn queue_length(&self, vhost: &str, queue: &str) -> Option<usize> {
        let id = self.vhosts.get(vhost)?.queues.get(queue)?;
        self.queues.get(id).map(Queue::len)
    }
}

/// What all parts of the broker use.
impl Broker {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// A name that no other has: `prefix` and 22 characters.
    pub(crate) fn next_name(&mut self, prefix: &str) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let number = self.next_number();
        let mut bits = u128::from(mixed(self.settings.seed ^ number)) << 64 | u128::from(mixed(number));
        let mut name = prefix.to_owned();
        for _ in 0..22 {
            name.extend(ALPHABET.get((bits & 63) as usize).map(|byte| char::from(*byte)));
            bits >>= 6;
        }
        name
    }

    pub(crate) fn channel(&mut self, at: At) -> Option<&mut Channel> {
        self.connections.get_mut(&at.connection)?.channels.get_mut(&at.channel)
    }

    /// The name of the vhost that a connection is in.
    pub(crate) fn vhost_name(&self, at: At) -> Name {
        self.connections.get(&at.connection).map_or_else(|| "".into(), |connection| connection.vhost.clone())
    }

    /// Puts something behind what waits to be written.
    pub(crate) fn push(&mut self, connection: ConnectionId, outgoing: Outgoing) {
        if let Some(known) = self.connections.get_mut(&connection)
            && known.phase != Phase::Ended
        {
            known.output_bytes += outgoing.weight();
            known.output.push(outgoing);
            self.ready.insert(connection);
        }
    }

    /// Sends a method, behind the confirms of what was accepted before.
    pub(crate) fn send(&mut self, at: At, method: impl Into<Method>) {
        self.confirm(at);
        let Method(method) = method.into();
        self.push(at.connection, Outgoing::Method(at.channel, method));
    }

    /// A connection has something to be written that is not in its output yet.
    pub(crate) fn wake(&mut self, connection: ConnectionId) {
        self.ready.insert(connection);
    }

    /// Tells a client what it did wrong, and closes its channel or connection.
    pub(crate) fn fail(&mut self, at: At, (class_id, method_id): (u16, u16), failure: &Failure) {
        let (reply_code, reply_text) = (failure.code.number(), failure.reply_text());
        if failure.code.is_hard() || at.channel == 0 {
            self.confirm_all(at.connection);
            self.end_channels(at.connection);
            let close = connection::Close { reply_code, reply_text, class_id, method_id };
            self.send(At { channel: 0, ..at }, connection::AMQPMethod::Close(close));
            self.set_phase(at.connection, Phase::Closing);
            if let Some(known) = self.connections.get_mut(&at.connection) {
                known.blocked = false;
            }
        } else {
            self.confirm(at);
            self.end_channel(at);
            let close = channel::Close { reply_code, reply_text, class_id, method_id };
            self.send(at, channel::AMQPMethod::Close(close));
            if let Some(known) = self.connections.get_mut(&at.connection) {
                known.channels.insert(at.channel, Channel { closing: true, ..Channel::default() });
            }
        }
    }

    pub(crate) fn set_phase(&mut self, connection: ConnectionId, phase: Phase) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.phase = phase;
        }
    }

    /// Nothing more is read from a connection.
    pub(crate) fn end(&mut self, connection: ConnectionId) {
        self.end_channels(connection);
        self.set_phase(connection, Phase::Ended);
        self.ready.insert(connection);
    }

    /// A queue may have something to deliver or to drop.
    pub(crate) fn mark(&mut self, queue: QueueId) {
        if let Some(known) = self.queues.get_mut(&queue)
            && !std::mem::replace(&mut known.dirty, true)
        {
            self.dirty.push_back(queue);
        }
    }

    /// Does all that follows from what was done. A message that is dead-lettered by itself never reaches a queue twice,
    /// so this ends.
    pub(crate) fn settle(&mut self) {
        loop {
            if let Some(dead) = self.dead.pop_front() {
                self.publish_dead(dead);
            } else if let Some(queue) = self.dirty.pop_front() {
                if let Some(known) = self.queues.get_mut(&queue) {
                    known.dirty = false;
                    self.pump(queue);
                    self.set_timer(queue);
                }
            } else {
                break;
            }
        }
    }

    fn set_timer(&mut self, queue: QueueId) {
        let Some(known) = self.queues.get_mut(&queue) else { return };
        let deadline = known.deadline();
        if known.timer == deadline {
            return;
        }
        if let Some(old) = std::mem::replace(&mut known.timer, deadline) {
            self.timers.remove(&(old, queue));
        }
        if let Some(new) = deadline {
            self.timers.insert((new, queue));
        }
    }

    /// Forgets the timer of a queue that is gone.
    pub(crate) fn clear_timer(&mut self, queue: &Queue) {
        if let Some(old) = queue.timer {
            self.timers.remove(&(old, queue.id));
        }
    }

    /// Blocks publishers, or lets them go on.
    fn watch_memory(&mut self) {
        let (held, most) = (self.account.held(), self.settings.limits.memory_bytes_max);
        let alarm = if self.alarm { held > most / 5 * 4 } else { held > most };
        if alarm == self.alarm {
            return;
        }
        self.alarm = alarm;
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in connections {
            if alarm { self.block(connection) } else { self.unblock(connection) }
        }
    }
}

impl Vhost {
    fn predeclared() -> Vhost {
        let predeclared = [
            ("amq.direct", Kind::Direct),
            ("amq.fanout", Kind::Fanout),
            ("amq.headers", Kind::Headers),
            ("amq.match", Kind::Headers),
            ("amq.topic", Kind::Topic),
            ("amq.rabbitmq.trace", Kind::Topic),
        ];
        let exchanges = predeclared.into_iter().map(|(name, kind)| {
            let name = Name::from(name);
            let internal = &*name == "amq.rabbitmq.trace";
            let mut exchange = Exchange::new(name.clone(), kind);
            exchange.internal = internal;
            (name, exchange)
        });
        Vhost { exchanges: exchanges.collect(), ..Vhost::default() }
    }
}

/// A method of any class, so that they can be sent alike.
pub(crate) struct Method(AMQPClass);

macro_rules! methods {
    ($($class:ident $module:ident),*) => {
        $(impl From<amq_protocol::protocol::$module::AMQPMethod> for Method {
            fn from(method: amq_protocol::protocol::$module::AMQPMethod) -> Method {
                Method(AMQPClass::$class(method))
            }
        })*
    };
}
methods!(Basic basic, Channel channel, Confirm confirm, Connection connection, Exchange exchange, Queue queue, Tx tx);

/// Acknowledges publications up to a number.
pub(crate) fn ack(delivery_tag: u64, multiple: bool) -> basic::AMQPMethod {
    basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple })
}

/// The finalizer of SplitMix64: different numbers give different, unlike ones.
fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
