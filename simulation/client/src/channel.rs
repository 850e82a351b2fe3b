//! A channel, and the client's side of what comes over it.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame},
    protocol::{AMQPClass, AMQPError, BasicProperties, basic, channel, confirm, exchange, queue},
    types::{FieldTable, ShortString},
};
use tokio::sync::oneshot;
use wabbit_embedded_broker::{ContentKind, message::Message};

use crate::{
    Consumer, Error, ErrorKind, ExchangeKind, Result, World,
    message::{BasicGetMessage, BasicReturnMessage, Delivery},
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
};

/// The class of messages.
const BASIC: u16 = 60;
/// The bytes of a body in one frame.
const CHUNK_BYTES: usize = 131_072 - 8;

/// A channel. It is closed when its last handle goes.
#[derive(Clone)]
pub struct Channel {
    handle: Arc<Handle>,
}

/// What keeps a channel open.
pub(crate) struct Handle {
    world: World,
    link: u64,
    number: u16,
    /// What has come for consumers, and who waits for it. It outlives the connection.
    incoming: Inbox,
}

type Inbox = Arc<Mutex<BTreeMap<String, Incoming>>>;

/// What has come for a consumer.
#[derive(Default)]
struct Incoming {
    deliveries: VecDeque<Result<Delivery>>,
    ended: bool,
    waker: Option<Waker>,
}

/// What the broker answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Done,
    Queue(Queue),
    Consuming(ShortString),
    Count(u32),
    Got(Option<Box<BasicGetMessage>>),
}

/// A queue that was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    name: ShortString,
    messages: u32,
    consumers: u32,
}

impl Queue {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ShortString {
        &self.name
    }

    /// How many messages wait.
    #[must_use]
    pub fn message_count(&self) -> u32 {
        self.messages
    }

    /// How many consumers there are.
    #[must_use]
    pub fn consumer_count(&self) -> u32 {
        self.consumers
    }
}

/// The broker's last word on a publication.
#[derive(Debug, PartialEq)]
pub enum Confirmation {
    /// It was taken. With a return, that one may be another's.
    Ack(Option<Box<BasicReturnMessage>>),
    /// It was refused.
    Nack(Option<Box<BasicReturnMessage>>),
    /// Nobody asked for one.
    NotRequested,
}

/// Becomes the broker's last word on a publication.
pub struct PublisherConfirm(Option<oneshot::Receiver<Result<Confirmation>>>);

impl Future for PublisherConfirm {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(Confirmation::NotRequested)),
            Some(confirm) => {
                Pin::new(confirm).poll(cx).map(|confirmed| confirmed.unwrap_or_else(|_| Err(Error::lost())))
            }
        }
    }
}

/// The client's side of a channel.
#[derive(Default)]
pub(crate) struct Side {
    /// Those who wait for answers, which come in the order of the calls.
    calls: VecDeque<oneshot::Sender<Result<Answer>>>,
    incoming: Inbox,
    confirms: bool,
    published: u64,
    unconfirmed: BTreeMap<u64, oneshot::Sender<Result<Confirmation>>>,
    returned: VecDeque<BasicReturnMessage>,
    /// Why it is closed.
    error: Option<Error>,
    /// Whether the client has asked to close it.
    closing: bool,
    /// Whether nothing more will come.
    gone: bool,
}

