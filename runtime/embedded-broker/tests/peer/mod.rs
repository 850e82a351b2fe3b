//! A client in process: frames as values, without a socket.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, confirm, connection, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use wabbit_embedded_broker::{Broker, ConnectionId, ContentKind, Outgoing};

pub fn method(channel: u16, method: AMQPClass) -> AMQPFrame {
    AMQPFrame::Method(channel, method)
}

/// Opens a connection with the channels 1 to `channels`.
pub fn open(broker: &mut Broker, channels: u16) -> ConnectionId {
    let id = broker.connect(true).unwrap();
    broker.receive(id, AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1()));
    let mut capabilities = FieldTable::default();
    for name in ["connection.blocked", "consumer_cancel_notify", "authentication_failure_close"] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let start = connection::StartOk {
        client_properties: properties,
        mechanism: "PLAIN".into(),
        response: "\0guest\0guest".into(),
        locale: "en_US".into(),
    };
    let limits = broker.limits();
    let tune = connection::TuneOk { channel_max: limits.channels_max, frame_max: limits.frame_bytes_max, heartbeat: 0 };
    for sent in [
        connection::AMQPMethod::StartOk(start),
        connection::AMQPMethod::TuneOk(tune),
        connection::AMQPMethod::Open(connection::Open { virtual_host: "/".into() }),
    ] {
        broker.receive(id, method(0, AMQPClass::Connection(sent)));
    }
    assert!(broker.is_open(id));
    for channel in 1..=channels {
        broker.receive(id, method(channel, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))));
    }
    broker.take_output(id);
    id
}

pub fn basic(broker: &mut Broker, id: ConnectionId, channel: u16, sent: basic::AMQPMethod) {
    broker.receive(id, method(channel, AMQPClass::Basic(sent)));
}

pub fn declare(broker: &mut Broker, id: ConnectionId, name: &str, arguments: &[(&str, AMQPValue)]) {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let declare = queue::Declare { queue: name.into(), durable: true, arguments: table, ..queue::Declare::default() };
    broker.receive(id, method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))));
}

pub fn select_confirms(broker: &mut Broker, id: ConnectionId, channel: u16) {
    let select = confirm::AMQPMethod::Select(confirm::Select { nowait: true });
    broker.receive(id, method(channel, AMQPClass::Confirm(select)));
}

/// Publishes to the default exchange.
pub fn publish(
    broker: &mut Broker,
    id: ConnectionId,
    channel: u16,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) {
    let publish = basic::Publish { routing_key: key.into(), ..basic::Publish::default() };
    basic(broker, id, channel, basic::AMQPMethod::Publish(publish));
    let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties };
    broker.receive(id, AMQPFrame::Header(channel, header));
    if !body.is_empty() {
        broker.receive(id, AMQPFrame::Body(channel, body.to_vec()));
    }
}

pub fn consume(broker: &mut Broker, id: ConnectionId, channel: u16, queue: &str, tag: &str, no_ack: bool) {
    let consume = basic::Consume {
        queue: queue.into(),
        consumer_tag: tag.into(),
        no_ack,
        nowait: true,
        ..basic::Consume::default()
    };
    basic(broker, id, channel, basic::AMQPMethod::Consume(consume));
}

pub fn ack(broker: &mut Broker, id: ConnectionId, channel: u16, delivery_tag: u64, multiple: bool) {
    basic(broker, id, channel, basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }));
}

pub fn nack(broker: &mut Broker, id: ConnectionId, channel: u16, delivery_tag: u64, multiple: bool, requeue: bool) {
    basic(broker, id, channel, basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue }));
}

pub fn prefetch(broker: &mut Broker, id: ConnectionId, channel: u16, prefetch_count: u16) {
    basic(broker, id, channel, basic::AMQPMethod::Qos(basic::Qos { prefetch_count, global: false }));
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub channel: u16,
    /// Empty for the answer to a get.
    pub consumer: String,
    pub tag: u64,
    pub redelivered: bool,
    pub body: Vec<u8>,
}

/// All that waits for a connection: messages, and the other things.
pub fn drain(broker: &mut Broker, id: ConnectionId) -> (Vec<Got>, Vec<AMQPClass>) {
    let (mut messages, mut others) = (Vec::new(), Vec::new());
    loop {
        let output = broker.take_output(id);
        if output.items.is_empty() {
            return (messages, others);
        }
        for item in output.items {
            match item {
                Outgoing::Content { channel, kind, message, .. } => match kind {
                    ContentKind::Deliver { consumer_tag, delivery_tag, redelivered } => messages.push(Got {
                        channel,
                        consumer: consumer_tag.to_string(),
                        tag: delivery_tag,
                        redelivered,
                        body: message.body.to_vec(),
                    }),
                    ContentKind::GetOk { delivery_tag, redelivered, .. } => messages.push(Got {
                        channel,
                        consumer: String::new(),
                        tag: delivery_tag,
                        redelivered,
                        body: message.body.to_vec(),
                    }),
                    ContentKind::Return => {}
                },
                Outgoing::Method(_, method) => others.push(method),
                Outgoing::ProtocolHeader => {}
            }
        }
    }
}

/// The next message of a queue, without an acknowledgement.
pub fn get(broker: &mut Broker, id: ConnectionId, queue: &str) -> Option<Vec<u8>> {
    basic(broker, id, 1, basic::AMQPMethod::Get(basic::Get { queue: queue.into(), no_ack: true }));
    drain(broker, id).0.pop().map(|got| got.body)
}
