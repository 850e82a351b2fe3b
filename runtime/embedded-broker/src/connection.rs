//! What the broker knows of a connection and its channels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amq_protocol::frame::AMQPContentHeader;
use amq_protocol::protocol::basic;
use bytes::BytesMut;

use crate::Name;
use crate::consumer::ConsumerId;
use crate::message::{Charge, Message};
use crate::output::Outgoing;
use crate::queue::{Entry, QueueId};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing came yet.
    Header,
    /// `connection.start` is sent.
    Start,
    /// `connection.tune` is sent.
    Tune,
    /// The client has tuned.
    Open,
    /// It is open.
    Running,
    /// `connection.close` is sent.
    Closing,
    /// Nothing more is read, and when everything is written, the socket is to be closed.
    Ended,
}

/// What a client says that it understands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capabilities {
    pub consumer_cancel_notify: bool,
    pub connection_blocked: bool,
    pub authentication_failure_close: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub phase: Phase,
    /// Whether the client is on the machine itself.
    pub loopback: bool,
    pub capabilities: Capabilities,
    pub user: Name,
    pub vhost: Name,
    pub channels_max: u16,
    pub frame_max: u32,
    /// In seconds; 0 is none.
    pub heartbeat: u16,
    pub channels: BTreeMap<u16, Channel>,
    pub consumers: usize,
    pub output: Vec<Outgoing>,
    pub output_bytes: usize,
    /// Whether a message was held back since there was too much to write.
    pub starved: bool,
    /// Whether it has published.
    pub publishes: bool,
    /// Whether it is blocked: it publishes, and too much memory is held.
    pub blocked: bool,
    /// Channels with confirms that are not sent yet.
    pub confirming: BTreeSet<u16>,
}

impl Connection {
    pub(crate) fn new(loopback: bool, frame_max: u32) -> Connection {
        Connection {
            phase: Phase::Header,
            loopback,
            capabilities: Capabilities::default(),
            user: "".into(),
            vhost: "".into(),
            channels_max: 0,
            frame_max,
            heartbeat: 0,
            channels: BTreeMap::new(),
            consumers: 0,
            output: Vec::new(),
            output_bytes: 0,
            starved: false,
            publishes: false,
            blocked: false,
            confirming: BTreeSet::new(),
        }
    }
}

/// A message that was delivered and is not settled.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub queue: QueueId,
    /// None for what was fetched by `basic.get`.
    pub consumer: Option<ConsumerId>,
    pub entry: Entry,
}

/// A message of which a part has come.
#[derive(Debug)]
pub(crate) struct Partial {
    pub publish: basic::Publish,
    pub header: Option<AMQPContentHeader>,
    pub body: BytesMut,
    pub charge: Charge,
}

/// The confirms of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Confirms {
    /// The last number that was given to a message.
    pub last: u64,
    /// The first and the last of those that are accepted and not confirmed.
    pub pending: Option<(u64, u64)>,
}

/// How the client settled a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    Requeue,
    DeadLetter,
}

/// What was done since the last commit.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub publishes: Vec<Publication>,
    pub settled: Vec<(u64, Unacked, Verdict)>,
}

/// A message on its way to its queues.
#[derive(Debug)]
pub(crate) struct Publication {
    pub message: Arc<Message>,
    /// Further routing keys, from the headers `CC` and `BCC`.
    pub further: Vec<String>,
    pub mandatory: bool,
}

/// The consumer of answers to the requests of a channel.
#[derive(Clone, Debug)]
pub(crate) struct ReplyConsumer {
    pub tag: Name,
    /// What follows `amq.rabbitmq.reply-to.` in the addresses.
    pub token: Name,
}

#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Whether the broker has closed it, and waits for the client's answer.
    pub closing: bool,
    pub consumers: BTreeMap<Name, ConsumerId>,
    pub reply: Option<ReplyConsumer>,
    pub unacked: BTreeMap<u64, Unacked>,
    pub last_tag: u64,
    /// For consumers that are yet to come.
    pub prefetch: u16,
    /// For all of its consumers together; 0 is no bound.
    pub prefetch_global: u16,
    /// How many of `unacked` have a consumer.
    pub consumed: u32,
    pub confirms: Option<Confirms>,
    pub transaction: Option<Transaction>,
    pub partial: Option<Partial>,
    /// What an empty name stands for.
    pub last_queue: Option<Name>,
}

impl Channel {
    /// Whether the prefetch of the channel lets its consumers take one more.
    pub(crate) fn has_room(&self) -> bool {
        self.prefetch_global == 0 || self.consumed < u32::from(self.prefetch_global)
    }
}
