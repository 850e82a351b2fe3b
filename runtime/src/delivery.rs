//! A message as the broker delivered it, in the host's own words.
//!
//! Nothing is lost on the way in: every AMQP type has a [`Value`], so that a copy of a delivery (a dead letter, say)
//! carries the very headers that came. What a handler sees is narrower and is made at the sandbox's edge.

pub mod json;
pub mod recording;

use std::sync::Arc;

/// AMQP's delivery mode of a message that a restart of the broker may lose.
pub const TRANSIENT: u8 = 1;
/// AMQP's delivery mode of a message that survives a restart of the broker, in a durable queue.
pub const PERSISTENT: u8 = 2;

/// One delivery. Cheap to share: the host keeps it until it is settled, while a handler reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The payload, as it came.
    pub body: Vec<u8>,
    /// The basic properties and the raw header table.
    pub properties: Properties,
    /// The exchange that it was published to; empty for the default exchange.
    pub exchange: String,
    /// The routing key that it was published with.
    pub routing_key: String,
    /// The queue that it was consumed from.
    pub queue: Arc<str>,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
    /// 1 on the first try.
    pub attempt: u32,
}

/// The basic properties of AMQP 0-9-1, unchanged: what is absent stays absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<String>,
    /// MIME encoding of the body.
    pub content_encoding: Option<String>,
    /// The header table, in the order in which it came.
    pub headers: Table,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// 0 to 255.
    pub priority: Option<u8>,
    /// What a reply is matched by.
    pub correlation_id: Option<String>,
    /// The queue that a reply goes to.
    pub reply_to: Option<String>,
    /// Milliseconds, as decimal digits (AMQP sends a string).
    pub expiration: Option<String>,
    /// The publisher's id of the message.
    pub message_id: Option<String>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// AMQP's `type`.
    pub kind: Option<String>,
    /// The user that the publisher says it is; the broker checks it.
    pub user_id: Option<String>,
    /// The publisher's application.
    pub app_id: Option<String>,
}

/// An AMQP field table.
pub type Table = Vec<(String, Value)>;

/// One value of a field table, for every type that RabbitMQ sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: an unsigned value with this many decimal places.
    Decimal {
        /// How many of the digits stand behind the point.
        scale: u8,
        /// All digits.
        value: u32,
    },
    /// `S`: a long string, which need not be UTF-8.
    Text(Vec<u8>),
    /// `A`
    Array(Vec<Value>),
    /// `T`: seconds since the Unix epoch.
    Timestamp(u64),
    /// `F`
    Table(Table),
    /// `x`
    Bytes(Vec<u8>),
    /// `V`
    Void,
}

impl Value {
    /// A long string (`S`).
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    /// How many bytes the value takes in a field table, its type octet included (AMQP 0-9-1, 4.2.5.5).
    pub fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Void => 0,
            Self::Bool(_) | Self::I8(_) | Self::U8(_) => 1,
            Self::I16(_) | Self::U16(_) => 2,
            Self::I32(_) | Self::U32(_) | Self::F32(_) => 4,
            Self::Decimal { .. } => 5,
            Self::I64(_) | Self::F64(_) | Self::Timestamp(_) => 8,
            Self::Text(bytes) | Self::Bytes(bytes) => 4 + bytes.len(),
            Self::Array(values) => 4 + values.iter().map(Self::encoded_len).sum::<usize>(),
            Self::Table(table) => table_encoded_len(table),
        }
    }
}

/// How many bytes a table takes on the wire, its length field included.
pub fn table_encoded_len(table: &Table) -> usize {
    4 + table.iter().map(|(name, value)| 1 + name.len() + value.encoded_len()).sum::<usize>()
}

impl Properties {
    /// The value of a header, by its exact name.
    pub fn header(&self, name: &str) -> Option<&Value> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// How many bytes the properties take in a content header frame, flags included.
    pub fn encoded_len(&self) -> usize {
        let text = |field: &Option<String>| field.as_ref().map_or(0, |text| 1 + text.len());
        let strings = [
            &self.content_type,
            &self.content_encoding,
            &self.correlation_id,
            &self.reply_to,
            &self.expiration,
            &self.message_id,
            &self.kind,
            &self.user_id,
            &self.app_id,
        ];
        let headers = if self.headers.is_empty() { 0 } else { table_encoded_len(&self.headers) };
        2 + headers
            + strings.into_iter().map(text).sum::<usize>()
            + usize::from(self.delivery_mode.is_some())
            + usize::from(self.priority.is_some())
            + self.timestamp.map_or(0, |_| 8)
    }
}
