//! Watches every frame between host and broker, and notices an ack that comes too early, a settlement of what is not
//! there, a delivery that comes again for no reason, and a consumer that holds more than it may.
//!
//! A frame is shown to it right before it is forwarded. So what it knows of the broker's confirms is never behind what
//! the host knows, and what it counts as held is never more than what the broker counts: no right host is accused.

use std::collections::{BTreeMap, HashMap};

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection};

use super::frames::{Direction, Frame};
use super::violation::{Rule, Violation};

/// A connection through the proxy; they are numbered over the life of the proxy.
pub type ConnectionId = u64;
type ChannelKey = (ConnectionId, u16);

/// What there is to know about an input on the wire.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// How often it reached the host, copies for another try included.
    pub deliveries: u32,
    /// How often the host acked it.
    pub acks: u32,
    /// How often a delivery of it went back to the broker: nacked, or its channel ended. The ack of a channel that ended
    /// may have been lost on its way.
    returned: u32,
    /// Deliveries that the host holds now.
    held: u32,
    publications: Vec<Publication>,
}

#[derive(Debug, Clone)]
struct Publication {
    /// When it was sent, by the number of its frame.
    at: u64,
    what: What,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// An output of the handler, and which.
    Output(usize),
    /// The message itself, for another try or as a dead letter.
    Copy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Pending,
    Confirmed,
    /// Returned or refused.
    Failed,
    /// Its channel ended first.
    Never,
}

#[derive(Debug, Default)]
struct Channel {
    /// From `basic.qos`.
    prefetch: u16,
    unsettled: BTreeMap<u64, Delivery>,
    /// What was acked on it: the acks may still be on their way when it ends.
    acked: Vec<String>,
    confirms: bool,
    published: u64,
    pending: BTreeMap<u64, Pending>,
    up: Option<Content>,
    down: Option<Content>,
}

#[derive(Debug)]
struct Delivery {
    id: Option<String>,
    at: u64,
}

/// A publication without a verdict: whose it is, and where it stands there.
#[derive(Debug)]
struct Pending {
    of: Option<(String, usize)>,
    returned: bool,
}

