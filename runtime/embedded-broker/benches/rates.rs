//! How many messages a second go through the broker: `cargo bench -p wabbit-embedded-broker`. Transient messages of
//! 100 B, one queue, confirmed to the publisher and acknowledged by the consumer, over TCP on the machine itself. Once
//! with a client that writes frames as fast as it can, and once with lapin.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on stops")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, ProtocolVersion, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, confirm, connection, queue};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use wabbit_embedded_broker::{Limits, Server, decode};

const MESSAGES: u64 = 400_000;
const BODY_BYTES: usize = 100;
/// How many messages one write has.
const BATCH: u64 = 250;
/// How many messages may be published and not confirmed.
const WINDOW: u64 = 5000;
const PREFETCH: u16 = 2000;
/// How many messages one acknowledgement settles.
const ACK_EVERY: u64 = 200;
const ROUNDS: usize = 3;
/// How many of them lapin gets, which takes longer for each.
const LAPIN_MESSAGES: u64 = 100_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for round in 1..=ROUNDS {
        let server = runtime.block_on(Server::bind("127.0.0.1:0", Limits::default())).unwrap();
        let took = frames(server.local_addr());
        println!("round {round}, raw frames: {:.0} messages/s", rate(MESSAGES, took));
        let took = runtime.block_on(lapin(server.local_addr()));
        println!("round {round}, lapin: {:.0} messages/s", rate(LAPIN_MESSAGES, took));
        runtime.block_on(server.stop());
    }
}

#[expect(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
fn rate(messages: u64, took: Duration) -> f64 {
    messages as f64 / took.as_secs_f64()
}

/// A client on one connection, without a library.
struct Client {
    stream: TcpStream,
    bytes: Vec<u8>,
    at: usize,
}

fn written(frames: &[AMQPFrame]) -> Vec<u8> {
    frames.iter().fold(Vec::new(), |bytes, frame| gen_frame(frame)(WriteContext::from(bytes)).unwrap().into_inner().0)
}

impl Client {
    fn open(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream, bytes: Vec::new(), at: 0 };
        let start = connection::StartOk {
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "en_US".into(),
            ..connection::StartOk::default()
        };
        let tune = connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat: 0 };
        let open = connection::Open { virtual_host: "/".into() };
        let connection = |method| AMQPFrame::Method(0, AMQPClass::Connection(method));
        client.send(&[
            AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1()),
            connection(connection::AMQPMethod::StartOk(start)),
            connection(connection::AMQPMethod::TuneOk(tune)),
            connection(connection::AMQPMethod::Open(open)),
            AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))),
        ]);
        while !matches!(client.receive(), AMQPFrame::Method(1, AMQPClass::Channel(_))) {}
        client
    }

    fn send(&mut self, frames: &[AMQPFrame]) {
        self.stream.write_all(&written(frames)).unwrap();
    }

    fn more(&mut self) {
        self.bytes.drain(..self.at);
        self.at = 0;
        let length = self.bytes.len();
        self.bytes.resize(length + 256 * 1024, 0);
        let read = self.stream.read(self.bytes.get_mut(length..).unwrap()).unwrap();
        assert!(read > 0, "the broker has closed the connection");
        self.bytes.truncate(length + read);
    }

    fn receive(&mut self) -> AMQPFrame {
        loop {
            if let Some((frame, length)) = decode(self.bytes.get(self.at..).unwrap(), 1 << 20, 32).unwrap() {
                self.at += length;
                return frame;
            }
            self.more();
        }
    }

    /// The payload of the next method's frame; other frames are skipped as they are.
    fn next_method(&mut self) -> Vec<u8> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap();
            if let Some(&[kind, _, _, a, b, c, d]) = rest.first_chunk::<7>() {
                let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
                if let Some(payload) = rest.get(7..7 + size + 1) {
                    self.at += size + 8;
                    if kind == 1 {
                        return payload.to_vec();
                    }
                    continue;
                }
            }
            self.more();
        }
    }
}

fn number(payload: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(payload.get(at..at + 8).unwrap().try_into().unwrap())
}

fn frames(address: SocketAddr) -> Duration {
    let basic = |method| AMQPFrame::Method(1, AMQPClass::Basic(method));
    let mut publisher = Client::open(address);
    let mut consumer = Client::open(address);
    let declare = queue::Declare { queue: "frames".into(), nowait: true, ..queue::Declare::default() };
    let consume =
        basic::Consume { queue: "frames".into(), consumer_tag: "c".into(), nowait: true, ..basic::Consume::default() };
    consumer.send(&[
        AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))),
        basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: PREFETCH, global: false })),
        basic(basic::AMQPMethod::Consume(consume)),
    ]);
    consumer.next_method();
    publisher.send(&[AMQPFrame::Method(
        1,
        AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: true })),
    )]);
    let publish = basic::Publish { routing_key: "frames".into(), ..basic::Publish::default() };
    let header =
        AMQPContentHeader { class_id: 60, body_size: BODY_BYTES as u64, properties: BasicProperties::default() };
    let message = written(&[
        basic(basic::AMQPMethod::Publish(publish)),
        AMQPFrame::Header(1, header),
        AMQPFrame::Body(1, vec![7; BODY_BYTES]),
    ]);
    let batch = message.repeat(usize::try_from(BATCH).unwrap());
    let began = Instant::now();
    let publishing = std::thread::spawn(move || {
        let (mut sent, mut confirmed) = (0, 0);
        while confirmed < MESSAGES {
            while sent < MESSAGES && sent - confirmed < WINDOW {
                publisher.stream.write_all(&batch).unwrap();
                sent += BATCH;
            }
            // Those before are confirmed along, for nothing is refused.
            confirmed = number(&publisher.next_method(), 4);
        }
    });
    let mut received = 0;
    while received < MESSAGES {
        let payload = consumer.next_method();
        let tag_bytes = usize::from(*payload.get(4).unwrap());
        let delivery_tag = number(&payload, 5 + tag_bytes);
        received += 1;
        assert_eq!(delivery_tag, received);
        if received.is_multiple_of(ACK_EVERY) {
            consumer.send(&[basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple: true }))]);
        }
    }
    publishing.join().unwrap();
    began.elapsed()
}

async fn lapin(address: SocketAddr) -> Duration {
    let url = format!("amqp://guest:guest@{address}/%2F");
    let connect = || lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
    let (one, two) = (connect().await.unwrap(), connect().await.unwrap());
    let (publisher, consumer) = (one.create_channel().await.unwrap(), two.create_channel().await.unwrap());
    publisher.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    consumer.queue_declare("lapin".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    consumer.basic_qos(PREFETCH, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        consumer.basic_consume("lapin".into(), "c".into(), options, FieldTable::default()).await.unwrap();
    let began = Instant::now();
    let publishing = tokio::spawn(async move {
        let mut confirms = std::collections::VecDeque::new();
        for _ in 0..LAPIN_MESSAGES {
            let options = BasicPublishOptions::default();
            let body = [7; BODY_BYTES];
            let properties = BasicProperties::default();
            let confirm = publisher.basic_publish("".into(), "lapin".into(), options, &body, properties).await.unwrap();
            confirms.push_back(confirm);
            if confirms.len() as u64 >= WINDOW {
                confirms.pop_front().unwrap().await.unwrap();
            }
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    });
    for received in 1..=LAPIN_MESSAGES {
        let delivery = deliveries.next().await.unwrap().unwrap();
        if received.is_multiple_of(ACK_EVERY) {
            delivery.acker.ack(BasicAckOptions { multiple: true }).await.unwrap();
        }
    }
    publishing.await.unwrap();
    began.elapsed()
}
