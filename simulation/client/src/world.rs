//! The network between the clients and the broker: one frame moves at a time, and a seed says which.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPFrame, ProtocolVersion},
    protocol::{AMQPClass, basic, connection},
};
use tokio::{sync::Notify, time::Instant};
use wabbit_embedded_broker::{Broker, ConnectionId, ContentKind, Limits, Outgoing, Settings};

use crate::{Error, ErrorKind, Event, channel::Side, connection::Link};

/// Turns that other tasks get after a frame has moved, at most.
const TURNS_MAX: usize = 3;

thread_local! {
    /// The world in which connections of this thread are made.
    static CURRENT: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// What happens to the host's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One of them is lost, with all frames that are on their way.
    Cut,
    /// All of them are lost, and the broker takes none for this long.
    Down(Duration),
    /// No frame moves for this long.
    Freeze(Duration),
    /// The broker takes no publications for this long, and says so.
    Block(Duration),
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that have moved.
    pub steps: u64,
    /// Connections of the host that were lost by a fault.
    pub cut: u64,
    /// The most deliveries that were unsettled at any time.
    pub unacked: usize,
}

/// A broker with its clients.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    moved: Arc<Notify>,
}

pub(crate) struct State {
    pub(crate) broker: Broker,
    pub(crate) links: BTreeMap<u64, Link>,
    rng: fastrand::Rng,
    began: Instant,
    last_link: u64,
    /// By the number of the step before which they happen.
    faults: VecDeque<(u64, Fault)>,
    down_until: Option<Instant>,
    frozen_until: Option<Instant>,
    blocked_until: Option<Instant>,
    tally: Tally,
}

impl World {
    /// A broker with nothing in it. `faults` stand in the order of their steps, which count frames.
    #[must_use]
    pub fn new(seed: u64, faults: Vec<(u64, Fault)>) -> Self {
        let settings = Settings { seed, ..Settings::from(Limits::default()) };
        let state = State {
            broker: Broker::with(settings),
            links: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            began: Instant::now(),
            last_link: 0,
            faults: faults.into(),
            down_until: None,
            frozen_until: None,
            blocked_until: None,
            tally: Tally::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), moved: Arc::default() }
    }

    /// From now on connections of this thread are made here.
    pub fn enter(&self) {
        CURRENT.with(|current| *current.borrow_mut() = Some(self.clone()));
    }

    pub(crate) fn current() -> Option<Self> {
        CURRENT.with(|current| current.borrow().clone())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to move.
    pub(crate) fn wake(&self) {
        self.moved.notify_one();
    }

    /// No more faults, and those that last are over.
    pub fn heal(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.faults.clear();
        let now = Some(Instant::now());
        for until in [&mut state.down_until, &mut state.frozen_until, &mut state.blocked_until] {
            *until = until.and(now);
        }
        drop(guard);
        self.wake();
    }

    /// What has happened so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.state().tally
    }

    /// How many messages wait in a queue; none where it does not exist.
    #[must_use]
    pub fn queue_length(&self, queue: &str) -> Option<usize> {
        self.state().broker.queue_length("/", queue)
    }

    /// Messages that wait, and that are delivered and not settled, in all queues.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let stats = self.state().broker.stats();
        (stats.ready, stats.unacked)
    }

    /// Moves frames for as long as it is polled.
    pub async fn run(&self) {
        loop {
            let (moved, turns, due) = {
                let mut state = self.state();
                let moved = state.step();
                (moved, state.rng.usize(..=TURNS_MAX), state.due())
            };
            if moved {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.moved.notified() => {}
                () = wait => {}
            }
        }
    }
}

/// Who has the next frame.
#[derive(Clone, Copy)]
enum Move {
    ToBroker(u64),
    ToClient(u64),
}

