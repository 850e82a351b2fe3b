//! Messages for the host that is measured: as many as there is room for, or so many a second.

use std::{
    future::poll_fn,
    io::IsTerminal as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::host::Child;
use crate::{
    amqp::{Publisher, Session},
    delivery::Delivery,
    outcome::{Checked, Publication},
    settle::Verdict,
};

/// Publications without a verdict at any time.
const PIPELINED_MAX: usize = 1_000;
/// How often messages are sent that come at a rate.
const BEAT: Duration = Duration::from_millis(2);
/// How often it is looked how many are settled, while times are taken: a time is right to about so much.
const LOOK: Duration = Duration::from_millis(1);

pub(super) struct Load {
    publisher: Publisher<()>,
    publication: Publication,
    timeout: Duration,
}

impl Load {
    /// For this queue: messages like this delivery.
    pub(super) async fn open(
        session: &Arc<Session>,
        queue: &str,
        delivery: &Delivery,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let publication = Publication {
            exchange: String::new(),
            routing_key: queue.to_owned(),
            body: delivery.body.clone(),
            properties: delivery.properties.clone(),
        };
        Ok(Self { publisher: Publisher::open(Arc::clone(session)).await?, publication, timeout })
    }

    fn send(&mut self) {
        let publication = self.publication.clone();
        self.publisher.send(Checked { publication, mandatory: true, charged: true, reply: false }, ());
    }

    /// Takes verdicts until no more than so many are missing. Returns how many came.
    async fn confirmed(&mut self, missing: usize) -> anyhow::Result<usize> {
        let mut count = 0;
        self.publisher.flush();
        while self.publisher.pending() > missing {
            count += self.verdicts().await?;
        }
        Ok(count)
    }

    /// The next verdicts that come.
    async fn verdicts(&mut self) -> anyhow::Result<usize> {
        let mut verdicts = Vec::new();
        let came = poll_fn(|cx| self.publisher.poll_verdicts(cx, &mut verdicts));
        tokio::time::timeout(self.timeout, came).await.context("the broker confirms nothing")??;
        if verdicts.iter().any(|(_, verdict)| *verdict != Verdict::Confirmed) {
            bail!("the broker does not take a message for its own queue");
        }
        Ok(verdicts.len())
    }

    /// Puts so many into the queue.
    pub(super) async fn fill(&mut self, count: usize, bar: &ProgressBar) -> anyhow::Result<()> {
        for _ in 0..count {
            self.send();
            if self.publisher.pending() >= PIPELINED_MAX {
                bar.inc(self.confirmed(PIPELINED_MAX / 2).await? as u64);
            }
        }
        self.confirmed(0).await?;
        Ok(())
    }

    /// Sends so many a second for so long, to a host that has settled `before` of them already. Returns, for each, how long
    /// it was from when it was due until as many were settled as had been sent by then, itself included.
    pub(super) async fn at_a_rate(
        &mut self,
        rate: f64,
        time: Duration,
        child: &Child,
        before: u64,
        bar: &ProgressBar,
    ) -> anyhow::Result<Vec<Duration>> {
        let total = (rate * time.as_secs_f64()).ceil() as usize;
        let began = Instant::now();
        let sending = async {
            let mut beat = interval(BEAT);
            beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut sent = 0;
            while sent < total {
                beat.tick().await;
                let due = (began.elapsed().as_secs_f64() * rate) as usize;
                for _ in sent..due.min(total) {
                    self.send();
                }
                sent = sent.max(due.min(total));
                self.publisher.flush();
                if self.publisher.pending() >= PIPELINED_MAX {
                    self.confirmed(PIPELINED_MAX / 2).await?;
                }
            }
            self.confirmed(0).await
        };
        let watching = async {
            let mut times = Vec::with_capacity(total);
            while times.len() < total {
                let counts = child.look().await?;
                let settled = usize::try_from(counts.done().saturating_sub(before)).unwrap_or(total).min(total);
                let now = began.elapsed();
                for number in times.len()..settled {
                    times.push(now.saturating_sub(Duration::from_secs_f64((number + 1) as f64 / rate)));
                }
                bar.set_position(settled as u64);
                child.check_progress()?;
                sleep(LOOK).await;
            }
            Ok(times)
        };
        let (_, times) = tokio::try_join!(sending, watching)?;
        Ok(times)
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        Ok(self.publisher.close().await?)
    }
}

/// A bar on a terminal.
pub(super) fn bar(what: &'static str, total: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64).with_message(what);
    // A template that cannot be read would leave the default look.
    match ProgressStyle::with_template("{msg:20} {bar:40} {pos}/{len}, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
