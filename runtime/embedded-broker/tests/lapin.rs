//! The TCP server with a client that knows nothing of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wabbit_embedded_broker::{Limits, Server, Settings};

/// How long anything here may take.
const SOON: Duration = Duration::from_secs(20);

async fn connect(server: &Server) -> Connection {
    let url = format!("amqp://guest:guest@{}/%2F", server.local_addr());
    Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
}

async fn declare(channel: &Channel, name: &str) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
}

async fn publish(channel: &Channel, key: &str, body: &[u8]) -> Confirmation {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish("".into(), key.into(), options, body, BasicProperties::default());
    confirm.await.unwrap().await.unwrap()
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    channel
        .basic_consume(queue.into(), "consumer".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_confirm_consume_and_acknowledge() {
    let server = Server::bind("127.0.0.1:0", Limits::default()).await.unwrap();
    let connection = connect(&server).await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
    declare(&channel, "orders").await;
    let mut consumer = consume(&channel, "orders").await;
    for number in 0..100_u32 {
        let size = usize::try_from(number).unwrap() * 5000;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(4 + size, 7);
        assert!(matches!(publish(&channel, "orders", &body).await, Confirmation::Ack(None)));
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
        assert!(delivery.data == body, "message {number} came otherwise");
        if number % 3 == 0 {
            delivery.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await.unwrap();
            let again = timeout(SOON, consumer.next()).await.unwrap().unwrap().unwrap();
            assert!(again.redelivered);
            again.acker.ack(BasicAckOptions::default()).await.unwrap();
        } else {
            delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    assert!(matches!(publish(&channel, "nowhere", b"x").await, Confirmation::Ack(Some(_))));
    connection.close(200, "".into()).await.unwrap();
    let stats = server.stats();
    assert_eq!((stats.unacked, stats.ready, stats.memory_bytes), (0, 0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_closes_connections_with_320() {
    let server = Server::bind("127.0.0.1:0", Limits::default()).await.unwrap();
    let connection = connect(&server).await;
    let channel = connection.create_channel().await.unwrap();
    declare(&channel, "q").await;
    let mut consumer = consume(&channel, "q").await;
    let address = server.local_addr();
    timeout(SOON, server.stop()).await.unwrap();
    let ended = timeout(SOON, consumer.next()).await.unwrap();
    let error = format!("{ended:?}");
    assert!(error.contains("CONNECTION_FORCED") || error.contains("320"), "{error}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn vhosts_are_apart() {
    let settings = Settings { vhosts: vec!["a".into(), "b".into()], ..Settings::default() };
    let server = Server::bind_with("127.0.0.1:0", settings).await.unwrap();
    let url = |vhost: &str| format!("amqp://guest:guest@{}/{vhost}", server.local_addr());
    let a = Connection::connect(&url("a"), ConnectionProperties::default()).await.unwrap();
    let b = Connection::connect(&url("b"), ConnectionProperties::default()).await.unwrap();
    declare(&a.create_channel().await.unwrap(), "q").await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let other = b.create_channel().await.unwrap();
    other.queue_declare("q".into(), passive, FieldTable::default()).await.unwrap_err();
    Connection::connect(&url("%2F"), ConnectionProperties::default()).await.unwrap_err();
    assert_eq!(server.queue_length("a", "q"), Some(0));
    assert_eq!(server.queue_length("b", "q"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_passes_without_anybody_doing_anything() {
    let server = Server::bind("127.0.0.1:0", Limits::default()).await.unwrap();
    let connection = connect(&server).await;
    let channel = connection.create_channel().await.unwrap();
    declare(&channel, "q").await;
    let properties = BasicProperties::default().with_expiration("150".into());
    let options = BasicPublishOptions::default();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel.basic_publish("".into(), "q".into(), options, b"x", properties).await.unwrap().await.unwrap();
    assert_eq!(server.queue_length("/", "q"), Some(1));
    timeout(SOON, async {
        while server.queue_length("/", "q") != Some(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_cut() {
    let limits =
        Limits { handshake_max: Duration::from_millis(200), heartbeat: Duration::from_secs(1), ..Limits::default() };
    let server = Server::bind("127.0.0.1:0", limits).await.unwrap();
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    assert_eq!(timeout(SOON, silent.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    // A client that answers heartbeats stays, also when neither has anything to say.
    let connection = connect(&server).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(connection.status().connected());
    assert_eq!(server.stats().connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_written_to_without_end() {
    let limits = Limits { output_bytes_max: 100_000, ..Limits::default() };
    let server = Server::bind("127.0.0.1:0", limits).await.unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    // Opens a connection, and asks for more and more without reading an answer.
    stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    let start = b"\x00\x0a\x00\x0b\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x0c\0guest\0guest\x05en_US";
    let tune = b"\x00\x0a\x00\x1f\x00\x0a\x00\x02\x00\x00\x00\x00";
    let open = b"\x00\x0a\x00\x28\x01/\x00\x00";
    for payload in [&start[..], tune, open] {
        stream.write_all(&frame(0, payload)).await.unwrap();
    }
    stream.write_all(&frame(1, b"\x00\x14\x00\x0a\x00")).await.unwrap();
    // The prefetch, again and again, each of which is answered.
    let questions = frame(1, b"\x00\x3c\x00\x0a\x00\x00\x00\x00\x00\x01\x00").repeat(1000);
    let mut sent = 0_usize;
    while let Ok(written) = timeout(Duration::from_millis(500), stream.write_all(&questions)).await {
        written.unwrap();
        sent += questions.len();
        assert!(sent < 200 << 20, "nobody stopped reading");
    }
}

fn frame(channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(0xCE);
    frame
}
