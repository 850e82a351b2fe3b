//! What was put in, what came out, and whether that is right.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};

use super::observer::Seen;
use super::violation::{Rule, Violation};

/// What an input asks its handler for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Nothing but an ack.
    Ack,
    /// So many outputs, through the default exchange.
    Publish(usize),
    /// The same through the exchange of the worker.
    Route(usize),
    /// Another try at first, then one output.
    Retry,
    /// Back at once at first, then one output.
    Requeue,
    /// An error each time.
    Error,
    /// A dead letter.
    DeadLetter,
    /// An output that no queue takes.
    Unroutable,
    /// An output for a queue that may be full.
    Full,
    /// An output with headers that are larger than a frame.
    LargeHeaders,
    /// Waits, then one output.
    Slow(u64),
    /// An error at first, then one output.
    Stumble,
}

impl Command {
    /// How many outputs it is to end with; none where it can only end as a dead letter.
    pub fn outputs(self) -> Option<usize> {
        match self {
            Command::Ack => Some(0),
            Command::Publish(count) | Command::Route(count) => Some(count),
            Command::Retry | Command::Requeue | Command::Full | Command::Slow(_) | Command::Stumble => Some(1),
            Command::Error | Command::DeadLetter | Command::Unroutable | Command::LargeHeaders => None,
        }
    }

    /// Whether a dead letter is a right end of it, whatever happens around it.
    fn may_fail(self) -> bool {
        self.outputs().is_none() || self == Command::Full
    }

    /// As the probe reads it. Each output carries the input's id as its own, and its body says which output it is.
    pub fn text(self, id: &str) -> String {
        let publish = |to: &str, count: usize| {
            let output = |n| {
                let properties = json!({"message-id": id, "persistent": true});
                json!({"to": to, "body": format!("{id}/{n}"), "properties": properties})
            };
            json!({"do": "publish", "publications": (0..count).map(output).collect::<Vec<_>>()})
        };
        let command = match self {
            Command::Ack => json!({"do": "ack"}),
            Command::Publish(count) => publish("/out", count),
            Command::Route(count) => publish("ex/out", count),
            Command::Retry => json!([{"do": "retry", "ms": 100}, publish("/out", 1)]),
            Command::Requeue => json!([{"do": "requeue"}, publish("/out", 1)]),
            Command::Stumble => json!([{"do": "error", "text": "not yet"}, publish("/out", 1)]),
            Command::Error => json!({"do": "error", "text": "no"}),
            Command::DeadLetter => json!({"do": "dead-letter", "reason": "no"}),
            Command::Unroutable => publish("/nobody", 1),
            Command::Full => publish("/full", 1),
            Command::LargeHeaders => {
                let mut command = publish("/out", 1);
                command["publications"][0]["headers-len"] = Value::from(140_000);
                command
            }
            Command::Slow(ms) => json!({"do": "sleep", "ms": ms, "then": publish("/out", 1)}),
        };
        command.to_string()
    }
}

/// What became of the publication of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Written down, and perhaps on its way.
    Open,
    /// The broker has it.
    Taken,
    /// The broker has it not.
    Refused,
}

#[derive(Debug)]
struct Input {
    command: Command,
    fate: Fate,
    /// Whether it may end nowhere: its queue was deleted with it.
    excused: bool,
    /// Its key and its place among those of the same key, where an order was asked for.
    order: Option<(String, u64)>,
    /// How often each output came.
    outputs: Vec<u32>,
    letters: u32,
}

/// See the top of the file. Kept over all runs of a lane, so that what comes late is known, too.
#[derive(Debug, Default)]
pub struct Ledger {
    inputs: HashMap<String, Input>,
    /// Those of this run.
    run: Vec<String>,
    /// What came since the last check, of any run.
    touched: BTreeSet<String>,
    /// The first output of each input in order, by key.
    came: BTreeMap<String, Vec<(u64, String)>>,
    violations: Vec<Violation>,
}

impl Ledger {
    /// Begins a run.
    pub fn begin(&mut self) {
        self.run.clear();
        self.came.clear();
    }

