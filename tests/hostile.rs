//! The proof that the sandbox holds: a corpus of hostile guests and files, each with its verdict, against one host with a
//! good worker among it.
//!
//! `make test` tries each once. `make hostile` runs the campaign: random ones, with random bodies, in random order.

mod acts;
mod arena;
mod campaign;
mod corpus;
mod files;
mod manifests;
mod plugins;
mod pulse;


use arena::Arena;
use fastrand::Rng;

/// How often a delivery is tried in the test.
const ATTEMPTS: i64 = 2;

/// Every case, all at once, as often as a delivery is tried.
#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_holds() {
    let mut rng = Rng::with_seed(1);
    let mut arena = Arena::new(corpus::all(), ATTEMPTS).await;
    let mut violations = arena.judge_files().await;
    let mut deliveries = campaign::deliveries(&arena.cases);
    // Each case twice, since what the first one leaves behind is the second one's to find.
    deliveries.extend(deliveries.clone());
    rng.shuffle(&mut deliveries);
    let pulse = arena.pulse.clone();
    let (found, took) = pulse.during(arena.drive(&deliveries, &mut rng)).await;
    violations.extend(found);
    let published = deliveries.iter().filter(|&&case| campaign::publishes(&arena.cases[case])).count();
    violations.extend(arena.judge_publications(published).await);
    println!("{} beats, {} MiB", took.len(), arena.resident_kib() / 1024);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    assert_eq!(arena.host.terminate().await, 0);
}
