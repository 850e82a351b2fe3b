//! The good worker beside the hostile ones: messages through it at a steady beat, and how long each takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Vhost;
use crate::harness::{DEADLINE, wait_until};

/// From one message to the next.
const BEAT: Duration = Duration::from_millis(5);

/// Messages that went through, and how long they took.
#[derive(Default)]
struct Seen {
    waiting: BTreeMap<u64, Instant>,
    took: Vec<Duration>,
    unknown: usize,
}

/// The peer of the good worker.
#[derive(Clone)]
pub struct Pulse {
    peer: Arc<Peer>,
    queue: String,
    body: String,
    seen: Arc<Mutex<Seen>>,
    number: Arc<Mutex<u64>>,
}

impl Pulse {
    /// The good worker's manifest.
    pub fn manifest() -> &'static str {
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@good\"\n[[queue]]\nname = \"@echo\"\nconsume = false\n\
         [grant]\npublish = [\"/@echo\"]\n"
    }

    /// Begins to listen to what it answers.
    pub async fn new(vhost: &Vhost) -> Self {
        let peer = Arc::new(Peer::connect(&vhost.url).await);
        let (options, arguments) = (BasicConsumeOptions { no_ack: true, ..Default::default() }, FieldTable::default());
        let echo = vhost.unique("echo");
        let mut answers =
            peer.channel().basic_consume(echo.as_str().into(), "".into(), options, arguments).await.unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let seen_by_task = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(Ok(answer)) = answers.next().await {
                let id = answer.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
                let mut seen = seen_by_task.lock().unwrap();
                match id.and_then(|id| seen.waiting.remove(&id)) {
                    Some(since) => seen.took.push(since.elapsed()),
                    None => seen.unknown += 1,
                }
            }
        });
        let body = format!(r#"{{"do":"echo","to":"/{echo}"}}"#);
        Self { peer, queue: vhost.unique("good"), body, seen, number: Arc::default() }
    }

    /// Beats while `work` is done, then waits for what is still on its way. Returns what each message took.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Duration>) {
        let beat = async {
            let mut beat = tokio::time::interval(BEAT);
            loop {
                beat.tick().await;
                self.beat().await;
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = beat => unreachable!("it never ends"),
        };
        wait_until(DEADLINE, "the good worker's answers", async || match self.seen.lock().unwrap().waiting.len() {
            0 => Ok(()),
            missing => Err(format!("{missing} are missing")),
        })
        .await;
        let mut seen = self.seen.lock().unwrap();
        assert_eq!(seen.unknown, 0, "answers that nobody asked for");
        (done, std::mem::take(&mut seen.took))
    }

    async fn beat(&self) {
        let number = {
            let mut number = self.number.lock().unwrap();
            *number += 1;
            self.seen.lock().unwrap().waiting.insert(*number, Instant::now());
            *number
        };
        let properties = persistent().with_delivery_mode(1).with_message_id(number.to_string().into());
        let options = BasicPublishOptions::default();
        let sent = self.peer.channel().basic_publish(
            "".into(),
            self.queue.as_str().into(),
            options,
            self.body.as_bytes(),
            properties,
        );
        drop(sent.await.unwrap());
    }
}

/// So many of a hundred took no longer than this.
pub fn percentile(took: &[Duration], percent: usize) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}
