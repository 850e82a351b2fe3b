//! The worker of the model: what `app::consume` does between the decisions, without a broker, a clock or a handler.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::broker::{Broker, Frame, Message, Place, Sent};
use crate::{
    delivery::Delivery,
    manifest::{Dedupe, DedupeBy, FailurePolicy},
    outcome::{Checked, Failure, FailureKind, Outcome, Rules},
    settle::{
        Action, Facts, Lanes, Progress, PutBack, Returns, Verdict, Window, copy,
        ladder::{RETRY_EXCHANGE, Rung},
        retry::{Charge, Next, may_be_held, next},
        returns::tests::Random,
        seen::{self, Id, Mark},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub queue: usize,
    pub tag: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Publication(Key, u32),
    Copy(Key, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Order(usize, u8),
    /// Of one message, whose copies wait for each other.
    Message(Id),
}

/// What keeps its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    None,
    Queue,
    Key,
}

#[derive(Debug)]
pub struct InHand {
    pub delivery: Delivery,
    progress: Progress,
    publishing: bool,
    round: u32,
    held_since: Option<Duration>,
    lane: Option<Lane>,
    id: Option<Id>,
    /// Its ack does not say that it was done: it is that of a copy, or of what is skipped.
    copied: bool,
}

#[derive(Debug)]
enum Pause {
    GiveBack(Key),
    Again(Key, Duration),
    Copy(Key, u32, Box<(Checked, Message)>),
}

/// How a worker of one sequence is made.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub policy: FailurePolicy,
    pub rules: Arc<Rules>,
    pub order: Order,
    /// Tries are made in place although there is no order.
    pub temporary: bool,
    /// Dead letters are ours, not the broker's.
    pub letters: bool,
    pub prefetch: usize,
    /// What is done is not handled again.
    pub dedupe: bool,
}

/// What was done, and what of it is on the disk. There is no time in the model: no window is ever over.
struct Marks {
    seen: seen::Seen,
    kept: BTreeMap<String, Mark>,
}

impl Marks {
    /// Those that the host before has kept.
    fn new(kept: BTreeMap<String, Mark>) -> Self {
        let window = Duration::from_secs(3600);
        let policy = Dedupe { by: DedupeBy::MessageId, window, ids: 1000, memory: false };
        let mut seen = seen::Seen::new(&policy);
        seen.load(kept.values().copied(), Self::now());
        Self { seen, kept }
    }

    fn now() -> u64 {
        0
    }
}

/// How often which thing happened, so that a model in which it never does is noticed.
pub type Seen = BTreeMap<&'static str, u64>;

/// A run: it lives as long as its connections.
pub struct Worker {
    pub manifest: Manifest,
    windows: Vec<Window<InHand>>,
    returns: Returns<(u64, Role, bool)>,
    /// What has no verdict yet.
    pending: BTreeMap<u64, Role>,
    lanes: Lanes<Lane, Key>,
    ready: VecDeque<Key>,
    pub handling: Vec<Key>,
    pauses: Vec<Pause>,
    now: Duration,
    /// The delivery of each lane that is at work, and the last message that was.
    at_work: HashMap<Lane, Key>,
    last: HashMap<Lane, usize>,
    /// Never the same twice, on whichever channel.
    next_publication: u64,
    marks: Marks,
}

impl Worker {
    pub fn new(manifest: Manifest, queues: usize) -> Self {
        Self {
            manifest,
            windows: (0..queues).map(|_| Window::default()).collect(),
            returns: Returns::default(),
            pending: BTreeMap::new(),
            lanes: Lanes::default(),
            ready: VecDeque::new(),
            handling: Vec::new(),
            pauses: Vec::new(),
            now: Duration::ZERO,
            at_work: HashMap::new(),
            last: HashMap::new(),
            next_publication: 0,
            marks: Marks::new(BTreeMap::new()),
        }
    }

