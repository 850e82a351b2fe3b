//! `wabbit publish`: messages in, confirmed.

use std::{
    future::poll_fn,
    io::{BufRead as _, IsTerminal as _},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::{
    Failed, SettingsArgs, executor, settings,
    text::{BodyArgs, header},
};
use crate::{
    amqp::{Publisher, Session},
    app::settings::Settings,
    delivery::{Properties, Value},
    outcome::{Checked, Publication, check_carriable},
    settle::Verdict,
};

/// Publications without a verdict at any time.
const PIPELINED_MAX: usize = 1_000;
/// Publications that are waited for together, where that is asked for.
const BATCH: usize = 100;
/// A publication of more than this many messages shows how far it is, and how fast it was.
const LONG: u64 = 2_000;

/// How many messages are on their way before a confirm is waited for.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Confirms {
    /// Each message is confirmed before the next is sent
    Each,
    /// 100 messages are sent, and all of them are confirmed before the next 100
    Batch,
    /// At most 1,000 messages are without a confirm, and none waits for one of its own
    Pipelined,
}

impl Confirms {
    /// How many may be without a confirm.
    fn window(self) -> usize {
        match self {
            Self::Each => 1,
            Self::Batch => BATCH,
            Self::Pipelined => PIPELINED_MAX,
        }
    }

    /// Whether one more may be sent. A batch is filled, then waited for; in the other ways there is room as soon as one is
    /// confirmed.
    fn has_room(self, pending: usize, was_filling: bool) -> bool {
        match pending {
            0 => true,
            pending => pending < self.window() && (was_filling || self != Self::Batch),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Args)]
pub(super) struct Publish {
    /// The exchange; the default one sends to the queue that the routing key names
    #[arg(long, value_name = "NAME", default_value = "")]
    exchange: String,
    /// The routing key
    #[arg(long, value_name = "KEY")]
    routing_key: String,
    #[command(flatten)]
    body: BodyArgs,
    /// Publish each line of standard input as a message
    #[arg(long, conflicts_with_all = ["body", "body_file", "count"])]
    lines: bool,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, Value)>,
    /// The content type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Let the messages survive a restart of the broker, in durable queues
    #[arg(long)]
    persistent: bool,
    /// How often the message is published
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u64,
    /// When confirms are waited for; of several ways, separated by commas, each publishes all, and the rates are shown
    #[arg(long, value_name = "WAY", value_enum, value_delimiter = ',', default_value = "pipelined")]
    confirms: Vec<Confirms>,
    #[command(flatten)]
    settings: SettingsArgs,
}

type Bodies = mpsc::Receiver<anyhow::Result<Vec<u8>>>;

#[derive(Default)]
struct Tally {
    confirmed: u64,
    returned: u64,
    nacked: u64,
    lost: u64,
}

