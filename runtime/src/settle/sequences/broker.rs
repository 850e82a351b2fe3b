//! The broker of the model: it knows where every message is, what each publication came to, and which delivery may be
//! acked. What a worker gets wrong fails here.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::worker::{Key, Role};
use crate::{
    delivery::Delivery,
    settle::{Confirm, Verdict, copy, returns::tests::Random, seen::Id},
};

/// A message, with what only the model knows: how many of its tries have failed.
#[derive(Debug, Clone)]
pub struct Message {
    pub delivery: Delivery,
    pub failures: u32,
}

impl Message {
    /// Which message it is, however often it was copied.
    pub fn id(&self) -> usize {
        usize::from(self.delivery.body[0])
    }
}

/// A delivery that is not settled, and what is known of its present try.
#[derive(Debug)]
pub struct Unsettled {
    pub message: Message,
    /// Failed tries that left no mark on the message. They are forgotten with the channel.
    pub in_place: u32,
    pub claim: Claim,
}

impl Unsettled {
    /// How many of its tries have failed.
    pub fn failures(&self) -> u32 {
        self.message.failures + self.in_place
    }
}

/// Why a delivery may be settled.
#[derive(Debug, Default)]
pub struct Claim {
    pub round: u32,
    /// The handler is done with it.
    pub acks: bool,
    /// Its publications that are not confirmed, or not routed where that counts.
    pub missing: usize,
    /// Its copy was taken.
    pub copied: bool,
    /// Another delivery of its message was done.
    pub skipped: bool,
    /// A verdict was lost or came too late, or the way to the copy's place is not there.
    pub trouble: bool,
    /// The handler gave it back, and that is not counted.
    pub given_back: bool,
    /// It failed for the last time, and the broker is to dead-letter it.
    pub rejected: bool,
}

impl Claim {
    fn may_be_acked(&self) -> bool {
        self.copied || self.skipped || self.is_done()
    }

    fn is_done(&self) -> bool {
        self.acks && self.missing == 0
    }
}

/// Where a copy goes.
#[derive(Debug)]
pub enum Place {
    Ladder(Box<Message>),
    Dead(usize),
}

/// A publication that is on its way.
#[derive(Debug)]
pub struct Sent {
    pub role: Role,
    pub charged: bool,
    pub place: Option<Place>,
    /// What the broker is going to say.
    pub verdict: Verdict,
    /// Whether its return has been sent.
    pub returned: bool,
}

/// What a worker sends on a consuming channel.
#[derive(Debug, Clone, Copy)]
pub enum Frame {
    Ack { multiple: bool },
    Requeue,
    Reject,
}

#[derive(Debug, Default)]
pub struct Queue {
    pub ready: VecDeque<Message>,
    pub unsettled: BTreeMap<u64, Unsettled>,
    last_tag: u64,
    /// Frames that have not arrived yet. They are gone with the channel.
    wire: VecDeque<(u64, Frame)>,
}

/// Which ids were done, as the model saw it.
#[derive(Debug, Default)]
pub struct Dedupe {
    ever: HashSet<Id>,
    /// Since the host began.
    by_this_host: HashSet<Id>,
    /// The messages themselves, whose acks may have been lost.
    messages: HashSet<usize>,
    skipped: u64,
    after_a_lost_ack: u64,
    again: u64,
}

impl Dedupe {
    /// How often which of it happened.
    pub fn counts(&self) -> [(&'static str, u64); 3] {
        [
            ("skipped", self.skipped),
            ("skipped after a lost ack", self.after_a_lost_ack),
            ("done again by the next host", self.again),
        ]
    }
}

#[derive(Debug, Default)]
pub struct Broker {
    pub queues: Vec<Queue>,
    pub ladder: Vec<Message>,
    pub dead: Vec<usize>,
    pub done: Vec<usize>,
    pub sent: BTreeMap<u64, Sent>,
    /// Returns that wait in the library, and confirms that have completed.
    pub returns: VecDeque<u64>,
    pub completed: Vec<Confirm>,
    /// By message: copies that were taken although their delivery came back.
    pub extra: Vec<usize>,
    pub dedupe: Dedupe,
}

impl Broker {
    /// Delivers the message at the front of a queue.
    pub fn deliver(&mut self, queue: usize) -> Option<(u64, Delivery)> {
        let queue = &mut self.queues[queue];
        let message = queue.ready.pop_front()?;
        queue.last_tag += 1;
        let mut delivery = message.delivery.clone();
        copy::restore(&mut delivery);
        queue.unsettled.insert(queue.last_tag, Unsettled { message, in_place: 0, claim: Claim::default() });
        Some((queue.last_tag, delivery))
    }