    /// The run after this one, with other connections.
    pub fn of_next_session(self) -> Self {
        let Self { manifest, windows, next_publication, marks, .. } = self;
        Self { next_publication, marks, ..Self::new(manifest, windows.len()) }
    }

    /// The first run of the next host.
    pub fn of_next_host(self) -> Self {
        let marks = Marks::new(self.marks.kept.clone());
        Self { marks, ..self.of_next_session() }
    }

    /// At most so many marks come to the disk.
    pub fn keep(&mut self, most: usize) {
        let changes = self.marks.seen.changes(most);
        self.marks.kept.extend(changes.add.into_iter().map(|mark| (mark.to_string(), mark)));
    }

    pub fn received(&mut self, broker: &mut Broker, key: Key, delivery: Delivery) {
        let id = self.manifest.dedupe.then(|| Id::of(&DedupeBy::MessageId, &delivery)).flatten();
        let lane = match self.manifest.order {
            Order::None => id.map(Lane::Message),
            Order::Queue => Some(Lane::Order(key.queue, 0)),
            Order::Key => Some(Lane::Order(key.queue, delivery.body[0] % 2)),
        };
        let in_hand = InHand {
            delivery,
            progress: Progress::default(),
            publishing: false,
            round: 0,
            held_since: None,
            lane,
            id,
            copied: false,
        };
        assert!(self.windows[key.queue].hold(key.tag, in_hand), "tags count up");
        if lane.is_none_or(|lane| self.lanes.enter(lane, key).is_some()) {
            self.start(broker, key);
        }
    }

    fn start(&mut self, broker: &mut Broker, key: Key) {
        let in_hand = self.windows[key.queue].get_mut(key.tag).expect("what is started is in hand");
        broker.begin(key, in_hand.round);
        let unsettled = broker.unsettled(key).expect("what is in hand is unsettled");
        assert_eq!(
            in_hand.delivery.attempt,
            unsettled.failures() + 1,
            "each failure counts once, and nothing else does"
        );
        assert!(in_hand.delivery.attempt <= self.manifest.policy.attempts, "attempts are bounded");
        assert_eq!((&*in_hand.delivery.exchange, &*in_hand.delivery.routing_key), ("shop", "order"), "as it was");
        if let Some(lane) = in_hand.lane {
            let at_work = self.at_work.insert(lane, key);
            assert!(at_work.is_none_or(|at_work| at_work == key), "{key:?} and {at_work:?} are in work");
            let last = self.last.insert(lane, unsettled.message.id());
            let id = unsettled.message.id();
            let ordered = matches!(lane, Lane::Order(..));
            assert!(!ordered || last.is_none_or(|last| last <= id), "{last:?} came before {id}");
        }
        if let Some(id) = in_hand.id {
            if self.marks.seen.contains(id, Marks::now()) {
                in_hand.copied = true;
                broker.skip(key, id);
                return self.settle(broker, key, None);
            }
            broker.handle(key, id);
        }
        self.handling.push(key);
    }

    /// A handler is done, or failed.
    pub fn handled(&mut self, broker: &mut Broker, random: &mut Random, key: Key, result: Result<Outcome, Failure>) {
        let ordered = self.manifest.order != Order::None;
        let rules = Arc::clone(&self.manifest.rules);
        let Some(InHand { progress, delivery, .. }) = self.windows[key.queue].get_mut(key.tag) else {
            panic!("{key:?} was settled while its handler ran");
        };
        let facts = Facts { reply_to: Some("asker"), requeue_counts: delivery.redelivered || ordered };
        let action = progress.handled(result, facts, &rules);
        self.act(broker, random, key, action);
    }

