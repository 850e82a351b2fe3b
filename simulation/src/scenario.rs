//! What is done in a trial: everything in it is chosen by its seed.

use std::time::Duration;

use fastrand::Rng;
use lapin::Fault;
use serde_json::json;

/// Frames of a trial in which faults happen, at most.
const STEPS_MAX: u64 = 1_500;
/// Outputs of an input, at most.
const OUTPUTS_MAX: i32 = 4;

/// What an input asks its handler for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing but an ack.
    Ack,
    /// So many outputs.
    Publish(usize),
    /// The same through the exchange of the worker.
    Route(usize),
    /// Another try at first, then one output.
    Retry,
    /// Back at once at first, then one output.
    Requeue,
    /// An error at first, then one output.
    Stumble,
    /// An error each time.
    Error,
    /// A dead letter.
    DeadLetter,
    /// An output that no queue takes.
    Unroutable,
}

impl Command {
    fn any(rng: &mut Rng) -> Self {
        match rng.u8(..16) {
            0..=2 => Self::Ack,
            3..=6 => Self::Publish(rng.usize(1..=OUTPUTS_MAX as usize)),
            7..=8 => Self::Route(rng.usize(1..=3)),
            9..=10 => Self::Retry,
            11 => Self::Requeue,
            12 => Self::Stumble,
            13 => Self::Error,
            14 => Self::DeadLetter,
            _ => Self::Unroutable,
        }
    }

    /// How many outputs it ends with; none where it ends as a dead letter.
    pub fn outputs(self) -> Option<usize> {
        match self {
            Self::Ack => Some(0),
            Self::Publish(count) | Self::Route(count) => Some(count),
            Self::Retry | Self::Requeue | Self::Stumble => Some(1),
            Self::Error | Self::DeadLetter | Self::Unroutable => None,
        }
    }

    /// As the handler reads it. Each output says of which input it is, and which of its outputs.
    pub fn text(self, id: usize) -> String {
        let publish = |to: &str, count: usize| {
            let output = |n| json!({"to": to, "body": format!("{id}/{n}"), "properties": {"persistent": true}});
            json!({"do": "publish", "publications": (0..count).map(output).collect::<Vec<_>>()})
        };
        let command = match self {
            Self::Ack => json!({"do": "ack"}),
            Self::Publish(count) => publish("/out", count),
            Self::Route(count) => publish("ex/out", count),
            Self::Retry => json!([{"do": "retry", "ms": 100}, publish("/out", 1)]),
            Self::Requeue => json!([{"do": "requeue"}, publish("/out", 1)]),
            Self::Stumble => json!([{"do": "error", "text": "not yet"}, publish("/out", 1)]),
            Self::Error => json!({"do": "error", "text": "no"}),
            Self::DeadLetter => json!({"do": "dead-letter", "reason": "no"}),
            Self::Unroutable => publish("/nobody", 1),
        };
        command.to_string()
    }
}

/// What somebody does to the files, or at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another version of the plugin.
    Plugin,
    /// Another prefetch.
    Manifest,
    /// The host is stopped in order, and started again.
    Restart,
    /// The outputs are bound to the worker's exchange no more, for this long.
    Unbind(Duration),
    /// The worker's exchange is deleted, and there again after this long.
    DeleteExchange(Duration),
    /// The dead letters are taken out, and their queue is deleted.
    DeleteDeadLetters,
}

impl Change {
    fn any(rng: &mut Rng) -> Self {
        let time = Duration::from_millis(rng.u64(1..=3_000));
        match rng.u8(..6) {
            0 => Self::Plugin,
            1 => Self::Manifest,
            2 => Self::Restart,
            3 => Self::Unbind(time),
            4 => Self::DeleteExchange(time),
            _ => Self::DeleteDeadLetters,
        }
    }
}

/// See the top of the file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it all comes from.
    pub seed: u64,
    /// Whether the queue is a quorum queue.
    pub quorum: bool,
    /// Whether deliveries are handled strictly one by one.
    pub ordered: bool,
    /// Unsettled deliveries.
    pub prefetch: u16,
    /// Deliveries handled at once.
    pub concurrency: u16,
    /// Tries of a delivery.
    pub attempts: u32,
    /// Whether instances are kept.
    pub reuse: bool,
    /// Whether there is a breaker.
    pub breaker: bool,
    /// What is published, and how long after the one before.
    pub inputs: Vec<(Duration, Command)>,
    /// What happens to connections, by the number of the frame.
    pub faults: Vec<(u64, Fault)>,
    /// What is changed before which input.
    pub changes: Vec<(usize, Change)>,
    /// How many outputs have room in their queue, which refuses the others, and is emptied now and then.
    pub room: Option<i32>,
}

