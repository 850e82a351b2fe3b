//! Whole workers, played: random deliveries, outcomes, verdicts, losses and pauses go through all that is decided here,
//! against a model of the broker that knows where each message is. After each step every message is in one place; no ack
//! covers what is not done; no tag is settled twice; tries are bounded; an order is kept; with `dedupe` nothing is skipped
//! but what was done, and that always, whatever acks were lost. At the end every message is done
//! or a dead letter.
//!
//! 20,000 sequences in each run of the tests, and as many as `WABBIT_SEQUENCES` says. One that fails names its seed:
//!
//! ```sh
//! WABBIT_SEED=17 cargo test -p wabbit every_sequence
//! ```

mod broker;
mod worker;

use std::{env, num::NonZero, sync::Arc, thread, time::Duration};

use self::{
    broker::{Broker, Message, Queue},
    worker::{Key, Manifest, Order, Seen, Worker},
};
use super::returns::tests::Random;
use crate::{
    delivery::{Delivery, Properties, Value},
    manifest::{Backoff, FailurePolicy, Pattern, PublishGrant, Unroutable},
    outcome::{Failure, FailureKind, Outcome, Publication, Rules, Settlement},
};

#[test]
fn every_sequence_settles_rightly() {
    let number = |name| env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    if let Some(seed) = number("WABBIT_SEED") {
        eprintln!("{:?}", play(seed));
        return;
    }
    let count = number("WABBIT_SEQUENCES").unwrap_or(20_000);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                scope.spawn(move || {
                    let mut seen = Seen::new();
                    for seed in (part as u64..count).step_by(threads) {
                        for (what, times) in play(seed) {
                            *seen.entry(what).or_default() += times;
                        }
                    }
                    seen
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().expect("the seed of a sequence that fails is above")).collect()
    });
    let mut total = Seen::new();
    for (what, times) in seen.into_iter().flatten() {
        *total.entry(what).or_default() += times;
    }
    // Each of these is what the sequences are for.
    for what in [
        "acked",
        "dead",
        "came back from the ladder",
        "duplicate",
        "overdue",
        "publishing ended",
        "epoch ended",
        "skipped",
    ] {
        assert!(total.get(what).is_some_and(|times| *times >= count / 10), "{what}: {total:?}");
    }
    // The rarest: an ack is lost with its connection, or the host dies before a mark is kept.
    for what in ["skipped after a lost ack", "done again by the next host"] {
        assert!(total.get(what).is_some_and(|times| *times >= count / 1000), "{what}: {total:?}");
    }
    println!("{total:?}");
}

/// Says which sequence it was that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat it with: WABBIT_SEED={} cargo test -p wabbit every_sequence", self.0);
        }
    }
}

fn play(number: u64) -> Seen {
    let seed = Seed(number);
    let mut random = Random(seed.0.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut seen = Seen::new();
    let manifest = manifest(&mut random);
    let (mut broker, queues) = stock(&mut random);
    let mut worker = Worker::new(manifest, queues);
    // Some steps with faults, and then as many without as it takes until all is settled, which is bounded.
    for step in 0..50_000 {
        let faults = step < 120;
        if !faults && broker.is_quiet() {
            break;
        }
        if random.below(60) == 0 && faults {
            broker.end(&mut random);
            worker = if random.below(4) == 0 {
                broker.host_ended();
                worker.of_next_host()
            } else {
                worker.of_next_session()
            };
            *seen.entry("epoch ended").or_default() += 1;
        }
        let what = advance(&mut random, &mut broker, &mut worker, faults);
        *seen.entry(what).or_default() += 1;
        if random.below(8) == 0 {
            worker.keep(1);
        }
        broker.check_places();
    }
    assert!(broker.is_quiet(), "it comes to no end: {broker:?}");
    assert!(worker.is_empty(), "the worker holds on to something");
    *seen.entry("acked").or_default() += broker.done.len() as u64;
    *seen.entry("dead").or_default() += broker.dead.len() as u64;
    for (what, times) in broker.dedupe.counts() {
        *seen.entry(what).or_default() += times;
    }
    *seen.entry("duplicate").or_default() += broker.extra.iter().sum::<usize>() as u64;
    seen
}

/// One thing happens.
fn advance(random: &mut Random, broker: &mut Broker, worker: &mut Worker, faults: bool) -> &'static str {
    let queue = random.below(broker.queues.len() as u64) as usize;
    match random.below(16) {
        0..=2 if broker.queues[queue].unsettled.len() < worker.manifest.prefetch => {
            if let Some((tag, delivery)) = broker.deliver(queue) {
                worker.received(broker, Key { queue, tag }, delivery);
                return "delivered";
            }
        }
        3..=5 if !worker.handling.is_empty() => {
            let key = worker.handling.swap_remove(random.below(worker.handling.len() as u64) as usize);
            let result = result(random, broker, worker, key);
            worker.handled(broker, random, key, result);
            return "handled";
        }
        6..=7 if !broker.sent.is_empty() => {
            let nth = random.below(broker.sent.len() as u64) as usize;
            let (id, sent) = broker.sent.iter_mut().nth(nth).unwrap();
            let id = *id;
            if sent.verdict == super::Verdict::Returned && !sent.returned && random.below(2) == 0 {
                sent.returned = true;
                broker.returns.push_back(id);
                return "returned early";
            }
            broker.confirm(id);
            return "confirmed";
        }
        8 if worker.confirms(broker, random) => return "confirms taken",
        9 if worker.flush(broker, queue, true) => return "flushed",
        10 if worker.flush(broker, queue, false) => return "flushed as one",
        11 if broker.receive(queue) => return "frame received",
        12 if worker.wake(broker, random) => return "pause over",
        13 if worker.start_ready(broker) => return "next of its lane",
        14 if !broker.ladder.is_empty() => {
            let message = broker.ladder.swap_remove(random.below(broker.ladder.len() as u64) as usize);
            let queue = usize::from(&*message.delivery.queue == "q1");
            broker.queues[queue].ready.push_back(message);
            return "came back from the ladder";
        }
        15 if faults => match random.below(8) {
            0..=2 if worker.overdue(broker, random) => return "overdue",
            3 => {
                worker.end_publishing(broker, random);
                return "publishing ended";
            }
            _ => {}
        },
        _ => {}
    }
    "nothing"
}

