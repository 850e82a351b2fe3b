//! A queue beside another one: it gets a copy of what is routed there, and the other one does not notice.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use lapin::options::QueueDeclareOptions;

use super::{
    Consumer, Received, Session,
    connection::CALL_TIMEOUT,
    convert::to_table,
    error::{Trouble, within},
    topology::bind,
};
use crate::{
    delivery::{Table, Value},
    manifest::Binding,
};

/// Messages that the broker keeps for the tap, beside those that are on their way to it. The oldest fall out.
const WAITING_MAX: i32 = 10_000;
/// And their bytes.
const WAITING_BYTES_MAX: i64 = 256 << 20;
/// After so long without a consumer the broker deletes it, should the connection be kept open by nobody.
const EXPIRES_MS: i32 = 60_000;

/// The consumer of a queue of its own, which the broker named, and which it deletes with the session.
pub struct Tap {
    consumer: Consumer,
}

impl Tap {
    /// Makes the queue, binds it, and starts consuming with this prefetch.
    ///
    /// Errors: what the broker refuses, such as an exchange that is not there.
    pub async fn open(session: &Session, bindings: &[Binding], prefetch: u16) -> Result<Self, Trouble> {
        let doing = |trouble: Trouble| trouble.while_doing(format_args!("cannot declare a queue for copies"));
        let channel = session.consume_channel().await.map_err(doing)?;
        let arguments: Table = vec![
            ("x-max-length".into(), Value::I32(WAITING_MAX)),
            ("x-max-length-bytes".into(), Value::I64(WAITING_BYTES_MAX)),
            ("x-expires".into(), Value::I32(EXPIRES_MS)),
        ];
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let asked = channel.queue_declare("".into(), options, to_table(arguments));
        let declared = within(CALL_TIMEOUT, asked).await.map_err(doing)?;
        within(CALL_TIMEOUT, channel.close(200, "done".into())).await?;
        let name: Arc<str> = declared.name().as_str().into();
        for binding in bindings {
            bind(session, &name, binding).await?;
        }
        Ok(Self { consumer: Consumer::open(session, name, prefetch).await? })
    }

    /// The next copy; an error ends it.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Trouble>> {
        self.consumer.poll_next(cx)
    }

    /// Lets the broker send another one.
    pub fn done(&mut self, received: &Received) {
        self.consumer.ack(received.tag, false);
    }

    /// Follows what [`Tap::done`] sends: pending as long as all is well.
    pub fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Trouble> {
        self.consumer.poll_settled(cx)
    }
}
