//! `wabbit bench`: how fast a plugin is in a host of its own, on the user's broker. Leaves no queue behind.
//!
//! First the queue is full and the host takes what it can: that gives the rate, its CPU and its memory. Then messages come at
//! half of that rate, which gives the times from publishing to settlement.

mod host;
mod load;
mod report;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::{Args, builder::RangedU64ValueParser, value_parser};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    host::{Child, Counts},
    load::Load,
    report::{Report, Saturated},
};
use super::{
    Failed, SettingsArgs, executor, settings, style,
    text::{BodyArgs, header, read},
};
use crate::{
    amqp::{Session, declare, delete},
    app::settings::Settings,
    delivery::{self, Delivery, Properties, Value},
    manifest::{self, report as problems},
};

/// Messages of one run, at most: the times of all are kept.
const MESSAGES_MAX: u64 = 10_000_000;
/// For how long messages come at a rate, at most.
const SECONDS_MAX: u64 = 3_600;
/// A queue whose bench was killed goes away by itself after so long.
const EXPIRES: Duration = Duration::from_secs(600);
/// How often it is looked how far the host is, while the queue is full.
const LOOK: Duration = Duration::from_millis(50);
/// The rate is taken between these shares of all messages, so that starting and ending do not count.
const FROM: f64 = 0.1;
const TO: f64 = 0.9;
/// Which part of the rate messages come at, to see how long each takes.
const SHARE: f64 = 0.5;
/// What is taken over from a manifest.
const TAKEN_OVER: [&str; 5] = ["consume", "limits", "publish", "grant", "instance"];