impl Publish {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.clone().overrides())?;
        let executor = executor()?;
        let result = executor.block_on(self.publish(settings));
        executor.shutdown_background();
        Ok(result?)
    }

    async fn publish(self, settings: Settings) -> anyhow::Result<()> {
        if self.lines && self.confirms.len() > 1 {
            bail!("`--lines` can be read once; hint: name one way with `--confirms`");
        }
        let template = self.publication();
        check_carriable(&template, settings.host.max_body).map_err(|failure| anyhow::anyhow!(failure.error))?;
        let session = Arc::new(Session::connect_to_any(&settings.amqp).await?);
        let mut publisher = Publisher::open(Arc::clone(&session)).await?;
        publisher.probe(&self.exchange).await.with_context(|| format!("exchange `{}`", self.exchange))?;
        for way in &self.confirms {
            let began = Instant::now();
            let tally = self.send_all(*way, &template, &settings, &session, &mut publisher).await?;
            if tally.returned + tally.nacked + tally.lost > 0 {
                let closed = publisher.close().await;
                session.close().await;
                let besides = closed.err().map(|error| format!("; closing failed, too: {error:#}")).unwrap_or_default();
                bail!("{}{besides}; hint: bind a queue to the exchange for this routing key", tally.text());
            }
            let mut text = tally.text();
            if self.confirms.len() > 1 || tally.confirmed > LONG {
                let took = began.elapsed();
                let rate = tally.confirmed as f64 / took.as_secs_f64();
                text = format!("{text} in {:.2} s, {rate:.0} a second ({})", took.as_secs_f64(), way.name());
            }
            println!("{text}");
        }
        publisher.close().await?;
        session.close().await;
        Ok(())
    }

    /// Publishes all, and tells what became of it.
    async fn send_all(
        &self,
        way: Confirms,
        template: &Publication,
        settings: &Settings,
        session: &Session,
        publisher: &mut Publisher<()>,
    ) -> anyhow::Result<Tally> {
        let (total, mut bodies) = self.bodies()?;
        let bar = progress(total);
        let mut tally = Tally::default();
        let (mut open, mut filling) = (true, true);
        while open || publisher.pending() > 0 {
            filling = way.has_room(publisher.pending(), filling);
            let mut verdicts = Vec::new();
            tokio::select! {
                body = bodies.recv(), if open && filling => match body {
                    Some(body) => {
                        let publication = Publication { body: body?, ..template.clone() };
                        check_carriable(&publication, settings.host.max_body)
                            .map_err(|failure| anyhow::anyhow!(failure.error))?;
                        publisher.send(Checked { publication, mandatory: true, charged: true, reply: false }, ());
                    }
                    None => open = false,
                },
                result = poll_fn(|cx| publisher.poll_verdicts(cx, &mut verdicts)) => {
                    tally.add(verdicts.iter().map(|(_, verdict)| *verdict));
                    bar.set_position(tally.confirmed);
                    result.with_context(|| tally.text())?;
                }
                () = tokio::time::sleep(settings.amqp.publish_timeout), if publisher.pending() > 0 => {
                    bail!("no confirm within {}; {}", duration(settings.amqp.publish_timeout), tally.text());
                }
                () = session.lost().cancelled() => bail!("the connection was lost; {}", tally.text()),
            }
        }
        bar.finish_and_clear();
        Ok(tally)
    }

    fn publication(&self) -> Publication {
        Publication {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            body: Vec::new(),
            properties: Properties {
                content_type: self.content_type.clone(),
                delivery_mode: Some(if self.persistent { 2 } else { 1 }),
                headers: self.headers.clone(),
                ..Properties::default()
            },
        }
    }

    /// All bodies, and how many there are where that is known. They are read as they are sent.
    fn bodies(&self) -> anyhow::Result<(Option<u64>, Bodies)> {
        let (sender, receiver) = mpsc::channel(PIPELINED_MAX);
        if self.lines {
            // Reading may block for ever: a thread of its own, which ends with the process.
            std::thread::spawn(move || {
                for line in std::io::stdin().lock().split(b'\n') {
                    let line = line.context("cannot read standard input");
                    if sender.blocking_send(line).is_err() {
                        return;
                    }
                }
            });
            return Ok((None, receiver));
        }
        let (body, count) = (self.body.read()?, self.count);
        tokio::spawn(async move {
            for _ in 0..count {
                if sender.send(Ok(body.clone())).await.is_err() {
                    return;
                }
            }
        });
        Ok((Some(count), receiver))
    }
}

impl Tally {
    fn add(&mut self, verdicts: impl Iterator<Item = Verdict>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Confirmed => self.confirmed += 1,
                Verdict::Returned => self.returned += 1,
                Verdict::Nacked | Verdict::Forbidden => self.nacked += 1,
                Verdict::Lost => self.lost += 1,
            }
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} confirmed", self.confirmed);
        for (count, what) in [
            (self.returned, "returned: no queue took them"),
            (self.nacked, "refused by the broker"),
            (self.lost, "without a confirm"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }
}

/// A bar on a terminal, where there is a lot to do or nobody knows how much.
pub(super) fn progress(total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) if total > LONG && std::io::stderr().is_terminal() => ProgressBar::new(total),
        None if std::io::stderr().is_terminal() => ProgressBar::new_spinner(),
        _ => return ProgressBar::hidden(),
    };
    // A template that cannot be read would leave the default look.
    match ProgressStyle::with_template("{bar:40} {pos}/{len} confirmed, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn duration(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_filled_and_then_waited_for() {
        let room = |way: Confirms| {
            [(0, false), (1, true), (1, false), (99, true), (100, true), (999, false), (1_000, true)]
                .map(|(pending, was_filling)| way.has_room(pending, was_filling))
        };
        assert_eq!(room(Confirms::Each), [true, false, false, false, false, false, false]);
        assert_eq!(room(Confirms::Batch), [true, true, false, true, false, false, false]);
        assert_eq!(room(Confirms::Pipelined), [true, true, true, true, true, true, false]);
    }
}
