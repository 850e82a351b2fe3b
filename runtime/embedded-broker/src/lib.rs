//! An AMQP 0-9-1 broker in memory, to embed in tests and demos.

mod broker;
mod failure;
mod limits;
pub mod message;
mod output;
mod decode;
mod server;

mod connection;
mod handshake;
mod channel;
mod queues;
mod exchanges;
mod publish;
mod deliver;
mod settle;
mod deadletter;

mod arguments;
mod consumer;
mod exchange;
mod queue;

use std::sync::Arc;

pub use broker::{Broker, ConnectionId, Output, Stats, TooManyConnections};
pub use decode::decode;
pub use failure::{Code, Failure};
pub use limits::{Limits, Settings};
pub use output::{ContentKind, Outgoing};
pub use server::{Server, ServerError};

/// A name that many hold.
pub(crate) type Name = Arc<str>;