#[derive(Args)]
pub(super) struct Bench {
    /// The plugin
    file: PathBuf,
    /// Use the limits, the grants and `[consume]` of this manifest, not its queues; what the handler publishes is published
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The message as a delivery in JSON, as a command reads it; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "body_file", "size", "headers", "content_type"])]
    delivery: Option<PathBuf>,
    #[command(flatten)]
    body: BodyArgs,
    /// Without a body: the bytes of it
    #[arg(long, value_name = "BYTES", default_value_t = 100, conflicts_with_all = ["body", "body_file"])]
    size: usize,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, Value)>,
    /// The content type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// How many messages fill the queue
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = RangedU64ValueParser::<usize>::new().range(100..=MESSAGES_MAX))]
    messages: usize,
    /// At how many messages a second times are taken [default: half of what the host can do]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=1_000_000))]
    rate: Option<u32>,
    /// For how many seconds; 0 takes no times
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = RangedU64ValueParser::<u64>::new().range(0..=SECONDS_MAX))]
    seconds: u64,
    /// Unsettled deliveries [default: the manifest's, or 200]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    prefetch: Option<u16>,
    /// Use a quorum queue
    #[arg(long)]
    quorum: bool,
    /// Let the broker keep the messages in memory
    #[arg(long)]
    transient: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Bench {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.clone().overrides())?;
        let folder = tempfile::Builder::new().prefix("wabbit-bench-").tempdir().map_err(anyhow::Error::from)?;
        let queue = format!("wabbit.bench.{:016x}", fastrand::u64(..));
        let text = self.manifest_text(&queue)?;
        let (manifests, plugins) = (folder.path().join("manifests"), folder.path().join("plugins"));
        let put = || -> std::io::Result<()> {
            std::fs::create_dir(&manifests)?;
            std::fs::create_dir(&plugins)?;
            std::fs::copy(&self.file, plugins.join("bench.wasm"))?;
            std::fs::write(manifests.join("bench.toml"), &text)
        };
        put().with_context(|| format!("cannot copy `{}`", self.file.display()))?;
        let delivery = self.message(&queue)?;
        let executor = executor()?;
        let report = executor.block_on(self.on_a_queue(&settings, folder.path(), &queue, &text, delivery));
        executor.shutdown_background();
        let report = report?;
        if self.json {
            println!("{}", report.json())
        } else {
            print!("{report}")
        }
        if report.failed() > 0 { Err(Failed::Reported) } else { Ok(()) }
    }

    /// The manifest of the worker that is measured: what it may do is the user's, the queue is not.
    fn manifest_text(&self, queue: &str) -> Result<String, Failed> {
        let mut table = toml::Table::new();
        if let Some(path) = &self.manifest {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            let taken: toml::Table = toml::from_str(&text)
                .map_err(|error| Failed::Configuration(format!("error: `{}`: {error}", path.display())))?;
            table.extend(taken.into_iter().filter(|(key, _)| TAKEN_OVER.contains(&key.as_str())));
        }
        let own = format!(
            "plugin = \"bench.wasm\"\n[[queue]]\nname = \"{queue}\"\n{}arguments = {{ x-expires = {}, \
             x-dead-letter-exchange = \"\", x-dead-letter-routing-key = \"{queue}.nowhere\" }}\n\
             [failure]\nattempts = 1\ndead-letter = \"broker\"\n",
            if self.quorum { "quorum = true\n" } else { "" },
            EXPIRES.as_millis(),
        );
        table.extend(toml::from_str::<toml::Table>(&own).map_err(anyhow::Error::from)?);
        if let Some(prefetch) = self.prefetch {
            let consume = table.entry("consume").or_insert_with(|| toml::Table::new().into());
            if let Some(consume) = consume.as_table_mut() {
                consume.insert("prefetch".into(), i64::from(prefetch).into());
            }
        }
        Ok(toml::to_string(&table).map_err(anyhow::Error::from)?)
    }

    fn message(&self, queue: &str) -> anyhow::Result<Delivery> {
        let mode = Some(if self.transient { 1 } else { 2 });
        let mut delivery = match &self.delivery {
            Some(path) => delivery::json::parse_delivery(&read(path)?, queue)
                .map_err(|error| anyhow!("`{}` is not a delivery: {error}", path.display()))?,
            None => {
                let body = self.body.read()?;
                let properties = Properties {
                    headers: self.headers.clone(),
                    content_type: self.content_type.clone(),
                    ..Properties::default()
                };
                let body = if body.is_empty() { vec![b'x'; self.size] } else { body };
                let (exchange, routing_key) = (String::new(), queue.to_owned());
                let (queue, redelivered, attempt) = (queue.into(), false, 1);
                Delivery { body, properties, exchange, routing_key, queue, redelivered, attempt }
            }
        };
        delivery.properties.delivery_mode = mode;
        Ok(delivery)
    }

    /// Declares the queue, measures, and deletes it, however the measuring ended.
    async fn on_a_queue(
        &self,
        settings: &Settings,
        folder: &Path,
        queue: &str,
        text: &str,
        delivery: Delivery,
    ) -> Result<Report, Failed> {
        let path = folder.join("manifests/bench.toml");
        let manifest = manifest::parse(&path, text, &settings.host.ceilings()).map_err(|found| {
            let path = self.manifest.as_deref().unwrap_or(&path);
            Failed::Configuration(problems::render(path, &found, style()))
        })?;
        let (mut terminate, mut interrupt) = (
            signal(SignalKind::terminate()).map_err(anyhow::Error::from)?,
            signal(SignalKind::interrupt()).map_err(anyhow::Error::from)?,
        );
        let session = Arc::new(Session::connect_to_any(&settings.amqp).await?);
        declare(&session, &manifest, &HashMap::new()).await?;
        let measured = tokio::select! {
            measured = self.measure(settings, folder, queue, &delivery, &session) => measured,
            _ = terminate.recv() => Err(anyhow!("terminated")),
            _ = interrupt.recv() => Err(anyhow!("interrupted")),
            () = session.lost().cancelled() => Err(anyhow!("the connection was lost")),
        };
        let deleted = delete(&session, queue).await;
        session.close().await;
        let report = measured?;
        deleted?;
        Ok(report)
    }

    async fn measure(
        &self,
        settings: &Settings,
        folder: &Path,
        queue: &str,
        delivery: &Delivery,
        session: &Arc<Session>,
    ) -> anyhow::Result<Report> {
        let mut load = Load::open(session, queue, delivery, settings.amqp.publish_timeout).await?;
        let bar = load::bar("filling the queue", self.messages);
        load.fill(self.messages, &bar).await?;
        bar.finish_and_clear();

        let child = Child::start(&self.settings, settings, folder).await?;
        let bar = load::bar("handling", self.messages);
        let (from, to) = window(self.messages);
        let mut first = None;
        let saturated = loop {
            let counts = child.look().await?;
            bar.set_position(counts.done());
            if counts.done() >= from && first.is_none() {
                first = Some(child.measure(&counts)?);
            }
            if let Some(first) = &first
                && counts.done() >= to
            {
                break Saturated::between(first, &child.measure(&counts)?);
            }
            child.check_progress()?;
            tokio::time::sleep(LOOK).await;
        };
        let all = self.messages as u64;
        child.wait_for(all, &bar).await?;
        bar.finish_and_clear();

        let half = saturated.as_ref().map(|saturated| (saturated.rate * SHARE).max(1.0));
        let times = match (self.seconds, self.rate.map(f64::from).or(half)) {
            (0, _) | (_, None) => None,
            (seconds, Some(rate)) => {
                let bar = load::bar("timing", (rate * seconds as f64) as usize);
                let times = load.at_a_rate(rate, Duration::from_secs(seconds), &child, all, &bar).await?;
                bar.finish_and_clear();
                Some((rate, times))
            }
        };
        let Counts { by_outcome, failures } = child.look().await?;
        let memory_mib = child.memory_mib()?;
        child.stop().await?;
        load.close().await?;
        Ok(Report {
            plugin: self.file.display().to_string(),
            messages: self.messages,
            bytes: delivery.body.len(),
            saturated,
            memory_mib,
            times,
            by_outcome,
            failures,
        })
    }
}

/// Between how many messages the rate is taken.
fn window(messages: usize) -> (u64, u64) {
    let at = |share: f64| (messages as f64 * share) as u64;
    (at(FROM), at(TO))
}
