//! The checks, checked: a host that makes a mistake on purpose does not get through.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::campaign::Campaign;
use super::case::Case;
use super::lane::Subject;
use super::violation::{Rule, Violation};
use crate::harness::places;

/// In so many runs a mistake has to be found.
const RUNS: usize = 40;
/// Whatever comes out at all is out after this.
const PATIENCE: Duration = Duration::from_secs(6);
const SEED: u64 = 3;

/// Each mistake of `mistakes.toml`, with the faults under which it shows (none: whatever comes), and the rules one of which
/// is broken by it.
const MISTAKES: &[(&str, &[&str], &[Rule])] = &[
    ("ack-before-confirm", &[], &[Rule::EarlyAck]),
    ("ack-first", &[], &[Rule::EarlyAck, Rule::Lost]),
    ("copy-not-awaited", &[], &[Rule::EarlyAck, Rule::Lost]),
    ("copy-not-mandatory", &["letters-deleted"], &[Rule::Lost]),
    ("return-ignored", &["cut at `basic.return` from the broker", "unbound"], &[Rule::EarlyAck, Rule::Lost]),
    ("nack-ignored", &["full"], &[Rule::EarlyAck, Rule::Lost]),
    ("loss-ignored", &["exchange-deleted"], &[Rule::EarlyAck, Rule::Lost]),
    ("confirms-by-order", &[], &[Rule::EarlyAck]),
    ("returns-by-carrier", &["unbound"], &[Rule::EarlyAck, Rule::Lost]),
    ("not-mandatory", &["unbound"], &[Rule::EarlyAck, Rule::Lost]),
    ("no-confirms", &[], &[Rule::EarlyAck]),
    ("first-confirm-is-enough", &[], &[Rule::EarlyAck]),
    ("multiple-over-unfinished", &[], &[Rule::EarlyAck, Rule::Lost]),
    (
        "tag-of-an-old-connection",
        &["cut at `basic.publish` from the host", "cut at `body` from the host"],
        &[Rule::EarlyAck, Rule::Lost],
    ),
    ("error-swallowed", &[], &[Rule::Lost]),
    ("missing-exchange-swallowed", &["exchange-deleted"], &[Rule::Lost]),
    ("dead-letter-dropped", &[], &[Rule::Lost]),
    ("requeue-dropped", &[], &[Rule::Lost]),
    ("requeue-acked", &[], &[Rule::Lost]),
    ("attempts-not-counted", &[], &[Rule::Slow, Rule::Leftover, Rule::Lost]),
    ("published-twice", &[], &[Rule::Duplicate]),
    ("stranger-published", &[], &[Rule::Stranger]),
    ("prefetch-ignored", &[], &[Rule::Prefetch]),
    ("order-ignored", &[], &[Rule::Disorder]),
    ("drain-acks-everything", &["host-drain"], &[Rule::EarlyAck, Rule::Lost]),
    ("never-consumes-again", &["cut at `body` from the host"], &[Rule::Slow]),
    ("memory-leaks", &[], &[Rule::Memory]),
];

/// What is found of a host with this mistake.
async fn found(mistake: &str, faults: &[&str], runs: usize) -> Vec<Violation> {
    let subject = Subject {
        binary: Some("wabbit-faulty".to_owned()),
        environment: vec![("WABBIT_PLANTED".to_owned(), mistake.to_owned())],
        patience: Some(PATIENCE),
    };
    let fits = |case: &Case| match faults {
        [] => !case.is_private(),
        faults => faults.contains(&case.fault.label().as_str()),
    };
    let cases = Case::many(20_000, SEED).into_iter().filter(fits).take(runs).collect();
    let reports = Campaign { cases, subject, stop_at_first: true, ..Campaign::default() }.run().await;
    reports.into_iter().flat_map(|report| report.violations).collect()
}

/// Every mistake that the host can be built with is found, by the rule that it breaks.
#[tokio::test(flavor = "multi_thread")]
async fn every_planted_mistake_is_found() {
    let text = std::fs::read_to_string(places::root().join("tests/faults/mistakes.toml")).unwrap();
    let (_, text) = text.split_once("[[mistake]]").unwrap();
    let built: BTreeSet<_> =
        text.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(built.len() >= 20, "{built:?}");
    assert_eq!(built, MISTAKES.iter().map(|(name, ..)| *name).collect());
    let right = found("none", &[], 8).await;
    assert!(right.is_empty(), "found of a host that makes no mistake: {right:?}");
    let only = std::env::var("MISTAKE").ok();
    let mut missed = Vec::new();
    for (mistake, faults, rules) in MISTAKES.iter().filter(|(name, ..)| only.as_ref().is_none_or(|only| only == name)) {
        let begun = Instant::now();
        let found = found(mistake, faults, RUNS).await;
        let by: BTreeSet<Rule> = found.iter().map(|violation| violation.rule).collect();
        println!("{mistake}: {by:?} in {:.1} s", begun.elapsed().as_secs_f64());
        if !rules.iter().any(|rule| by.contains(rule)) {
            missed.push((mistake, found));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
