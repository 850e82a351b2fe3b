//! `wabbit invoke`: one message through one plugin. Nothing is published.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value as Json, json};

use super::{
    Failed, SettingsArgs, executor, settings, style,
    text::{BodyArgs, header, table_json},
};
use crate::{
    app::{self, settings::LogFormat},
    delivery::{Delivery, Properties, Value},
    manifest::{self, Manifest, report},
    outcome::{Outcome, Settlement, check},
    sandbox::{LogSink, Sandbox, Source},
    telemetry,
};

#[derive(Args)]
pub(super) struct Invoke {
    /// The plugin
    file: PathBuf,
    /// Use the limits and grants of this manifest; without one, nothing is granted
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
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
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

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
        let plugin_error = |error| Failed::Error(anyhow::anyhow!("plugin `{}` {error}", self.file.display()));
        let sandbox = Sandbox::new(&settings.host, Some(&settings.cache))?;
        let plugin = Source::read(&self.file).and_then(|source| sandbox.load(&source)).map_err(plugin_error)?;
        let version = app::version(&settings, &manifest, plugin);
        let delivery = self.delivery(&manifest)?;
        let log = LogSink::new(Arc::from(manifest.name.as_str()));

        let executor = executor()?;
        let start = Instant::now();
        let result = executor.block_on(version.plugin.handle(&delivery, &version.limits, &log));
        let took = start.elapsed();
        executor.shutdown_background();
        // What the broker would never see is a failure here, too.
        let reply_to = delivery.properties.reply_to.as_deref();
        let result = result.and_then(|outcome| {
            for publication in &outcome.publications {
                check(publication.clone(), reply_to, &version.rules)?;
            }
            Ok(outcome)
        });
        match result {
            Ok(outcome) => {
                if self.json {
                    let json = outcome_json(&outcome, took);
                    println!("{json}");
                } else {
                    print_outcome(&outcome);
                    println!("took {took:.1?}");
                }
                Ok(())
            }
            Err(failure) => {
                if self.json {
                    println!(
                        "{}",
                        json!({"failure": failure.kind.as_str(), "error": failure.error, "took_us": took.as_micros()})
                    );
                } else {
                    eprintln!("failure: {failure}");
                    eprintln!("took {took:.1?}");
                }
                Err(Failed::Reported)
            }
        }
    }

    fn delivery(&self, manifest: &Manifest) -> anyhow::Result<Delivery> {
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
            queue: manifest.queues.first().map_or_else(|| "invoke".into(), |queue| queue.name.as_str().into()),
            redelivered: false,
            attempt: 1,
        })
    }
}

fn settlement(settlement: &Settlement) -> (&'static str, Json) {
    match settlement {
        Settlement::Ack => ("ack", Json::Null),
        Settlement::Requeue => ("requeue", Json::Null),
        Settlement::Retry(after) => ("retry", json!(after.map(|after| after.as_millis()))),
        Settlement::DeadLetter(reason) => ("dead-letter", json!(reason)),
    }
}

fn outcome_json(outcome: &Outcome, took: Duration) -> Json {
    let (name, detail) = settlement(&outcome.settlement);
    let publications: Vec<_> = outcome
        .publications
        .iter()
        .map(|publication| {
            let p = &publication.properties;
            let (key, body) = match std::str::from_utf8(&publication.body) {
                Ok(text) => ("text", text.to_owned()),
                Err(_) => ("base64", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &publication.body)),
            };
            json!({
                "exchange": publication.exchange,
                "routing_key": publication.routing_key,
                key: body,
                "persistent": p.delivery_mode == Some(2),
                "content_type": p.content_type,
                "correlation_id": p.correlation_id,
                "reply_to": p.reply_to,
                "message_id": p.message_id,
                "headers": table_json(&p.headers),
            })
        })
        .collect();
    json!({ "settlement": name, "detail": detail, "publications": publications, "took_us": took.as_micros() })
}

fn print_outcome(outcome: &Outcome) {
    match settlement(&outcome.settlement) {
        (name, Json::Null) => println!("{name}"),
        (name, detail) => println!("{name}: {detail}"),
    }
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