    /// Writes an input down, before it is published.
    pub fn write(&mut self, id: &str, command: Command, order: Option<(String, u64)>) {
        let outputs = vec![0; command.outputs().unwrap_or(1)];
        let input = Input { command, fate: Fate::Open, excused: false, order, outputs, letters: 0 };
        assert!(self.inputs.insert(id.to_owned(), input).is_none(), "{id} is there twice");
        self.run.push(id.to_owned());
    }

    /// Writes down what the broker said of it.
    pub fn published(&mut self, id: &str, taken: bool) {
        if let Some(input) = self.inputs.get_mut(id) {
            input.fate = if taken { Fate::Taken } else { Fate::Refused };
        }
    }

    /// Those in no order that have not ended may be lost from here on: their queue goes.
    pub fn excuse(&mut self, seen: impl Fn(&str) -> Seen) {
        for id in &self.run {
            if let Some(input) = self.inputs.get_mut(id)
                && input.order.is_none()
                && !input.ended(&seen(id))
            {
                input.excused = true;
            }
        }
    }

    /// An output came.
    pub fn output(&mut self, body: &str) {
        let parts = body.split_once('/').and_then(|(id, n)| Some((id, n.parse::<usize>().ok()?)));
        let place = parts.and_then(|(id, n)| Some((id, self.inputs.get_mut(id)?, n)));
        let Some((id, input, n)) = place else {
            self.violations.push(Violation::of(Rule::Stranger, format!("an output `{body}`")));
            return;
        };
        let Some(count) = input.outputs.get_mut(n) else {
            self.violations.push(Violation::of(Rule::Stranger, format!("an output `{body}` that nobody asked for")));
            return;
        };
        *count += 1;
        self.touched.insert(id.to_owned());
        if *count == 1
            && let Some((key, number)) = &input.order
        {
            self.came.entry(key.clone()).or_default().push((*number, id.to_owned()));
        }
    }

    /// A dead letter came.
    pub fn letter(&mut self, message_id: &str) {
        match self.inputs.get_mut(message_id) {
            Some(input) => {
                input.letters += 1;
                self.touched.insert(message_id.to_owned());
            }
            None => {
                let what = format!("a dead letter of `{message_id}`");
                self.violations.push(Violation::of(Rule::Stranger, what));
            }
        }
    }

    /// The inputs of this run that the broker has and that have not ended.
    pub fn missing(&self, seen: impl Fn(&str) -> Seen) -> Vec<&str> {
        let open = |id: &&String| {
            self.inputs
                .get(*id)
                .is_some_and(|input| input.fate == Fate::Taken && !input.excused && !input.ended(&seen(id)))
        };
        self.run.iter().filter(open).map(String::as_str).collect()
    }

    /// What is wrong with what came of this run's inputs, once all is quiet. `charged` says whether the run gave
    /// messages a reason to fail.
    pub fn check(&mut self, seen: impl Fn(&str) -> Seen, charged: bool) -> Vec<Violation> {
        let mut violations = std::mem::take(&mut self.violations);
        for id in self.missing(&seen) {
            let input = &self.inputs[id];
            let what = format!("{id} ({:?}): outputs {:?}, {} letters", input.command, input.outputs, input.letters);
            violations.push(Violation::of(Rule::Lost, format!("{what}, on the wire {:?}", seen(id))));
        }
        // Those of an earlier run that came late are among them.
        for id in std::mem::take(&mut self.touched) {
            let (input, seen) = (&self.inputs[&id], seen(&id));
            let most = input.outputs.iter().copied().chain([input.letters]).max().unwrap_or(0);
            if most > seen.deliveries {
                let what = format!("{id} ({:?}) was delivered {} times", input.command, seen.deliveries);
                let what = format!("{what}: outputs {:?}, {} letters", input.outputs, input.letters);
                violations.push(Violation::of(Rule::Duplicate, what));
            }
            if input.letters > 0 && !charged && !input.command.may_fail() {
                violations.push(Violation::of(Rule::Charged, format!("{id} ({:?}) is a dead letter", input.command)));
            }
        }
        for (key, came) in &self.came {
            if let Some(pair) = came.windows(2).find(|pair| pair[0].0 > pair[1].0) {
                let what = format!("{key}: {} came before {}", pair[0].1, pair[1].1);
                violations.push(Violation::of(Rule::Disorder, what));
            }
        }
        violations
    }

