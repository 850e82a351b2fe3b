//! A case: one fault and the seed of all else. Its text repeats it.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use super::frames::{Direction, Kind};
use super::ledger::Command;
use super::proxy::{Action, Armed, At};

/// What goes wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Something on the wire, at the Nth frame of that name.
    Wire { action: Action, direction: Direction, frame: String, at: At, nth: u32 },
    /// Something else, at so many milliseconds.
    Other { name: String, after_ms: u64 },
    /// The host, built with switches, dies the Nth time that it comes to a point.
    Die { point: String, nth: u32 },
}

/// A fault, and the seed of what else happens in its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What goes wrong.
    pub fault: Fault,
    /// Decides on inputs and moments.
    pub seed: u64,
}

/// Frames that go by while messages are worked on, each with how many of them are sure to come.
const LOAD: &[(Direction, &str, u32)] = &[
    (Direction::Up, "basic.publish", 30),
    (Direction::Up, "header", 30),
    (Direction::Up, "body", 30),
    (Direction::Up, "basic.ack", 6),
    (Direction::Up, "basic.nack", 1),
    (Direction::Up, "heartbeat", 1),
    (Direction::Down, "basic.deliver", 30),
    (Direction::Down, "header", 30),
    (Direction::Down, "body", 30),
    (Direction::Down, "basic.ack", 6),
    (Direction::Down, "basic.nack", 1),
    (Direction::Down, "basic.return", 2),
    (Direction::Down, "heartbeat", 1),
];

/// Frames that go by while the host connects.
const START: &[(Direction, &str, u32)] = &[
    (Direction::Down, "connection.start", 2),
    (Direction::Up, "connection.start-ok", 2),
    (Direction::Down, "connection.tune", 2),
    (Direction::Up, "connection.tune-ok", 2),
    (Direction::Up, "connection.open", 2),
    (Direction::Down, "connection.open-ok", 2),
    (Direction::Up, "channel.open", 4),
    (Direction::Down, "channel.open-ok", 4),
    (Direction::Up, "exchange.declare", 1),
    (Direction::Down, "exchange.declare-ok", 1),
    (Direction::Up, "queue.declare", 4),
    (Direction::Down, "queue.declare-ok", 4),
    (Direction::Up, "queue.bind", 1),
    (Direction::Down, "queue.bind-ok", 1),
    (Direction::Up, "confirm.select", 2),
    (Direction::Down, "confirm.select-ok", 2),
    (Direction::Up, "basic.qos", 2),
    (Direction::Down, "basic.qos-ok", 2),
    (Direction::Up, "basic.consume", 2),
    (Direction::Down, "basic.consume-ok", 2),
];

const ACTIONS: &[(&str, Action, u32)] = &[
    ("cut", Action::Cut, 60),
    ("reset", Action::Reset, 14),
    ("half-open", Action::HalfOpen, 3),
    ("delay", Action::Delay, 7),
    ("drip", Action::Drip, 7),
];

const PLACES: &[(&str, At)] = &[("first", At::First), ("middle", At::Middle), ("last", At::Last)];

/// The other faults, with their weights among a thousand faults of all kinds.
const OTHERS: &[(&str, u32)] = &[
    ("none", 10),
    ("host-kill", 40),
    ("host-drain", 25),
    ("host-freeze", 5),
    ("broker-term", 3),
    ("broker-kill", 5),
    ("broker-freeze", 4),
    ("memory-alarm", 5),
    ("long-alarm", 2),
    ("queue-deleted", 5),
    ("queue-differs", 4),
    ("exchange-deleted", 8),
    ("unbound", 8),
    ("rights-revoked", 4),
    ("full", 8),
    ("undecodable", 2),
    ("letters-deleted", 6),
];

/// The points at which the host with switches can die, and how often it comes there in a run, at least.
const POINTS: &[(&str, u32)] = &[
    ("received", 30),
    ("handled", 30),
    ("published", 20),
    ("confirmed", 20),
    ("copied", 2),
    ("copy-confirmed", 2),
    ("done", 20),
    ("acked", 3),
    ("held", 1),
    ("nacked", 1),
    ("draining", 1),
];

/// The weight of these together, among a thousand.
const DIE_WEIGHT: u32 = 40;

