//! The arguments of queues: what they mean, which ones are refused, and which ones are the same.

use std::time::Duration;

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::failure::Failure;
use crate::queue::Overflow;

/// The longest time to live, in milliseconds: as long as a timer of RabbitMQ may be.
pub(crate) const TTL_MILLISECONDS_MAX: i64 = 315_360_000_000;

/// Arguments that quorum queues do not have.
const OF_CLASSIC: [&str; 2] = ["x-max-priority", "x-queue-mode"];
/// Arguments that classic queues do not have.
const OF_QUORUM: [&str; 2] = ["x-delivery-limit", "x-quorum-initial-group-size"];

/// What the arguments of a queue come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueueArguments {
    pub quorum: bool,
    pub expires: Option<Duration>,
    pub message_ttl: Option<Duration>,
    pub length_max: Option<u64>,
    pub bytes_max: Option<u64>,
    pub overflow: Overflow,
    pub dead_letter_exchange: Option<String>,
    pub dead_letter_key: Option<String>,
    pub priority_max: u8,
    pub single_active: bool,
    pub delivery_limit: Option<u64>,
}

/// The number that a value has, whichever of the integer types it is of.
pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongInt(number) => Some(i64::from(*number)),
        AMQPValue::LongUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

/// What RabbitMQ calls the type of a value.
pub(crate) fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

/// A value as RabbitMQ shows it.
pub(crate) fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::Float(number) => number.to_string(),
        AMQPValue::Double(number) => number.to_string(),
        AMQPValue::Void => "undefined".to_owned(),
        other => integer(other).map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

/// Reads one table of arguments; each failure says whose it is.
struct Reader<'a> {
    table: &'a FieldTable,
    /// `queue 'NAME' in vhost 'VHOST'`.
    whose: &'a str,
}

impl Reader<'_> {
    fn failure(&self, name: &str, reason: &str) -> Failure {
        Failure::precondition(format!("invalid arg '{name}' for {}: {reason}", self.whose))
    }

    fn number(&self, name: &str, most: i64) -> Result<Option<u64>, Failure> {
        let Some(value) = self.table.inner().get(name) else { return Ok(None) };
        let number = integer(value)
            .ok_or_else(|| self.failure(name, &format!("\"expected integer, got {}\"", type_name(value))))?;
        if number > most {
            return Err(self.failure(name, &format!("{{value_too_large,{number}}}")));
        }
        u64::try_from(number).map(Some).map_err(|_| self.failure(name, &format!("{{value_negative,{number}}}")))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        match self.table.inner().get(name) {
            None => Ok(None),
            Some(AMQPValue::LongString(text)) => Ok(Some(text.to_string())),
            Some(other) => Err(self.failure(name, &format!("{{unacceptable_type,{}}}", type_name(other)))),
        }
    }

    fn boolean(&self, name: &str) -> Result<bool, Failure> {
        match self.table.inner().get(name) {
            None => Ok(false),
            Some(AMQPValue::Boolean(value)) => Ok(*value),
            Some(other) => Err(self.failure(name, &format!("{{unacceptable_type,{}}}", type_name(other)))),
        }
    }
}