impl State {
    /// Begins a connection. `name` is what the client calls it.
    pub(crate) fn connect(&mut self, name: &str) -> Result<u64, Error> {
        let host = name.starts_with("wabbit ");
        if host && self.down_until.is_some_and(|until| Instant::now() < until) {
            return Err(Error::refused());
        }
        let broker = self.broker.connect(true).map_err(|_| Error::refused())?;
        self.last_link += 1;
        let mut link = Link::new(broker, host, host && name.contains("publish"));
        link.up.push_back(AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1()));
        self.links.insert(self.last_link, link);
        Ok(self.last_link)
    }

    /// When time alone changes something.
    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let ends = [self.frozen_until, self.blocked_until].into_iter().flatten().filter(|until| *until > now);
        let broker = self.broker.next_deadline().map(|deadline| self.began + deadline);
        ends.chain(broker).min()
    }

    /// Moves one frame, if there is one that can be moved.
    fn step(&mut self) -> bool {
        let now = Instant::now();
        self.broker.tick(now - self.began);
        self.collect();
        while let Some((_, fault)) = self.faults.pop_front_if(|(step, _)| *step <= self.tally.steps) {
            self.happen(fault, now);
        }
        if self.blocked_until.is_some_and(|until| until <= now) {
            self.blocked_until = None;
            self.say_to_publishers(connection::AMQPMethod::Unblocked(connection::Unblocked {}));
        }
        let frozen = self.frozen_until.is_some_and(|until| now < until);
        let mut moves = Vec::new();
        for (id, link) in &self.links {
            if link.host && frozen {
                continue;
            }
            if !link.up.is_empty()
                && self.broker.reads(link.broker)
                && !(link.publishes && self.blocked_until.is_some())
            {
                moves.push(Move::ToBroker(*id));
            }
            if !link.down.is_empty() {
                moves.push(Move::ToClient(*id));
            }
        }
        if moves.is_empty() {
            return false;
        }
        let chosen = self.rng.usize(..moves.len());
        match moves.get(chosen) {
            Some(Move::ToBroker(id)) => {
                if let Some(link) = self.links.get_mut(id)
                    && let Some(frame) = link.up.pop_front()
                {
                    let broker = link.broker;
                    self.broker.receive(broker, frame);
                }
            }
            Some(Move::ToClient(id)) => {
                if let Some(link) = self.links.get_mut(id)
                    && let Some(item) = link.down.pop_front()
                {
                    link.receive(item);
                }
            }
            None => {}
        }
        self.tally.steps += 1;
        self.tally.unacked = self.tally.unacked.max(self.broker.stats().unacked);
        self.collect();
        true
    }

    /// Takes what the broker has to say.
    fn collect(&mut self) {
        loop {
            let ready = self.broker.take_ready();
            if ready.is_empty() {
                break;
            }
            for broker in ready {
                let output = self.broker.take_output(broker);
                let Some(id) = self.link_of(broker) else { continue };
                let Some(link) = self.links.get_mut(&id) else { continue };
                link.down.extend(output.items);
                link.ends |= output.ends;
                if self.rng.bool() {
                    confirm_together(&mut link.down, |channel| link.channels.get(&channel).and_then(Side::oldest));
                } else {
                    confirm_the_later_first(&mut link.down);
                }
            }
        }
        let ended: Vec<u64> = self.links.iter().filter(|(_, link)| link.is_over()).map(|(id, _)| *id).collect();
        for id in ended {
            self.lose(id, &ErrorKind::InvalidConnectionState("closed").into());
        }
    }

    fn link_of(&self, broker: ConnectionId) -> Option<u64> {
        self.links.iter().find(|(_, link)| link.broker == broker).map(|(id, _)| *id)
    }

    /// A connection is gone, with all that is on its way.
    pub(crate) fn lose(&mut self, id: u64, error: &Error) {
        if let Some(mut link) = self.links.remove(&id) {
            self.broker.disconnect(link.broker);
            link.lost(error);
        }
    }

    fn happen(&mut self, fault: Fault, now: Instant) {
        let hosts: Vec<u64> = self.links.iter().filter(|(_, link)| link.host).map(|(id, _)| *id).collect();
        match fault {
            Fault::Cut => {
                if let Some(id) = self.rng.choice(hosts) {
                    self.tally.cut += 1;
                    self.lose(id, &Error::lost());
                }
            }
            Fault::Down(time) => {
                self.down_until = Some(now + time);
                for id in hosts {
                    self.tally.cut += 1;
                    self.lose(id, &Error::lost());
                }
            }
            Fault::Freeze(time) => self.frozen_until = Some(now + time),
            Fault::Block(time) => {
                self.blocked_until = Some(now + time);
                let reason = "low on memory".into();
                self.say_to_publishers(connection::AMQPMethod::Blocked(connection::Blocked { reason }));
            }
        }
    }

    fn say_to_publishers(&mut self, method: connection::AMQPMethod) {
        for link in self.links.values_mut().filter(|link| link.publishes && link.open) {
            link.down.push_back(Outgoing::Method(0, AMQPClass::Connection(method.clone())));
        }
    }
}

/// RabbitMQ confirms what each queue has taken when that queue says so: a later publication may have its word first.
fn confirm_the_later_first(down: &mut VecDeque<Outgoing>) {
    let confirm = |item: &Outgoing| match item {
        Outgoing::Method(channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) if !ack.multiple => Some(*channel),
        Outgoing::Method(channel, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))) if !nack.multiple => Some(*channel),
        _ => None,
    };
    let is_pair =
        |earlier: &Outgoing, later: &Outgoing| confirm(earlier).is_some() && confirm(earlier) == confirm(later);
    if let Some(at) = down.iter().zip(down.iter().skip(1)).position(|(earlier, later)| is_pair(earlier, later)) {
        down.swap(at, at + 1);
    }
}

/// RabbitMQ returns a message at once, and confirms several with one frame: then a return comes before the confirm of what
/// was published before it.
fn confirm_together(down: &mut VecDeque<Outgoing>, oldest: impl Fn(u16) -> Option<u64>) {
    let confirm = |item: &Outgoing| match item {
        Outgoing::Method(channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))) => Some((*channel, ack.delivery_tag)),
        _ => None,
    };
    let Some((first, (channel, tag))) = down.iter().enumerate().find_map(|(at, item)| Some((at, confirm(item)?)))
    else {
        return;
    };
    // What is older has had no word yet.
    if oldest(channel) != Some(tag) {
        return;
    }
    let is_return = |item: &Outgoing| matches!(item, Outgoing::Content { channel: of, kind: ContentKind::Return, .. } if *of == channel);
    let Some(next) = down.iter().skip(first + 1).position(|item| !is_return(item)) else { return };
    if let Some(Outgoing::Method(of, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))) = down.get_mut(first + 1 + next)
        && *of == channel
    {
        ack.multiple = true;
        down.remove(first);
    }
}

/// An event for those who listen.
pub(crate) fn tell(listeners: &mut Vec<tokio::sync::mpsc::UnboundedSender<Event>>, event: &Event) {
    listeners.retain(|listener| listener.send(event.clone()).is_ok());
}