impl Case {
    /// So many cases, each kind of fault among them as often as the number allows, in an order of the seed.
    pub fn many(count: usize, seed: u64) -> Vec<Case> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut faults = Fault::one_of_each(&mut random);
        random.shuffle(&mut faults);
        // With few, one of each name goes first.
        let mut names = BTreeSet::new();
        faults.sort_by_cached_key(|fault| !names.insert(fault.label()));
        faults.truncate(count);
        while faults.len() < count {
            faults.push(Fault::weighted(&mut random));
        }
        random.shuffle(&mut faults);
        faults.into_iter().map(|fault| Case { fault, seed: random.u64(..1 << 32) }).collect()
    }

    /// Whether it needs a broker of its own.
    pub fn is_private(&self) -> bool {
        matches!(&self.fault, Fault::Other { name, .. }
            if name.starts_with("broker") || name.ends_with("alarm") || name == "rights-revoked")
    }

    /// Whether it gives messages a reason to fail that would not fail otherwise.
    pub fn charges(&self) -> bool {
        matches!(&self.fault, Fault::Other { name, .. } if name == "exchange-deleted" || name == "unbound")
    }

    /// Whether the inputs come all at once.
    pub fn bursts(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// The inputs of its run: for the queue without an order, or with their key and place.
    pub fn inputs(&self) -> Vec<(Command, Option<(String, u64)>)> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let count = random.usize(40..=70);
        let mut inputs: Vec<_> = (0..count).map(|_| (plain(&mut random), None)).collect();
        let extra = match &self.fault {
            Fault::Wire { frame, .. } if frame == "basic.return" => Some(Command::Unroutable),
            Fault::Wire { frame, .. } if frame == "basic.nack" => Some(Command::Full),
            Fault::Other { name, .. } if name == "full" => Some(Command::Full),
            _ => Some(Command::LargeHeaders).filter(|_| random.u32(..4) == 0),
        };
        if let Some(command) = extra {
            inputs.extend((0..5).map(|_| (command, None)));
        }
        // Every kind is among them, so that every frame and point is come to.
        let sure = [Command::Retry, Command::Error, Command::DeadLetter, Command::Requeue, Command::Route(1)];
        inputs.extend(sure.iter().chain(&sure).map(|command| (*command, None)));
        random.shuffle(&mut inputs);
        for number in 0..random.u64(12..=20) {
            let key = *random.choice(["ada", "bob", "cy"].iter()).unwrap_or(&"ada");
            let command = match random.u32(..8) {
                _ if number == 0 => Command::Stumble,
                0 => Command::Slow(random.u64(..30)),
                1 => Command::Stumble,
                _ => Command::Publish(1),
            };
            inputs.insert(random.usize(..=inputs.len()), (command, Some((key.to_owned(), number))));
        }
        // Places within a key are those in which they are published.
        for (place, (_, order)) in (0_u64..).zip(&mut inputs) {
            if let Some((_, number)) = order {
                *number = place;
            }
        }
        inputs
    }
}

fn plain(random: &mut fastrand::Rng) -> Command {
    match random.u32(..100) {
        0..15 => Command::Ack,
        15..45 => Command::Publish(1),
        45..60 => Command::Publish(3),
        60..75 => Command::Route(random.usize(1..=2)),
        75..81 => Command::Retry,
        81..84 => Command::Requeue,
        84..88 => Command::Error,
        88..93 => Command::DeadLetter,
        93..95 => Command::Stumble,
        _ => Command::Slow(random.u64(..40)),
    }
}

impl Fault {
    /// Every fault once; cuts at every byte of every frame.
    fn one_of_each(random: &mut fastrand::Rng) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (direction, frame, most) in LOAD.iter().chain(START) {
            for (_, at) in PLACES {
                faults.push(Fault::wire(Action::Cut, *direction, frame, *at, random.u32(1..=*most)));
            }
        }
        for (_, action, weight) in ACTIONS.iter().filter(|(_, action, _)| *action != Action::Cut) {
            for _ in 0..(*weight).min(4) {
                faults.push(Fault::on_the_wire(*action, random));
            }
        }
        faults.extend(OTHERS.iter().map(|(name, _)| Fault::other(name, random)));
        faults.extend(
            POINTS.iter().map(|(point, most)| Fault::Die { point: (*point).into(), nth: random.u32(1..=*most) }),
        );
        faults
    }

    /// One of all, by their weights.
    fn weighted(random: &mut fastrand::Rng) -> Fault {
        let mut left = random.u32(..1_000);
        for (name, weight) in OTHERS {
            if left < *weight {
                return Fault::other(name, random);
            }
            left -= weight;
        }
        if left < DIE_WEIGHT {
            let (point, most) = random.choice(POINTS).copied().unwrap_or(POINTS[0]);
            return Fault::Die { point: point.into(), nth: random.u32(1..=most) };
        }
        let mut left = random.u32(..ACTIONS.iter().map(|(.., weight)| *weight).sum::<u32>());
        let mut action = Action::Cut;
        for (_, candidate, weight) in ACTIONS {
            if left < *weight {
                action = *candidate;
                break;
            }
            left -= weight;
        }
        Fault::on_the_wire(action, random)
    }

    fn on_the_wire(action: Action, random: &mut fastrand::Rng) -> Fault {
        // Twice in three times while there is work.
        let frames = if random.u32(..3) < 2 { LOAD } else { START };
        let (direction, frame, most) = random.choice(frames).copied().unwrap_or(LOAD[0]);
        let (_, at) = random.choice(PLACES).copied().unwrap_or(PLACES[0]);
        Fault::wire(action, direction, frame, at, random.u32(1..=most))
    }

    fn wire(action: Action, direction: Direction, frame: &str, at: At, nth: u32) -> Fault {
        Fault::Wire { action, direction, frame: frame.to_owned(), at, nth }
    }

    fn other(name: &str, random: &mut fastrand::Rng) -> Fault {
        Fault::Other { name: name.to_owned(), after_ms: random.u64(..150) }
    }

    /// What the proxy is armed with.
    pub fn armed(&self) -> Option<Armed> {
        let Fault::Wire { action, direction, frame, at, nth } = self else { return None };
        Some(Armed { action: *action, direction: *direction, kind: Kind::named(frame)?, at: *at, nth: *nth })
    }

    /// Whether its frame only comes while the host connects.
    pub fn at_start(&self) -> bool {
        matches!(self, Fault::Wire { frame, .. } if START.iter().any(|(_, name, _)| name == frame))
    }

    /// The row of the report that it counts in.
    pub fn label(&self) -> String {
        match self {
            Fault::Wire { action: Action::Cut, direction, frame, .. } => {
                format!("cut at `{frame}` from the {}", if *direction == Direction::Up { "host" } else { "broker" })
            }
            Fault::Wire { action, .. } => named(ACTIONS.iter().map(|(name, action, _)| (*name, *action)), *action),
            Fault::Other { name, .. } => name.clone(),
            Fault::Die { point, .. } => format!("host killed at `{point}`"),
        }
    }
}

