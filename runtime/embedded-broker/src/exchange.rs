//! Exchanges: which of an exchange's bindings a message follows.

use std::collections::BTreeMap;

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::Name;
use crate::queue::QueueId;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To what is bound with the very routing key.
    Direct,
    /// To all that is bound.
    Fanout,
    /// To what is bound with a pattern that the routing key fits.
    Topic,
    /// To what is bound with arguments that the headers fit.
    Headers,
}

impl Kind {
    pub(crate) fn parse(name: &str) -> Option<Kind> {
        match name {
            "direct" => Some(Kind::Direct),
            "fanout" => Some(Kind::Fanout),
            "topic" => Some(Kind::Topic),
            "headers" => Some(Kind::Headers),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Fanout => "fanout",
            Kind::Topic => "topic",
            Kind::Headers => "headers",
        }
    }
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    Queue(QueueId),
    Exchange(Name),
}

#[derive(Clone, Debug)]
struct Binding {
    destination: Destination,
    arguments: FieldTable,
}

/// An exchange with the bindings that start at it.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub name: Name,
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: FieldTable,
    /// Where messages go that follow none of the bindings.
    pub alternate: Option<Name>,
    /// By routing key or pattern. In each the order in which they were made.
    bindings: BTreeMap<Name, Vec<Binding>>,
    count: usize,
}

impl Exchange {
    pub(crate) fn new(name: Name, kind: Kind) -> Exchange {
        Exchange {
            name,
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
            alternate: None,
            bindings: BTreeMap::new(),
            count: 0,
        }
    }

    /// How many bindings start here.
    pub(crate) fn bindings(&self) -> usize {
        self.count
    }

    /// Adds a binding. False where the same one is there.
    pub(crate) fn bind(&mut self, destination: Destination, key: &Name, arguments: &FieldTable) -> bool {
        let bindings = self.bindings.entry(key.clone()).or_default();
        if bindings.iter().any(|binding| binding.destination == destination && binding.arguments == *arguments) {
            return false;
        }
        bindings.push(Binding { destination, arguments: arguments.clone() });
        self.count += 1;
        true
    }

    /// Removes a binding. False where there is none like it.
    pub(crate) fn unbind(&mut self, destination: &Destination, key: &str, arguments: &FieldTable) -> bool {
        let before = self.count;
        if let Some(bindings) = self.bindings.get_mut(key) {
            bindings.retain(|binding| binding.destination != *destination || binding.arguments != *arguments);
        }
        self.recount();
        self.count < before
    }

    /// Removes all bindings to a destination that is gone. How many there were.
    pub(crate) fn forget(&mut self, destination: &Destination) -> usize {
        let before = self.count;
        for bindings in self.bindings.values_mut() {
            bindings.retain(|binding| binding.destination != *destination);
        }
        self.recount();
        before - self.count
    }

    fn recount(&mut self) {
        self.bindings.retain(|_, bindings| !bindings.is_empty());
        self.count = self.bindings.values().map(Vec::len).sum();
    }

    /// Whether something is bound to it by this exchange.
    pub(crate) fn leads_to(&self, destination: &Destination) -> bool {
        self.bindings.values().flatten().any(|binding| binding.destination == *destination)
    }

    /// Calls `follow` with each destination of a message, with some more than once.
    pub(crate) fn route<'a>(
        &'a self,
        key: &str,
        headers: Option<&FieldTable>,
        mut follow: impl FnMut(&'a Destination),
    ) {
        match self.kind {
            Kind::Direct => {
                self.bindings.get(key).into_iter().flatten().for_each(|binding| follow(&binding.destination));
            }
            Kind::Fanout => self.bindings.values().flatten().for_each(|binding| follow(&binding.destination)),
            Kind::Topic => {
                let words = words(key);
                for (pattern, bindings) in &self.bindings {
                    if fits(&crate::exchange::words(pattern), &words) {
                        bindings.iter().for_each(|binding| follow(&binding.destination));
                    }
                }
            }
            Kind::Headers => {
                let none = FieldTable::default();
                let headers = headers.unwrap_or(&none);
                for binding in self.bindings.values().flatten() {
                    if headers_fit(&binding.arguments, headers) {
                        follow(&binding.destination);
                    }
                }
            }
        }
    }
}

/// The words of a routing key or pattern. An empty one has none.
fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

/// Whether words fit a pattern: `*` is one word, `#` any number of them. As with wildcards in file names, only the
/// last `#` has to be tried again, so that the time is at most the product of both lengths.
fn fits(pattern: &[&str], words: &[&str]) -> bool {
    let (mut at, mut word) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while let Some(actual) = words.get(word) {
        match pattern.get(at) {
            Some(&"#") => {
                again = Some((at, word));
                at += 1;
            }
            Some(expected) if *expected == "*" || expected == actual => {
                at += 1;
                word += 1;
            }
            _ => match again {
                Some((hash, from)) => {
                    again = Some((hash, from + 1));
                    at = hash + 1;
                    word = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == "#")
}

/// What an argument `x-match` may say.
pub(crate) const MATCHES: [&str; 4] = ["all", "any", "all-with-x", "any-with-x"];

fn headers_fit(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let how = match arguments.inner().get("x-match") {
        Some(AMQPValue::LongString(how)) => how.as_bytes(),
        _ => b"all",
    };
    let (any, with_x) = (how.starts_with(b"any"), how.ends_with(b"-with-x"));
    let mut wanted = arguments
        .into_iter()
        .filter(|(name, _)| if with_x { name.as_str() != "x-match" } else { !name.as_str().starts_with("x-") });
    let mut fits =
        |(name, expected): (_, &AMQPValue)| match headers.inner().get::<amq_protocol::types::ShortString>(name) {
            Some(_) if matches!(expected, AMQPValue::Void) => true,
            Some(actual) => actual == expected,
            None => false,
        };
    if any { wanted.any(&mut fits) } else { wanted.all(fits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_patterns() {
        for (pattern, key, expected) in [
            ("#", "", true),
            ("#", "a.b", true),
            ("*", "", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("", "", true),
            ("", "a", false),
            ("a.#", "a", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.#.z", "a.b.c", false),
            ("#.b.#.d", "a.b.c.b.d", true),
            ("#.b.*", "b.b.b", true),
            ("*.#.*", "a", false),
            ("#.#", "a.b", true),
            ("a..b", "a..b", true),
            ("a.*.b", "a..b", true),
        ] {
            assert_eq!(fits(&words(pattern), &words(key)), expected, "{pattern} and {key}");
        }
    }
}
