//! What a message carries beside its body.

/// The basic properties of AMQP 0-9-1. All are absent by default.
///
/// A publication's texts hold at most 255 bytes each; the host refuses longer ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// The MIME type of the body, such as `application/json`.
    pub content_type: Option<String>,
    /// How the body is encoded, such as `gzip`.
    pub content_encoding: Option<String>,
    /// Names and values in the order of the message. Names are case-sensitive, and unique in a publication. Those that
    /// start with `x-wabbit-` are the host's: it hides them from handlers, and removes them from publications.
    pub headers: Vec<(String, Field)>,
    /// Whether the message survives a restart of the broker, in a durable queue.
    pub persistent: bool,
    /// Higher is delivered first, in queues declared with priorities.
    pub priority: Option<u8>,
    /// Says which request a reply belongs to.
    pub correlation_id: Option<String>,
    /// The queue that a reply is to be sent to, through the default exchange.
    pub reply_to: Option<String>,
    /// Milliseconds after which the message expires in its queue.
    pub expiration_ms: Option<u32>,
    /// The publisher's own name for the message.
    pub message_id: Option<String>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// AMQP's `type`, which is a keyword here.
    pub kind: Option<String>,
    /// The broker's user who published it. The broker refuses any other than the host's own.
    pub user_id: Option<String>,
    /// The application that published it.
    pub app_id: Option<String>,
}

impl Properties {
    /// A name is given once: a publication with the same header twice is refused.
    pub(crate) fn set_header(&mut self, name: String, value: Field) {
        self.headers.retain(|(key, _)| *key != name);
        self.headers.push((name, value));
    }
}

/// One value of an AMQP field table, such as a header's.
///
/// Made by `From` of what it holds: `Field::from(1)`, or just `publication.header("count", 1)`.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// True or false.
    Boolean(bool),
    /// Received from an integer of any width. Sent with 32 bits where they suffice, else with 64.
    Integer(i64),
    /// Received from a float or a double. Sent as a double.
    Float(f64),
    /// A long string that is UTF-8.
    Text(String),
    /// A byte array, or a long string that is not UTF-8.
    Binary(Vec<u8>),
    /// Seconds since the Unix epoch.
    Timestamp(u64),
    /// A decimal, nested table or array, as JSON text. Numbers in it must be finite.
    Json(String),
    /// AMQP's `void`: a name without a value.
    Void,
}

impl Field {
    /// The value of a [`Field::Boolean`].
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a [`Field::Integer`].
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a [`Field::Float`], or of a [`Field::Integer`] as the nearest float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Integer(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The value of a [`Field::Text`].
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes of a [`Field::Binary`] or of a [`Field::Text`].
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Binary(value) => Some(value),
            Self::Text(value) => Some(value.as_bytes()),
            _ => None,
        }
    }

    /// The seconds since the Unix epoch of a [`Field::Timestamp`].
    pub fn as_timestamp(&self) -> Option<u64> {
        match self {
            Self::Timestamp(value) => Some(*value),
            _ => None,
        }
    }

    /// The JSON text of a [`Field::Json`].
    pub fn as_json(&self) -> Option<&str> {
        match self {
            Self::Json(value) => Some(value),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($variant:ident: $($type:ty),+;)+) => {$($(
        impl From<$type> for Field {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )+)+};
}

from! {
    Boolean: bool;
    Integer: i8, i16, i32, i64, u8, u16, u32;
    Float: f32, f64;
    Text: &str, &String, String;
    Binary: &[u8], Vec<u8>;
}

/// As [`Field::Json`]. For a number, a text or a boolean prefer the value itself.
impl From<serde_json::Value> for Field {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_made_of_what_they_hold() {
        let fields: [(Field, Field); 9] = [
            (true.into(), Field::Boolean(true)),
            ((-1).into(), Field::Integer(-1)),
            (u32::MAX.into(), Field::Integer(4_294_967_295)),
            (0.5_f32.into(), Field::Float(0.5)),
            ("a".into(), Field::Text("a".into())),
            (String::from("a").into(), Field::Text("a".into())),
            (vec![0xff].into(), Field::Binary(vec![0xff])),
            ([0xff].as_slice().into(), Field::Binary(vec![0xff])),
            (serde_json::json!([1, null]).into(), Field::Json("[1,null]".into())),
        ];
        for (made, expected) in fields {
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn fields_answer_only_to_their_own_type() {
        assert_eq!(Field::Boolean(true).as_bool(), Some(true));
        assert_eq!(Field::Integer(1).as_bool(), None);
        assert_eq!(Field::Integer(1).as_i64(), Some(1));
        assert_eq!(Field::Integer(1).as_f64(), Some(1.0));
        assert_eq!(Field::Float(1.0).as_i64(), None);
        assert_eq!(Field::Text("1".into()).as_i64(), None);
        assert_eq!(Field::Text("a".into()).as_bytes(), Some(b"a".as_slice()));
        assert_eq!(Field::Binary(vec![b'a']).as_str(), None);
        assert_eq!(Field::Timestamp(1).as_timestamp(), Some(1));
        assert_eq!(Field::Json("[]".into()).as_json(), Some("[]"));
        assert_eq!(Field::Void.as_json(), None);
    }
}
