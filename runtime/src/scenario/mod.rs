//! Scenarios: what is given to a handler, and what is expected of it. Pure: from texts to values, and from values to what
//! differs.

mod body;
mod compare;
mod expect;
mod given;
mod messages;
mod parse;
mod update;
mod view;

use std::{collections::BTreeMap, time::Duration};

pub use body::{Body, Form};
pub use compare::{Difference, Side, between, compare, outcomes};
pub use expect::{Expect, Line, Message, Sent, Wanted};
pub use given::Given;
pub use parse::{FILE_BYTES_MAX, given, parse};
pub use update::update;

use crate::{
    delivery::Delivery,
    manifest::report::Place,
    outcome::{Failure, Outcome},
    sandbox::{Asked, Logged},
};

/// When the clocks of a scenario begin that names no time.
const CLOCK: &str = "2026-01-01T00:00:00Z";
/// By how much the clocks go forward with each look at one of them, unless a scenario says otherwise.
const STEP: Duration = Duration::from_millis(1);

/// One file: deliveries, one after the other, in a world that they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The manifest's name, and where it stands; none where there is only one.
    pub manifest: Option<(String, Option<Place>)>,
    /// The world.
    pub given: Given,
    /// At least one.
    pub steps: Vec<Step>,
}

/// A delivery, and what is expected of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The queue is empty where it is the manifest's first.
    pub delivery: Delivery,
    /// Where the wall clock stands, since the Unix epoch. It goes on where there is none.
    pub clock: Option<Duration>,
    /// What is expected. What it does not mention is not looked at, but for a failure.
    pub expect: Expect,
}

/// The contents of a store, or of a folder.
pub type Contents = BTreeMap<String, Vec<u8>>;

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    /// The outcome, whose publications are as they would be sent, or why there is none.
    pub result: Result<Outcome, Failure>,
    /// What the handler wrote.
    pub log: Vec<Logged>,
    /// The HTTP requests that it sent.
    pub asked: Vec<Asked>,
    /// What is in its store then; none where it has none.
    pub keyvalue: Option<Contents>,
    /// What is in its folders then, by the paths that the handler sees.
    pub files: BTreeMap<String, Contents>,
}