    /// How many inputs of this run came out more than once.
    pub fn repeated(&self) -> usize {
        let twice = |id: &&String| {
            let input = &self.inputs[*id];
            input.outputs.iter().any(|count| *count > 1) || input.letters > 1
        };
        self.run.iter().filter(twice).count()
    }
}

impl Input {
    fn ended(&self, seen: &Seen) -> bool {
        if self.letters > 0 {
            return true;
        }
        match self.command.outputs() {
            None => false,
            Some(0) => seen.acks > 0,
            Some(_) => self.outputs.iter().all(|count| *count > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin();
        let key = |n| Some(("ada".to_owned(), n));
        for (id, command, order) in [
            ("a", Command::Publish(2), None),
            ("b", Command::Error, None),
            ("c", Command::Ack, None),
            ("k1", Command::Publish(1), key(1)),
            ("k2", Command::Publish(1), key(2)),
        ] {
            ledger.write(id, command, order);
            ledger.published(id, true);
        }
        ledger
    }

    /// The violations where each input was delivered once and acked, and these came out.
    fn check(outputs: &[&str], letters: &[&str]) -> Vec<Rule> {
        let mut ledger = ledger();
        outputs.iter().for_each(|body| ledger.output(body));
        letters.iter().for_each(|id| ledger.letter(id));
        let once = |_: &str| Seen::of(1, 1);
        ledger.check(once, false).into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn every_wrong_end_is_reported() {
        let right = ["a/0", "a/1", "k1/0", "k2/0"];
        assert_eq!(check(&right, &["b"]), []);
        assert_eq!(check(&["a/0", "k1/0", "k2/0"], &["b"]), [Rule::Lost]);
        assert_eq!(check(&right, &[]), [Rule::Lost]);
        assert_eq!(check(&["a/0", "a/1", "a/1", "k1/0", "k2/0"], &["b"]), [Rule::Duplicate]);
        assert_eq!(check(&right, &["b", "b"]), [Rule::Duplicate]);
        assert_eq!(check(&["a/0", "a/1", "k1/0", "k2/0", "z/0"], &["b"]), [Rule::Stranger]);
        assert_eq!(check(&["a/0", "a/1", "k1/0", "k2/0", "a/2"], &["b"]), [Rule::Stranger]);
        assert_eq!(check(&right, &["b", "z"]), [Rule::Stranger]);
        assert_eq!(check(&["a/0", "a/1", "k2/0", "k1/0"], &["b"]), [Rule::Disorder]);
        assert_eq!(check(&["a/0", "k1/0", "k2/0"], &["b", "a"]), [Rule::Charged]);
    }

    #[test]
    fn an_ack_that_was_never_seen_is_a_loss() {
        let mut ledger = ledger();
        ["a/0", "a/1", "k1/0", "k2/0"].iter().for_each(|body| ledger.output(body));
        ledger.letter("b");
        let delivered = |_: &str| Seen::of(1, 0);
        assert_eq!(ledger.missing(delivered), ["c"]);
        assert_eq!(ledger.check(delivered, false)[0].rule, Rule::Lost);
    }

    #[test]
    fn what_the_broker_never_took_is_not_missed() {
        let mut ledger = Ledger::default();
        ledger.write("a", Command::Publish(1), None);
        ledger.write("b", Command::Publish(1), None);
        ledger.published("b", false);
        assert!(ledger.missing(|_| Seen::default()).is_empty());
        ledger.published("a", true);
        assert_eq!(ledger.missing(|_| Seen::default()), ["a"]);
        ledger.excuse(|_| Seen::default());
        assert!(ledger.missing(|_| Seen::default()).is_empty());
    }

    #[test]
    fn a_repeated_output_is_right_where_the_delivery_was_repeated() {
        let mut ledger = Ledger::default();
        ledger.write("a", Command::Publish(1), None);
        ledger.published("a", true);
        ledger.output("a/0");
        ledger.output("a/0");
        let seen = |_: &str| Seen::of(2, 1);
        assert!(ledger.check(seen, false).is_empty());
        assert_eq!(ledger.repeated(), 1);
    }
}
