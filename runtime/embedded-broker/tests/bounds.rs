//! What bounds the broker, and that nothing that is sent to it makes it panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

mod peer;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, connection, queue};
use amq_protocol::types::AMQPValue;
use fastrand::Rng;
use peer::{ack, consume, declare, drain, get, method, open, prefetch, publish};
use wabbit_embedded_broker::{Broker, ConnectionId, Limits, decode};

fn small() -> Limits {
    Limits {
        connections_max: 3,
        channels_max: 4,
        queues_max: 5,
        exchanges_max: 8,
        bindings_max: 3,
        consumers_max: 2,
        body_bytes_max: 100_000,
        memory_bytes_max: 100_000,
        partial_bytes_max: 50_000,
        output_bytes_max: 10_000,
        ..Limits::default()
    }
}

/// The code that a channel or connection was closed with.
fn closed(broker: &mut Broker, id: ConnectionId) -> Option<u16> {
    drain(broker, id).1.into_iter().find_map(|method| match method {
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => Some(close.reply_code),
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => Some(close.reply_code),
        _ => None,
    })
}

#[test]
fn connections_are_bounded() {
    let mut broker = Broker::new(small());
    let first = open(&mut broker, 1);
    open(&mut broker, 1);
    open(&mut broker, 1);
    assert!(broker.connect(true).is_err());
    broker.disconnect(first);
    broker.connect(true).unwrap();
}

#[test]
fn queues_and_consumers_are_bounded() {
    let mut broker = Broker::new(small());
    let id = open(&mut broker, 1);
    for number in 0..5 {
        declare(&mut broker, id, &format!("q{number}"), &[]);
    }
    assert_eq!(closed(&mut broker, id), None);
    declare(&mut broker, id, "one-too-many", &[]);
    assert_eq!(closed(&mut broker, id), Some(406));
    let id = open(&mut broker, 1);
    for number in 0..2 {
        consume(&mut broker, id, 1, "q0", &format!("c{number}"), false);
    }
    assert_eq!(closed(&mut broker, id), None);
    consume(&mut broker, id, 1, "q0", "one-too-many", false);
    assert_eq!(closed(&mut broker, id), Some(406));
}

#[test]
fn bindings_are_bounded() {
    let mut broker = Broker::new(small());
    let id = open(&mut broker, 1);
    declare(&mut broker, id, "q", &[]);
    for number in 0..4 {
        let bind = queue::Bind {
            queue: "q".into(),
            exchange: "amq.direct".into(),
            routing_key: number.to_string().into(),
            ..queue::Bind::default()
        };
        assert_eq!(closed(&mut broker, id), None);
        broker.receive(id, method(1, AMQPClass::Queue(queue::AMQPMethod::Bind(bind))));
    }
    assert_eq!(closed(&mut broker, id), Some(406));
    assert_eq!(broker.stats().bindings, 3);
}

#[test]
fn publishers_wait_while_too_much_is_held() {
    let mut broker = Broker::new(small());
    let (publisher, consumer) = (open(&mut broker, 1), open(&mut broker, 1));
    declare(&mut broker, publisher, "q", &[]);
    let mut sent = 0_u32;
    while broker.reads(publisher) {
        publish(&mut broker, publisher, 1, "q", &[0; 1000], BasicProperties::default());
        sent += 1;
        assert!(sent < 100, "more than the bound of 100,000 bytes was taken");
    }
    assert!(broker.is_blocked(publisher));
    let told = |broker: &mut Broker| -> Vec<AMQPClass> {
        let methods = drain(broker, publisher).1.into_iter();
        methods.filter(|method| matches!(method, AMQPClass::Connection(_))).collect()
    };
    assert!(matches!(&told(&mut broker)[..], [AMQPClass::Connection(connection::AMQPMethod::Blocked(_))]));
    // Who only consumes is not blocked, and makes room.
    assert!(broker.reads(consumer));
    prefetch(&mut broker, consumer, 1, 0);
    consume(&mut broker, consumer, 1, "q", "c", false);
    let mut received = 0_u32;
    while broker.is_blocked(publisher) {
        let last = drain(&mut broker, consumer).0.last().unwrap().tag;
        received += 1;
        assert!(received <= sent);
        ack(&mut broker, consumer, 1, last, true);
    }
    assert!(matches!(&told(&mut broker)[..], [AMQPClass::Connection(connection::AMQPMethod::Unblocked(_))]));
    assert!(broker.reads(publisher));
}

#[test]
fn a_consumer_that_does_not_read_is_not_delivered_to() {
    let limits = Limits { memory_bytes_max: 1 << 30, ..small() };
    let mut broker = Broker::new(limits);
    let (publisher, consumer) = (open(&mut broker, 1), open(&mut broker, 1));
    declare(&mut broker, publisher, "q", &[]);
    consume(&mut broker, consumer, 1, "q", "c", true);
    for _ in 0..1000 {
        publish(&mut broker, publisher, 1, "q", &[0; 1000], BasicProperties::default());
    }
    assert!(!broker.reads(consumer));
    assert!(broker.stats().ready > 980, "{:?}", broker.stats());
    let first = broker.take_output(consumer).items.len();
    assert!((5..15).contains(&first), "{first} were delivered at once");
    assert_eq!(first + drain(&mut broker, consumer).0.len(), 1000);
    assert_eq!(broker.stats().memory_bytes, 0);
}

