//! Consumers, and what a channel has of them.

use crate::Name;
use crate::broker::{At, ConnectionId};
use crate::queue::QueueId;

/// A consumer, unlike its tag different from all others of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Consumer {
    pub at: At,
    pub tag: Name,
    pub queue: QueueId,
    pub no_ack: bool,
    /// The most that may be delivered and not settled; 0 is no bound.
    pub prefetch: u16,
    pub unacked: u32,
    pub priority: i64,
}

impl Consumer {
    pub(crate) fn connection(&self) -> ConnectionId {
        self.at.connection
    }

    /// Whether its own prefetch lets it take one more.
    pub(crate) fn has_room(&self) -> bool {
        self.no_ack || self.prefetch == 0 || self.unacked < u32::from(self.prefetch)
    }
}
