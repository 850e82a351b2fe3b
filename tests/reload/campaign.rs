//! One version after the other under load: good ones, broken ones, ones that fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::watch;

use super::stamped::{WORKER, digest, history, plugin, put, version};
use crate::harness::amqp::{Peer, persistent};
use crate::harness::{places, wait_until};
use crate::outcomes::{Stage, backstage, curtain};

/// How many changes `make test` makes, of which seed, and the messages of a second meanwhile.
const CHANGES: usize = 200;
const SEED: u64 = 1;
const RATE: usize = 400;
/// The same of the campaign, where nothing else is said.
const CAMPAIGN_CHANGES: usize = 2_000;
const CAMPAIGN_RATE: usize = 5_000;
/// For one change to show.
const SHOWS: Duration = Duration::from_secs(60);
/// For all messages to be there in the end.
const ARRIVES: Duration = Duration::from_secs(60);
/// Publications whose confirms are awaited.
const UNCONFIRMED_MAX: usize = 5_000;
/// Messages that are taken at once.
const CHUNK: usize = 500;
/// Before each change, no more messages are on their way than are sent within this time: what is measured is one change,
/// not what the one before it left behind.
const ON_THE_WAY: Duration = Duration::from_millis(100);
/// How often messages are sent.
const BEAT: Duration = Duration::from_millis(5);
/// So long before the first change the messages are timed by themselves.
const QUIET: Duration = Duration::from_secs(5);

/// What is put in the plugin's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Good,
    /// No plugin at all.
    Broken,
    /// The first part of one.
    Half,
    /// Ends each delivery with a trap.
    Trap,
    /// Answers each with an error.
    Fail,
    /// The manifest changes, in a way that takes effect in place.
    Limits,
    /// The manifest changes, so that the queue is consumed anew.
    Prefetch,
}

const KINDS: &[(Kind, u32)] = &[
    (Kind::Good, 50),
    (Kind::Broken, 10),
    (Kind::Half, 10),
    (Kind::Trap, 10),
    (Kind::Fail, 10),
    (Kind::Limits, 5),
    (Kind::Prefetch, 5),
];

