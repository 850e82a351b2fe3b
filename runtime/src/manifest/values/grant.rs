//! What a handler may publish: exchanges, and patterns of routing keys.

use std::fmt;

use super::{name, quoted, short_string};
use crate::manifest::{Unroutable, report::Problem};

/// One entry of `[grant] publish`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishGrant {
    /// `"reply"`: to the queue that the delivery names in `reply-to`.
    Reply,
    /// `"EXCHANGE/PATTERN"`: to an exchange, with a routing key that fits.
    To {
        /// Empty for the default exchange.
        exchange: String,
        /// `#` where the entry names an exchange alone.
        pattern: Pattern,
        /// What an unroutable publication means; where absent, what `[publish]` says.
        unroutable: Option<Unroutable>,
    },
}

/// A pattern of routing keys, as a topic exchange understands it: words between dots, `*` for one word, `#` for any
/// number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

impl PublishGrant {
    /// Reads `reply`, `EXCHANGE` or `EXCHANGE/PATTERN`. Exchange and pattern part at the first slash; the default
    /// exchange has no name, so that `/QUEUE` is a publication straight to a queue.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (exchange, pattern) = match text.split_once('/') {
            None if text == "reply" => return Ok(Self::Reply),
            None if text.is_empty() => {
                let problem = Problem::new("an empty string grants nothing");
                return Err(problem.hint("write `\"reply\"`, `\"EXCHANGE\"` or `\"EXCHANGE/ROUTING-KEY-PATTERN\"`"));
            }
            None => (text, "#"),
            Some(("", "")) => {
                let problem = Problem::new("the default exchange has no queue without a name");
                return Err(problem.hint("write `\"/QUEUE\"`, or `\"/#\"` for every queue"));
            }
            Some(parts) => parts,
        };
        Ok(Self::To { exchange: name(exchange)?, pattern: Pattern::parse(pattern)?, unroutable: None })
    }

    /// Whether it allows a publication to this exchange with this routing key. What [`Self::Reply`] allows depends on
    /// the delivery, and is not looked at here.
    pub fn covers(&self, exchange: &str, routing_key: &str) -> bool {
        match self {
            Self::Reply => false,
            Self::To { exchange: granted, pattern, .. } => granted == exchange && pattern.matches(routing_key),
        }
    }
}

/// As it is written in a manifest.
impl fmt::Display for PublishGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply => f.write_str("reply"),
            Self::To { exchange, pattern, .. } => write!(f, "{exchange}/{pattern}"),
        }
    }
}

impl Pattern {
    /// Reads a pattern. `*` and `#` stand for whole words: `order*` is an error, since it would match nothing that its
    /// author had in mind.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let half = words(text).find(|word| word.len() > 1 && word.contains(['*', '#']));
        if let Some(word) = half {
            return Err(Problem::new(format!("{} is not a pattern of words", quoted(word)))
                .hint("`*` stands for one whole word between dots, `#` for any number of them: `order.*`"));
        }
        Ok(Self { text: short_string(text)? })
    }

    /// Whether a routing key fits.
    pub fn matches(&self, routing_key: &str) -> bool {
        let mut pattern = words(&self.text);
        let mut key = words(routing_key);
        // Where to go on when a word does not fit: after the last `#`, which then takes one word more. An earlier `#`
        // need not be tried again, for the last one can take whatever that one would.
        let mut retry: Option<(Words<'_>, Words<'_>)> = None;
        loop {
            let before_word = key.clone();
            match (pattern.next(), key.next()) {
                (Some("#"), _) => {
                    key = before_word;
                    retry = Some((pattern.clone(), key.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some("*"), Some(_)) => continue,
                (Some(word), Some(found)) if word == found => continue,
                _ => {}
            }
            let Some((after_hash, rest)) = &mut retry else { return false };
            if rest.next().is_none() {
                return false;
            }
            pattern = after_hash.clone();
            key = rest.clone();
        }
    }
}

/// As it is written in a manifest.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

type Words<'t> = std::iter::Take<std::str::Split<'t, char>>;

/// The words between dots. An empty text has none, as for the broker.
fn words(text: &str) -> Words<'_> {
    text.split('.').take(if text.is_empty() { 0 } else { usize::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_topic_exchange_does() {
        let check = |pattern: &str, fits: &[&str], others: &[&str]| {
            let parsed = Pattern::parse(pattern).unwrap();
            for key in fits {
                assert!(parsed.matches(key), "`{pattern}` should match `{key}`");
            }
            for key in others {
                assert!(!parsed.matches(key), "`{pattern}` should not match `{key}`");
            }
        };
        check("order", &["order"], &["", "orders", "order.new", "new.order"]);
        check("order.*", &["order.new", "order."], &["order", "order.new.eu", "orders.new", ".order"]);
        check("*", &["order", "ü"], &["", "order.new", "."]);
        check("*.*", &["order.new", "."], &["order", "order.new.eu"]);
        check("#", &["", "order", "order.new.eu", "."], &[]);
        check("order.#", &["order", "order.new", "order.new.eu", "order."], &["", "orders", "eu.order"]);
        check("#.order", &["order", "new.order", "eu.new.order"], &["", "order.new", "reorder"]);
        check("#.new.#", &["new", "a.new", "new.a", "a.b.new.c.d", "new.new"], &["", "a.b", "renew", "a.newer.b"]);
        check("#.a.#.b", &["a.b", "a.x.b", "a.b.b", "x.a.a.y.b"], &["a", "b", "b.a", "a.b.c"]);
        check("*.#", &["a", "a.b", "a.b.c"], &[""]);
        check("#.*", &["a", "a.b", "a.b.c"], &[""]);
        check("#.#", &["", "a", "a.b"], &[]);
        check("a..b", &["a..b"], &["a.b", "a.x.b"]);
        check("a.*.b", &["a..b", "a.x.b"], &["a.b"]);
        check("", &[""], &["a", "."]);
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = Pattern::parse(&["#.a"; 60].join(".")).unwrap();
        assert!(!pattern.matches(&(["a"; 120].join(".") + ".b")));
    }

    #[test]
    fn grants() {
        let check = |text: &str, exchange: &str, pattern: &str| match PublishGrant::parse(text).unwrap() {
            PublishGrant::To { exchange: parsed, pattern: parsed_pattern, unroutable: None } => {
                assert_eq!((parsed.as_str(), parsed_pattern.to_string().as_str()), (exchange, pattern), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        };
        check("audit/order.*", "audit", "order.*");
        check("mail", "mail", "#");
        check("mail/", "mail", "");
        check("/order_notify", "", "order_notify");
        check("a/b/c", "a", "b/c");
        check("reply/#", "reply", "#");
        assert_eq!(PublishGrant::parse("reply"), Ok(PublishGrant::Reply));
        assert_eq!(PublishGrant::parse("audit/order.*").unwrap().to_string(), "audit/order.*");
        for bad in ["", "/", "audit/order*", "audit/#x", &"x".repeat(256), &format!("x/{}", "k".repeat(256))] {
            assert!(PublishGrant::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_grant_covers() {
        let grant = PublishGrant::parse("audit/order.*").unwrap();
        assert!(grant.covers("audit", "order.new"));
        assert!(!grant.covers("audit", "mail.new"));
        assert!(!grant.covers("", "order.new"));
        assert!(!PublishGrant::Reply.covers("", "amq.gen-1"));
    }
}