impl Side {
    /// Somebody waits for the next answer.
    pub(crate) fn call(&mut self) -> oneshot::Receiver<Result<Answer>> {
        let (sender, answer) = oneshot::channel();
        self.calls.push_back(sender);
        answer
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(call) = self.calls.pop_front() {
            // Whoever waited may have given up.
            _ = call.send(Ok(answer));
        }
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A method has come; gives what is to be answered.
    pub(crate) fn method(&mut self, method: AMQPClass) -> Option<AMQPClass> {
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                let error = AMQPError::from_id(close.reply_code, close.reply_text);
                let error = error.map_or_else(Error::lost, |error| ErrorKind::ProtocolError(error).into());
                self.fail(&error);
                self.gone = true;
                return Some(AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
            }
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
                self.answer(Answer::Done);
                self.fail(&ErrorKind::InvalidChannelState.into());
                self.gone = true;
            }
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                self.confirmed(ack.delivery_tag, ack.multiple, Confirmation::Ack);
            }
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                self.confirmed(nack.delivery_tag, nack.multiple, Confirmation::Nack);
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                if let Some(incoming) = self.inbox().get_mut(cancel.consumer_tag.as_str()) {
                    incoming.end();
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok)) => {
                if let Some(incoming) = self.inbox().get_mut(ok.consumer_tag.as_str()) {
                    incoming.end();
                }
                self.answer(Answer::Done);
            }
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)) => {
                self.inbox().insert(ok.consumer_tag.to_string(), Incoming::default());
                self.answer(Answer::Consuming(ok.consumer_tag));
            }
            AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => self.answer(Answer::Got(None)),
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) => self.answer(Answer::Queue(Queue {
                name: ok.queue,
                messages: ok.message_count,
                consumers: ok.consumer_count,
            })),
            AMQPClass::Queue(queue::AMQPMethod::PurgeOk(ok)) => self.answer(Answer::Count(ok.message_count)),
            AMQPClass::Queue(queue::AMQPMethod::DeleteOk(ok)) => self.answer(Answer::Count(ok.message_count)),
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_)) => {
                self.confirms = true;
                self.answer(Answer::Done);
            }
            _ => self.answer(Answer::Done),
        }
        None
    }

    /// A return goes to whichever confirm completes next, as with lapin.
    fn confirmed(&mut self, tag: u64, multiple: bool, word: fn(Option<Box<BasicReturnMessage>>) -> Confirmation) {
        let tags: Vec<u64> = match multiple {
            true => self.unconfirmed.range(..=tag).map(|(tag, _)| *tag).collect(),
            false => vec![tag],
        };
        for tag in tags {
            if let Some(waiting) = self.unconfirmed.remove(&tag) {
                let returned = self.returned.pop_front().map(Box::new);
                _ = waiting.send(Ok(word(returned)));
            }
        }
    }

    /// The oldest publication without a confirm.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.unconfirmed.keys().next().copied()
    }

    /// A message has come.
    pub(crate) fn content(&mut self, kind: &ContentKind, message: &Message, properties: &BasicProperties) {
        let delivery = |delivery_tag, redelivered| Delivery {
            delivery_tag,
            exchange: (&*message.exchange).into(),
            routing_key: (&*message.routing_key).into(),
            redelivered,
            properties: properties.clone(),
            data: message.body.to_vec(),
        };
        match kind {
            ContentKind::Deliver { consumer_tag, delivery_tag, redelivered } => {
                if let Some(incoming) = self.inbox().get_mut(&**consumer_tag) {
                    incoming.put(Ok(delivery(*delivery_tag, *redelivered)));
                }
            }
            ContentKind::GetOk { delivery_tag, redelivered, message_count } => {
                let delivery = delivery(*delivery_tag, *redelivered);
                self.answer(Answer::Got(Some(Box::new(BasicGetMessage { delivery, message_count: *message_count }))));
            }
            ContentKind::Return => self.returned.push_back(BasicReturnMessage { delivery: delivery(0, false) }),
        }
    }

    /// Nothing will be answered any more.
    pub(crate) fn fail(&mut self, error: &Error) {
        for call in self.calls.drain(..) {
            _ = call.send(Err(error.clone()));
        }
        for (_, waiting) in std::mem::take(&mut self.unconfirmed) {
            _ = waiting.send(Err(error.clone()));
        }
        // A channel that the client closes itself ends its consumers without a word.
        let told = !self.closing;
        for incoming in self.inbox().values_mut() {
            if told && !incoming.ended {
                incoming.put(Err(error.clone()));
            }
            incoming.end();
        }
        self.error = Some(error.clone());
    }
}

