//! The proof that nothing is lost: faults by the hundred, each at a moment of its own, and after each of them every
//! promise is looked at: on the wire, and by what was put in and what came out.
//!
//! `make faults` runs the campaign; a sample of it is a test like any other.

pub mod campaign;
pub mod case;
mod feed;
pub mod frames;
mod inject;
pub mod lane;
mod ledger;
mod observer;
mod planted;
pub mod proxy;
pub mod violation;

use std::collections::BTreeMap;
use std::env;
use std::time::Instant;

use campaign::{Campaign, markdown, took};
use case::Case;

use crate::harness::places;

/// How many faults a sample has, and the seed that decides on them.
const SAMPLE: usize = 320;
const SAMPLE_SEED: u64 = 1;

/// Every kind of fault, and more of those that are more likely.
#[tokio::test(flavor = "multi_thread")]
async fn a_sample_of_every_fault_loses_nothing() {
    let begun = Instant::now();
    let campaign = Campaign {
        cases: Case::many(SAMPLE, SAMPLE_SEED),
        verbose: env::var("VERBOSE").is_ok(),
        ..Campaign::default()
    };
    let reports = campaign.run().await;
    println!("{}\n{}", took(begun), markdown(&reports));
    let bad: Vec<_> =
        reports.iter().filter(|report| !report.violations.is_empty()).map(|r| r.case.to_string()).collect();
    assert!(bad.is_empty(), "violated: {bad:?}");
    let fired = reports.iter().filter(|report| report.fired).count();
    assert!(fired >= 300, "only {fired} faults were made");
    let mut kinds: BTreeMap<String, bool> = BTreeMap::new();
    for report in &reports {
        *kinds.entry(report.case.fault.label()).or_default() |= report.fired;
    }
    let never: Vec<_> = kinds.iter().filter(|(_, fired)| !**fired).collect();
    assert!(never.is_empty(), "never made: {never:?}");
}

/// The host that is tested everywhere else is not the one with switches.
#[test]
fn the_host_has_no_switches() {
    let has = |name: &str| {
        let bytes = std::fs::read(places::build().join(name)).unwrap();
        bytes.windows(b"WABBIT_DIE_AT".len()).any(|text| text == b"WABBIT_DIE_AT")
    };
    assert!(has("wabbit-faulty"));
    assert!(!has("wabbit"));
}

/// As long as one likes: `N` faults of `SEED`, or one by its `CASE`; on both kinds of `QUEUE`, or one of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a campaign: make faults"]
async fn a_campaign() {
    let number = |name: &str, default: u64| match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        _ => default,
    };
    let case = env::var("CASE").ok().filter(|text| !text.is_empty());
    let (count, seed) = (number("N", if case.is_some() { 1 } else { 2_000 }), number("SEED", 1));
    let count = usize::try_from(count).unwrap();
    let cases = match case {
        Some(text) => vec![text.parse::<Case>().unwrap_or_else(|error| panic!("{error}")); count],
        None => Case::many(count, seed),
    };
    let quorum = match env::var("QUEUE").unwrap_or_default().as_str() {
        "" => None,
        "classic" => Some(false),
        "quorum" => Some(true),
        other => panic!("QUEUE={other} is neither `classic` nor `quorum`"),
    };
    let begun = Instant::now();
    let reports = Campaign { cases, quorum, verbose: true, ..Campaign::default() }.run().await;
    println!("{count} faults of seed {seed} in {}\n\n{}", took(begun), markdown(&reports));
    let bad: Vec<_> = reports.iter().filter(|report| !report.violations.is_empty()).collect();
    for report in &bad {
        println!("violated: {}", campaign::repeat(report));
        report.violations.iter().for_each(|violation| println!("  {violation}"));
    }
    assert!(bad.is_empty(), "{} runs violated a promise", bad.len());
}
