//! What the host uses of [lapin](https://docs.rs/lapin), by the same names, over an embedded broker in the same process.
//!
//! The host's sources are compiled against this crate in lapin's place, so that all of the host runs on one thread under
//! a clock that is stopped: a [`World`] moves one frame at a time, chosen by its seed, and may cut connections in between.
//! Where lapin is peculiar, this is, too: a return goes to whichever confirm completes next, a channel whose last handle
//! goes is closed, settling is done when its frame is queued.

mod channel;
mod connection;
mod consumer;
mod error;
mod options_of;
mod world;

pub use amq_protocol::protocol::{self, BasicProperties};
pub use amq_protocol::{types, uri};

pub use channel::{Channel, Confirmation, PublisherConfirm, Queue};
pub use connection::{Connection, ConnectionProperties, ConnectionStatus, Event};
pub use consumer::Consumer;
pub use error::{Error, ErrorKind, Result};
pub use world::{Fault, Tally, World};

/// Options of methods.
pub mod options {
    pub use crate::options_of::*;
}

/// The kinds of exchanges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By the routing key.
    #[default]
    Direct,
    /// To all.
    Fanout,
    /// By headers.
    Headers,
    /// By patterns.
    Topic,
}

impl ExchangeKind {
    fn name(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Headers => "headers",
            Self::Topic => "topic",
        }
    }
}

/// Messages as a client gets them.
pub mod message {
    use amq_protocol::{protocol::BasicProperties, types::ShortString};

    /// A delivery.
    #[derive(Debug, PartialEq)]
    pub struct Delivery {
        /// What it is settled by.
        pub delivery_tag: u64,
        /// The exchange that it was published to.
        pub exchange: ShortString,
        /// The routing key that it was published with.
        pub routing_key: ShortString,
        /// Whether it may have been delivered before.
        pub redelivered: bool,
        /// Its properties.
        pub properties: BasicProperties,
        /// Its body.
        pub data: Vec<u8>,
    }

    /// The answer to `basic.get`.
    #[derive(Debug, PartialEq)]
    pub struct BasicGetMessage {
        /// The message.
        pub delivery: Delivery,
        /// How many more wait.
        pub message_count: u32,
    }

    /// A message that came back.
    #[derive(Debug, PartialEq)]
    pub struct BasicReturnMessage {
        /// The message.
        pub delivery: Delivery,
    }
}

/// TLS, of which there is none.
pub mod tcp {
    /// What a client would show and trust.
    #[derive(Clone, Debug, Default)]
    pub struct OwnedTLSConfig {
        /// Not looked at.
        pub identity: Option<Vec<u8>>,
        /// Not looked at.
        pub cert_chain: Option<String>,
    }
}

/// The executor, which is the one that runs.
pub mod runtime {
    /// Nothing: the executor is the one that polls.
    #[derive(Clone, Copy, Debug)]
    pub struct Runtime;

    /// The executor.
    ///
    /// # Errors
    /// None.
    pub fn default_runtime() -> crate::Result<Runtime> {
        Ok(Runtime)
    }
}
