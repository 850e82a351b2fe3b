//! A message as it waits, and what it weighs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use bytes::Bytes;

use crate::Name;

/// What a message is taken to weigh beyond its body and its properties, in bytes.
pub const MESSAGE_BYTES: usize = 256;

/// A message that was published. Queues and deliveries share it.
#[derive(Debug)]
pub struct Message {
    /// The exchange that it was published to.
    pub exchange: Name,
    /// The routing key that it was published with.
    pub routing_key: Name,
    /// Its properties, as consumers get them.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Bytes,
    /// Held for as long as the message is.
    _charge: Charge,
}

impl Message {
    pub(crate) fn new(
        account: &Account,
        exchange: Name,
        routing_key: Name,
        properties: BasicProperties,
        body: Bytes,
    ) -> Message {
        let bytes = MESSAGE_BYTES + body.len() + weight(&properties);
        Message { exchange, routing_key, properties, body, _charge: account.charge(bytes) }
    }

    /// What the headers have under this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// Its time to live in milliseconds, where it has one that is a number.
    pub(crate) fn expiration(&self) -> Option<Duration> {
        let text = self.properties.expiration().as_ref()?;
        text.as_str().parse().ok().map(Duration::from_millis)
    }
}

/// How many bytes of memory properties take, roughly.
fn weight(properties: &BasicProperties) -> usize {
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    let texts: usize = texts.iter().filter_map(|text| text.as_ref()).map(|text| text.as_str().len()).sum();
    texts + properties.headers().as_ref().map_or(0, table_weight)
}

/// What an entry of a table takes beyond its text.
const VALUE_BYTES: usize = 64;

fn table_weight(table: &FieldTable) -> usize {
    table.into_iter().map(|(name, value)| name.as_str().len() + value_weight(value)).sum()
}

fn value_weight(value: &AMQPValue) -> usize {
    VALUE_BYTES
        + match value {
            AMQPValue::LongString(text) => text.len(),
            AMQPValue::ByteArray(bytes) => bytes.len(),
            AMQPValue::FieldTable(table) => table_weight(table),
            AMQPValue::FieldArray(array) => array.as_slice().iter().map(value_weight).sum(),
            _ => 0,
        }
}

/// The same properties with other headers, and without an expiration where it is not kept.
pub(crate) fn with_headers(
    old: &BasicProperties,
    headers: Option<FieldTable>,
    keeps_expiration: bool,
) -> BasicProperties {
    let mut new = BasicProperties::default();
    type Set = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, Set); 9] = [
        (old.content_type(), BasicProperties::with_content_type),
        (old.content_encoding(), BasicProperties::with_content_encoding),
        (old.correlation_id(), BasicProperties::with_correlation_id),
        (old.reply_to(), BasicProperties::with_reply_to),
        (old.message_id(), BasicProperties::with_message_id),
        (old.kind(), BasicProperties::with_type),
        (old.user_id(), BasicProperties::with_user_id),
        (old.app_id(), BasicProperties::with_app_id),
        (old.cluster_id(), BasicProperties::with_cluster_id),
    ];
    for (text, set) in texts {
        if let Some(text) = text {
            new = set(new, text.clone());
        }
    }
    if let Some(headers) = headers {
        new = new.with_headers(headers);
    }
    if let Some(mode) = old.delivery_mode() {
        new = new.with_delivery_mode(*mode);
    }
    if let Some(priority) = old.priority() {
        new = new.with_priority(*priority);
    }
    if let Some(timestamp) = old.timestamp() {
        new = new.with_timestamp(*timestamp);
    }
    match old.expiration() {
        Some(expiration) if keeps_expiration => new.with_expiration(expiration.clone()),
        _ => new,
    }
}

/// Counts the bytes of what is held. Its clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<AtomicUsize>);

impl Account {
    /// The bytes that are held now.
    pub(crate) fn held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts these bytes until the charge is dropped.
    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { account: self.clone(), bytes }
    }
}

/// Bytes that are counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Account,
    bytes: usize,
}

impl Charge {
    /// Counts this many more.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.account.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
