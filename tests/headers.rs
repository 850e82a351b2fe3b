//! Properties and headers of every AMQP type: unharmed in what the host itself publishes again, and by one table through
//! a guest.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString};
use serde_json::{Value, json};

use crate::dead::dead;
use crate::harness::amqp::{Message, Peer, persistent, table};
use crate::harness::{DEADLINE, places, python};
use crate::outcomes::{Stage, WORKER, stage};

/// A header: its name, what is sent, what a guest is told, and what arrives when the guest publishes that.
pub type Row = (&'static str, AMQPValue, Value, AMQPValue);

/// One header of every type that RabbitMQ knows, and what becomes of it.
pub fn rows() -> Vec<Row> {
    use AMQPValue as A;
    let long = |bytes: &[u8]| A::LongString(LongString::from(bytes.to_vec()));
    let bytes = |bytes: &[u8]| A::ByteArray(ByteArray::from(bytes.to_vec()));
    let decimal = |scale, value| A::DecimalValue(DecimalValue { scale, value });
    let table = |entries: &[(&str, AMQPValue)]| A::FieldTable(table(entries));
    let array = |values: &[AMQPValue]| A::FieldArray(FieldArray::from(values.to_vec()));
    let (integer, float) = (|n: i64| json!({"integer": n}), |n: f64| json!({"float": n}));
    vec![
        ("bool", A::Boolean(true), json!({"boolean": true}), A::Boolean(true)),
        ("i8", A::ShortShortInt(-8), integer(-8), A::LongInt(-8)),
        ("u8", A::ShortShortUInt(200), integer(200), A::LongInt(200)),
        ("i16", A::ShortInt(-16), integer(-16), A::LongInt(-16)),
        ("u16", A::ShortUInt(60_000), integer(60_000), A::LongInt(60_000)),
        ("i32", A::LongInt(i32::MIN), integer(i32::MIN.into()), A::LongInt(i32::MIN)),
        ("u32", A::LongUInt(u32::MAX), integer(u32::MAX.into()), A::LongLongInt(u32::MAX.into())),
        ("small u32", A::LongUInt(32), integer(32), A::LongInt(32)),
        ("i64", A::LongLongInt(i64::MIN), integer(i64::MIN), A::LongLongInt(i64::MIN)),
        ("small i64", A::LongLongInt(64), integer(64), A::LongInt(64)),
        ("f32", A::Float(0.5), float(0.5), A::Double(0.5)),
        ("f64", A::Double(-1e300), float(-1e300), A::Double(-1e300)),
        ("text", long("gr\u{fc}n".as_bytes()), json!({"text": "gr\u{fc}n"}), long("gr\u{fc}n".as_bytes())),
        ("empty", long(b""), json!({"text": ""}), long(b"")),
        ("not UTF-8", long(b"a\xff"), json!({"binary": [97, 255]}), bytes(b"a\xff")),
        ("bytes", bytes(b"\x00\xff"), json!({"binary": [0, 255]}), bytes(b"\x00\xff")),
        ("time", A::Timestamp(1_700_000_000), json!({"timestamp": 1_700_000_000}), A::Timestamp(1_700_000_000)),
        ("void", A::Void, json!("void"), A::Void),
        ("decimal", decimal(2, 1250), json!({"json": {"$decimal": "12.50"}}), decimal(2, 1250)),
        ("array", array(&[]), json!({"json": []}), array(&[])),
        (
            "nested array",
            array(&[A::ShortInt(1), long(b"two"), array(&[A::Void, A::Boolean(false)]), bytes(b"\xff")]),
            json!({"json": [1, "two", [null, false], {"$binary": "/w=="}]}),
            array(&[A::LongInt(1), long(b"two"), array(&[A::Void, A::Boolean(false)]), bytes(b"\xff")]),
        ),
        (
            "table",
            table(&[
                ("at", A::Timestamp(7)),
                ("deep", table(&[("list", array(&[table(&[("n", A::LongLongInt(1 << 40))])]))])),
                ("half", A::Float(0.5)),
                ("price", decimal(3, 7)),
                ("raw", long(b"\xfe")),
            ]),
            json!({"json": {
                "at": {"$timestamp": 7},
                "deep": {"list": [{"n": 1_i64 << 40}]},
                "half": 0.5,
                "price": {"$decimal": "0.007"},
                "raw": {"$binary": "/g=="},
            }}),
            table(&[
                ("at", A::Timestamp(7)),
                ("deep", table(&[("list", array(&[table(&[("n", A::LongLongInt(1 << 40))])]))])),
                ("half", A::Double(0.5)),
                ("price", decimal(3, 7)),
                ("raw", bytes(b"\xfe")),
            ]),
        ),
    ]
}

/// All thirteen properties, with these headers.
pub fn properties(headers: FieldTable, user: &str) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("text/x-odd; charset=none".into())
        .with_content_encoding("identity".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("replies".into())
        .with_expiration("600000".into())
        .with_message_id("message".into())
        .with_timestamp(u64::MAX)
        .with_type("kind".into())
        .with_user_id(user.into())
        .with_app_id("shop".into())
}

/// The user of the tests' connections.
pub fn user(stage: &Stage) -> String {
    let (_, after) = stage.vhost.url.split_once("://").unwrap();
    after.split_once(':').unwrap().0.to_owned()
}

pub fn headers(message: &Message) -> BTreeMap<String, AMQPValue> {
    let headers = message.properties.headers().clone().unwrap_or_default();
    headers.into_iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
}

/// Headers that the host added.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("x-wabbit-")
}

