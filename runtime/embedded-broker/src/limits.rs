//! What bounds a broker: every quantity that a client could make grow.

use std::time::Duration;

/// The bounds of a broker. Past each of them the client is told with the error that RabbitMQ has for it, or, where
/// RabbitMQ has none, with the nearest one; nothing grows beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, in all vhosts. A socket beyond is closed before it is answered. Default: 1024.
    pub connections_max: usize,
    /// Channels of a connection, proposed to the client as `channel_max`. Default: 2047.
    pub channels_max: u16,
    /// Queues of a vhost. A declaration beyond fails with 406. Default: 65,536.
    pub queues_max: usize,
    /// Exchanges of a vhost, the predeclared ones included. A declaration beyond fails with 406. Default: 16,384.
    pub exchanges_max: usize,
    /// Bindings of a vhost. A binding beyond fails with 406. Default: 262,144.
    pub bindings_max: usize,
    /// Consumers of a connection. One beyond fails with 406. Default: 16,384.
    pub consumers_max: usize,
    /// Bytes of a frame, proposed to the client as `frame_max`. A content header has to fit, so this bounds the headers
    /// of a message, too. Default: 131,072.
    pub frame_bytes_max: u32,
    /// Bytes of a message's body. One that is announced to be larger fails with 406. Default: 128 MiB, as in RabbitMQ
    /// up to 3.13.
    pub body_bytes_max: u64,
    /// How deeply tables and arrays may be nested within a frame. A frame beyond closes its connection with 502.
    /// Default: 32.
    pub nesting_max: usize,
    /// Entries of an `x-death` header; beyond, the oldest are dropped. Default: 64.
    pub deaths_max: usize,
    /// Bytes of all messages that are held: waiting, not acknowledged, or not yet written to their consumers. Past it,
    /// publishers get `connection.blocked` and are no longer read, until four fifths are held. A message counts once,
    /// with its properties and [`MESSAGE_BYTES`](crate::message::MESSAGE_BYTES) besides its body. Default: 512 MiB.
    pub memory_bytes_max: usize,
    /// Bytes of all bodies of which a part has not arrived. Past it, the connection that sends more of one is closed
    /// with 506. Default: 256 MiB.
    pub partial_bytes_max: usize,
    /// Bytes that wait to be written to a connection. Past it, nothing more is delivered to it, and its requests are no
    /// longer read; a message that was begun is not cut. Default: 1 MiB.
    pub output_bytes_max: usize,
    /// The heartbeat interval that is proposed to clients. Default: 60 s.
    pub heartbeat: Duration,
    /// How long a client may take from its first byte to an open connection. Default: 10 s.
    pub handshake_max: Duration,
    /// How long a client may take to answer the broker's `connection.close`. Default: 5 s.
    pub closing_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 1024,
            channels_max: 2047,
            queues_max: 65_536,
            exchanges_max: 16_384,
            bindings_max: 262_144,
            consumers_max: 16_384,
            frame_bytes_max: 131_072,
            body_bytes_max: 128 << 20,
            nesting_max: 32,
            deaths_max: 64,
            memory_bytes_max: 512 << 20,
            partial_bytes_max: 256 << 20,
            output_bytes_max: 1 << 20,
            heartbeat: Duration::from_secs(60),
            handshake_max: Duration::from_secs(10),
            closing_max: Duration::from_secs(5),
        }
    }
}

/// A broker's bounds, and what it is told besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bounds.
    pub limits: Limits,
    /// The vhosts that there are. Default: `/`.
    pub vhosts: Vec<String>,
    /// Names and passwords. `guest` may connect from the machine itself only. Default: `guest` with `guest`.
    pub users: Vec<(String, String)>,
    /// What the names of server-named queues and consumers derive from, so that they are the same in each run.
    /// Default: 0.
    pub seed: u64,
    /// When the broker began, since 1970; the `time` of an `x-death` entry counts from it. Default: 0. The TCP server
    /// sets it by the system's clock.
    pub began: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            limits: Limits::default(),
            vhosts: vec!["/".to_owned()],
            users: vec![("guest".to_owned(), "guest".to_owned())],
            seed: 0,
            began: Duration::ZERO,
        }
    }
}

impl From<Limits> for Settings {
    fn from(limits: Limits) -> Settings {
        Settings { limits, ..Settings::default() }
    }
}