impl Scenario {
    /// The one of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut inputs: Vec<_> = (0..rng.usize(1..=24))
            .map(|_| {
                let pause = if rng.u8(..3) == 0 { rng.u64(..=400) } else { 0 };
                (Duration::from_millis(pause), Command::any(&mut rng))
            })
            .collect();
        // Some go without any, for what is repeated there is repeated by mistake.
        let faults = if rng.u8(..4) == 0 { 0 } else { rng.usize(1..=4) };
        let mut faults: Vec<_> = (0..faults).map(|_| (rng.u64(..STEPS_MAX), fault(&mut rng))).collect();
        faults.sort_by_key(|(step, _)| *step);
        let changes = if rng.bool() { rng.usize(1..=3) } else { 0 };
        let mut changes: Vec<_> = (0..changes).map(|_| (rng.usize(..inputs.len()), Change::any(&mut rng))).collect();
        changes.sort_by_key(|(input, _)| *input);
        let (prefetch, breaker) = (rng.u16(1..=20), rng.u8(..4) == 0);
        if breaker {
            // Where all that is left fails, it is right to go on trying for as long as the service may be down.
            for (_, command) in &mut inputs {
                if matches!(command, Command::Error | Command::Unroutable) {
                    *command = Command::Stumble;
                }
            }
        }
        Self {
            seed,
            quorum: rng.bool(),
            ordered: rng.u8(..4) == 0,
            prefetch,
            concurrency: rng.u16(1..=prefetch.min(8)),
            attempts: rng.u32(2..=4),
            reuse: rng.u8(..4) == 0,
            breaker,
            inputs,
            faults,
            changes,
            // With a breaker, what never fits would be tried for as long.
            room: (rng.u8(..6) == 0).then(|| rng.i32(if breaker { OUTPUTS_MAX } else { 1 }..=6)),
        }
    }

    /// Whether the broker may refuse or return outputs that it would take at other times.
    pub fn is_troubled(&self) -> bool {
        let troubles = |change: &Change| matches!(change, Change::Unbind(_) | Change::DeleteExchange(_));
        self.room.is_some() || self.changes.iter().any(|(_, change)| troubles(change))
    }

    /// Whether a plugin or a manifest is changed for another.
    pub fn changes_files(&self) -> bool {
        self.changes.iter().any(|(_, change)| matches!(change, Change::Plugin | Change::Manifest))
    }

    /// The most deliveries that may be unsettled at any time. A worker that is consumed anew begins before the old one
    /// ends.
    pub fn unacked_max(&self) -> usize {
        let is_anew = self.changes.iter().any(|(_, change)| *change == Change::Manifest);
        if is_anew { 2 * usize::from(self.prefetch) + 1 } else { self.prefetch.into() }
    }

    /// The manifest, with this prefetch.
    pub fn manifest(&self, prefetch: u16) -> String {
        let Self { quorum, ordered, concurrency, attempts, reuse, breaker, .. } = self;
        let order = if *ordered { "order = \"queue\"\n".to_owned() } else { format!("concurrency = {concurrency}\n") };
        let quorum = if *quorum { "quorum = true\n" } else { "" };
        let breaker = if *breaker { "[breaker]\nwindow = 10\npause = \"2s\"\n" } else { "" };
        let reuse = if *reuse { "[instance]\nreuse = true\nmax-deliveries = 5\n" } else { "" };
        format!(
            "plugin = \"probe.wasm\"\n[[exchange]]\nname = \"ex\"\ntype = \"direct\"\n[[queue]]\nname = \"work\"\n{quorum}\
             [consume]\nprefetch = {prefetch}\n{order}[failure]\nattempts = {attempts}\n\
             backoff = {{ first = \"100ms\", factor = 2, max = \"1s\" }}\n{breaker}{reuse}\
             [grant]\npublish = [\"/out\", \"/nobody\", \"ex/out\"]\n"
        )
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let time = |rng: &mut Rng| Duration::from_millis(rng.u64(1..=15_000));
    match rng.u8(..8) {
        0..=4 => Fault::Cut,
        5 => Fault::Down(time(rng)),
        6 => Fault::Freeze(time(rng)),
        _ => Fault::Block(time(rng)),
    }
}
