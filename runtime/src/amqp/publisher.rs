//! A worker's channel for publishing: publications out, verdicts in.
//!
//! One for each worker, so that a channel that the broker closes costs no other worker its confirms.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered, task::AtomicWaker};
use lapin::{
    Channel, Confirmation, ExchangeKind,
    options::{BasicPublishOptions, ExchangeDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    Session,
    connection::CALL_TIMEOUT,
    convert,
    error::{Reason, Trouble, within},
};
use crate::{
    clock,
    outcome::{Checked, Publication},
    settle::{Confirm, Returns, Verdict},
};

/// The header that a return is known by. It leaves with every publication that can come back.
const ID_HEADER: &str = "x-wabbit-publication";
/// How long an exchange that is not there is taken not to be there, so that a handler that insists costs little. Shorter
/// than the shortest pause between two tries: each of them asks anew.
const ABSENT_FOR: Duration = Duration::from_millis(50);
/// How often a nack leads to a new channel, at most. A queue that is full and rejects refuses publications for ever.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long the confirms that the old channel owes are waited for. If they do not come, it is kept.
const OWED_FOR: Duration = Duration::from_secs(2);

/// What a verdict is about, as the caller knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent<T> {
    /// The caller's own.
    pub what: T,
    /// Whether a return counts against the delivery.
    pub charged: bool,
    /// Whether it answers the delivery's `reply-to`.
    pub reply: bool,
    /// Where it was sent.
    pub exchange: String,
    /// With which routing key.
    pub routing_key: String,
}

impl<T> Sent<T> {
    /// Where it was sent, for a person.
    pub fn to(&self) -> String {
        format!("exchange `{}` with routing key `{}`", self.exchange, self.routing_key)
    }

    /// Whether it is the one that the broker closed the channel over, as far as the broker's text tells. It names the
    /// exchange, and the routing key where that is what the user may not use.
    fn is_forbidden(&self, trouble: &Trouble) -> bool {
        let names = |what: &str| trouble.message.contains(&format!("'{what}'"));
        trouble.reason == Reason::AccessRefused
            && names(&self.exchange)
            && (!trouble.message.contains("access to topic") || names(&self.routing_key))
    }
}

/// A channel in confirm mode with its publications.
///
/// A nack leads to a new one. To a channel of RabbitMQ that first publishes to a quorum queue while its leader is dead,
/// the queue stays dead: all that goes there is refused for as long as the channel is open, whoever leads by then.
pub struct Publisher<T> {
    channel: Channel,
    renewal: Renewal,
    renewed: Option<Instant>,
    session: Arc<Session>,
    next_id: u64,
    /// What the next [`Publisher::flush`] sends.
    outbox: Vec<(u64, Publication, bool)>,
    confirming: FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>,
    woken: Arc<Woken>,
    returns: Returns<Sent<T>>,
    exchanges: HashMap<String, Exchange>,
}

/// How far the way to a new channel is gone. What is to be sent waits for it.
enum Renewal {
    Idle,
    /// The old one still owes confirms, which are told apart channel by channel.
    Owed {
        since: Instant,
    },
    Opening(BoxFuture<'static, Result<Channel, Trouble>>),
}

#[derive(Clone)]
enum Exchange {
    Present,
    Absent { since: Instant, message: String },
}

impl<T> Publisher<T> {
    /// Opens the channel.
    pub async fn open(session: Arc<Session>) -> Result<Self, Trouble> {
        let channel = session.publish_channel().await?;
        Ok(Self {
            channel,
            renewal: Renewal::Idle,
            renewed: None,
            session,
            next_id: 1,
            outbox: Vec::new(),
            woken: Arc::default(),
            confirming: FuturesUnordered::new(),
            returns: Returns::default(),
            exchanges: HashMap::new(),
        })
    }

