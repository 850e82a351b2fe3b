//! One queue's channel: deliveries in, acks out.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions},
    types::FieldTable,
};

use super::{
    Session,
    connection::CALL_TIMEOUT,
    convert,
    error::{Reason, Trouble, within},
};
use crate::{delivery::Delivery, settle::copy::restore};

/// A consumer on a channel of its own.
pub struct Consumer {
    channel: Channel,
    stream: lapin::Consumer,
    queue: Arc<str>,
    /// Acks and nacks on their way to the socket. Each is there from the moment at which its frame is queued, in the
    /// order of the calls, until it is written or known to be lost.
    settling: FuturesUnordered<BoxFuture<'static, lapin::Result<()>>>,
}

/// A delivery, with the tag that settles it on the consumer that it came from.
pub struct Received {
    /// Counts from 1 on each channel.
    pub tag: u64,
    /// What came.
    pub delivery: Arc<Delivery>,
}

impl Consumer {
    /// Starts consuming with this prefetch.
    pub async fn open(session: &Session, queue: Arc<str>, prefetch: u16) -> Result<Self, Trouble> {
        let doing = |trouble: Trouble| trouble.while_doing(format_args!("cannot consume from queue `{queue}`"));
        let channel = session.consume_channel().await.map_err(doing)?;
        within(CALL_TIMEOUT, channel.basic_qos(prefetch, BasicQosOptions::default())).await.map_err(doing)?;
        let consume =
            channel.basic_consume((&*queue).into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let stream = within(CALL_TIMEOUT, consume).await.map_err(doing)?;
        Ok(Self { channel, stream, queue, settling: FuturesUnordered::new() })
    }

    /// The queue's name.
    pub fn queue(&self) -> &Arc<str> {
        &self.queue
    }

    /// The next delivery; an error ends the consumer.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Trouble>> {
        Pin::new(&mut self.stream).poll_next(cx).map(|next| match next {
            Some(Ok(delivery)) => {
                let tag = delivery.delivery_tag;
                let mut delivery = convert::delivery(delivery, &self.queue);
                restore(&mut delivery);
                Ok(Received { tag, delivery: Arc::new(delivery) })
            }
            Some(Err(error)) => {
                Err(Trouble::from(error).while_doing(format_args!("consuming from queue `{}`", self.queue)))
            }
            None => Err(Trouble::new(
                Reason::Cancelled,
                format!("the broker ended the consumer of queue `{}`: was the queue deleted?", self.queue),
            )),
        })
    }

    /// Sends an ack, up to the tag with `multiple`. The frame is queued before this returns; the writing is followed
    /// by [`Consumer::poll_settled`].
    pub fn ack(&mut self, tag: u64, multiple: bool) {
        let channel = self.channel.clone();
        self.send(async move { channel.basic_ack(tag, BasicAckOptions { multiple }).await });
    }

    /// Gives a delivery back to its queue.
    pub fn requeue(&mut self, tag: u64) {
        self.nack(tag, true);
    }

    /// Has the broker dead-letter a delivery, or drop it where the queue has no dead-letter exchange.
    pub fn reject(&mut self, tag: u64) {
        self.nack(tag, false);
    }

    fn nack(&mut self, tag: u64, requeue: bool) {
        let channel = self.channel.clone();
        self.send(async move { channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue }).await });
    }

    /// Queues the frame at once. Straight on the channel, not through lapin's `Acker`: that hands each call to a task of
    /// its own, so that an ack with `multiple` could overtake the nack of a delivery that it covers.
    fn send(&mut self, call: impl Future<Output = lapin::Result<()>> + Send + 'static) {
        let mut call: BoxFuture<'static, _> = Box::pin(call);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match call.as_mut().poll(&mut cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.settling.push(Box::pin(std::future::ready(Err(error)))),
            Poll::Pending => self.settling.push(call),
        }
    }

    /// Follows what was sent: pending as long as all is well. Ready says that an ack or a nack was not written: the
    /// channel is gone, and what it would have settled is delivered again.
    pub fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Trouble> {
        loop {
            match self.settling.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(()))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(error.into()),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Stops deliveries; those that are on their way may still come.
    pub async fn cancel(&mut self) -> Result<(), Trouble> {
        within(CALL_TIMEOUT, self.channel.basic_cancel(self.stream.tag(), BasicCancelOptions::default())).await
    }

    /// Writes out what was sent and closes the channel. What is unsettled goes back to the front of its queue, in
    /// order, which a nack would not do on a quorum queue.
    pub async fn close(mut self) -> Result<(), Trouble> {
        let written = async {
            while let Some(result) = self.settling.next().await {
                result?;
            }
            Ok(())
        };
        within(CALL_TIMEOUT, written).await?;
        within(CALL_TIMEOUT, self.channel.close(200, "done".into())).await
    }
}