    pub fn unsettled(&mut self, key: Key) -> Option<&mut Unsettled> {
        self.queues[key.queue].unsettled.get_mut(&key.tag)
    }

    /// The claim of a delivery in that try.
    pub fn claim(&mut self, key: Key, round: u32) -> Option<&mut Claim> {
        self.unsettled(key).map(|unsettled| &mut unsettled.claim).filter(|claim| claim.round == round)
    }

    /// A new try of a delivery begins.
    pub fn begin(&mut self, key: Key, round: u32) {
        let unsettled = self.unsettled(key).unwrap();
        let copied = std::mem::replace(&mut unsettled.claim, Claim { round, ..Claim::default() });
        let id = unsettled.message.id();
        self.forget(id, &copied);
    }

    /// A delivery with this id goes to its handler.
    pub fn handle(&mut self, key: Key, id: Id) {
        assert!(!self.dedupe.by_this_host.contains(&id), "{key:?} is handled, and its message was done");
        self.dedupe.again += u64::from(self.dedupe.ever.contains(&id));
    }

    /// A worker notes that the message of a delivery is done.
    pub fn done(&mut self, key: Key, id: Id) {
        let unsettled = self.unsettled(key).unwrap();
        assert!(unsettled.claim.is_done(), "{key:?} is noted as done: {:?}", unsettled.claim);
        let message = unsettled.message.id();
        self.dedupe.messages.insert(message);
        self.dedupe.ever.insert(id);
        self.dedupe.by_this_host.insert(id);
    }

    /// A worker does without handling a delivery, for its message was done.
    pub fn skip(&mut self, key: Key, id: Id) {
        assert!(self.dedupe.ever.contains(&id), "{key:?} is skipped, and its message was never done");
        let unsettled = self.unsettled(key).unwrap();
        unsettled.claim.skipped = true;
        let message = unsettled.message.id();
        self.dedupe.skipped += 1;
        self.dedupe.after_a_lost_ack += u64::from(self.dedupe.messages.contains(&message));
    }

    /// The host is another one: of what was done it may know less.
    pub fn host_ended(&mut self) {
        self.dedupe.by_this_host.clear();
    }

    pub fn send(&mut self, key: Key, frame: Frame) {
        self.queues[key.queue].wire.push_back((key.tag, frame));
    }

    /// The next frame of a channel arrives.
    pub fn receive(&mut self, queue: usize) -> bool {
        let Some((tag, frame)) = self.queues[queue].wire.pop_front() else { return false };
        let unsettled = &mut self.queues[queue].unsettled;
        assert!(unsettled.contains_key(&tag), "{frame:?} for tag {tag} of queue {queue}, which is settled or unknown");
        match frame {
            Frame::Ack { multiple } => {
                let behind = unsettled.split_off(&(tag + 1));
                let mut acked = std::mem::replace(unsettled, behind);
                if !multiple {
                    let this = acked.split_off(&tag);
                    unsettled.append(&mut acked);
                    acked = this;
                }
                for (covered, Unsettled { message, claim, .. }) in acked {
                    assert!(claim.may_be_acked(), "an ack up to {tag} covers {covered}: {claim:?}");
                    if !claim.copied {
                        self.done.push(message.id());
                    }
                }
            }
            Frame::Requeue => {
                let Unsettled { mut message, claim, .. } = unsettled.remove(&tag).unwrap();
                let why = claim.trouble || (claim.given_back && claim.missing == 0);
                assert!(why, "{tag} is given back for no reason: {claim:?}");
                message.delivery.redelivered = true;
                self.forget(message.id(), &claim);
                self.queues[queue].ready.push_front(message);
            }
            Frame::Reject => {
                let Unsettled { message, claim, .. } = unsettled.remove(&tag).unwrap();
                assert!(claim.rejected, "{tag} is rejected: {claim:?}");
                self.dead.push(message.id());
            }
        }
        true
    }

