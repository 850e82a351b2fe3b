//! What must never be, and how it is told.

use std::fmt::{self, Display};

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// An input that the broker had confirmed ended nowhere.
    Lost,
    /// An output or a dead letter of an input that never was.
    Stranger,
    /// A delivery was acked before all that it published was confirmed.
    EarlyAck,
    /// A delivery was settled that was not there to be settled.
    StrayAck,
    /// More outputs or dead letters than deliveries, or a delivery came again for no reason.
    Duplicate,
    /// Within a key, outputs came in another order than their inputs.
    Disorder,
    /// The host did not consume again in time.
    Slow,
    /// The host used more memory than it may.
    Memory,
    /// The broker let the host hold more than its prefetch, or without a bound.
    Prefetch,
    /// Something was left where nothing should be.
    Leftover,
    /// A message paid for the broker's trouble with its attempts.
    Charged,
    /// The host ended by itself.
    Ended,
}

/// One rule that was broken, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// By what.
    pub what: String,
}

impl Violation {
    /// A violation of a rule.
    pub fn of(rule: Rule, what: impl Into<String>) -> Violation {
        Violation { rule, what: what.into() }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}
