//! Random sequences of what clients do, against what has to hold whatever they do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails, and says where")]

mod peer;

use std::collections::BTreeMap;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, BasicProperties, channel, queue};
use amq_protocol::types::AMQPValue;
use fastrand::Rng;
use peer::{Got, ack, basic, consume, declare, drain, get, method, nack, open, prefetch, publish};
use wabbit_embedded_broker::{Broker, ConnectionId, Limits};

/// How many sequences are tried, and how long each is.
const SEEDS: u64 = 300;
const STEPS: usize = 300;

/// A client with two channels, and what it has not settled.
struct Client {
    id: ConnectionId,
    /// By channel and delivery tag: the message, and whether it came from the queue of dead letters.
    unsettled: BTreeMap<(u16, u64), (u64, bool)>,
    /// Whether each consumer's deliveries are settled already when they come.
    no_ack: BTreeMap<String, bool>,
    consumers: u64,
}

/// What is known of all messages.
#[derive(Default)]
struct Ledger {
    published: u64,
    /// How often each message came to its end.
    ended: BTreeMap<u64, u32>,
    /// How many ended with a client, and how many came as dead letters.
    settled: usize,
    dead: usize,
    /// The last message that was delivered from the queue for the first time.
    last_fresh: Option<u64>,
}

impl Ledger {
    fn end(&mut self, message: u64) {
        *self.ended.entry(message).or_default() += 1;
    }

    /// Notes what came to a client.
    fn take(&mut self, client: &mut Client, messages: Vec<Got>) {
        for got in messages {
            let number = u64::from_be_bytes(got.body[..8].try_into().unwrap());
            let dead = got.consumer.starts_with("dead");
            self.dead += usize::from(dead);
            if !dead && !got.redelivered && !got.consumer.is_empty() {
                assert!(self.last_fresh.is_none_or(|last| last < number), "{number} after {:?}", self.last_fresh);
                self.last_fresh = Some(number);
            }
            if client.no_ack[&got.consumer] {
                self.end(number);
            } else {
                client.unsettled.insert((got.channel, got.tag), (number, dead));
            }
        }
    }
}

fn new_client(broker: &mut Broker) -> Client {
    let id = open(broker, 2);
    Client { id, unsettled: BTreeMap::new(), no_ack: BTreeMap::new(), consumers: 0 }
}

/// Arguments of the queue, of which each sequence has others. Dead letters always reach the other queue.
fn arguments(random: &mut Rng) -> Vec<(&'static str, AMQPValue)> {
    let mut arguments = vec![
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        ("x-dead-letter-routing-key", AMQPValue::LongString("dead".into())),
    ];
    if random.bool() {
        arguments.push(("x-max-length", AMQPValue::LongInt(random.i32(0..20))));
    }
    if random.bool() {
        arguments.push(("x-message-ttl", AMQPValue::LongInt(random.i32(0..2000))));
    }
    if random.u8(0..4) == 0 {
        arguments.push(("x-single-active-consumer", AMQPValue::Boolean(true)));
    }
    if random.u8(0..4) == 0 {
        arguments.push(("x-queue-type", AMQPValue::LongString("quorum".into())));
        arguments.push(("x-delivery-limit", AMQPValue::LongInt(random.i32(0..4))));
    }
    arguments
}

fn step(broker: &mut Broker, clients: &mut [Client], ledger: &mut Ledger, random: &mut Rng, now: &mut Duration) {
    let which = random.usize(0..clients.len());
    let channel = random.u16(1..=2);
    let client = &mut clients[which];
    match random.u8(0..20) {
        0..=7 => {
            let mut body = ledger.published.to_be_bytes().to_vec();
            body.resize(8 + random.usize(0..50), 0);
            ledger.published += 1;
            let mut properties = BasicProperties::default();
            if random.u8(0..5) == 0 {
                properties = properties.with_expiration(random.u32(0..1000).to_string().into());
            }
            publish(broker, client.id, channel, "q", &body, properties);
        }
        8 => {
            let (queue, no_ack) = (if random.bool() { "q" } else { "dead" }, random.bool());
            client.consumers += 1;
            let tag = format!("{queue}-{}", client.consumers);
            client.no_ack.insert(tag.clone(), no_ack);
            prefetch(broker, client.id, channel, random.u16(0..5));
            consume(broker, client.id, channel, queue, &tag, no_ack);
        }
        9 => {
            if let Some(tag) = random.choice(client.no_ack.keys().cloned().collect::<Vec<_>>()) {
                let cancel = amq_protocol::protocol::basic::Cancel { consumer_tag: tag.into(), nowait: true };
                basic(broker, client.id, channel, amq_protocol::protocol::basic::AMQPMethod::Cancel(cancel));
            }
        }
        10..=16 => settle(broker, client, ledger, random),
        17 => {
            *now += Duration::from_millis(random.u64(0..800));
            broker.tick(*now);
        }
        18 if random.u8(0..4) == 0 => {
            // Cut, in the middle of whatever it does.
            let (messages, _) = drain(broker, client.id);
            ledger.take(client, messages);
            broker.disconnect(client.id);
            *client = new_client(broker);
        }
        18 => {
            let (messages, _) = drain(broker, client.id);
            ledger.take(client, messages);
            for sent in
                [channel::AMQPMethod::Close(channel::Close::default()), channel::AMQPMethod::Open(channel::Open {})]
            {
                broker.receive(client.id, method(channel, AMQPClass::Channel(sent)));
            }
            client.unsettled.retain(|(of, _), _| *of != channel);
        }
        _ => {
            let recover = amq_protocol::protocol::basic::RecoverAsync { requeue: true };
            let (messages, _) = drain(broker, client.id);
            ledger.take(client, messages);
            client.unsettled.retain(|(of, _), _| *of != channel);
            basic(broker, client.id, channel, amq_protocol::protocol::basic::AMQPMethod::RecoverAsync(recover));
        }
    }
    for client in clients {
        let (messages, _) = drain(broker, client.id);
        ledger.take(client, messages);
    }
}

