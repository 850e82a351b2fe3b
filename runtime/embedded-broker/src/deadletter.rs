//! Dead letters: why messages leave their queues unsettled, and where they go then.

use std::collections::BTreeMap;
use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, ShortString};

use crate::Name;
use crate::broker::Broker;
use crate::message::{Message, with_headers};
use crate::queue::{Entry, QueueId};

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message on its way from the queue in which it died.
#[derive(Debug)]
pub(crate) struct Dead {
    vhost: Name,
    queue: Name,
    exchange: Name,
    /// None for the key that it had.
    routing_key: Option<Name>,
    reason: Reason,
    message: Arc<Message>,
}

impl Broker {
    /// Sends an entry that has left its queue to the queue's dead-letter exchange, where it has one.
    pub(crate) fn dead_letter(&mut self, queue: QueueId, entry: Entry, reason: Reason) {
        let Some(queue) = self.queues.get(&queue) else { return };
        let Some(exchange) = &queue.options.arguments.dead_letter_exchange else { return };
        self.dead.push_back(Dead {
            vhost: queue.vhost.clone(),
            queue: queue.name.clone(),
            exchange: Name::from(&**exchange),
            routing_key: queue.options.arguments.dead_letter_key.as_deref().map(Name::from),
            reason,
            message: entry.message,
        });
    }

    pub(crate) fn publish_dead(&mut self, dead: Dead) {
        let exists =
            |vhost: &crate::broker::Vhost| dead.exchange.is_empty() || vhost.exchanges.contains_key(&dead.exchange);
        if !self.vhosts.get(&dead.vhost).is_some_and(exists) {
            return;
        }
        let further = further_keys(&dead.message);
        let time = self.settings.began + self.now;
        let headers = dead_headers(&dead, &further, time.as_secs(), self.settings.limits.deaths_max);
        let properties = with_headers(&dead.message.properties, Some(headers), false);
        let (routing_key, further) = match &dead.routing_key {
            Some(key) => (key.clone(), Vec::new()),
            None => (dead.message.routing_key.clone(), further),
        };
        let old = &dead.message;
        let message = Message::new(&self.account, dead.exchange.clone(), routing_key, properties, old.body.clone());
        let mut queues = self.route(&dead.vhost, &message, &further);
        if dead.reason != Reason::Rejected {
            queues.retain(|queue| {
                let name = self.queues.get(queue).map(|queue| queue.name.clone());
                name.is_none_or(|name| !cycles(&message, &name))
            });
        }
        self.enqueue_all(&queues, &Arc::new(message));
    }
}

/// The keys that a message was published with besides its own, as far as its consumers may know.
fn further_keys(message: &Message) -> Vec<String> {
    let Some(AMQPValue::FieldArray(keys)) = message.header("CC") else { return Vec::new() };
    let keys = keys.as_slice().iter();
    keys.filter_map(|key| if let AMQPValue::LongString(key) = key { Some(key.to_string()) } else { None }).collect()
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn is_text(table: &FieldTable, name: &str, expected: &str) -> bool {
    matches!(table.inner().get(name), Some(AMQPValue::LongString(text)) if text.as_bytes() == expected.as_bytes())
}

/// The headers of a message that died once more: the newest death first, and one entry for each queue and reason.
fn dead_headers(dead: &Dead, further: &[String], seconds: u64, deaths_max: usize) -> FieldTable {
    let message = &dead.message;
    let mut headers: BTreeMap<ShortString, AMQPValue> =
        message.properties.headers().as_ref().map(|headers| headers.inner().clone()).unwrap_or_default();
    let reason = dead.reason.name();
    let deaths = match headers.get("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => Some(deaths.as_slice().to_vec()),
        _ => None,
    };
    if !headers.contains_key("x-death") {
        headers.insert("x-first-death-exchange".into(), text(&message.exchange));
        headers.insert("x-first-death-queue".into(), text(&dead.queue));
        headers.insert("x-first-death-reason".into(), text(reason));
    }
    let is_same = |death: &AMQPValue| {
        matches!(death, AMQPValue::FieldTable(death)
            if is_text(death, "queue", &dead.queue) && is_text(death, "reason", reason))
    };
    let (same, mut deaths): (Vec<AMQPValue>, Vec<AMQPValue>) =
        deaths.unwrap_or_default().into_iter().partition(is_same);
    let newest = match same.into_iter().next() {
        Some(AMQPValue::FieldTable(same)) => {
            let count = same.inner().get("count").and_then(crate::arguments::integer).unwrap_or(0);
            let mut again = same.inner().clone();
            again.insert("count".into(), AMQPValue::LongLongInt(count.saturating_add(1)));
            FieldTable::from(again)
        }
        _ => first_death(dead, further, seconds),
    };
    deaths.insert(0, AMQPValue::FieldTable(newest));
    deaths.truncate(deaths_max);
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
    if dead.routing_key.is_some() {
        headers.remove("CC");
    }
    headers.into()
}

fn first_death(dead: &Dead, further: &[String], seconds: u64) -> FieldTable {
    let keys = std::iter::once(&*dead.message.routing_key).chain(further.iter().map(|key| &**key));
    let keys: Vec<AMQPValue> = keys.map(text).collect();
    let mut death = FieldTable::default();
    death
        .insert("count".into(), AMQPValue::LongLongInt(1))
        .insert("reason".into(), text(dead.reason.name()))
        .insert("queue".into(), text(&dead.queue))
        .insert("time".into(), AMQPValue::Timestamp(seconds))
        .insert("exchange".into(), text(&dead.message.exchange))
        .insert("routing-keys".into(), AMQPValue::FieldArray(FieldArray::from(keys)));
    if let Some(expiration) = dead.message.properties.expiration() {
        death.insert("original-expiration".into(), text(expiration.as_str()));
    }
    death
}

/// Whether a message was in this queue before, and nobody rejected it since.
fn cycles(message: &Message, queue: &str) -> bool {
    let Some(AMQPValue::FieldArray(deaths)) = message.header("x-death") else { return false };
    let mut deaths = deaths.as_slice().iter().filter_map(AMQPValue::as_field_table);
    let mut rejected = false;
    deaths.any(|death| {
        rejected |= is_text(death, "reason", Reason::Rejected.name());
        is_text(death, "queue", queue)
    }) && !rejected
}
