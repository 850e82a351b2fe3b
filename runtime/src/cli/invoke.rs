//! `wabbit invoke`: one message through one plugin. Nothing is published.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Map, Value as Json, json};

use super::{
    Failed, SettingsArgs, executor, settings, style,
    text::{BodyArgs, header, read},
};
use crate::{
    app::{self, Grantor, Reach, settings::LogFormat},
    delivery::{self, Delivery, Properties, Value},
    manifest::{self, Manifest, report},
    outcome::{self, Outcome, Settlement, check},
    sandbox::{Kept, LoadError, Sandbox, Source},
    telemetry,
};

#[derive(Args)]
pub(super) struct Invoke {
    /// The plugin
    file: PathBuf,
    /// Use the limits and grants of this manifest; without one, nothing is granted
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The delivery as JSON, as a command reads it; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "body_file", "routing_key", "exchange", "headers", "content_type", "reply_to"])]
    delivery: Option<PathBuf>,
    #[command(flatten)]
    body: BodyArgs,
    /// The delivery's routing key
    #[arg(long, value_name = "KEY", default_value = "")]
    routing_key: String,
    /// The delivery's exchange
    #[arg(long, value_name = "NAME", default_value = "")]
    exchange: String,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, Value)>,
    /// The delivery's content type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The delivery's reply-to
    #[arg(long, value_name = "QUEUE")]
    reply_to: Option<String>,
    /// Run it so often, or until it fails; the outcome printed is the last
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=REPEAT_MAX))]
    repeat: usize,
    /// With --repeat, call one instance again and again instead of a fresh one each time
    #[arg(long)]
    reuse: bool,
    /// Do what the manifest grants outside of the sandbox, such as HTTP requests
    #[arg(long, requires = "manifest")]
    effects: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// How often a handler is run at most: the times are kept until all are there.
const REPEAT_MAX: u64 = 10_000_000;