    /// Decides over a publication, without telling anybody.
    fn decide(&mut self, sent: Sent) {
        let (Role::Publication(key, round) | Role::Copy(key, round)) = sent.role;
        let confirmed = sent.verdict == Verdict::Confirmed;
        let Some(place) = sent.place else {
            if (confirmed || (sent.verdict == Verdict::Returned && !sent.charged))
                && let Some(claim) = self.claim(key, round)
            {
                claim.missing -= 1;
            }
            return;
        };
        if !confirmed {
            return;
        }
        let id = match place {
            Place::Ladder(message) => {
                let id = message.id();
                self.ladder.push(*message);
                id
            }
            Place::Dead(id) => {
                self.dead.push(id);
                id
            }
        };
        // Tags of another channel are gone with it, so a delivery that has this one now is another.
        match self.claim(key, round) {
            Some(claim) => claim.copied = true,
            None => self.extra[id] += 1,
        }
    }

    /// The broker's word on a publication.
    pub fn confirm(&mut self, publication: u64) {
        let sent = self.sent.remove(&publication).unwrap();
        if sent.verdict == Verdict::Returned && !sent.returned {
            self.returns.push_back(publication);
        }
        let taken = sent.verdict != Verdict::Nacked;
        self.decide(sent);
        self.completed.push(Confirm { id: publication, taken, carried: self.returns.pop_front() });
    }

    /// The publishing channel ends: some of what was on its way has arrived.
    pub fn end_publishing(&mut self, random: &mut Random) -> Vec<u64> {
        let mut dropped = Vec::new();
        for (publication, sent) in std::mem::take(&mut self.sent) {
            if random.below(2) == 0 {
                self.decide(sent);
            } else {
                dropped.push(publication);
            }
        }
        self.returns.clear();
        self.completed.clear();
        dropped
    }

    /// Both connections end: what is unsettled comes back to the front of its queue.
    pub fn end(&mut self, random: &mut Random) {
        for queue in 0..self.queues.len() {
            // What was in the socket may have arrived still.
            while random.below(2) == 0 && self.receive(queue) {}
            self.queues[queue].wire.clear();
            self.queues[queue].last_tag = 0;
            let unsettled = std::mem::take(&mut self.queues[queue].unsettled);
            for Unsettled { mut message, claim, .. } in unsettled.into_values().rev() {
                self.forget(message.id(), &claim);
                message.delivery.redelivered = true;
                self.queues[queue].ready.push_front(message);
            }
        }
        // No delivery is there any more that these could be for.
        for (_, sent) in std::mem::take(&mut self.sent) {
            if random.below(2) == 0 {
                self.decide(sent);
            }
        }
        self.returns.clear();
        self.completed.clear();
    }

    /// A delivery comes back although its copy was taken.
    fn forget(&mut self, id: usize, claim: &Claim) {
        if claim.copied {
            assert!(claim.trouble || claim.may_be_acked(), "{claim:?}");
            self.extra[id] += 1;
        }
    }

    /// Every message is in one place, and once more for each copy that was taken although its delivery came back.
    pub fn check_places(&self) {
        let mut places = vec![0; self.extra.len()];
        for queue in &self.queues {
            queue.ready.iter().for_each(|message| places[message.id()] += 1);
            let unsettled = queue.unsettled.values().filter(|unsettled| !unsettled.claim.copied);
            unsettled.for_each(|unsettled| places[unsettled.message.id()] += 1);
        }
        self.ladder.iter().for_each(|message| places[message.id()] += 1);
        self.dead.iter().chain(&self.done).for_each(|id| places[*id] += 1);
        for (id, (places, extra)) in places.iter().zip(&self.extra).enumerate() {
            assert_eq!(*places, 1 + extra, "places of message {id}");
        }
    }

    /// Whether nothing is left that could still move.
    pub fn is_quiet(&self) -> bool {
        self.ladder.is_empty()
            && self.sent.is_empty()
            && self.completed.is_empty()
            && self
                .queues
                .iter()
                .all(|queue| queue.ready.is_empty() && queue.unsettled.is_empty() && queue.wire.is_empty())
    }
}