    fn act(&mut self, broker: &mut Broker, random: &mut Random, key: Key, action: Action) {
        match action {
            Action::Wait => {}
            Action::Publish(checked) => {
                let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
                in_hand.publishing = true;
                let role = Role::Publication(key, in_hand.round);
                for checked in checked {
                    self.send(broker, random, role, &checked, None);
                }
            }
            Action::Fail { failure, after } => self.fail(broker, random, key, &failure, after),
            Action::Ack => self.settle(broker, key, None),
            Action::Requeue => self.settle(broker, key, Some(Frame::Requeue)),
            Action::PutBack(why) => self.put_back(key, &why),
        }
    }

    fn send(&mut self, broker: &mut Broker, random: &mut Random, role: Role, checked: &Checked, place: Option<Place>) {
        let verdict = match random.below(8) {
            0 if checked.mandatory => Verdict::Returned,
            1 => Verdict::Nacked,
            _ => Verdict::Confirmed,
        };
        self.next_publication += 1;
        let id = self.next_publication;
        let charged = checked.charged;
        assert!(broker.sent.insert(id, Sent { role, charged, place, verdict, returned: false }).is_none());
        self.returns.sent(id, (id, role, charged));
        self.pending.insert(id, role);
    }

    fn fail(&mut self, broker: &mut Broker, random: &mut Random, key: Key, failure: &Failure, after: Option<Duration>) {
        let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
        // What was published has its verdicts: nothing is awaited until the copy is sent.
        in_hand.publishing = false;
        let unsettled = broker.unsettled(key).unwrap();
        let last = unsettled.failures() + 1 >= self.manifest.policy.attempts
            || matches!(failure.kind, FailureKind::DeadLettered | FailureKind::BodyTooLarge | FailureKind::HostCrash);
        let chance = random.below(101) as f64 / 100.0;
        let pause = match next(&self.manifest.policy, in_hand.delivery.attempt, failure, after, Charge::Full, chance) {
            Next::DeadLetter => {
                assert!(last, "{key:?} has another try");
                return self.dead_letter(broker, random, key, failure);
            }
            Next::Retry { pause, counted } => {
                assert!(counted, "without a breaker every failure counts");
                pause
            }
        };
        assert!(!last, "{key:?} has no other try");
        if let Some(after) = after {
            assert_eq!(pause, after, "what the handler names is kept");
        }
        if self.manifest.temporary || self.manifest.order != Order::None {
            return self.hold(broker, random, key, failure, pause);
        }
        if random.below(20) == 0 {
            unsettled.claim.trouble = true;
            return self.put_back(key, &PutBack::BrokerTrouble);
        }
        let copy = copy::retry(&in_hand.delivery, failure, origin(), Rung::of(pause), true).expect("it is small");
        let delivery = Delivery {
            body: copy.body.clone(),
            properties: copy.properties.clone(),
            exchange: RETRY_EXCHANGE.to_owned(),
            routing_key: copy.routing_key.clone(),
            queue: in_hand.delivery.queue.clone(),
            redelivered: false,
            attempt: 1,
        };
        let message = Message { delivery, failures: unsettled.failures() + 1 };
        let copy = Checked { publication: copy, mandatory: true, charged: true, reply: false };
        let round = in_hand.round;
        if random.below(4) == 0 {
            self.pauses.push(Pause::Copy(key, round, Box::new((copy, message))));
        } else {
            self.send_copy(broker, random, key, &copy, Place::Ladder(Box::new(message)));
        }
    }

    fn send_copy(&mut self, broker: &mut Broker, random: &mut Random, key: Key, copy: &Checked, place: Place) {
        let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
        in_hand.publishing = true;
        in_hand.copied = true;
        let role = Role::Copy(key, in_hand.round);
        self.send(broker, random, role, copy, Some(place));
    }

    fn hold(&mut self, broker: &mut Broker, random: &mut Random, key: Key, failure: &Failure, pause: Duration) {
        let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
        let held = self.now - *in_hand.held_since.get_or_insert(self.now);
        let allowed = may_be_held(held, pause);
        assert_eq!(allowed, held + pause <= Duration::from_secs(15 * 60), "{held:?} and {pause:?}");
        if !allowed {
            return self.dead_letter(broker, random, key, failure);
        }
        in_hand.delivery.attempt += 1;
        broker.unsettled(key).unwrap().in_place += 1;
        self.begin_again(key);
        self.pauses.push(Pause::Again(key, pause));
    }