#[tokio::test(flavor = "multi_thread")]
async fn versions_change_under_load_and_nothing_is_lost() {
    let report = run(CHANGES, SEED, RATE, Duration::ZERO).await;
    println!("{report}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; `make reloads` runs it"]
async fn a_campaign() {
    let number = |name: &str, default| env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let (changes, seed) = (number("N", CAMPAIGN_CHANGES), number("SEED", SEED as usize));
    println!("{}", run(changes, seed as u64, number("RATE", CAMPAIGN_RATE), QUIET).await);
}

/// What the consumer has seen.
#[derive(Default)]
struct Seen {
    /// By message, which version has published it, and how long after it was sent.
    by: BTreeMap<u32, (usize, Duration)>,
    /// Messages that came more than once.
    twice: Vec<u32>,
    /// When the first message of each version came.
    first: BTreeMap<usize, Instant>,
}

async fn run(changes: usize, seed: u64, rate: usize, quiet: Duration) -> String {
    let mut rng = Rng::with_seed(seed);
    let manifest = format!("{WORKER}[reload]\nprobation-time = \"5s\"\n");
    // Each version is new to it: none is compiled already.
    let cache = places::folder("cache");
    let (vhost, folder, config) = backstage("reloads", "", &[("w", &manifest)]).await;
    let config = config.plugin_bytes("stamped.wasm", &version(0, "good"));
    let stage = curtain(vhost, folder, config.environment("XDG_CACHE_HOME", cache.path().to_str().unwrap())).await;
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU32::new(0));
    let (seen_sender, mut seen) = watch::channel(Seen::default());
    let consuming =
        tokio::spawn(consume(Peer::connect(&stage.vhost.url).await, stage.named("@work.out"), began, seen_sender));
    let publisher = Peer::connect(&stage.vhost.url).await;
    let publishing =
        tokio::spawn(publish(publisher, stage.named("@work"), rate, began, Arc::clone(&stop), Arc::clone(&sent)));

    tokio::time::sleep(quiet).await;
    let until = sent.load(Ordering::Relaxed);
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    let mut took = Vec::new();
    // The changes, each with the number of the first message that was sent after it began.
    let mut begun: Vec<(Kind, u32)> = Vec::new();
    let mut resources = Vec::new();
    for number in 1..=changes {
        if number % (changes / 10).max(1) == 0 {
            resources.push(of_the_host(&stage));
        }
        let few = (rate as f64 * ON_THE_WAY.as_secs_f64()) as usize;
        let caught_up = seen.wait_for(|seen| sent.load(Ordering::Relaxed) as usize <= seen.by.len() + few);
        tokio::time::timeout(SHOWS, caught_up).await.expect("the host keeps up").unwrap();
        let kind = pick(&mut rng);
        begun.push((kind, sent.load(Ordering::Relaxed)));
        *kinds.entry(kind).or_default() += 1;
        match kind {
            Kind::Good => {
                let bytes = version(number, "good");
                // In two ways, by turns.
                let start = Instant::now();
                if rng.bool() {
                    put(&plugin(&stage.host), &bytes)
                } else {
                    fs::write(plugin(&stage.host), &bytes).unwrap()
                }
                let first = tokio::time::timeout(SHOWS, seen.wait_for(|seen| seen.first.contains_key(&number))).await;
                let Ok(Ok(seen)) = first else {
                    panic!("version {number} did not show: {:#?}", history(&stage.host, "w").await)
                };
                took.push(seen.first[&number].saturating_duration_since(start));
            }
            Kind::Broken | Kind::Half => {
                refused.insert(number);
                let whole = version(number, "good");
                let bytes = match kind {
                    Kind::Half => whole[..rng.usize(100..whole.len() - 1)].to_vec(),
                    _ => format!("no plugin {number}").into_bytes(),
                };
                put(&plugin(&stage.host), &bytes);
                becomes(&stage, &bytes, "refused").await;
            }
            Kind::Trap | Kind::Fail => {
                refused.insert(number);
                let bytes = version(number, if kind == Kind::Trap { "trap" } else { "fail" });
                put(&plugin(&stage.host), &bytes);
                becomes(&stage, &bytes, "rolled-back").await;
            }
            Kind::Limits | Kind::Prefetch => {
                let before = last(&stage).await;
                let change = match kind {
                    Kind::Limits => format!("[limits]\ntime = \"{}ms\"\n", 4_000 + number),
                    _ => format!("[consume]\nprefetch = {}\n", 100 + number % 400),
                };
                put(&stage.host.manifests().join("w.toml"), stage.named(&format!("{manifest}{change}")).as_bytes());
                wait_until(SHOWS, "the manifest to be followed", async || {
                    let now = last(&stage).await;
                    let follows = |event: &str| now.contains(&format!("\"{event}\""));
                    let is_new = now != before && (follows("swapped") || follows("reconsumed") || follows("refused"));
                    if is_new { Ok(()) } else { Err(now) }
                })
                .await;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    publishing.await.unwrap();
    let total = sent.load(Ordering::Relaxed);
    let all = tokio::time::timeout(ARRIVES, seen.wait_for(|seen| seen.by.len() == total as usize)).await.is_ok();
    let arrived = seen.borrow().by.len();
    assert!(all, "{arrived} of {total} messages came out; {}", stage.host.get("/workers").await);
    // Whatever would come twice has come by then: nothing is left.
    stage.wait_for_settled("w", "acked", u64::from(total)).await;
    stage.expect_empty(&["work", "work.dead", "work.out"]).await;
    consuming.abort();
    let seen = seen.borrow();
    assert_eq!(seen.twice, [0; 0], "messages that two versions handled");
    let wrong: Vec<_> = seen.by.iter().filter(|(_, (by, _))| refused.contains(by)).collect();
    assert!(wrong.is_empty(), "messages of refused versions: {wrong:?}");
    for outcome in ["requeued", "retried", "dead-lettered", "put-back"] {
        assert_eq!(stage.settled("w", outcome).await, 0, "{outcome}");
    }
    let (first, end) = (resources.first().copied().unwrap_or_default(), of_the_host(&stage));
    assert!(end.1 <= first.1 + 8, "open files: {resources:?} {end:?}");
    assert!(changes < 1000 || end.0 < first.0 * 3 / 2, "MiB and open files: {resources:?} {end:?}");
    let taken = |from: u32, to: u32| seen.by.range(from..to).map(|(_, (_, took))| *took);
    let latency = |from: u32, to: u32| quantiles(taken(from, to).collect());
    let mut by_kind: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    for (at, (kind, from)) in begun.iter().enumerate() {
        let to = begun.get(at + 1).map_or(total, |(_, from)| *from);
        by_kind.entry(*kind).or_default().extend(taken(*from, to));
    }
    let by_kind = by_kind.into_iter().map(|(kind, took)| format!("| while it is {kind:?} | {} |\n", quantiles(took)));
    let made: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind:?}")).collect();
    format!(
        "{changes} changes ({}) at {rate} messages a second, {total} messages: 0 lost, 0 handled twice, 0 by a refused version\n\n\
         | | median | 99 % | 99.9 % | longest |\n|---|---|---|---|---|\n\
         | from the file to the first delivery | {} |\n| a message before the first change | {} |\n| a message while versions change | {} |\n{}\n\
         The host had {} MiB and {} open files at a tenth of the way, {} MiB and {} in the end.",
        made.join(", "),
        quantiles(took),
        latency(0, until),
        latency(until, total),
        by_kind.collect::<String>(),
        first.0,
        first.1,
        end.0,
        end.1,
    )
}

fn pick(rng: &mut Rng) -> Kind {
    let mut left = rng.u32(..KINDS.iter().map(|(_, weight)| weight).sum::<u32>());
    for (kind, weight) in KINDS {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return *kind,
        }
    }
    unreachable!("the weights are more than the number")
}

fn quantiles(mut sorted: Vec<Duration>) -> String {
    sorted.sort_unstable();
    let at = |share: f64| {
        let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or("-".to_owned(), |took| format!("{:.0} ms", took.as_secs_f64() * 1000.0))
    };
    [0.5, 0.99, 0.999, 1.0].map(at).join(" | ")
}

async fn last(stage: &Stage) -> String {
    let entries = history(&stage.host, "w").await;
    let changes = entries.iter().rev().find(|entry| entry["event"] != "proved");
    changes.map(ToString::to_string).unwrap_or_default()
}

async fn becomes(stage: &Stage, bytes: &[u8], event: &str) {
    let digest = digest(bytes);
    wait_until(SHOWS, format!("{digest} to be {event}"), async || {
        let entries = history(&stage.host, "w").await;
        let is_it = |entry: &serde_json::Value| entry["digest"] == digest.as_str() && entry["event"] == event;
        if entries.iter().any(is_it) { Ok(()) } else { Err(format!("{:#?}", entries.last())) }
    })
    .await;
}

/// MiB that are resident, and open files.
fn of_the_host(stage: &Stage) -> (u64, usize) {
    let process = format!("/proc/{}", stage.host.id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
    (kib / 1024, fs::read_dir(format!("{process}/fd")).unwrap().count())
}

/// Sends numbered messages at this rate until it is to stop, and waits for their confirms.
async fn publish(peer: Peer, queue: String, rate: usize, began: Instant, stop: Arc<AtomicBool>, sent: Arc<AtomicU32>) {
    let mut unconfirmed = VecDeque::new();
    let mut beat = tokio::time::interval(BEAT);
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u32;
        // After a stop in between it goes on at its pace.
        let due = due.min(sent.load(Ordering::Relaxed) + rate as u32 / 20);
        for number in sent.load(Ordering::Relaxed)..due {
            let body = format!("{number:010} {:020} {:>60}", began.elapsed().as_nanos(), "");
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let channel = peer.channel();
            let confirm =
                channel.basic_publish("".into(), queue.as_str().into(), options, body.as_bytes(), persistent());
            unconfirmed.push_back(confirm.await.unwrap());
            sent.store(number + 1, Ordering::Relaxed);
        }
        while unconfirmed.len() > UNCONFIRMED_MAX {
            assert!(unconfirmed.pop_front().unwrap().await.unwrap().is_ack());
        }
    }
    for confirm in unconfirmed {
        assert!(confirm.await.unwrap().is_ack());
    }
}

async fn consume(peer: Peer, queue: String, began: Instant, seen: watch::Sender<Seen>) {
    let channel = peer.channel();
    let (options, arguments) = (BasicConsumeOptions { no_ack: true, ..Default::default() }, FieldTable::default());
    let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, arguments).await.unwrap();
    // What is there is taken at once: the processor is for the host.
    let mut chunks = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = chunks.next().await {
        let at = began.elapsed();
        seen.send_modify(|seen| {
            for delivery in chunk {
                let delivery = delivery.unwrap();
                let text = std::str::from_utf8(&delivery.data).unwrap();
                let (number, sent) = (text[..10].parse().unwrap(), text[11..31].parse().unwrap());
                let by = match delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get("by")) {
                    Some(AMQPValue::LongString(by)) => by.to_string().parse().unwrap(),
                    other => panic!("`by` is {other:?}"),
                };
                if seen.by.insert(number, (by, at.saturating_sub(Duration::from_nanos(sent)))).is_some() {
                    seen.twice.push(number);
                }
                seen.first.entry(by).or_insert_with(|| began + at);
            }
        });
    }
}