    /// Whether the exchange is there. Asked on a channel of its own, for the broker closes the channel that asks for
    /// one that is not; publishing to it would cost this channel with all its confirms. And on the consuming connection,
    /// for the other one answers nothing while the broker blocks publishers, and the worker would wait with its acks.
    pub async fn probe(&mut self, exchange: &str) -> Result<(), Trouble> {
        match self.exchanges.get(exchange) {
            _ if exchange.is_empty() => return Ok(()),
            Some(Exchange::Present) => return Ok(()),
            Some(Exchange::Absent { since, message }) if clock::since(*since) < ABSENT_FOR => {
                return Err(Trouble::new(Reason::NotFound, message.clone()));
            }
            _ => {}
        }
        let channel = self.session.consume_channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let asked = channel.exchange_declare(exchange.into(), ExchangeKind::Direct, options, FieldTable::default());
        let answer = within(CALL_TIMEOUT, asked).await;
        let found = match &answer {
            Ok(()) => Exchange::Present,
            Err(trouble) if trouble.reason == Reason::NotFound => {
                Exchange::Absent { since: clock::now(), message: trouble.message.clone() }
            }
            Err(_) => return answer,
        };
        if answer.is_ok() {
            within(CALL_TIMEOUT, channel.close(200, "done".into())).await?;
        }
        self.exchanges.insert(exchange.to_owned(), found);
        answer
    }

    /// Takes in a publication. It leaves with the next [`Publisher::flush`], in the order of the calls; one of the next
    /// [`Publisher::poll_verdicts`] has its verdict.
    pub fn send(&mut self, checked: Checked, what: T) {
        let Checked { publication, mandatory, charged, reply } = checked;
        let id = self.next_id;
        self.next_id += 1;
        let (exchange, routing_key) = (publication.exchange.clone(), publication.routing_key.clone());
        self.returns.sent(id, Sent { what, charged, reply, exchange, routing_key });
        self.outbox.push((id, publication, mandatory));
    }

