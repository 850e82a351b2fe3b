//! An AMQP 0-9-1 broker in memory, to embed in tests and demos: any client of RabbitMQ connects to it unchanged.
//!
//! [`Server`] is the broker behind a TCP port. [`Broker`] is the broker as a value: frames in, frames out, no clock, no
//! sockets, no threads, and the same whenever it is given the same.
//!
//! It is for development, tests and demos. Nothing is stored. In production use RabbitMQ; the README has what differs.
//!
//! ```
//! use wabbit_embedded_broker::{Limits, Server};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let server = Server::bind("127.0.0.1:0", Limits::default()).await?;
//! println!("amqp://guest:guest@{}/%2F", server.local_addr());
//! server.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod broker;
mod decode;
mod failure;
mod limits;
pub mod message;
mod output;
mod server;

mod channel;
mod connection;
mod deadletter;
mod deliver;
mod exchanges;
mod handshake;
mod publish;
mod queues;
mod settle;

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

/// Runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// A name that many hold.
pub(crate) type Name = Arc<str>;
