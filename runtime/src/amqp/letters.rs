//! A queue that is looked at and not consumed: how much waits in it, its messages one by one, the end of all of them.

use std::sync::Arc;

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions},
    types::FieldTable,
};

use super::{
    Received, Session,
    connection::CALL_TIMEOUT,
    convert,
    error::{Reason, Trouble, within},
};

/// How many messages wait in a queue, those left out that somebody holds; `None` where there is no such queue. The name
/// has at most 255 bytes, here and below.
pub async fn count(session: &Session, queue: &str) -> Result<Option<u32>, Trouble> {
    let channel = session.consume_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(queue.into(), options, FieldTable::default());
    match within(CALL_TIMEOUT, asked).await {
        Ok(found) => {
            within(CALL_TIMEOUT, channel.close(200, "done".into())).await?;
            Ok(Some(found.message_count()))
        }
        Err(trouble) if trouble.reason == Reason::NotFound => Ok(None),
        Err(trouble) => Err(trouble.while_doing(format_args!("queue `{queue}`"))),
    }
}

/// Deletes what waits in a queue and says how much that was. What somebody holds stays.
pub async fn purge(session: &Session, queue: &str) -> Result<u32, Trouble> {
    let channel = session.consume_channel().await?;
    let purged = within(CALL_TIMEOUT, channel.queue_purge(queue.into(), QueuePurgeOptions::default()))
        .await
        .map_err(|trouble| trouble.while_doing(format_args!("cannot purge queue `{queue}`")))?;
    within(CALL_TIMEOUT, channel.close(200, "done".into())).await?;
    Ok(purged)
}

/// Deletes a queue with all that waits in it. It is no error where there is none.
pub async fn delete(session: &Session, queue: &str) -> Result<(), Trouble> {
    let channel = session.consume_channel().await?;
    within(CALL_TIMEOUT, channel.queue_delete(queue.into(), QueueDeleteOptions::default()))
        .await
        .map_err(|trouble| trouble.while_doing(format_args!("cannot delete queue `{queue}`")))?;
    within(CALL_TIMEOUT, channel.close(200, "done".into())).await
}

/// Messages that are taken off a queue one by one, on a channel of their own. Each that is not acked goes back when the
/// channel is closed, in order, marked as redelivered.
pub struct Letters {
    channel: Channel,
    queue: Arc<str>,
}

impl Letters {
    /// Opens the channel. That the queue is there shows with the first message.
    pub async fn open(session: &Session, queue: &str) -> Result<Self, Trouble> {
        Ok(Self { channel: session.consume_channel().await?, queue: queue.into() })
    }

    /// The next message; `None` where none waits.
    pub async fn next(&self) -> Result<Option<Received>, Trouble> {
        let asked = self.channel.basic_get((&*self.queue).into(), BasicGetOptions::default());
        let got = within(CALL_TIMEOUT, asked).await.map_err(|trouble| self.explain(trouble))?;
        Ok(got.map(|message| Received {
            tag: message.delivery.delivery_tag,
            delivery: Arc::new(convert::delivery(message.delivery, &self.queue)),
        }))
    }

    /// Takes one message off the queue for good. The frame is written when this returns.
    pub async fn ack(&self, tag: u64) -> Result<(), Trouble> {
        within(CALL_TIMEOUT, self.channel.basic_ack(tag, BasicAckOptions::default())).await
    }

    /// Gives back all that is not acked.
    pub async fn close(self) -> Result<(), Trouble> {
        within(CALL_TIMEOUT, self.channel.close(200, "done".into())).await
    }

    fn explain(&self, trouble: Trouble) -> Trouble {
        let mut trouble = trouble.while_doing(format_args!("cannot read queue `{}`", self.queue));
        if trouble.reason == Reason::Undecodable {
            trouble.message.push_str("; hint: a message in it has a name or a property that is not UTF-8");
        }
        trouble
    }
}