impl Invoke {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.clone().overrides())?;
        telemetry::init_logging(LogFormat::Text)?;
        let manifest = match &self.manifest {
            Some(path) => manifest::read::text_of(path)
                .map_err(|problem| vec![problem])
                .and_then(|text| manifest::parse(path, &text, &settings.host.ceilings()))
                .map_err(|problems| Failed::Configuration(report::render(path, &problems, style())))?,
            None => Manifest::bare("invoke"),
        };
        let plugin_error = |error: LoadError| Failed::Error(anyhow::anyhow!(error.of(&self.file)));
        let sandbox = Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache))?;
        let plugin = Source::read(&self.file, settings.compile.file)
            .and_then(|source| sandbox.load(&source, !manifest.grant.files.is_empty()))
            .map_err(plugin_error)?;
        let log = app::log(&settings, &manifest);
        let grantor = Grantor::new(&settings, if self.effects { Reach::Real } else { Reach::Scratch })?;
        if !self.effects && !manifest.grant.files.is_empty() {
            tracing::info!(
                worker = manifest.name,
                "no folder is granted; hint: --effects grants those of the manifest"
            );
        }
        let delivery = self.delivery(&manifest)?;
        let version = app::version(&settings, &grantor, Arc::new(manifest), plugin, log).map_err(plugin_error)?;

        let executor = executor()?;
        let mut took = Vec::new();
        let result = executor.block_on(async {
            if self.reuse && version.plugin.is_command() {
                let file = self.file.display();
                return Err(Failed::Usage(format!("`{file}` is a command, which ends with its answer")));
            }
            let kept = self.reuse.then(|| Kept::new(u32::MAX));
            loop {
                let start = Instant::now();
                let result = match &kept {
                    Some(kept) => version.plugin.handle_again(&delivery, &version.scope, kept).await,
                    None => version.plugin.handle(&delivery, &version.scope).await,
                };
                took.push(start.elapsed());
                if result.is_err() || took.len() >= self.repeat {
                    return Ok::<_, Failed>(result);
                }
            }
        })?;
        executor.shutdown_background();
        let took = Took::of(took);
        // What the broker would never see is a failure here, too.
        let reply_to = delivery.properties.reply_to.as_deref();
        let result = result.and_then(|outcome| {
            for publication in &outcome.publications {
                check(publication.clone(), reply_to, &version.rules)?;
            }
            Ok(outcome)
        });
        // What is shown to a person has no secret in it.
        let redactor = Arc::clone(&version.scope.grants.redactor);
        drop(version);
        grantor.close();
        match result.map(|outcome| redactor.outcome(outcome)).map_err(|failure| redactor.failure(failure)) {
            Ok(outcome) => {
                if self.json {
                    let mut json = outcome::json::of(&outcome).map_err(anyhow::Error::from)?;
                    if let Some(fields) = json.as_object_mut() {
                        fields.extend(took.json());
                    }
                    println!("{json}");
                } else {
                    print_outcome(&outcome);
                    println!("{took}");
                }
                Ok(())
            }
            Err(failure) => {
                if self.json {
                    let mut fields = took.json();
                    fields.insert("failure".into(), json!(failure.kind.as_str()));
                    fields.insert("error".into(), json!(failure.error));
                    println!("{}", Json::from(fields));
                } else {
                    eprintln!("failure: {failure}");
                    eprintln!("{took}");
                }
                Err(Failed::Reported)
            }
        }
    }

    fn delivery(&self, manifest: &Manifest) -> anyhow::Result<Delivery> {
        let queue = manifest.queues.first().map_or("invoke", |queue| queue.name.as_str());
        if let Some(path) = &self.delivery {
            return delivery::json::parse_delivery(&read(path)?, queue)
                .map_err(|error| anyhow::anyhow!("`{}` is not a delivery: {error}", path.display()));
        }
        Ok(Delivery {
            body: self.body.read()?,
            properties: Properties {
                headers: self.headers.clone(),
                content_type: self.content_type.clone(),
                reply_to: self.reply_to.clone(),
                ..Properties::default()
            },
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            queue: queue.into(),
            redelivered: false,
            attempt: 1,
        })
    }
}

/// How long the calls took, from instantiation to outcome.
struct Took {
    count: usize,
    median: Duration,
    p99: Duration,
}

impl Took {
    /// Of at least one call.
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |share: usize| took.get((took.len() - 1) * share / 100).copied().unwrap_or_default();
        Self { count: took.len(), median: at(50), p99: at(99) }
    }

    fn json(&self) -> Map<String, Json> {
        let micros = |took: Duration| json!(took.as_nanos() as f64 / 1000.0);
        let mut fields = Map::from_iter([("took_us".into(), micros(self.median))]);
        if self.count > 1 {
            fields.extend([("took_us_p99".into(), micros(self.p99)), ("repeated".into(), json!(self.count))]);
        }
        fields
    }
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "took {:.1?}", self.median),
            count => {
                write!(f, "took {:.1?} in the median of {count}, {:.1?} at the 99th percentile", self.median, self.p99)
            }
        }
    }
}

pub(super) fn settlement(settlement: &Settlement) -> String {
    match settlement {
        Settlement::Ack => "ack".into(),
        Settlement::Requeue => "requeue".into(),
        Settlement::Retry(None) => "retry".into(),
        Settlement::Retry(Some(after)) => format!("retry: {}", humantime::format_duration(*after)),
        Settlement::DeadLetter(reason) => format!("dead-letter: {reason}"),
    }
}

fn print_outcome(outcome: &Outcome) {
    println!("{}", settlement(&outcome.settlement));
    for publication in &outcome.publications {
        println!("publish to exchange `{}` with routing key `{}`:", publication.exchange, publication.routing_key);
        match std::str::from_utf8(&publication.body) {
            Ok(text) => {
                for line in text.lines() {
                    println!("  {line}");
                }
            }
            Err(_) => println!("  {} bytes, not UTF-8", publication.body.len()),
        }
    }
}