impl Incoming {
    fn put(&mut self, delivery: Result<Delivery>) {
        self.deliveries.push_back(delivery);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn end(&mut self) {
        self.ended = true;
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Handle {
    pub(crate) fn new(world: World, link: u64, number: u16) -> Self {
        let incoming = {
            let state = world.state();
            let side = state.links.get(&link).and_then(|link| link.channels.get(&number));
            side.map(|side| Arc::clone(&side.incoming)).unwrap_or_default()
        };
        Self { world, link, number, incoming }
    }

    pub(crate) fn next_delivery(&self, tag: &str, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        let mut inbox = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(incoming) = inbox.get_mut(tag) else { return Poll::Ready(None) };
        match incoming.deliveries.pop_front() {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if incoming.ended => Poll::Ready(None),
            None => {
                incoming.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Does something with the open channel, and has its frames moved.
    fn with<R>(&self, act: impl FnOnce(&mut Side, &mut VecDeque<AMQPFrame>, u16) -> R) -> Result<R> {
        let mut state = self.world.state();
        let closed = || Error::from(ErrorKind::InvalidChannelState);
        let link = state.links.get_mut(&self.link).ok_or_else(closed)?;
        let side = link.channels.get_mut(&self.number).ok_or_else(closed)?;
        if side.closing || side.error.is_some() {
            return Err(closed());
        }
        let result = act(side, &mut link.up, self.number);
        drop(state);
        self.world.wake();
        Ok(result)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A channel that is closed already has nothing to say.
        _ = self.with(|side, up, number| {
            side.closing = true;
            up.push_back(AMQPFrame::Method(number, closing(200, "OK".into())));
        });
    }
}

fn closing(reply_code: u16, reply_text: ShortString) -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close { reply_code, reply_text, class_id: 0, method_id: 0 }))
}

impl Channel {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Sends a method that is answered.
    async fn call(&self, method: AMQPClass) -> Result<Answer> {
        let answer = self.handle.with(|side, up, number| {
            up.push_back(AMQPFrame::Method(number, method));
            side.call()
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::lost()))
    }

    /// Sends a method that is not.
    fn tell(&self, method: AMQPClass) -> Result<()> {
        self.handle.with(|_, up, number| up.push_back(AMQPFrame::Method(number, method)))
    }

    /// Closes it in order.
    ///
    /// # Errors
    /// It is closed already, or lost meanwhile.
    pub async fn close(&self, reply_code: u16, reply_text: ShortString) -> Result<()> {
        let answer = self.handle.with(|side, up, number| {
            up.push_back(AMQPFrame::Method(number, closing(reply_code, reply_text)));
            side.closing = true;
            side.call()
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::lost())).map(drop)
    }

    /// Has publications confirmed.
    ///
    /// # Errors
    /// As of every call: the broker refuses, or the channel is closed.
    pub async fn confirm_select(&self, options: ConfirmSelectOptions) -> Result<()> {
        let select = confirm::Select { nowait: options.nowait };
        self.call(AMQPClass::Confirm(confirm::AMQPMethod::Select(select))).await.map(drop)
    }

    /// Sets the prefetch.
    ///
    /// # Errors
    /// As of every call.
    pub async fn basic_qos(&self, prefetch_count: u16, options: BasicQosOptions) -> Result<()> {
        let qos = basic::Qos { prefetch_count, global: options.global };
        self.call(AMQPClass::Basic(basic::AMQPMethod::Qos(qos))).await.map(drop)
    }

    /// Starts a consumer.
    ///
    /// # Errors
    /// As of every call.
    pub async fn basic_consume(
        &self,
        queue: ShortString,
        consumer_tag: ShortString,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> Result<Consumer> {
        let BasicConsumeOptions { no_local, no_ack, exclusive, nowait } = options;
        let consume = basic::Consume { queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments };
        match self.call(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))).await? {
            Answer::Consuming(tag) => Ok(Consumer::new(Arc::clone(&self.handle), tag)),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Ends a consumer.
    ///
    /// # Errors
    /// As of every call.
    pub async fn basic_cancel(&self, consumer_tag: ShortString, options: BasicCancelOptions) -> Result<()> {
        let cancel = basic::Cancel { consumer_tag, nowait: options.nowait };
        self.call(AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))).await.map(drop)
    }

    /// Takes one message.
    ///
    /// # Errors
    /// As of every call.
    pub async fn basic_get(&self, queue: ShortString, options: BasicGetOptions) -> Result<Option<BasicGetMessage>> {
        let get = basic::Get { queue, no_ack: options.no_ack };
        match self.call(AMQPClass::Basic(basic::AMQPMethod::Get(get))).await? {
            Answer::Got(message) => Ok(message.map(|message| *message)),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Sends an ack: it is on its way when this returns.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn basic_ack(&self, delivery_tag: u64, options: BasicAckOptions) -> Result<()> {
        let ack = basic::Ack { delivery_tag, multiple: options.multiple };
        self.tell(AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))
    }

    /// Sends a nack: it is on its way when this returns.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn basic_nack(&self, delivery_tag: u64, options: BasicNackOptions) -> Result<()> {
        let BasicNackOptions { multiple, requeue } = options;
        self.tell(AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue })))
    }

    /// Publishes a message: it is on its way when this returns.
    ///
    /// # Errors
    /// The channel is closed.
    pub async fn basic_publish(
        &self,
        exchange: ShortString,
        routing_key: ShortString,
        options: BasicPublishOptions,
        payload: &[u8],
        properties: BasicProperties,
    ) -> Result<PublisherConfirm> {
        let BasicPublishOptions { mandatory, immediate } = options;
        let publish = basic::Publish { exchange, routing_key, mandatory, immediate };
        self.handle.with(|side, up, number| {
            up.push_back(AMQPFrame::Method(number, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))));
            let header = AMQPContentHeader { class_id: BASIC, body_size: payload.len() as u64, properties };
            up.push_back(AMQPFrame::Header(number, header));
            up.extend(payload.chunks(CHUNK_BYTES).map(|chunk| AMQPFrame::Body(number, chunk.to_vec())));
            if !side.confirms {
                return PublisherConfirm(None);
            }
            side.published += 1;
            let (sender, confirm) = oneshot::channel();
            side.unconfirmed.insert(side.published, sender);
            PublisherConfirm(Some(confirm))
        })
    }

    /// Declares an exchange.
    ///
    /// # Errors
    /// As of every call.
    pub async fn exchange_declare(
        &self,
        exchange: ShortString,
        kind: ExchangeKind,
        options: ExchangeDeclareOptions,
        arguments: FieldTable,
    ) -> Result<()> {
        let ExchangeDeclareOptions { passive, durable, auto_delete, internal, nowait } = options;
        let kind = kind.name().into();
        let declare = exchange::Declare { exchange, kind, passive, durable, auto_delete, internal, nowait, arguments };
        self.call(AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare))).await.map(drop)
    }

    /// Deletes an exchange.
    ///
    /// # Errors
    /// As of every call.
    pub async fn exchange_delete(&self, exchange: ShortString, options: ExchangeDeleteOptions) -> Result<()> {
        let ExchangeDeleteOptions { if_unused, nowait } = options;
        let delete = exchange::Delete { exchange, if_unused, nowait };
        self.call(AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete))).await.map(drop)
    }

    /// Declares a queue.
    ///
    /// # Errors
    /// As of every call.
    pub async fn queue_declare(
        &self,
        queue: ShortString,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<Queue> {
        let QueueDeclareOptions { passive, durable, exclusive, auto_delete, nowait } = options;
        let declare = queue::Declare { queue, passive, durable, exclusive, auto_delete, nowait, arguments };
        match self.call(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))).await? {
            Answer::Queue(queue) => Ok(queue),
            answer => Err(unexpected(&answer)),
        }
    }

    /// Binds a queue.
    ///
    /// # Errors
    /// As of every call.
    pub async fn queue_bind(
        &self,
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
        options: QueueBindOptions,
        arguments: FieldTable,
    ) -> Result<()> {
        let bind = queue::Bind { queue, exchange, routing_key, nowait: options.nowait, arguments };
        self.call(AMQPClass::Queue(queue::AMQPMethod::Bind(bind))).await.map(drop)
    }

    /// Takes a binding away.
    ///
    /// # Errors
    /// As of every call.
    pub async fn queue_unbind(
        &self,
        queue: ShortString,
        exchange: ShortString,
        routing_key: ShortString,
        arguments: FieldTable,
    ) -> Result<()> {
        let unbind = queue::Unbind { queue, exchange, routing_key, arguments };
        self.call(AMQPClass::Queue(queue::AMQPMethod::Unbind(unbind))).await.map(drop)
    }

    /// Deletes what waits in a queue.
    ///
    /// # Errors
    /// As of every call.
    pub async fn queue_purge(&self, queue: ShortString, options: QueuePurgeOptions) -> Result<u32> {
        let purge = queue::Purge { queue, nowait: options.nowait };
        self.count(AMQPClass::Queue(queue::AMQPMethod::Purge(purge))).await
    }

    /// Deletes a queue.
    ///
    /// # Errors
    /// As of every call.
    pub async fn queue_delete(&self, queue: ShortString, options: QueueDeleteOptions) -> Result<u32> {
        let QueueDeleteOptions { if_unused, if_empty, nowait } = options;
        let delete = queue::Delete { queue, if_unused, if_empty, nowait };
        self.count(AMQPClass::Queue(queue::AMQPMethod::Delete(delete))).await
    }

    async fn count(&self, method: AMQPClass) -> Result<u32> {
        match self.call(method).await? {
            Answer::Count(count) => Ok(count),
            answer => Err(unexpected(&answer)),
        }
    }
}

/// The broker answered a call with what belongs to another.
fn unexpected(answer: &Answer) -> Error {
    ErrorKind::RuntimeShutdownError(Arc::new(std::io::Error::other(format!("an unexpected answer: {answer:?}")))).into()
}