impl QueueArguments {
    /// Reads the arguments of a declaration. `whose` names the queue in what is refused.
    pub(crate) fn read(table: &FieldTable, whose: &str) -> Result<QueueArguments, Failure> {
        let reader = Reader { table, whose };
        let milliseconds = |name| Ok(reader.number(name, TTL_MILLISECONDS_MAX)?.map(Duration::from_millis));
        let quorum = match reader.text("x-queue-type")?.as_deref() {
            None | Some("classic") => false,
            Some("quorum") => true,
            Some(other) => {
                let reason = format!("\"unsupported queue type '{other}'\"");
                return Err(reader.failure("x-queue-type", &reason));
            }
        };
        let (kind, foreign) = if quorum { ("quorum", OF_CLASSIC) } else { ("classic", OF_QUORUM) };
        if let Some(name) = foreign.iter().find(|name| table.contains_key(name)) {
            let text = format!("invalid arg '{name}' for {whose} of queue type rabbit_{kind}_queue");
            return Err(Failure::precondition(text));
        }
        match reader.text("x-queue-mode")?.as_deref() {
            None | Some("default" | "lazy") => {}
            Some(other) => {
                return Err(reader.failure("x-queue-mode", &format!("\"unsupported queue mode '{other}'\"")));
            }
        }
        let expires: Option<Duration> = milliseconds("x-expires")?;
        if expires == Some(Duration::ZERO) {
            return Err(reader.failure("x-expires", "{value_zero,0}"));
        }
        let priority_max = reader.number("x-max-priority", i64::MAX)?.unwrap_or(0);
        let priority_max = u8::try_from(priority_max)
            .map_err(|_| reader.failure("x-max-priority", &format!("{{max_value_exceeded,{priority_max}}}")))?;
        let overflow = match reader.text("x-overflow")?.as_deref() {
            None | Some("drop-head") => Overflow::DropHead,
            Some("reject-publish") => Overflow::Reject,
            Some("reject-publish-dlx") => Overflow::RejectDeadLetter,
            Some(_) => return Err(reader.failure("x-overflow", "invalid_overflow")),
        };
        let dead_letter_exchange = match table.inner().get("x-dead-letter-exchange") {
            None => None,
            Some(AMQPValue::LongString(name)) => Some(name.to_string()),
            Some(other) => {
                let kind = type_name(other);
                let text = format!("invalid type '{kind}' for arg 'x-dead-letter-exchange' in {whose}");
                return Err(Failure::precondition(text));
            }
        };
        let dead_letter_key = reader.text("x-dead-letter-routing-key")?;
        if dead_letter_key.is_some() && dead_letter_exchange.is_none() {
            return Err(reader.failure("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        Ok(QueueArguments {
            quorum,
            expires,
            message_ttl: milliseconds("x-message-ttl")?,
            length_max: reader.number("x-max-length", i64::MAX)?,
            bytes_max: reader.number("x-max-length-bytes", i64::MAX)?,
            overflow,
            dead_letter_exchange,
            dead_letter_key,
            priority_max,
            single_active: reader.boolean("x-single-active-consumer")?,
            delivery_limit: table
                .inner()
                .get("x-delivery-limit")
                .and_then(integer)
                .and_then(|most| most.try_into().ok()),
        })
    }
}

/// The arguments that a queue is to be declared again with as it was.
pub(crate) const COMPARED: [&str; 12] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-type",
    "x-single-active-consumer",
    "x-delivery-limit",
];

/// Compares what something has with what it is declared with again.
pub(crate) fn same(whose: &str, names: &[&str], current: &FieldTable, received: &FieldTable) -> Result<(), Failure> {
    for name in names {
        let (current, received) = (current.inner().get(*name), received.inner().get(*name));
        let equal = match (current, received) {
            (Some(current), Some(received)) => {
                current == received || integer(current).is_some_and(|number| integer(received) == Some(number))
            }
            (current, received) => current.is_none() && received.is_none(),
        };
        if let (false, Some(current), Some(received)) = (equal, current, received) {
            return same_flag(whose, name, shown(current), shown(received));
        }
        if !equal {
            let [received, current] = [received, current].map(|value| match value {
                Some(value) => format!("the value '{}' of type '{}'", shown(value), type_name(value)),
                None => "none".to_owned(),
            });
            return Err(Failure::precondition(format!(
                "inequivalent arg '{name}' for {whose}: received {received} but current is {current}"
            )));
        }
    }
    Ok(())
}

/// Compares one flag in the same way.
pub(crate) fn same_flag(
    whose: &str,
    name: &str,
    current: impl ToString,
    received: impl ToString,
) -> Result<(), Failure> {
    let (current, received) = (current.to_string(), received.to_string());
    if current == received {
        return Ok(());
    }
    Err(Failure::precondition(format!(
        "inequivalent arg '{name}' for {whose}: received '{received}' but current is '{current}'"
    )))
}
