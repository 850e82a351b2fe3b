//! What goes wrong between the host and the broker, sorted by what is to be done about it.

use std::{fmt, time::Duration};

use lapin::{ErrorKind, protocol::AMQPErrorKind};

/// Trouble of one worker, or of one call.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What it means.
    pub reason: Reason,
    /// For a person; the broker's own words where it sent any.
    pub message: String,
}

/// The kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The connection is gone, and with it everything of this epoch.
    Connection,
    /// The connection is gone, for lapin could not read what the broker sent: the broker sends it again.
    Undecodable,
    /// 404: a queue or exchange is not there.
    NotFound,
    /// 406: it is there with other properties, or a tag is unknown.
    PreconditionFailed,
    /// 403: the user may not.
    AccessRefused,
    /// 405: another connection has it to itself.
    ResourceLocked,
    /// The broker did not answer within this time.
    TimedOut,
    /// The broker ended the consumer: its queue was deleted, or a node failed over.
    Cancelled,
    /// Anything else.
    Other,
}

impl Trouble {
    /// Trouble of this kind.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The same, with what was being done.
    pub(super) fn while_doing(self, what: impl fmt::Display) -> Self {
        Self { reason: self.reason, message: format!("{what}: {}", self.message) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::ProtocolError(amqp) => match (amqp.kind(), amqp.get_id()) {
                (AMQPErrorKind::Hard(_), _) => Reason::Connection,
                (_, 403) => Reason::AccessRefused,
                (_, 404) => Reason::NotFound,
                (_, 405) => Reason::ResourceLocked,
                (_, 406) => Reason::PreconditionFailed,
                _ => Reason::Other,
            },
            ErrorKind::ParsingError(_) => Reason::Undecodable,
            ErrorKind::IOError(_)
            | ErrorKind::RuntimeShutdownError(_)
            | ErrorKind::MissingHeartbeatError
            | ErrorKind::SerialisationError(_)
            | ErrorKind::InvalidConnectionState(_)
            | ErrorKind::InvalidProtocolVersion(_) => Reason::Connection,
            _ => Reason::Other,
        };
        let message = match error.kind() {
            ErrorKind::ProtocolError(amqp) => format!("{} {}", amqp.get_id(), amqp.get_message()),
            ErrorKind::MissingHeartbeatError => "the broker does not answer heartbeats".into(),
            ErrorKind::IOError(io) => io.to_string(),
            _ => error.to_string(),
        };
        Self { reason, message }
    }
}

/// Waits for the broker's answer, but not for ever: while publishers are blocked lapin writes nothing at all.
pub(super) async fn within<T>(time: Duration, call: impl Future<Output = lapin::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(time, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Trouble::new(
            Reason::TimedOut,
            format!("no answer from the broker within {}", humantime::format_duration(time)),
        )),
    }
}