pub const NOT_UTF8: &[u8] = b"\x00\xc3\x28 body \xff";

#[tokio::test]
async fn a_dead_letter_is_the_message_type_for_type() {
    let stage = stage("types", "", &[("probe", WORKER)]).await;
    let user = user(&stage);
    let mut sent: BTreeMap<String, AMQPValue> =
        rows().into_iter().map(|(name, value, ..)| (name.into(), value)).collect();
    sent.insert("probe".into(), AMQPValue::LongString(r#"{"do":"error","text":"no"}"#.into()));
    let mut table = FieldTable::default();
    for (name, value) in &sent {
        table.insert(name.as_str().into(), value.clone());
    }
    // A forged one is not taken along.
    table.insert("x-wabbit-error".into(), AMQPValue::LongInt(1));
    stage.peer.publish("", &stage.named("@work"), NOT_UTF8, properties(table, &user)).await;

    let letter = stage.take("work.dead", 1).await.remove(0);
    assert_eq!(letter.body, NOT_UTF8);
    let (ours, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) =
        headers(&letter).into_iter().partition(|(name, _)| is_ours(name));
    assert_eq!(theirs, sent);
    let text = |text: &str| Some(AMQPValue::LongString(text.into()));
    assert_eq!(ours.get("x-wabbit-error").cloned(), text("no"));
    // The broker would act on these: they are kept under names of ours.
    assert_eq!(ours.get("x-wabbit-expiration").cloned(), text("600000"));
    assert_eq!(ours.get("x-wabbit-user-id").cloned(), text(&user));
    let untouched = |properties: &BasicProperties| {
        let texts = [
            properties.content_type(),
            properties.content_encoding(),
            properties.correlation_id(),
            properties.reply_to(),
            properties.message_id(),
            properties.kind(),
            properties.app_id(),
        ]
        .map(|text| text.as_ref().map(ToString::to_string));
        (texts, *properties.delivery_mode(), *properties.priority(), *properties.timestamp())
    };
    assert_eq!(untouched(&letter.properties), untouched(&properties(FieldTable::default(), &user)));
    assert_eq!((letter.properties.expiration(), letter.properties.user_id()), (&None, &None));
    stage.expect_empty(&["work"]).await;
}

/// A header can be nested as deep as a frame has room for, and the library that reads it calls itself for each level: the
/// host, and who looks at its letters.
#[tokio::test]
async fn a_header_of_lists_in_each_other_harms_nobody() {
    let stage = stage("nested", "", &[("probe", WORKER)]).await;
    let script = places::root().join("tests/fixtures/nested.py");
    for body in [r#"{"do":"ack"}"#, r#"{"do":"dead-letter","reason":"no"}"#] {
        let arguments = [&*stage.vhost.url, &stage.named("@work"), "24000", body];
        python::run(&script, &arguments, DEADLINE).await.success();
    }
    stage.wait_for_settled("probe", "acked", 1).await;
    // Counted and not taken: this process would not survive it.
    stage.peer.wait_for_count(&stage.named("@work.dead"), 1, DEADLINE).await;
    let shown = dead(&stage, &["show", "@work.dead"]).await.success();
    assert!(shown.contains("reason") && shown.contains("no"), "{shown:.1000}");
    stage.send("1", r#"{"do":"ack"}"#).await;
    stage.wait_for_settled("probe", "acked", 2).await;
}

#[tokio::test]
async fn a_message_without_properties_gets_none() {
    let stage = stage("bare", "", &[("probe", WORKER)]).await;
    let command = stage.named(r#"{"do":"describe","to":"/@out","then":{"do":"dead-letter"}}"#);
    stage.peer.publish("", &stage.named("@work"), command.as_bytes(), BasicProperties::default()).await;
    let told = stage.take("out", 1).await.remove(0).json();
    for (name, value) in told["properties"].as_object().unwrap() {
        let expected = match name.as_str() {
            "headers" => json!([]),
            "persistent" => json!(false),
            _ => Value::Null,
        };
        assert_eq!(*value, expected, "{name}");
    }
    let letter = stage.take("work.dead", 1).await.remove(0);
    let headers = letter.properties.headers().clone().unwrap();
    assert!(headers.inner().keys().all(|name| is_ours(name.as_str())), "{headers:?}");
    // It waits for somebody to look at it, so it is to survive the broker.
    let kept = letter.properties.with_headers(headers.clone());
    assert_eq!(kept, BasicProperties::default().with_delivery_mode(2).with_headers(headers));
}

#[tokio::test]
async fn a_guest_sees_each_type_by_the_table() {
    let stage = stage("described", "", &[("probe", WORKER)]).await;
    let user = user(&stage);
    let command = AMQPValue::LongString(stage.named(r#"{"do":"describe","to":"/@out"}"#).into());
    let mut sent: Vec<(&str, AMQPValue)> = rows().into_iter().map(|(name, value, ..)| (name, value)).collect();
    sent.extend([("probe", command), ("x-wabbit-attempts", AMQPValue::LongInt(9))]);
    stage.peer.publish("", &stage.named("@work"), NOT_UTF8, properties(table(&sent), &user)).await;

    let told = stage.take("out", 1).await.remove(0).json();
    assert_eq!(told["body"], json!(NOT_UTF8));
    let queue = stage.named("@work");
    for (key, value) in [
        ("exchange", json!("")),
        ("routing-key", json!(queue)),
        ("queue", json!(queue)),
        ("redelivered", json!(false)),
        ("attempt", json!(1)),
    ] {
        assert_eq!(told[key], value, "{key}");
    }
    let mut properties = told["properties"].clone();
    let headers = properties.as_object_mut().unwrap().remove("headers").unwrap();
    let expected = json!({
        "content-type": "text/x-odd; charset=none", "content-encoding": "identity", "persistent": true,
        "priority": 7, "correlation-id": "correlation", "reply-to": "replies", "expiration-ms": 600_000,
        "message-id": "message", "timestamp": u64::MAX, "kind": "kind", "user-id": user, "app-id": "shop",
    });
    assert_eq!(properties, expected);
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for header in headers.as_array().unwrap() {
        let mut value = header[1].clone();
        // JSON is compared as what it says, not how.
        if let Some(text) = value.get("json").and_then(Value::as_str) {
            value = json!({"json": serde_json::from_str::<Value>(text).unwrap()});
        }
        assert!(seen.insert(header[0].as_str().unwrap().to_owned(), value).is_none(), "{header} stands twice");
    }
    assert!(seen.remove("probe").is_some());
    assert_eq!(seen, rows().into_iter().map(|(name, _, told, _)| (name.to_owned(), told)).collect());
}

#[tokio::test]
async fn a_guest_sends_each_type_by_the_table() {
    let stage = stage("echoed", "", &[("probe", WORKER)]).await;
    let user = user(&stage);
    let command = AMQPValue::LongString(stage.named(r#"{"do":"echo","to":"/@out"}"#).into());
    let mut sent: Vec<(&str, AMQPValue)> = rows().into_iter().map(|(name, value, ..)| (name, value)).collect();
    sent.push(("probe", command.clone()));
    stage.peer.publish("", &stage.named("@work"), NOT_UTF8, properties(table(&sent), &user)).await;

    let echo = stage.take("out", 1).await.remove(0);
    assert_eq!(echo.body, NOT_UTF8);
    let mut expected: BTreeMap<_, _> = rows().into_iter().map(|(name, .., back)| (name.to_owned(), back)).collect();
    expected.insert("probe".into(), command);
    let mut seen = headers(&echo);
    seen.retain(|name, _| !is_ours(name));
    assert_eq!(seen, expected);
    let none = FieldTable::default;
    assert_eq!(echo.properties.with_headers(none()), properties(none(), &user));
}

/// Copies that the broker made for `CC`, and its own notes on dead-lettering, are kept from having any effect again.
#[tokio::test]
async fn what_the_broker_acts_on_is_moved_aside() {
    let stage = stage("aside", "", &[("probe", WORKER)]).await;
    let (peer, work, other) = (&stage.peer, stage.named("@work"), stage.named("@other"));
    peer.durable_queue(&other).await;
    let name = |text: &str| AMQPValue::LongString(text.into());
    let copies = AMQPValue::FieldArray(FieldArray::from(vec![name(&other)]));
    let dead = r#"{"do":"dead-letter","reason":"seen"}"#;
    peer.publish("", &work, dead.as_bytes(), persistent().with_headers(table(&[("CC", copies.clone())]))).await;
    let letter = stage.take("work.dead", 1).await.remove(0);
    assert_eq!((letter.header("CC"), letter.header("x-wabbit-cc")), (None, Some(&copies)));
    peer.wait_for_count(&other, 1, DEADLINE).await;

    // A message that expired elsewhere arrives with the broker's notes.
    expire_into(
        peer,
        &stage.named("@waiting"),
        &work,
        stage.named(r#"{"do":"describe","to":"/@out","then":{"do":"dead-letter"}}"#),
    )
    .await;
    let told = stage.take("out", 1).await.remove(0).json();
    let names: Vec<&str> =
        told["properties"]["headers"].as_array().unwrap().iter().filter_map(|h| h[0].as_str()).collect();
    let notes = ["x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];
    let letter = stage.take("work.dead", 1).await.remove(0);
    for note in notes {
        assert!(names.contains(&note), "the handler is told of `{note}`: {names:?}");
        assert_eq!(letter.header(note), None);
        assert!(letter.header(&format!("x-wabbit-{note}")).is_some(), "{note}");
    }
    assert_eq!(letter.text_header("x-wabbit-x-first-death-reason").as_deref(), Some("expired"));
}

async fn expire_into(peer: &Peer, waiting: &str, work: &str, body: String) {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let arguments = table(&[
        ("x-message-ttl", AMQPValue::LongInt(1)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(work)),
    ]);
    peer.queue(waiting, QueueDeclareOptions { durable: true, ..Default::default() }, arguments).await;
    peer.publish("", waiting, body.as_bytes(), persistent()).await;
}

/// A message that is itself at the limit of a frame still finds its way to the dead letters.
#[tokio::test]
async fn headers_that_fill_a_frame_are_dead_lettered_without_the_largest() {
    let stage = stage("frame", "", &[("probe", WORKER)]).await;
    let text = |text: String| AMQPValue::LongString(text.into());
    let headers = table(&[
        ("large", text("x".repeat(125 << 10))),
        ("small", text("kept".into())),
        ("probe", text(format!(r#"{{"do":"error","text":"{}"}}"#, "\u{e9}".repeat(600)))),
    ]);
    stage.peer.publish("", &stage.named("@work"), b"x", persistent().with_headers(headers)).await;
    let letter = stage.take("work.dead", 1).await.remove(0);
    assert_eq!(letter.text_header("small").as_deref(), Some("kept"));
    assert_eq!(letter.header("large"), None);
    assert_eq!(letter.header("x-wabbit-headers-dropped"), Some(&AMQPValue::LongLongInt(1)));
    let error = letter.text_header("x-wabbit-error").unwrap();
    assert!(error.starts_with('\u{e9}') && (1000..=1024).contains(&error.len()), "{} bytes", error.len());
}