#[test]
fn bodies_are_bounded() {
    let mut broker = Broker::new(small());
    let id = open(&mut broker, 4);
    declare(&mut broker, id, "q", &[]);
    let begin = |broker: &mut Broker, channel, body_size| {
        let publish = basic::Publish { routing_key: "q".into(), ..basic::Publish::default() };
        peer::basic(broker, id, channel, basic::AMQPMethod::Publish(publish));
        let header = AMQPContentHeader { class_id: 60, body_size, properties: BasicProperties::default() };
        broker.receive(id, AMQPFrame::Header(channel, header));
    };
    begin(&mut broker, 1, 100_001);
    assert_eq!(closed(&mut broker, id), Some(406));
    for channel in 2..=3 {
        begin(&mut broker, channel, 40_000);
        broker.receive(id, AMQPFrame::Body(channel, vec![0; 20_000]));
    }
    assert_eq!(broker.stats().partial_bytes, 40_000);
    assert_eq!(closed(&mut broker, id), None);
    begin(&mut broker, 4, 40_000);
    broker.receive(id, AMQPFrame::Body(4, vec![0; 20_000]));
    assert_eq!(closed(&mut broker, id), Some(506));
    assert_eq!(broker.stats().partial_bytes, 0);
}

#[test]
fn nothing_that_is_nested_too_deeply_is_read() {
    // Arrays of arrays, as deep as a frame lets them be.
    let mut value = Vec::new();
    for _ in 0..20_000 {
        let mut outer = b"A".to_vec();
        outer.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        value.splice(0..0, outer);
    }
    let mut table = b"\x01a".to_vec();
    table.extend_from_slice(&value);
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0];
    payload.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
    payload.extend_from_slice(&table);
    let mut frame = vec![2, 0, 1];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&payload);
    frame.push(0xCE);
    let error = decode(&frame, 1 << 20, Limits::default().nesting_max).unwrap_err();
    assert_eq!(error.code.number(), 502);
}

/// Frames of every kind that a client may send, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let mut table = amq_protocol::types::FieldTable::default();
    table
        .insert("x-max-length".into(), AMQPValue::LongInt(5))
        .insert("CC".into(), AMQPValue::FieldArray(vec![].into()));
    let declare = queue::Declare { queue: "q".into(), arguments: table.clone(), ..queue::Declare::default() };
    let properties = BasicProperties::default().with_headers(table).with_expiration("5".into());
    let frames = [
        method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))),
        method(
            1,
            AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
                routing_key: "q".into(),
                ..basic::Publish::default()
            })),
        ),
        AMQPFrame::Header(1, AMQPContentHeader { class_id: 60, body_size: 3, properties }),
        AMQPFrame::Body(1, b"abc".to_vec()),
        method(
            1,
            AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
                queue: "q".into(),
                ..basic::Consume::default()
            })),
        ),
        method(1, AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 1, multiple: true }))),
        method(
            1,
            AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack { delivery_tag: 1, multiple: true, requeue: true })),
        ),
        method(1, AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default()))),
        method(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))),
        AMQPFrame::Heartbeat,
    ];
    frames.iter().map(|frame| gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0).collect()
}

#[test]
fn no_bytes_make_it_panic() {
    let samples = samples();
    for seed in 0..2000 {
        let mut random = Rng::with_seed(seed);
        let limits = Limits::default();
        let mut broker = Broker::new(limits.clone());
        let (bystander, attacker) = (open(&mut broker, 1), open(&mut broker, 1));
        declare(&mut broker, bystander, "other", &[]);
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..40) {
            let mut sample = random.choice(&samples).unwrap().clone();
            if random.u8(0..3) == 0 {
                let at = random.usize(0..sample.len());
                sample[at] = random.u8(..);
            }
            bytes.extend(sample);
        }
        let mut rest = &*bytes;
        loop {
            match decode(rest, limits.frame_bytes_max, limits.nesting_max) {
                Ok(Some((frame, length))) => {
                    rest = &rest[length..];
                    broker.receive(attacker, frame);
                }
                Ok(None) => break,
                Err(failure) => {
                    broker.receive_nonsense(attacker, &failure);
                    break;
                }
            }
        }
        drain(&mut broker, attacker);
        broker.disconnect(attacker);
        publish(&mut broker, bystander, 1, "other", b"still here", BasicProperties::default());
        assert_eq!(get(&mut broker, bystander, "other").as_deref(), Some(&b"still here"[..]), "seed {seed}");
    }
}

#[test]
fn what_is_encoded_is_what_the_frames_say() {
    let mut broker = Broker::new(Limits::default());
    let id = open(&mut broker, 1);
    declare(&mut broker, id, "q", &[("x-queue-type", AMQPValue::LongString("quorum".into()))]);
    consume(&mut broker, id, 1, "q", "c", false);
    let properties = BasicProperties::default().with_message_id("m".into()).with_priority(3);
    publish(&mut broker, id, 1, "q", &[7; 10_000], properties.clone());
    publish(&mut broker, id, 1, "q", b"", properties);
    peer::nack(&mut broker, id, 1, 1, false, true);
    let publish = basic::Publish { routing_key: "none".into(), mandatory: true, ..basic::Publish::default() };
    peer::basic(&mut broker, id, 1, basic::AMQPMethod::Publish(publish));
    broker.receive(
        id,
        AMQPFrame::Header(1, AMQPContentHeader { class_id: 60, body_size: 0, properties: BasicProperties::default() }),
    );
    let items = broker.take_output(id).items;
    assert!(items.len() >= 5, "{items:?}");
    for item in items {
        let mut bytes = Vec::new();
        item.encode(4096, &mut bytes).unwrap();
        let mut rest = &*bytes;
        for expected in item.into_frames(4096) {
            let (frame, length) = decode(rest, 4096, 32).unwrap().unwrap();
            assert_eq!(frame, expected);
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
    }
}