/// A method with content, of which not all has come.
#[derive(Debug)]
struct Content {
    method: Method,
    message_id: Option<String>,
    missing: u64,
    body: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Method {
    Deliver { tag: u64, redelivered: bool },
    Publish { number: u64, at: u64 },
    Return,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Observer {
    frames: u64,
    channels: HashMap<ChannelKey, Channel>,
    /// How many outputs each input has to have before it may be acked; none where it may be acked for a copy alone.
    expected: HashMap<String, Option<usize>>,
    seen: HashMap<String, Seen>,
    nacks: u64,
    violations: Vec<Violation>,
}

impl Observer {
    /// Says what an input is to end as, before it is published.
    pub fn expect(&mut self, id: &str, outputs: Option<usize>) {
        self.expected.insert(id.to_owned(), outputs);
    }

    /// What was seen of an input.
    pub fn seen(&self, id: &str) -> Seen {
        self.seen.get(id).cloned().unwrap_or_default()
    }

    /// How many deliveries the host holds.
    pub fn unsettled(&self) -> usize {
        self.channels.values().map(|channel| channel.unsettled.len()).sum()
    }

    /// How often the host put a delivery back, so far.
    pub fn nacks(&self) -> u64 {
        self.nacks
    }

    /// Whether there are violations that nobody asked for yet.
    pub fn has_violations(&self) -> bool {
        !self.violations.is_empty()
    }

    /// The violations since this was asked last.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// A connection has ended, or nothing goes through it any more.
    pub fn closed(&mut self, connection: ConnectionId) {
        let keys: Vec<ChannelKey> = self.channels.keys().filter(|(id, _)| *id == connection).copied().collect();
        for key in keys {
            self.channel_ended(key);
        }
    }

    /// A frame is about to be forwarded.
    pub fn frame(&mut self, connection: ConnectionId, direction: Direction, frame: &Frame) {
        self.frames += 1;
        let Some(frame) = frame.read() else { return };
        let key = (connection, frame.channel_id());
        match frame {
            AMQPFrame::Method(_, AMQPClass::Basic(method)) => self.basic(key, direction, method),
            AMQPFrame::Method(_, AMQPClass::Channel(method)) => match method {
                channel::AMQPMethod::Open(_) => {
                    self.channels.insert(key, Channel::default());
                }
                channel::AMQPMethod::Close(_) => self.channel_ended(key),
                _ => {}
            },
            AMQPFrame::Method(_, AMQPClass::Connection(connection::AMQPMethod::Close(_))) => self.closed(connection),
            AMQPFrame::Method(_, AMQPClass::Confirm(confirm::AMQPMethod::Select(_))) => {
                if let Some(channel) = self.channels.get_mut(&key) {
                    channel.confirms = true;
                }
            }
            AMQPFrame::Header(_, header) => {
                let message_id = header.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
                if let Some(content) = self.content(key, direction) {
                    content.message_id = message_id;
                    content.missing = header.body_size;
                }
                self.complete(key, direction);
            }
            AMQPFrame::Body(_, bytes) => {
                if let Some(content) = self.content(key, direction) {
                    content.missing = content.missing.saturating_sub(bytes.len() as u64);
                    content.body.extend(bytes);
                }
                self.complete(key, direction);
            }
            _ => {}
        }
    }

    fn basic(&mut self, key: ChannelKey, direction: Direction, method: basic::AMQPMethod) {
        let at = self.frames;
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let content = |method| Some(Content { method, message_id: None, missing: u64::MAX, body: Vec::new() });
        match (direction, method) {
            (Direction::Up, basic::AMQPMethod::Qos(qos)) => channel.prefetch = qos.prefetch_count,
            (Direction::Up, basic::AMQPMethod::Publish(_)) => {
                channel.published += 1;
                let number = channel.published;
                channel.pending.insert(number, Pending { of: None, returned: false });
                channel.up = content(Method::Publish { number, at });
            }
            (Direction::Up, basic::AMQPMethod::Ack(ack)) => self.acked(key, ack.delivery_tag, ack.multiple),
            (Direction::Up, basic::AMQPMethod::Nack(nack)) => self.nacked(key, nack.delivery_tag, nack.multiple),
            (Direction::Up, basic::AMQPMethod::Reject(reject)) => self.nacked(key, reject.delivery_tag, false),
            (Direction::Down, basic::AMQPMethod::Deliver(deliver)) => {
                channel.unsettled.insert(deliver.delivery_tag, Delivery { id: None, at });
                let (held, prefetch) = (channel.unsettled.len(), channel.prefetch);
                channel.down = content(Method::Deliver { tag: deliver.delivery_tag, redelivered: deliver.redelivered });
                if held > usize::from(prefetch) {
                    self.accuse(Rule::Prefetch, format!("{held} held at a prefetch of {prefetch}"));
                }
            }
            (Direction::Down, basic::AMQPMethod::Return(_)) => channel.down = content(Method::Return),
            (Direction::Down, basic::AMQPMethod::Ack(ack)) => {
                self.verdict(key, ack.delivery_tag, ack.multiple, Verdict::Confirmed);
            }
            (Direction::Down, basic::AMQPMethod::Nack(nack)) => {
                self.verdict(key, nack.delivery_tag, nack.multiple, Verdict::Failed);
            }
            _ => {}
        }
    }

    fn content(&mut self, key: ChannelKey, direction: Direction) -> Option<&mut Content> {
        let channel = self.channels.get_mut(&key)?;
        match direction {
            Direction::Up => channel.up.as_mut(),
            Direction::Down => channel.down.as_mut(),
        }
    }

    /// Acts upon a message of which the last piece may have come.
    fn complete(&mut self, key: ChannelKey, direction: Direction) {
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let place = match direction {
            Direction::Up => &mut channel.up,
            Direction::Down => &mut channel.down,
        };
        let Some(content) = place.take_if(|content| content.missing == 0) else { return };
        let known = content.message_id.filter(|id| self.expected.contains_key(id));
        let Some(id) = known else { return };
        let seen = self.seen.entry(id.clone()).or_default();
        let what = match std::str::from_utf8(&content.body).ok().and_then(|body| body.strip_prefix(id.as_str())) {
            Some(rest) => What::Output(rest.trim_start_matches('/').parse().unwrap_or(usize::MAX)),
            None => What::Copy,
        };
        match content.method {
            Method::Deliver { tag, redelivered } => {
                if let Some(delivery) = channel.unsettled.get_mut(&tag) {
                    delivery.id = Some(id.clone());
                }
                seen.deliveries += 1;
                seen.held += 1;
                if redelivered && seen.deliveries > 1 && seen.returned == 0 {
                    self.accuse(Rule::Duplicate, format!("{id} was delivered again, and nothing had happened to it"));
                }
            }
            Method::Publish { number, at } => {
                if let Some(pending) = channel.pending.get_mut(&number) {
                    pending.of = Some((id, seen.publications.len()));
                    let verdict = if channel.confirms { Verdict::Pending } else { Verdict::Never };
                    seen.publications.push(Publication { at, what, verdict });
                }
            }
            Method::Return => {
                let same = |pending: &&mut Pending| {
                    !pending.returned
                        && pending.of.as_ref().is_some_and(|(of, place)| {
                            *of == id && seen.publications.get(*place).is_some_and(|sent| sent.what == what)
                        })
                };
                if let Some(pending) = channel.pending.values_mut().find(same) {
                    pending.returned = true;
                }
            }
        }
    }

    fn verdict(&mut self, key: ChannelKey, tag: u64, multiple: bool, verdict: Verdict) {
        let Some(channel) = self.channels.get_mut(&key) else { return };
        let numbers: Vec<u64> = match multiple {
            true if tag == 0 => channel.pending.keys().copied().collect(),
            true => channel.pending.range(..=tag).map(|(number, _)| *number).collect(),
            false => vec![tag],
        };
        for number in numbers {
            let Some(pending) = channel.pending.remove(&number) else { continue };
            let Some((id, place)) = pending.of else { continue };
            if let Some(sent) = self.seen.get_mut(&id).and_then(|seen| seen.publications.get_mut(place)) {
                sent.verdict = if pending.returned { Verdict::Failed } else { verdict };
            }
        }
    }

    fn settled(&mut self, key: ChannelKey, tag: u64, multiple: bool) -> Vec<Delivery> {
        let Some(channel) = self.channels.get_mut(&key) else { return Vec::new() };
        if multiple {
            let rest = if tag == 0 { BTreeMap::new() } else { channel.unsettled.split_off(&(tag + 1)) };
            let settled = std::mem::replace(&mut channel.unsettled, rest);
            return settled.into_values().collect();
        }
        match channel.unsettled.remove(&tag) {
            Some(delivery) => vec![delivery],
            None => {
                self.accuse(Rule::StrayAck, format!("tag {tag} of channel {key:?} was settled, and is not there"));
                Vec::new()
            }
        }
    }

    fn acked(&mut self, key: ChannelKey, tag: u64, multiple: bool) {
        for delivery in self.settled(key, tag, multiple) {
            let Some(id) = delivery.id else { continue };
            let Some(seen) = self.seen.get_mut(&id) else { continue };
            seen.held -= 1;
            seen.acks += 1;
            if let Some(outputs) = self.expected.get(&id)
                && let Some(missing) = seen.early(delivery.at, *outputs)
            {
                self.accuse(Rule::EarlyAck, format!("{id} was acked, and {missing}"));
            }
            if let Some(channel) = self.channels.get_mut(&key) {
                channel.acked.push(id);
            }
        }
    }

    fn nacked(&mut self, key: ChannelKey, tag: u64, multiple: bool) {
        for delivery in self.settled(key, tag, multiple) {
            self.nacks += 1;
            if let Some(seen) = delivery.id.and_then(|id| self.seen.get_mut(&id)) {
                seen.held -= 1;
                seen.returned += 1;
            }
        }
    }

    fn channel_ended(&mut self, key: ChannelKey) {
        let Some(channel) = self.channels.remove(&key) else { return };
        for id in channel.unsettled.into_values().filter_map(|delivery| delivery.id) {
            if let Some(seen) = self.seen.get_mut(&id) {
                seen.held -= 1;
                seen.returned += 1;
            }
        }
        for id in channel.acked {
            if let Some(seen) = self.seen.get_mut(&id) {
                seen.returned += 1;
            }
        }
        for (id, place) in channel.pending.into_values().filter_map(|pending| pending.of) {
            if let Some(sent) = self.seen.get_mut(&id).and_then(|seen| seen.publications.get_mut(place)) {
                sent.verdict = Verdict::Never;
            }
        }
    }

    fn accuse(&mut self, rule: Rule, what: String) {
        self.violations.push(Violation::of(rule, what));
    }
}

impl Seen {
    /// So many of each, for tests.
    #[cfg(test)]
    pub fn of(deliveries: u32, acks: u32) -> Seen {
        Seen { deliveries, acks, ..Seen::default() }
    }

    /// What is missing for an ack of a delivery that came at `since`, if anything is.
    fn early(&self, since: u64, outputs: Option<usize>) -> Option<String> {
        // Where the host holds the same input twice, nobody can tell which of the two has published what.
        let alone = self.held == 0;
        let of_it = || self.publications.iter().filter(|sent| !alone || sent.at > since);
        if alone && of_it().any(|sent| sent.verdict == Verdict::Pending) {
            return Some("a publication of it has no verdict".to_owned());
        }
        let confirmed = |what| of_it().any(|sent| sent.what == what && sent.verdict == Verdict::Confirmed);
        if confirmed(What::Copy) {
            return None;
        }
        match outputs {
            None => Some("neither a copy for another try nor a dead letter is confirmed".to_owned()),
            Some(outputs) => {
                let missing = (0..outputs).find(|n| !confirmed(What::Output(*n)))?;
                Some(format!("output {missing} of {outputs} is not confirmed"))
            }
        }
    }
}

#[cfg(test)]
#[path = "observer_tests.rs"]
mod tests;
