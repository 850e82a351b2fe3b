//! What a handler answered, or why it did not.

mod check;
pub mod json;

use std::{fmt, time::Duration};

pub use check::{Checked, Rules, SHORT_STRING_MAX, check, check_carriable, strip_reserved};

use crate::delivery::Properties;

/// The prefix of headers that are the host's own: removed from what handlers see and from what they publish.
const RESERVED_PREFIX: &str = "x-wabbit-";

/// Whether a header of this name is the host's own. AMQP tells upper from lower case, and those who read headers may not.
pub fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(RESERVED_PREFIX))
}

/// A handler's answer, whatever the version of the contract that it speaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What becomes of the delivery once every publication is confirmed.
    pub settlement: Settlement,
    /// Published in this order.
    pub publications: Vec<Publication>,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// Done.
    Ack,
    /// Back on the queue at once.
    Requeue,
    /// Again after this time; after the manifest's backoff where none is given.
    Retry(Option<Duration>),
    /// To the dead-letter queue, with this reason.
    DeadLetter(String),
}

/// A message to be published.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Empty for the default exchange.
    pub exchange: String,
    /// The routing key; the queue's name on the default exchange.
    pub routing_key: String,
    /// The payload.
    pub body: Vec<u8>,
    /// Its basic properties.
    pub properties: Properties,
}

/// Why a delivery failed. It is charged to the message: the manifest's failure policy decides what becomes of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{kind}: {error}")]
pub struct Failure {
    /// Of what kind; a word for metrics and for the dead letter's `x-wabbit-reason`.
    pub kind: FailureKind,
    /// For a person.
    pub error: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The handler returned an error.
    HandlerError,
    /// The handler trapped.
    Trap,
    /// The handler called `exit`.
    Exit,
    /// The handler took longer than `[limits] time`.
    TimeLimit,
    /// The handler wanted more than `[limits] memory`.
    MemoryLimit,
    /// The handler's tables had more than `[limits] tables` elements.
    TableLimit,
    /// The handler called the host more often than `[limits] host-calls`.
    HostCallLimit,
    /// The handler had more open than `[limits] handles`.
    HandleLimit,
    /// The handler took more than `[limits] random`.
    RandomLimit,
    /// The outcome is larger than the host takes.
    OutputLimit,
    /// The handler sent more HTTP requests than `[limits] requests`.
    RequestLimit,
    /// The outcome makes no sense, such as a header that stands there twice.
    MalformedOutcome,
    /// A publication that is not granted, or that AMQP cannot carry.
    PublicationRefused,
    /// A publication that no queue took.
    Unroutable,
    /// A publication that the broker refused with a nack.
    BrokerNack,
    /// The delivery's body is larger than the host takes; the handler did not run.
    BodyTooLarge,
    /// The handler asked for another try.
    RetryAsked,
    /// The handler asked for it.
    DeadLettered,
    /// The host died while it ran this delivery alone, as often as the delivery may be tried; it did not run again.
    HostCrash,
    /// The host's own fault, which no handler can mend.
    Host,
}

impl FailureKind {
    /// Every kind, for metrics that are to start at zero.
    pub const ALL: [Self; 20] = [
        Self::HandlerError,
        Self::Trap,
        Self::Exit,
        Self::TimeLimit,
        Self::MemoryLimit,
        Self::TableLimit,
        Self::HostCallLimit,
        Self::HandleLimit,
        Self::RandomLimit,
        Self::OutputLimit,
        Self::RequestLimit,
        Self::MalformedOutcome,
        Self::PublicationRefused,
        Self::Unroutable,
        Self::BrokerNack,
        Self::BodyTooLarge,
        Self::RetryAsked,
        Self::DeadLettered,
        Self::HostCrash,
        Self::Host,
    ];

    /// A word in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HandlerError => "handler-error",
            Self::Trap => "trap",
            Self::Exit => "exit",
            Self::TimeLimit => "time-limit",
            Self::MemoryLimit => "memory-limit",
            Self::TableLimit => "table-limit",
            Self::HostCallLimit => "host-call-limit",
            Self::HandleLimit => "handle-limit",
            Self::RandomLimit => "random-limit",
            Self::OutputLimit => "output-limit",
            Self::RequestLimit => "request-limit",
            Self::MalformedOutcome => "malformed-outcome",
            Self::PublicationRefused => "publication-refused",
            Self::Unroutable => "unroutable",
            Self::BrokerNack => "broker-nack",
            Self::BodyTooLarge => "body-too-large",
            Self::RetryAsked => "retry-asked",
            Self::DeadLettered => "dead-lettered",
            Self::HostCrash => "host-crash",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, error: impl Into<String>) -> Self {
        Self { kind, error: error.into() }
    }
}
