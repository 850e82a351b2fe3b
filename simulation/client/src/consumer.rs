//! A consumer, as a stream of deliveries.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use amq_protocol::types::ShortString;
use futures_util::Stream;

use crate::{Result, channel::Handle, message::Delivery};

/// The deliveries of a consumer.
pub struct Consumer {
    handle: Arc<Handle>,
    tag: ShortString,
}

impl Consumer {
    pub(crate) fn new(handle: Arc<Handle>, tag: ShortString) -> Self {
        Self { handle, tag }
    }

    /// What it is known by.
    #[must_use]
    pub fn tag(&self) -> ShortString {
        self.tag.clone()
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.handle.next_delivery(self.tag.as_str(), cx)
    }
}
