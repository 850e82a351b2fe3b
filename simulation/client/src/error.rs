//! What goes wrong.

use std::{io, sync::Arc};

use amq_protocol::protocol::AMQPError;

/// As lapin has it.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    kind: ErrorKind,
}

/// What kind of error. Some never happen here, and are there for the host, which tells them apart.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The channel is closed.
    #[error("invalid channel state")]
    InvalidChannelState,
    /// The connection is closed.
    #[error("invalid connection state {0}")]
    InvalidConnectionState(&'static str),
    /// The connection is lost, or cannot be had.
    #[error("{0}")]
    IOError(Arc<io::Error>),
    /// The executor ended.
    #[error("{0}")]
    RuntimeShutdownError(Arc<io::Error>),
    /// The broker spoke another protocol.
    #[error("another protocol")]
    InvalidProtocolVersion(()),
    /// What the broker sent could not be read.
    #[error("cannot be read")]
    ParsingError(()),
    /// What the client sent could not be written.
    #[error("cannot be written")]
    SerialisationError(()),
    /// The broker refused.
    #[error("{0}")]
    ProtocolError(AMQPError),
    /// The broker was silent.
    #[error("no heartbeat")]
    MissingHeartbeatError,
}

impl Error {
    /// What kind.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    pub(crate) fn lost() -> Self {
        ErrorKind::IOError(Arc::new(io::Error::from(io::ErrorKind::ConnectionReset))).into()
    }

    pub(crate) fn refused() -> Self {
        ErrorKind::IOError(Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused))).into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind }
    }
}