    /// Queues the frames of all that was taken in. All at once, for each time that the connection's own thread has run
    /// out of work it must be woken, and what it finds then leaves in one write. [`Publisher::poll_verdicts`] begins
    /// with it.
    pub fn flush(&mut self) {
        match self.renewal {
            Renewal::Idle => {}
            Renewal::Owed { since } if clock::since(since) > OWED_FOR => self.renewal = Renewal::Idle,
            Renewal::Owed { .. } | Renewal::Opening(_) => return,
        }
        for (id, Publication { exchange, routing_key, body, properties }, mandatory) in self.outbox.drain(..) {
            let mut properties = convert::to_properties(properties);
            if mandatory {
                let mut headers = properties.headers().clone().unwrap_or_default();
                headers.insert(ID_HEADER.into(), AMQPValue::LongLongInt(id.cast_signed()));
                properties = properties.with_headers(headers);
            }
            let channel = self.channel.clone();
            let mut confirming: BoxFuture<'static, _> = Box::pin(async move {
                let options = BasicPublishOptions { mandatory, immediate: false };
                let sent = channel.basic_publish(exchange.into(), routing_key.into(), options, &body, properties).await;
                drop(body);
                match sent {
                    Ok(confirm) => (id, confirm.await),
                    Err(error) => (id, Err(error)),
                }
            });
            // The first poll queues the frames.
            match confirming.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(done) => self.confirming.push(Box::pin(std::future::ready(done))),
                Poll::Pending => self.confirming.push(confirming),
            }
        }
    }

    /// How many publications have no verdict yet.
    pub fn pending(&self) -> usize {
        self.returns.pending()
    }

    /// Sends what was taken in, and gives verdicts, as they become certain. An error says that the channel is gone: all
    /// that had no verdict is among the verdicts as lost, and this publisher is of no more use.
    pub fn poll_verdicts(
        &mut self,
        cx: &mut Context<'_>,
        verdicts: &mut Vec<(Sent<T>, Verdict)>,
    ) -> Poll<Result<(), Trouble>> {
        self.flush();
        self.poll_renewal(cx);
        if self.confirming.is_empty() {
            return Poll::Pending;
        }
        let mut confirms = Vec::new();
        let gone = self.sweep(cx, &mut confirms);
        if !confirms.is_empty() {
            self.returns.batch(&confirms, verdicts);
        }
        if let Some(trouble) = gone {
            self.returns.lose_all(verdicts);
            for (sent, verdict) in verdicts.iter_mut() {
                // A refusal would come again with each delivery, and cost the neighbours' confirms each time.
                if *verdict == Verdict::Lost && sent.is_forbidden(&trouble) {
                    *verdict = Verdict::Forbidden;
                }
            }
            return Poll::Ready(Err(trouble));
        }
        if verdicts.iter().any(|(_, verdict)| *verdict == Verdict::Nacked) {
            self.renew();
        }
        if verdicts.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Begins the way to a new channel, if it is time. While the broker blocks publishers it would open none.
    fn renew(&mut self) {
        let soon = self.renewed.is_some_and(|renewed| clock::since(renewed) < RENEW_EVERY);
        if matches!(self.renewal, Renewal::Idle) && !soon && !self.session.blocked() {
            self.renewed = Some(clock::now());
            self.renewal = Renewal::Owed { since: clock::now() };
        }
    }

    /// Goes on with it. Where there is no new channel, the old one is kept: it owes nothing, and if it is gone, what is sent
    /// next says so.
    fn poll_renewal(&mut self, cx: &mut Context<'_>) {
        if matches!(self.renewal, Renewal::Owed { .. }) && self.confirming.is_empty() {
            let session = Arc::clone(&self.session);
            self.renewal = Renewal::Opening(Box::pin(async move { session.publish_channel().await }));
        }
        if let Renewal::Opening(opening) = &mut self.renewal
            && let Poll::Ready(opened) = opening.as_mut().poll(cx)
        {
            self.renewal = Renewal::Idle;
            match opened {
                // The last handle to the old one goes, which closes it.
                Ok(channel) => self.channel = channel,
                Err(trouble) => tracing::debug!("the publishing channel stays after a nack: {trouble}"),
            }
            self.flush();
        }
    }

    /// Takes every confirm that has completed: a batch as [`Returns`] needs it. `FuturesUnordered` may pause with work
    /// left when its futures wake while it polls them, so it is asked until a pause in which nothing woke.
    fn sweep(&mut self, cx: &mut Context<'_>, confirms: &mut Vec<Confirm>) -> Option<Trouble> {
        self.woken.task.register(cx.waker());
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        loop {
            self.woken.flag.store(false, Ordering::Release);
            match self.confirming.poll_next_unpin(&mut cx) {
                Poll::Ready(Some((id, Ok(confirmation)))) => confirms.push(confirm(id, &confirmation)),
                Poll::Ready(Some((_, Err(error)))) => return Some(error.into()),
                Poll::Ready(None) => return None,
                Poll::Pending if self.woken.flag.load(Ordering::Acquire) => {}
                Poll::Pending => return None,
            }
        }
    }

    /// Closes the channel; without pending publications nothing is lost by it.
    pub async fn close(self) -> Result<(), Trouble> {
        within(CALL_TIMEOUT, self.channel.close(200, "done".into())).await
    }
}

fn confirm(id: u64, confirmation: &Confirmation) -> Confirm {
    let (taken, message) = match confirmation {
        Confirmation::Ack(message) => (true, message.as_ref()),
        Confirmation::Nack(message) => (false, message.as_ref()),
        Confirmation::NotRequested => (false, None),
    };
    let carried = message.map(|message| {
        let headers = message.delivery.properties.headers().as_ref();
        match headers.and_then(|headers| headers.inner().get(ID_HEADER)) {
            Some(AMQPValue::LongLongInt(id)) => id.cast_unsigned(),
            // Only what has the header is sent as mandatory; 0 is nobody's id.
            _ => 0,
        }
    });
    Confirm { id, taken, carried }
}

/// Wakes the task, and remembers that it did.
#[derive(Default)]
struct Woken {
    flag: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flag.store(true, Ordering::Release);
        self.task.wake();
    }
}
