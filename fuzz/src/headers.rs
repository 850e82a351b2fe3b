//! Properties and headers: those that a broker sends and any that the host may make keep every type, on the wire, in a
//! copy that waits for another try, and in the JSON that a command reads.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use amq_protocol::protocol::basic::{AMQPProperties, gen_properties, parse_properties};
use wabbit::amqp::{properties, to_properties};
use wabbit::delivery::json::{for_command, integer, parse_delivery};
use wabbit::delivery::{Delivery, Properties, Table, Value};
use wabbit::outcome::{Failure, FailureKind, SHORT_STRING_MAX, check_carriable, is_reserved};
use wabbit::settle::copy::{Origin, dead_letter, restore, retry};
use wabbit::settle::ladder::Rung;

use crate::values::{comparable, sorted};

/// What RabbitMQ takes in one frame, in bytes, less the frame's own and those of the content header.
const FRAME_BYTES_MAX: usize = (128 << 10) - 8 - 12;
/// JSON that is nested deeper is not read. A header stands within two objects.
const NESTING_MAX: usize = 120;
/// What is in the sandbox's words, and not of ours.
const QUEUE: &str = "jobs";

/// Any bytes as the properties of a message on the wire, and as a recipe for properties.
pub fn headers(data: &[u8]) {
    if let Ok((_, sent)) = parse_properties(data) {
        from_the_wire(&sent);
    }
    let ours = Recipe(data).properties();
    let publication = |properties| wabbit::outcome::Publication {
        exchange: String::new(),
        routing_key: String::new(),
        body: Vec::new(),
        properties,
    };
    if check_carriable(&publication(ours.clone()), 0).is_ok() {
        let sent = to_properties(ours.clone());
        let mut expected = ours;
        sorted(&mut expected.headers);
        assert_eq!(comparable(properties(&sent)), comparable(expected));
        from_the_wire(&sent);
    }
}

fn from_the_wire(sent: &AMQPProperties) {
    let ours = properties(sent);
    let again = to_properties(ours.clone());
    assert_eq!(comparable(properties(&again)), comparable(ours.clone()));
    let bytes = written(&again);
    assert_eq!(bytes.len(), ours.encoded_len(), "{ours:?}");
    // An empty table and none are the same to everybody, and AMQP has no use for a cluster's id any more.
    if sent.headers().as_ref().is_none_or(|headers| !headers.inner().is_empty()) && sent.cluster_id().is_none() {
        assert_eq!(bytes, written(sent), "{ours:?}");
    }
    let (rest, read) = parse_properties(&*bytes).expect("what is written is read");
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(comparable(properties(&read)), comparable(ours.clone()));

    let delivery = Delivery {
        body: Vec::new(),
        properties: ours,
        exchange: "e".into(),
        routing_key: "k".into(),
        queue: QUEUE.into(),
        redelivered: false,
        attempt: 1,
    };
    for_another_try(&delivery);
    for_a_command(delivery);
}

fn written(properties: &AMQPProperties) -> Vec<u8> {
    gen_properties(properties)(Vec::new().into()).expect("memory takes all").into_inner().0
}

/// A copy that waits comes back as the message that it was, and a dead letter can be sent.
fn for_another_try(delivery: &Delivery) {
    let failure = Failure::new(FailureKind::Trap, "unreachable");
    let origin = Origin { worker: "w", plugin: "sha256:00", at: SystemTime::UNIX_EPOCH };
    let letter = dead_letter(delivery, &failure, origin, "jobs.dead");
    let bytes = written(&to_properties(letter.properties)).len();
    assert!(bytes <= FRAME_BYTES_MAX, "a dead letter with {bytes} bytes of properties");

    let Some(copy) = retry(delivery, &failure, origin, Rung::of(Duration::from_secs(1)), true) else { return };
    let bytes = written(&to_properties(copy.properties));
    assert!(bytes.len() <= FRAME_BYTES_MAX, "a copy with {} bytes of properties", bytes.len());
    let (_, read) = parse_properties(&*bytes).expect("what is written is read");
    let mut back = Delivery {
        properties: properties(&read),
        exchange: wabbit::settle::ladder::RETRY_EXCHANGE.into(),
        routing_key: QUEUE.into(),
        ..delivery.clone()
    };
    restore(&mut back);
    assert_eq!((&*back.exchange, &*back.routing_key, back.attempt), ("e", "k", 2));
    let expected = without(&delivery.properties, &["x-delivery-count", "x-acquired-count"]);
    let mut found = without(&back.properties, &[]);
    sorted(&mut found.headers);
    assert_eq!(comparable(found), comparable(expected));
}

/// Without the host's own headers and these.
fn without(properties: &Properties, names: &[&str]) -> Properties {
    let mut properties = properties.clone();
    properties.headers.retain(|(name, _)| !is_reserved(name) && !names.contains(&&**name));
    properties
}

