//! The other end of the broker: a peer that declares, publishes and drains.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm};

use super::wait_until;

/// A message as the peer received it.
#[derive(Debug, Clone)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub redelivered: bool,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// A header that is a string.
    pub fn text_header(&self, name: &str) -> Option<String> {
        match self.header(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            other => panic!("header {name} is no string: {other:?}"),
        }
    }
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Confirmed, and it reached a queue.
    Routed,
    /// Confirmed, but returned: no queue took it.
    Returned,
    /// Refused by the broker.
    Refused,
}

/// A table of these.
pub fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

/// Properties of a message that survives a restart of the broker.
pub fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

/// A connection with a channel in confirm mode. Everything but the `try_` functions fails the test when it fails.
pub struct Peer {
    connection: Connection,
    channel: Channel,
}

impl Peer {
    /// Connects, or fails the test.
    pub async fn connect(url: &str) -> Peer {
        Peer::try_connect(url).await.unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// Connects. The heartbeat is short, so that a peer of a broker that vanished notices.
    pub async fn try_connect(url: &str) -> lapin::Result<Peer> {
        let properties = ConnectionProperties::default().with_connection_name("test peer".into());
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}heartbeat=5");
        let connection = Connection::connect(&url, properties).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Peer { connection, channel })
    }

    /// Connects as soon as the broker lets it.
    pub async fn connect_when_up(url: &str, deadline: Duration) -> Peer {
        wait_until(deadline, "a connection to the broker", async || {
            Peer::try_connect(url).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Closes the connection, and with it goes what is exclusive to it.
    pub async fn close(self) {
        self.connection.close(200, "done".into()).await.unwrap();
    }

    /// The channel, for what has no function here.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// A channel of its own, if the connection still is there.
    pub async fn try_new_channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// A channel of its own. Use one for what may fail: the broker answers by closing it.
    pub async fn new_channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// Declares an exchange.
    pub async fn exchange(&self, name: &str, kind: ExchangeKind, durable: bool) {
        self.try_exchange(name, kind, durable).await.unwrap();
    }

    /// Declares an exchange; an error also closes the channel.
    pub async fn try_exchange(&self, name: &str, kind: ExchangeKind, durable: bool) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions { durable, ..Default::default() };
        self.channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await
    }

    /// Declares a durable queue without arguments.
    pub async fn durable_queue(&self, name: &str) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.queue(name, options, FieldTable::default()).await;
    }

    /// Declares a queue and returns its name, which the broker chooses where `name` is empty.
    pub async fn queue(&self, name: &str, options: QueueDeclareOptions, arguments: FieldTable) -> String {
        let queue = self.channel.queue_declare(name.into(), options, arguments).await.unwrap();
        queue.name().to_string()
    }

    /// Declares an exclusive queue that receives what is published to `exchange` with `routing_key`, and returns its
    /// name.
    pub async fn listen(&self, exchange: &str, routing_key: &str) -> String {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = self.queue("", options, FieldTable::default()).await;
        self.bind(&queue, exchange, routing_key).await;
        queue
    }

    /// Binds a queue.
    pub async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        self.channel.queue_bind(queue.into(), exchange.into(), routing_key.into(), options, arguments).await.unwrap();
    }

    /// Deletes a queue, whatever it holds.
    pub async fn delete_queue(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Publishes one message, `mandatory`, and waits for its confirm. The test fails unless it reached a queue.
    pub async fn publish(&self, exchange: &str, routing_key: &str, body: &[u8], properties: BasicProperties) {
        let published = self.try_publish(exchange, routing_key, body, properties).await.unwrap();
        assert_eq!(published, Published::Routed, "a message to `{exchange}` with key `{routing_key}`");
    }

    /// Publishes one message, `mandatory`, and waits for its confirm. One at a time: returns are then never mixed up.
    pub async fn try_publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> lapin::Result<Published> {
        Ok(published(&self.send(exchange, routing_key, body, properties).await?.await?))
    }

    /// Publishes many messages, `mandatory`, with up to 200 confirms outstanding. The test fails unless each reached a
    /// queue.
    pub async fn publish_all<B: AsRef<[u8]>>(
        &self,
        exchange: &str,
        routing_key: &str,
        bodies: impl IntoIterator<Item = B>,
        properties: BasicProperties,
    ) {
        const OUTSTANDING_MAX: usize = 200;
        let mut outstanding = VecDeque::new();
        for body in bodies {
            if outstanding.len() == OUTSTANDING_MAX {
                routed(outstanding.pop_front()).await;
            }
            let confirm = self.send(exchange, routing_key, body.as_ref(), properties.clone()).await;
            outstanding.push_back(confirm.unwrap());
        }
        while !outstanding.is_empty() {
            routed(outstanding.pop_front()).await;
        }
    }

    async fn send(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> lapin::Result<PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        self.channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties).await
    }

    /// How many messages wait in a queue (those that a consumer holds are not counted), or `None` where there is no
    /// such queue.
    pub async fn try_count(&self, queue: &str) -> Option<u32> {
        let channel = self.new_channel().await;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let answer = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        let _ = channel.close(200, "done".into()).await;
        answer.ok().map(|queue| queue.message_count())
    }

    /// How many messages wait in a queue. The test fails where there is no such queue.
    pub async fn count(&self, queue: &str) -> u32 {
        self.try_count(queue).await.unwrap_or_else(|| panic!("there is no queue `{queue}`"))
    }

    /// Waits until exactly `count` messages wait in a queue.
    pub async fn wait_for_count(&self, queue: &str, count: u32, deadline: Duration) {
        wait_until(deadline, format!("{count} messages in `{queue}`"), async || match self.try_count(queue).await {
            Some(now) if now == count => Ok(()),
            Some(now) => Err(format!("it holds {now}")),
            None => Err("there is no such queue".to_owned()),
        })
        .await;
    }

    /// Takes `count` messages off a queue, in its order. The test fails when they have not come by the deadline; more
    /// than these are left on the queue.
    pub async fn drain(&self, queue: &str, count: usize, deadline: Duration) -> Vec<Message> {
        if count == 0 {
            return Vec::new();
        }
        let end = Instant::now() + deadline;
        let channel = self.new_channel().await;
        let prefetch = u16::try_from(count).unwrap_or(u16::MAX).min(500);
        channel.basic_qos(prefetch, BasicQosOptions::default()).await.unwrap();
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await.unwrap();
        let mut messages: Vec<Message> = Vec::new();
        while messages.len() < count {
            let got = messages.len();
            let left = end.saturating_duration_since(Instant::now());
            let delivery = match tokio::time::timeout(left, consumer.next()).await {
                Ok(Some(delivery)) => delivery.unwrap(),
                Ok(None) => panic!("`{queue}` was deleted after {got} of {count} messages"),
                Err(_) => panic!("`{queue}` gave {got} of {count} messages in {deadline:?}"),
            };
            delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
            messages.push(Message {
                exchange: delivery.exchange.to_string(),
                routing_key: delivery.routing_key.to_string(),
                redelivered: delivery.redelivered,
                properties: delivery.properties,
                body: delivery.data,
            });
        }
        // What was prefetched beyond `count` goes back.
        channel.close(200, "done".into()).await.unwrap();
        messages
    }

    /// Takes one message off a queue.
    pub async fn take(&self, queue: &str, deadline: Duration) -> Message {
        self.drain(queue, 1, deadline).await.remove(0)
    }
}

async fn routed(confirm: Option<PublisherConfirm>) {
    let confirmation = confirm.unwrap().await.unwrap();
    assert_eq!(published(&confirmation), Published::Routed, "one of many messages");
}

fn published(confirmation: &Confirmation) -> Published {
    match confirmation {
        Confirmation::Ack(None) => Published::Routed,
        Confirmation::Ack(Some(_)) => Published::Returned,
        Confirmation::Nack(_) => Published::Refused,
        Confirmation::NotRequested => panic!("the channel is in confirm mode"),
    }
}
