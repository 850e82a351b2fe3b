//! The body of a response: bounded in bytes and in the time that it may be silent.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep_until},
};

use super::SendError;
use crate::clock;

/// A body that is read as it comes. Its places among the requests at once are free when it is gone.
pub struct ResponseBody {
    incoming: Incoming,
    limit: u64,
    read: u64,
    idle: Duration,
    silent_until: Pin<Box<Sleep>>,
    _places: Vec<OwnedSemaphorePermit>,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, limit: u64, idle: Duration, places: Vec<OwnedSemaphorePermit>) -> Self {
        let silent_until = Box::pin(sleep_until((clock::now() + idle).into()));
        Self { incoming, limit, read: 0, idle, silent_until, _places: places }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.silent_until.as_mut().poll(cx));
                return Poll::Ready(Some(Err(SendError::Silent)));
            }
        };
        this.silent_until.as_mut().reset((clock::now() + this.idle).into());
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(SendError::Http)?;
            this.read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if this.read > this.limit { Err(SendError::ResponseTooLarge(this.limit)) } else { Ok(frame) }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