/// What a command reads is what came, in the words that JSON has.
fn for_a_command(delivery: Delivery) {
    let json = for_command(&delivery, "w", 5).expect("every delivery is JSON");
    let deep = delivery.properties.headers.iter().any(|(_, value)| depth(value) > NESTING_MAX);
    let read: Result<serde_json::Value, _> = serde_json::from_slice(&json);
    assert!(read.is_ok() || deep, "{read:?}");
    let expected: Option<Table> = without(&delivery.properties, &[])
        .headers
        .into_iter()
        .map(|(name, value)| Some((name, in_json(value)?)))
        .collect();
    if let Some(headers) = expected
        && !deep
    {
        let read = parse_delivery(&json, QUEUE).unwrap_or_else(|problem| panic!("{problem}: {delivery:?}"));
        let headers = Properties { headers, ..Properties::default() };
        let found = Properties { headers: read.properties.headers, ..Properties::default() };
        assert_eq!(comparable(found), comparable(headers));
        assert_eq!((read.body, read.queue), (Vec::new(), Arc::from(QUEUE)));
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or_default(),
        Value::Table(table) => 1 + table.iter().map(|(_, value)| depth(value)).max().unwrap_or_default(),
        // As JSON it is an object.
        _ => 1,
    }
}

/// A value after its way through JSON; none where it has no form of its own there: a table that looks like what stands
/// for another type.
fn in_json(value: Value) -> Option<Value> {
    Some(match value {
        Value::I8(n) => integer(n.into()),
        Value::U8(n) => integer(n.into()),
        Value::I16(n) => integer(n.into()),
        Value::U16(n) => integer(n.into()),
        Value::U32(n) => integer(n.into()),
        Value::I64(n) => integer(n),
        Value::F32(n) => Value::F64(n.into()),
        Value::Text(bytes) if std::str::from_utf8(&bytes).is_err() => Value::Bytes(bytes),
        Value::Array(values) => Value::Array(values.into_iter().map(in_json).collect::<Option<_>>()?),
        Value::Table(table) => {
            if table.len() == 1 && table.iter().any(|(name, _)| name.starts_with('$')) {
                return None;
            }
            let entries = table.into_iter().map(|(name, value)| Some((name, in_json(value)?)));
            Value::Table(entries.collect::<Option<_>>()?)
        }
        same => same,
    })
}

/// Bytes, read as what to make.
struct Recipe<'a>(&'a [u8]);

impl Recipe<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    fn some(&mut self) -> Vec<u8> {
        let (some, rest) = self.0.split_at(usize::from(self.byte()).min(self.0.len()));
        self.0 = rest;
        some.to_vec()
    }

    /// Now and then one that AMQP cannot carry.
    fn text(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.some()).into_owned();
        if text.len() == SHORT_STRING_MAX { text.repeat(2) } else { text }
    }

    fn properties(&mut self) -> Properties {
        let [flags, more] = self.bytes();
        let mut text = |bit: u8| (flags & (1 << bit) != 0).then(|| self.text());
        Properties {
            content_type: text(0),
            content_encoding: text(1),
            correlation_id: text(2),
            reply_to: text(3),
            expiration: text(4),
            message_id: text(5),
            kind: text(6),
            user_id: text(7),
            app_id: (more & 1 != 0).then(|| self.text()),
            delivery_mode: (more & 2 != 0).then(|| self.byte()),
            priority: (more & 4 != 0).then(|| self.byte()),
            timestamp: (more & 8 != 0).then(|| u64::from_be_bytes(self.bytes())),
            headers: self.table(0),
        }
    }

    fn table(&mut self, depth: usize) -> Table {
        let count = self.byte() % 8;
        (0..count).map(|_| (self.text(), self.value(depth + 1))).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.byte() % 17 {
            0 => Value::Bool(self.byte() & 1 != 0),
            1 => Value::I8(i8::from_be_bytes(self.bytes())),
            2 => Value::U8(self.byte()),
            3 => Value::I16(i16::from_be_bytes(self.bytes())),
            4 => Value::U16(u16::from_be_bytes(self.bytes())),
            5 => Value::I32(i32::from_be_bytes(self.bytes())),
            6 => Value::U32(u32::from_be_bytes(self.bytes())),
            7 => Value::I64(i64::from_be_bytes(self.bytes())),
            8 => Value::F32(f32::from_be_bytes(self.bytes())),
            9 => Value::F64(f64::from_be_bytes(self.bytes())),
            10 => Value::Decimal { scale: self.byte(), value: u32::from_be_bytes(self.bytes()) },
            11 => Value::Text(self.some()),
            12 => Value::Timestamp(u64::from_be_bytes(self.bytes())),
            13 => Value::Bytes(self.some()),
            14 if depth < NESTING_MAX => {
                let count = self.byte() % 8;
                Value::Array((0..count).map(|_| self.value(depth + 1)).collect())
            }
            15 if depth < NESTING_MAX => Value::Table(self.table(depth)),
            _ => Value::Void,
        }
    }
}