/// The name of a value in one of the tables.
fn named<T: PartialEq>(mut names: impl Iterator<Item = (&'static str, T)>, value: T) -> String {
    names.find(|(_, known)| *known == value).map_or_else(String::new, |(name, _)| name.to_owned())
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Wire { action, direction, frame, at, nth } => {
                let action = named(ACTIONS.iter().map(|(name, action, _)| (*name, *action)), *action);
                let direction = if *direction == Direction::Up { "up" } else { "down" };
                let at = named(PLACES.iter().copied(), *at);
                write!(f, "{action}:{direction}:{frame}:{at}:{nth}")?;
            }
            Fault::Other { name, after_ms } => write!(f, "{name}:{after_ms}")?,
            Fault::Die { point, nth } => write!(f, "die:{point}:{nth}")?,
        }
        write!(f, "@{}", self.seed)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Case, String> {
        let wrong = || format!("`{text}` is no case");
        let (fault, seed) = text.split_once('@').ok_or_else(wrong)?;
        let seed = seed.parse().map_err(|_| wrong())?;
        let parts: Vec<&str> = fault.split(':').collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let small = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let fault = match &*parts {
            ["die", point, nth] => Fault::Die { point: (*point).to_owned(), nth: small(nth)? },
            [name, after] if OTHERS.iter().any(|(known, _)| known == name) => {
                Fault::Other { name: (*name).to_owned(), after_ms: number(after)? }
            }
            [action, direction, frame, at, nth] => {
                let (_, action, _) = ACTIONS.iter().find(|(name, ..)| name == action).ok_or_else(wrong)?;
                let (_, at) = PLACES.iter().find(|(name, _)| name == at).ok_or_else(wrong)?;
                Kind::named(frame).ok_or_else(wrong)?;
                let direction = match *direction {
                    "up" => Direction::Up,
                    "down" => Direction::Down,
                    _ => return Err(wrong()),
                };
                Fault::wire(*action, direction, frame, *at, small(nth)?)
            }
            _ => return Err(wrong()),
        };
        Ok(Case { fault, seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_repeated_by_its_text() {
        let cases = Case::many(1_000, 7);
        assert_eq!(cases.len(), 1_000);
        for case in &cases {
            assert_eq!(case.to_string().parse().as_ref(), Ok(case));
            if let Fault::Wire { .. } = case.fault {
                assert!(case.fault.armed().is_some(), "{case}");
            }
        }
        assert_eq!(cases, Case::many(1_000, 7));
        assert_ne!(cases, Case::many(1_000, 8));
        assert_eq!(cases[3].inputs(), cases[3].inputs());
        for wrong in ["", "cut", "cut:up:basic.publish:first:1", "cut:up:basic.hay:first:1@1", "hay:1@1"] {
            assert!(wrong.parse::<Case>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_fault_is_in_a_sample() {
        let labels: BTreeSet<String> = Case::many(300, 1).iter().map(|case| case.fault.label()).collect();
        let all = Fault::one_of_each(&mut fastrand::Rng::with_seed(1));
        assert!(all.len() < 300, "{}", all.len());
        assert_eq!(labels, all.iter().map(Fault::label).collect());
    }
}