fn settle(broker: &mut Broker, client: &mut Client, ledger: &mut Ledger, random: &mut Rng) {
    let Some((channel, tag)) = random.choice(client.unsettled.keys().copied().collect::<Vec<_>>()) else { return };
    let multiple = random.u8(0..3) == 0;
    let range = if multiple { (channel, 0)..=(channel, tag) } else { (channel, tag)..=(channel, tag) };
    let settled: Vec<_> = client.unsettled.range(range).map(|(at, what)| (*at, *what)).collect();
    let verdict = random.u8(0..4);
    for (at, (number, dead)) in settled {
        client.unsettled.remove(&at);
        // What is rejected in the queue of dead letters has nowhere to go.
        if verdict <= 1 || (verdict == 2 && dead) {
            ledger.end(number);
        }
    }
    match verdict {
        0 | 1 => ack(broker, client.id, channel, tag, multiple),
        2 => nack(broker, client.id, channel, tag, multiple, false),
        _ => nack(broker, client.id, channel, tag, multiple, true),
    }
}

/// How many messages clients settled, and how many came as dead letters.
fn sequence(seed: u64) -> (usize, usize) {
    let mut random = Rng::with_seed(seed);
    let mut broker = Broker::new(Limits::default());
    let empty = broker.stats();
    let mut clients = [new_client(&mut broker), new_client(&mut broker)];
    let arguments = arguments(&mut random);
    declare(&mut broker, clients[0].id, "q", &arguments);
    declare(&mut broker, clients[0].id, "dead", &[]);
    let (mut ledger, mut now) = (Ledger::default(), Duration::ZERO);
    for _ in 0..STEPS {
        step(&mut broker, &mut clients, &mut ledger, &mut random, &mut now);
    }
    // What is left goes back to its queue, and each is fetched from there.
    for client in &mut clients {
        let (messages, _) = drain(&mut broker, client.id);
        ledger.take(client, messages);
        assert!(broker.is_open(client.id), "seed {seed}: a client did something wrong");
        broker.disconnect(client.id);
    }
    ledger.settled = ledger.ended.len();
    let reader = open(&mut broker, 1);
    for queue in ["q", "dead"] {
        while let Some(body) = get(&mut broker, reader, queue) {
            ledger.end(u64::from_be_bytes(body[..8].try_into().unwrap()));
        }
    }
    let ends: Vec<u32> = (0..ledger.published).map(|number| ledger.ended.get(&number).copied().unwrap_or(0)).collect();
    assert!(ends.iter().all(|ends| *ends == 1), "seed {seed} with {arguments:?}: {ends:?}");
    for name in ["q", "dead"] {
        let delete = queue::Delete { queue: name.into(), nowait: true, ..queue::Delete::default() };
        broker.receive(reader, method(1, AMQPClass::Queue(queue::AMQPMethod::Delete(delete))));
    }
    broker.disconnect(reader);
    assert_eq!(broker.stats(), empty, "seed {seed}");
    assert_eq!(broker.next_deadline(), None, "seed {seed}");
    (ledger.settled, ledger.dead)
}

#[test]
fn each_message_ends_exactly_once_and_leaves_nothing_behind() {
    let ends: Vec<(usize, usize)> = (0..SEEDS).map(sequence).collect();
    let (settled, dead) = ends.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert!(settled > 10_000 && dead > 5000, "too little happened: {settled} settled, {dead} dead letters");
}

#[test]
fn the_same_sequence_gives_the_same() {
    for seed in 0..20 {
        let [first, second] = [0, 1].map(|_| {
            let mut random = Rng::with_seed(seed);
            let mut broker = Broker::new(Limits::default());
            let mut clients = [new_client(&mut broker), new_client(&mut broker)];
            let arguments = arguments(&mut random);
            declare(&mut broker, clients[0].id, "q", &arguments);
            declare(&mut broker, clients[0].id, "dead", &[]);
            let (mut ledger, mut now) = (Ledger::default(), Duration::ZERO);
            for _ in 0..STEPS {
                step(&mut broker, &mut clients, &mut ledger, &mut random, &mut now);
            }
            format!("{broker:?}")
        });
        assert_eq!(first, second, "seed {seed}");
    }
}