    fn dead_letter(&mut self, broker: &mut Broker, random: &mut Random, key: Key, failure: &Failure) {
        if !self.manifest.letters {
            broker.unsettled(key).unwrap().claim.rejected = true;
            return self.settle(broker, key, Some(Frame::Reject));
        }
        let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
        let publication = copy::dead_letter(&in_hand.delivery, failure, origin(), "work.dead");
        let copy = Checked { publication, mandatory: true, charged: true, reply: false };
        let id = usize::from(copy.publication.body[0]);
        self.send_copy(broker, random, key, &copy, Place::Dead(id));
    }

    fn put_back(&mut self, key: Key, _: &PutBack) {
        if self.manifest.temporary || self.manifest.order != Order::None {
            self.begin_again(key);
            self.pauses.push(Pause::Again(key, Duration::from_secs(1)));
        } else {
            self.pauses.push(Pause::GiveBack(key));
        }
    }

    fn begin_again(&mut self, key: Key) {
        let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
        in_hand.round += 1;
        in_hand.progress = Progress::default();
        in_hand.publishing = false;
        in_hand.copied = false;
    }

    fn settle(&mut self, broker: &mut Broker, key: Key, nack: Option<Frame>) {
        let window = &mut self.windows[key.queue];
        let in_hand = match nack {
            Some(frame) => {
                let in_hand = window.release_for_nack(key.tag);
                broker.send(key, frame);
                in_hand
            }
            None => window.ack(key.tag),
        };
        let in_hand = in_hand.unwrap_or_else(|| panic!("{key:?} is settled twice"));
        if let (None, Some(id), false) = (nack, in_hand.id, in_hand.copied) {
            broker.done(key, id);
            self.marks.seen.add(id, Marks::now());
        }
        if let Some(lane) = in_hand.lane {
            assert_eq!(self.at_work.remove(&lane), Some(key));
            self.ready.extend(self.lanes.leave(&lane));
        }
    }

    /// A delivery that may run does.
    pub fn start_ready(&mut self, broker: &mut Broker) -> bool {
        let Some(key) = self.ready.pop_front() else { return false };
        self.start(broker, key);
        true
    }

    /// Acks leave: all that wait, or only what leaves as one.
    pub fn flush(&mut self, broker: &mut Broker, queue: usize, all: bool) -> bool {
        let window = &mut self.windows[queue];
        let (up_to, single) = if all {
            let acks = window.take_all();
            (acks.up_to, acks.single)
        } else {
            (window.take_cumulative(), Vec::new())
        };
        let left = up_to.is_some() || !single.is_empty();
        if let Some(tag) = up_to {
            broker.send(Key { queue, tag }, Frame::Ack { multiple: true });
        }
        for tag in single {
            broker.send(Key { queue, tag }, Frame::Ack { multiple: false });
        }
        left
    }

    /// A pause is over.
    pub fn wake(&mut self, broker: &mut Broker, random: &mut Random) -> bool {
        if self.pauses.is_empty() {
            return false;
        }
        match self.pauses.swap_remove(random.below(self.pauses.len() as u64) as usize) {
            Pause::GiveBack(key) => self.settle(broker, key, Some(Frame::Requeue)),
            Pause::Again(key, pause) => {
                self.now += pause;
                self.ready.push_back(key);
            }
            Pause::Copy(key, round, copy) => {
                let (copy, message) = *copy;
                if self.in_round(key, round).is_some() {
                    self.send_copy(broker, random, key, &copy, Place::Ladder(Box::new(message)));
                }
            }
        }
        true
    }

