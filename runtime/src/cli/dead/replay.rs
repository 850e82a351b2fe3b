//! `wabbit dead replay`: letters back to where they failed. Each leaves the dead-letter queue when the broker has
//! confirmed it in the other one, and never before.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;

use super::{ID, print, queue_name, waiting, with_broker};
use crate::{
    amqp::{Letters, Publisher, Session},
    cli::{Failed, SettingsArgs, publish::progress, settings},
    delivery::{Delivery, Value},
    escape::escape,
    outcome::Checked,
    settle::{Verdict, replay},
};

/// Letters that are on their way at any time.
const IN_HAND_MAX: usize = 200;
/// Bytes of their bodies, from which on no further one is taken.
const IN_HAND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Letters that are left are told one by one up to this many.
const TOLD_MAX: u64 = 20;

#[derive(Args)]
pub(super) struct Replay {
    /// The dead-letter queue
    #[arg(value_parser = queue_name)]
    queue: String,
    #[command(flatten)]
    which: Which,
    /// Send to this queue instead of the one that each letter failed on
    #[arg(long, value_name = "QUEUE", value_parser = queue_name)]
    to: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The letter with this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// All letters that are in the queue now
    #[arg(long)]
    all: bool,
}

/// A letter that is on its way.
struct InHand {
    tag: u64,
    id: String,
    bytes: usize,
}

struct Work {
    letters: Letters,
    publisher: Publisher<InHand>,
    to: Option<String>,
    patience: Duration,
    /// Of the bodies on their way.
    bytes: usize,
    replayed: u64,
    left: u64,
    bar: ProgressBar,
}

impl Replay {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let Self { queue, which, to, settings: args } = self;
        if to.as_ref() == Some(&queue) {
            return Err(Failed::Usage(format!("`--to {queue}` is the dead-letter queue itself")));
        }
        let settings = settings(&args.overrides())?;
        let patience = settings.amqp.publish_timeout;
        with_broker(&settings, async |session| {
            let count = waiting(&session, &queue).await?;
            let mut work = Work::open(session, &queue, to, patience, count).await?;
            let result = match &which.id {
                Some(id) => work.one(id, count).await.with_context(|| format!("queue `{queue}`")),
                None => work.all(count).await.with_context(|| format!("queue `{queue}`")),
            };
            let (replayed, left) = work.end().await;
            if replayed > 0 || result.is_ok() {
                print(&match left {
                    0 => format!("{replayed} replayed\n"),
                    _ => format!("{replayed} replayed, {left} left\n"),
                })?;
            }
            result?;
            if left > 0 { Err(Failed::Reported) } else { Ok(()) }
        })
    }
}

impl Work {
    async fn open(
        session: Arc<Session>,
        queue: &str,
        to: Option<String>,
        patience: Duration,
        count: u32,
    ) -> Result<Self, Failed> {
        let letters = Letters::open(&session, queue).await?;
        let publisher = Publisher::open(session).await?;
        let bar = progress(Some(count.into()));
        Ok(Self { letters, publisher, to, patience, bytes: 0, replayed: 0, left: 0, bar })
    }

    /// The letter of this id. Those before it are held until it is found, and go back then.
    async fn one(&mut self, id: &str, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let Some(received) = self.letters.next().await? else { break };
            if id_of(&received.delivery).as_deref() == Some(id) {
                self.send(received.tag, Arc::unwrap_or_clone(received.delivery));
                return self.finish().await;
            }
        }
        bail!("there is no letter with the id `{id}`; hint: `wabbit dead show` names them")
    }

    /// So many letters: one that fails again and comes back in the meantime is not taken again.
    async fn all(&mut self, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let Some(received) = self.letters.next().await? else { break };
            self.send(received.tag, Arc::unwrap_or_clone(received.delivery));
            self.settle(false).await?;
            while self.publisher.pending() >= IN_HAND_MAX || self.bytes >= IN_HAND_BYTES_MAX {
                self.settle(true).await?;
            }
        }
        self.finish().await
    }

    fn send(&mut self, tag: u64, letter: Delivery) {
        let id = id_of(&letter).unwrap_or_else(|| "-".to_owned());
        match replay(letter, self.to.as_deref()) {
            Ok(publication) => {
                let bytes = publication.body.len();
                self.bytes += bytes;
                let checked = Checked { publication, mandatory: true, charged: true, reply: false };
                self.publisher.send(checked, InHand { tag, id, bytes });
            }
            Err(why) => self.leave(&id, &why.to_string()),
        }
    }

    async fn finish(&mut self) -> anyhow::Result<()> {
        while self.publisher.pending() > 0 {
            self.settle(true).await?;
        }
        Ok(())
    }

    /// Takes the verdicts that are there, or waits for some; what is confirmed leaves the dead-letter queue.
    async fn settle(&mut self, wait: bool) -> anyhow::Result<()> {
        let mut verdicts = Vec::new();
        let polled = poll_fn(|cx| match self.publisher.poll_verdicts(cx, &mut verdicts) {
            Poll::Pending if !wait => Poll::Ready(Ok(())),
            polled => polled,
        });
        let result = tokio::time::timeout(self.patience, polled).await;
        for (sent, verdict) in verdicts {
            let queue = &sent.routing_key;
            self.bytes = self.bytes.saturating_sub(sent.what.bytes);
            let why = match verdict {
                Verdict::Confirmed => {
                    self.letters.ack(sent.what.tag).await?;
                    self.replayed += 1;
                    self.bar.set_position(self.replayed);
                    continue;
                }
                Verdict::Returned => {
                    format!("there is no queue `{queue}`; hint: make it again, or choose another with `--to QUEUE`")
                }
                Verdict::Nacked => format!("the broker refused it for queue `{queue}`; hint: is the queue full?"),
                Verdict::Forbidden => format!("the user may not publish to queue `{queue}`"),
                Verdict::Lost => "no confirm came: it may be there twice".to_owned(),
            };
            self.leave(&sent.what.id, &why);
        }
        match result {
            Ok(result) => Ok(result?),
            Err(_) => bail!("no confirm within {}", humantime::format_duration(self.patience)),
        }
    }

    fn leave(&mut self, id: &str, why: &str) {
        self.left += 1;
        if self.left <= TOLD_MAX {
            self.bar.suspend(|| eprintln!("error: letter {}: {}", escape(id.as_bytes()), escape(why.as_bytes())));
        }
    }

    /// Closes both channels, so that what is not acked goes back; gives the numbers of letters replayed and left.
    async fn end(self) -> (u64, u64) {
        self.bar.finish_and_clear();
        if self.left > TOLD_MAX {
            eprintln!("error: and {} more", self.left - TOLD_MAX);
        }
        // What these would say is known by now: the connection is gone, and with it the channels.
        let _ = self.publisher.close().await;
        let _ = self.letters.close().await;
        (self.replayed, self.left)
    }
}

fn id_of(letter: &Delivery) -> Option<String> {
    match letter.properties.header(ID) {
        Some(Value::Text(id)) => Some(String::from_utf8_lossy(id).into_owned()),
        _ => None,
    }
}