/// What a handler answers, and what the model is to expect of it.
fn result(random: &mut Random, broker: &mut Broker, worker: &Worker, key: Key) -> Result<Outcome, Failure> {
    let unsettled = broker.unsettled(key).unwrap();
    if random.below(8) == 0 {
        return Err(Failure::new(FailureKind::ALL[random.below(FailureKind::ALL.len() as u64) as usize], "no"));
    }
    let ms = [0, 100, 700, 400_000][random.below(4) as usize];
    let settlement = match random.below(10) {
        0 => Settlement::Requeue,
        1 => Settlement::Retry(None),
        2 => Settlement::Retry(Some(Duration::from_millis(ms))),
        3 => Settlement::DeadLetter("never".into()),
        _ => Settlement::Ack,
    };
    // Of which the second is not charged when it comes back, and the last is not granted.
    let to = [("out", "k"), ("perhaps", "k"), ("", "asker"), ("closed", "k")];
    let publications: Vec<Publication> = (0..random.below(5))
        .map(|_| to[(random.below(13) as usize % 7).min(random.below(4) as usize)])
        .map(|(exchange, routing_key)| Publication {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            body: vec![],
            properties: Properties::default(),
        })
        .collect();
    let refused = publications.iter().any(|publication| publication.exchange == "closed");
    let ordered = worker.manifest.order != Order::None;
    unsettled.claim.missing = publications.len();
    unsettled.claim.acks = settlement == Settlement::Ack && !refused;
    unsettled.claim.given_back =
        settlement == Settlement::Requeue && !refused && !unsettled.message.delivery.redelivered && !ordered;
    Ok(Outcome { settlement, publications })
}

fn manifest(random: &mut Random) -> Manifest {
    let grant = |exchange: &str, unroutable| PublishGrant::To {
        exchange: exchange.into(),
        pattern: Pattern::parse("#").unwrap(),
        unroutable,
    };
    let rules = Rules {
        grants: vec![grant("out", None), grant("perhaps", Some(Unroutable::Drop)), PublishGrant::Reply],
        unroutable: Unroutable::Fail,
        user: "guest".into(),
        max_body: 100,
    };
    let policy = FailurePolicy {
        attempts: 1 + random.below(4) as u32,
        backoff: Backoff { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(300) },
        ..FailurePolicy::default()
    };
    Manifest {
        policy,
        rules: Arc::new(rules),
        order: [Order::None, Order::None, Order::Queue, Order::Key][random.below(4) as usize],
        temporary: random.below(4) == 0,
        letters: random.below(4) != 0,
        prefetch: 1 + random.below(6) as usize,
        dedupe: random.below(3) == 0,
    }
}

/// A broker with some messages on one or two queues. Some have the same id, and some carry headers that look like ours.
fn stock(random: &mut Random) -> (Broker, usize) {
    let queues = 1 + random.below(2) as usize;
    let count = 1 + random.below(10) as usize;
    let mut broker = Broker { extra: vec![0; count], ..Broker::default() };
    broker.queues.resize_with(queues, Queue::default);
    for id in 0..count {
        let queue = random.below(queues as u64) as usize;
        let message_id = Some(format!("m{}", random.below(count as u64)));
        let mut properties = Properties { message_id, ..Properties::default() };
        if random.below(4) == 0 {
            properties.headers.push(("x-wabbit-attempts".into(), Value::I64(9)));
            properties.headers.push(("x-wabbit-queue".into(), Value::text(format!("q{queue}"))));
        }
        let delivery = Delivery {
            body: vec![u8::try_from(id).unwrap()],
            properties,
            exchange: "shop".into(),
            routing_key: "order".into(),
            queue: format!("q{queue}").into(),
            redelivered: false,
            attempt: 1,
        };
        broker.queues[queue].ready.push_back(Message { delivery, failures: 0 });
    }
    (broker, queues)
}