    /// Takes the confirms that have completed.
    pub fn confirms(&mut self, broker: &mut Broker, random: &mut Random) -> bool {
        // Within a batch the order of completion is not known.
        let mut batch = std::mem::take(&mut broker.completed);
        for last in (1..batch.len()).rev() {
            batch.swap(last, random.below(last as u64 + 1) as usize);
        }
        let mut verdicts = Vec::new();
        self.returns.batch(&batch, &mut verdicts);
        for ((id, role, charged), verdict) in verdicts {
            self.verdict(broker, random, id, role, charged, verdict);
        }
        !batch.is_empty()
    }

    /// The publishing channel ends, perhaps because a publication is not allowed.
    pub fn end_publishing(&mut self, broker: &mut Broker, random: &mut Random) {
        let dropped = broker.end_publishing(random);
        let forbidden = dropped.get(random.below(2 * dropped.len() as u64 + 1) as usize).copied();
        let mut verdicts = Vec::new();
        self.returns.lose_all(&mut verdicts);
        assert_eq!(verdicts.len(), self.pending.len(), "every publication has a verdict");
        self.returns = Returns::default();
        for ((id, role, charged), lost) in verdicts {
            let verdict = if forbidden == Some(id) { Verdict::Forbidden } else { lost };
            self.verdict(broker, random, id, role, charged, verdict);
        }
    }

    fn verdict(
        &mut self,
        broker: &mut Broker,
        random: &mut Random,
        id: u64,
        role: Role,
        charged: bool,
        verdict: Verdict,
    ) {
        assert_eq!(self.pending.remove(&id), Some(role), "one verdict for each");
        let (Role::Publication(key, round) | Role::Copy(key, round)) = role;
        if self.in_round(key, round).is_none() {
            return;
        }
        let copy = matches!(role, Role::Copy(..));
        // A copy that is not taken is nobody's fault but the broker's.
        if (verdict == Verdict::Lost || (copy && verdict != Verdict::Confirmed))
            && let Some(claim) = broker.claim(key, round)
        {
            claim.trouble = true;
        }
        let in_hand = self.in_round(key, round).unwrap();
        let action =
            if copy { in_hand.progress.copied(verdict) } else { in_hand.progress.published(verdict, charged, "x") };
        self.act(broker, random, key, action);
    }

    /// Confirms of a delivery are overdue.
    pub fn overdue(&mut self, broker: &mut Broker, random: &mut Random) -> bool {
        let mut waiting = Vec::new();
        for (queue, window) in self.windows.iter_mut().enumerate() {
            waiting
                .extend(window.iter_mut().filter(|(_, in_hand)| in_hand.publishing).map(|(tag, _)| Key { queue, tag }));
        }
        if waiting.is_empty() {
            return false;
        }
        let key = waiting[random.below(waiting.len() as u64) as usize];
        let in_hand = self.windows[key.queue].get_mut(key.tag).unwrap();
        in_hand.publishing = false;
        let round = in_hand.round;
        let action = in_hand.progress.overdue();
        let awaited =
            self.pending.values().any(|role| *role == Role::Publication(key, round) || *role == Role::Copy(key, round));
        if awaited && let Some(claim) = broker.claim(key, round) {
            claim.trouble = true;
        }
        self.act(broker, random, key, action);
        true
    }

    fn in_round(&mut self, key: Key, round: u32) -> Option<&mut InHand> {
        self.windows[key.queue].get_mut(key.tag).filter(|in_hand| in_hand.round == round)
    }

    /// Whether nothing is left behind.
    pub fn is_empty(&self) -> bool {
        self.windows.iter().all(|window| window.held() == 0 && window.unsent() == 0)
            && self.returns.pending() == 0
            && self.pending.is_empty()
            && self.ready.is_empty()
            && self.handling.is_empty()
            && self.at_work.is_empty()
    }
}

fn origin() -> copy::Origin<'static> {
    copy::Origin { worker: "model", plugin: "sha256:0", at: SystemTime::UNIX_EPOCH }
}
