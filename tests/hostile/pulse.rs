//! The good worker beside the hostile ones: messages through it at a steady beat, and how long each takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Vhost;
use crate::harness::{DEADLINE, wait_until};

/// From one message to the next.
const BEAT: Duration = Duration::from_millis(5);

/// Messages that went through, and how long they took.
#[derive(Default)]
struct Seen {
    beating: bool,
    waiting: BTreeMap<u64, Instant>,
    took: Vec<Duration>,
    unknown: usize,
}

/// The peer of the good worker. It has a thread of its own: what the test does meanwhile is not to be measured.
#[derive(Clone)]
pub struct Pulse {
    wanted: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
}

impl Pulse {
    /// The good worker's manifest.
    pub fn manifest() -> &'static str {
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@good\"\n[[queue]]\nname = \"@echo\"\nconsume = false\n\
         [grant]\npublish = [\"/@echo\"]\n"
    }

    /// Begins to listen to what it answers. Ends when it is dropped.
    pub async fn new(vhost: &Vhost) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (wanted, to_want) = watch::channel(false);
        let heart = Heart {
            url: vhost.url.clone(),
            queue: vhost.unique("good"),
            echo: vhost.unique("echo"),
            seen: Arc::clone(&seen),
        };
        let (ready, begun) = oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(heart.run(to_want, ready));
        });
        begun.await.expect("the pulse's own connection");
        Self { wanted, seen }
    }

    /// Beats while `work` is done, then waits for what is still on its way. Returns what each message took.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Duration>) {
        self.wanted.send_replace(true);
        let done = work.await;
        self.wanted.send_replace(false);
        wait_until(DEADLINE, "the good worker's answers", async || {
            let seen = self.seen.lock().unwrap();
            match seen.waiting.len() {
                0 if !seen.beating => Ok(()),
                missing => Err(format!("{missing} are missing")),
            }
        })
        .await;
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.unknown, 0, "answers that nobody asked for");
        (done, std::mem::take(&mut seen.took))
    }
}

/// What the thread has.
struct Heart {
    url: String,
    queue: String,
    echo: String,
    seen: Arc<Mutex<Seen>>,
}

impl Heart {
    async fn run(self, mut wanted: watch::Receiver<bool>, ready: oneshot::Sender<()>) {
        let peer = Peer::connect(&self.url).await;
        let (options, arguments) = (BasicConsumeOptions { no_ack: true, ..Default::default() }, FieldTable::default());
        let consume = peer.channel().basic_consume(self.echo.as_str().into(), "".into(), options, arguments);
        let mut answers = consume.await.unwrap();
        let body = format!(r#"{{"do":"echo","to":"/{}"}}"#, self.echo);
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut number, mut beating) = (0, false);
        ready.send(()).unwrap();
        loop {
            tokio::select! {
                changed = wanted.changed() => {
                    let Ok(()) = changed else { return };
                    beating = *wanted.borrow_and_update();
                    self.seen.lock().unwrap().beating = beating;
                }
                Some(Ok(answer)) = answers.next() => {
                    let id = answer.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
                    let mut seen = self.seen.lock().unwrap();
                    match id.and_then(|id| seen.waiting.remove(&id)) {
                        Some(since) => seen.took.push(since.elapsed()),
                        None => seen.unknown += 1,
                    }
                }
                _ = beat.tick(), if beating => {
                    number += 1;
                    self.seen.lock().unwrap().waiting.insert(number, Instant::now());
                    let properties = persistent().with_delivery_mode(1).with_message_id(number.to_string().into());
                    let (queue, options) = (self.queue.as_str().into(), BasicPublishOptions::default());
                    let sent = peer.channel().basic_publish("".into(), queue, options, body.as_bytes(), properties);
                    drop(sent.await.unwrap());
                }
            }
        }
    }
}

/// So many of a hundred took no longer than this.
pub fn percentile(took: &[Duration], percent: usize) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}
