//! What goes into a lane, and what comes out of it: the peer's side of a run.

use futures_util::future::join_all;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel};

use super::case::Case;
use super::lane::{ENDS, HOST_WAIT, Lane, nothing};
use super::ledger::Command;
use crate::harness::amqp::{Peer, Published, persistent, table};

/// An input as it is published.
struct Message {
    id: String,
    queue: &'static str,
    body: String,
    properties: BasicProperties,
}

impl Lane {
    /// Sees to a connection of the peer.
    pub(super) async fn connect(&mut self) {
        match &self.peer {
            Some(peer) if peer.channel().status().connected() => {}
            _ => self.peer = Some(Peer::connect_when_up(&self.vhost.url, HOST_WAIT).await),
        }
    }

    /// Publishes inputs at once or one by one, as the case has it.
    pub(super) async fn send(&mut self, case: &Case, inputs: &[(Command, Option<(String, u64)>)]) {
        if case.bursts() {
            self.burst(inputs).await;
        } else {
            self.publish(inputs).await;
        }
    }

    /// Publishes inputs one by one, each written down first. What the broker did not say a word of is left open.
    pub(super) async fn publish(&mut self, inputs: &[(Command, Option<(String, u64)>)]) {
        for (command, order) in inputs {
            self.publish_one(*command, order.clone()).await;
        }
    }

    /// Publishes inputs without waiting for one before the next, so that the host has all it may hold. The queues must be
    /// there: returns could be taken for another's.
    async fn burst(&mut self, inputs: &[(Command, Option<(String, u64)>)]) {
        let written: Vec<_> = inputs.iter().map(|(command, order)| self.write(*command, order.clone())).collect();
        let Some(peer) = &self.peer else { return };
        let sent = written
            .iter()
            .map(|message| peer.try_publish("", message.queue, message.body.as_bytes(), message.properties.clone()));
        let verdicts = join_all(sent).await;
        for (message, verdict) in written.iter().zip(verdicts) {
            if let Ok(published) = verdict {
                self.ledger.published(&message.id, published == Published::Routed);
            }
        }
    }

    /// Writes an input down, and says what is to be published.
    fn write(&mut self, command: Command, order: Option<(String, u64)>) -> Message {
        self.inputs += 1;
        let id = format!("{}.{}.{}", self.name, self.runs, self.inputs);
        self.proxy.observer().expect(&id, command.outputs());
        self.ledger.write(&id, command, order.clone());
        let mut properties = persistent().with_message_id(id.as_str().into());
        let queue = match order {
            Some((key, _)) => {
                properties = properties.with_headers(table(&[("key", AMQPValue::LongString(key.into()))]));
                "keyed"
            }
            None => "work",
        };
        Message { queue, body: command.text(&id), properties, id }
    }

    /// Publishes one input, and says its id and whether the broker has it.
    pub(super) async fn publish_one(&mut self, command: Command, order: Option<(String, u64)>) -> (String, bool) {
        let Message { id, queue, body, properties } = self.write(command, order);
        let taken = match &self.peer {
            Some(peer) => peer.try_publish("", queue, body.as_bytes(), properties).await,
            None => return (id, false),
        };
        match taken {
            Ok(published) => {
                self.ledger.published(&id, published == Published::Routed);
                (id, published == Published::Routed)
            }
            Err(_) => {
                self.peer = Peer::try_connect(&self.vhost.url).await.ok();
                (id, false)
            }
        }
    }

    /// The inputs that have not ended.
    pub(super) fn missing(&self) -> Vec<&str> {
        self.ledger.missing(|id| self.proxy.observer().seen(id))
    }

    /// How many messages wait in a queue, where the peer can say.
    pub(super) async fn count(&mut self, queue: &str) -> Option<u32> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let counted = channel.queue_declare(queue.into(), options, nothing()).await;
        let _ = channel.close(200, "done".into()).await;
        Some(counted.ok()?.message_count())
    }

    /// A channel of the peer for what may fail; one that has none is given up, and [`Lane::connect`] makes another.
    pub(super) async fn channel(&mut self) -> Option<Channel> {
        let channel = self.peer.as_ref()?.try_new_channel().await.ok();
        if channel.is_none() {
            self.peer = None;
        }
        channel
    }

    /// Takes what came out off its queues, and writes it down.
    pub(super) async fn drain(&mut self) {
        for queue in ENDS {
            let Some(channel) = self.channel().await else { return };
            while let Some((body, properties)) = get(&channel, queue).await {
                match properties.message_id() {
                    Some(id) if queue.ends_with(".dead") => self.ledger.letter(id.as_str()),
                    Some(_) => self.ledger.output(&String::from_utf8_lossy(&body)),
                    // What filled the queue.
                    None => {}
                }
            }
            let _ = channel.close(200, "done".into()).await;
        }
    }

    /// Fills the queue that takes one message at most.
    pub(super) async fn fill(&mut self) {
        self.connect().await;
        if let Some(peer) = &self.peer {
            let _ = peer.try_publish("", "full", b"full", persistent()).await;
        }
    }
}

async fn get(channel: &Channel, queue: &str) -> Option<(Vec<u8>, BasicProperties)> {
    let message = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.ok()??;
    Some((message.delivery.data, message.delivery.properties))
}
