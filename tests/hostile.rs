//! The proof that the sandbox holds: a corpus of hostile guests and files, each with its verdict, against one host with a
//! good worker among it.
//!
//! `make test` tries each once. `make hostile` runs the campaign: random ones, with random bodies, in random order.

mod acts;
mod arena;
mod campaign;
mod corpus;
pub mod files;
mod flood;
mod manifests;
mod plugins;
mod pulse;

use std::collections::BTreeSet;
use std::env;
use std::fs;

use arena::Arena;
use campaign::Campaign;
use fastrand::Rng;

use crate::harness::places;

/// How often a delivery is tried in the test.
const ATTEMPTS: i64 = 2;
/// How many damaged files the test tries, and the seed of all that is random in it.
const DAMAGED: usize = 40;
const SEED: u64 = 1;

/// Every case, twice, all at once.
#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_holds() {
    let mut rng = Rng::with_seed(SEED);
    let mut arena = Arena::new(corpus::all(), ATTEMPTS).await;
    let mut violations = arena.judge_files().await;
    // What the first delivery leaves behind is the second one's to find.
    let mut deliveries = campaign::deliveries(&arena.cases);
    deliveries.extend(deliveries.clone());
    rng.shuffle(&mut deliveries);
    let pulse = arena.pulse.clone();
    let (found, took) = pulse.during(arena.drive(&deliveries, &mut rng)).await;
    violations.extend(found);
    let published = deliveries.iter().filter(|&&case| arena.cases[case].publishes()).count();
    violations.extend(arena.judge_publications(published).await);
    let resident = arena.resident_kib() / 1024;
    println!("{} deliveries, {} beats of the good worker, {resident} MiB", deliveries.len(), took.len());
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert_eq!(arena.host.terminate().await, 0);
}

/// Files that were sound, with holes, cuts and flipped bits: each is a plugin, or is none and says so.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_refused_or_run() {
    let violations = files::damaged(DAMAGED, &mut Rng::with_seed(SEED)).await;
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// A file that is changed while it is read is one of those that it was, and no mixture of what was looked at and what runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_at_is_what_is_digested() {
    let violations = files::swapped(DAMAGED).await;
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn the_page_has_every_row() {
    let page = fs::read_to_string(places::root().join("docs/security.md")).unwrap();
    let table = page.split_once("<!-- table: made by `make hostile` -->").expect("the table's place").1;
    let table = table.split_once("<!-- end of table -->").expect("the table's end").0;
    let rows: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    let expected: BTreeSet<&str> = campaign::rows(&corpus::all()).into_iter().map(|row| row.name).collect();
    assert_eq!(rows, expected, "`make hostile` writes the table");
}

/// Every row of the table says what it is, once.
#[test]
fn every_row_says_what_it_does() {
    let cases = corpus::all();
    for row in campaign::rows(&cases) {
        let said = cases.iter().filter(|case| case.name == row.name && !case.what.is_empty()).count();
        assert_eq!(said, 1, "`{}` is described {said} times", row.name);
    }
}

/// As long as one likes: `N` deliveries of `SEED`, in rounds, of all or of one `CASE` of the table, and the good worker's time beside them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a campaign: make hostile"]
async fn a_campaign() {
    let number = |name: &str, default: u64| match env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        _ => default,
    };
    let (count, seed) = (number("N", 20_000), number("SEED", SEED));
    let only = env::var("CASE").ok().filter(|name| !name.is_empty());
    let report = Campaign { deliveries: usize::try_from(count).unwrap(), seed, only }.run().await;
    println!("{}", report.markdown());
    assert!(report.violations.is_empty(), "{} violations", report.violations.len());
}
