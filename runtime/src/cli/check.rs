//! `wabbit check`: everything that can be told without a broker.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use serde_json::json;

use super::{Failed, SettingsArgs, executor, settings_with_manifests, style};
use crate::{
    app,
    manifest::{Manifest, report},
    sandbox::Sandbox,
    telemetry::Metrics,
};

/// The broker ends the channel of a consumer that keeps a delivery for longer (RabbitMQ's `consumer_timeout`).
const BROKER_ACK_TIMEOUT_SECONDS: f64 = 30.0 * 60.0;

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings_with_manifests(&self.settings.overrides())?;
        let executor = executor()?;
        let loaded = executor.block_on(async {
            let sandbox = Arc::new(Sandbox::new(&settings.host, Some(&settings.cache))?);
            app::load(&settings, &sandbox, &Metrics::default()).await
        })?;
        executor.shutdown_background();
        let max_body = settings.host.max_body as u64;
        if self.json {
            let workers: Vec<_> = loaded
                .workers
                .iter()
                .map(|worker| {
                    json!({
                        "name": &*worker.name,
                        "plugin": worker.manifest.plugin,
                        "digest": worker.version.digest,
                        "queues": worker.manifest.queues.iter().map(|queue| &queue.name).collect::<Vec<_>>(),
                        "memory_max_bytes": memory(&worker.manifest, max_body),
                        "warnings": warnings(&worker.manifest),
                    })
                })
                .collect();
            let problems: BTreeMap<_, _> = loaded
                .refused
                .iter()
                .map(|refused| (refused.name.clone(), report::rows(&refused.path, &refused.problems)))
                .collect();
            println!("{}", json!({ "workers": workers, "problems": problems }));
        } else {
            for refused in &loaded.refused {
                eprintln!("{}", report::render(&refused.path, &refused.problems, style()).trim_end());
            }
            for worker in &loaded.workers {
                let memory = bytesize::ByteSize::b(memory(&worker.manifest, max_body));
                println!("{}: ok, at most {memory} of deliveries in memory", worker.name);
                for warning in warnings(&worker.manifest) {
                    eprintln!("warning: {}: {warning}", worker.name);
                }
            }
        }
        if loaded.refused.is_empty() { Ok(()) } else { Err(Failed::Configuration(String::new())) }
    }
}

/// The most bytes of deliveries that are in memory at once: prefetch × body × queues.
fn memory(manifest: &Manifest, max_body: u64) -> u64 {
    u64::from(manifest.consume.prefetch) * manifest.queues.len() as u64 * max_body
}

fn warnings(manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    let prefetch = usize::from(manifest.consume.prefetch) * manifest.queues.len();
    let rounds = prefetch.div_ceil(manifest.consume.concurrency);
    let seconds = rounds as f64 * manifest.limits.time.as_secs_f64();
    if seconds > BROKER_ACK_TIMEOUT_SECONDS {
        warnings.push(format!(
            "{prefetch} deliveries, {} at once, may take up to {seconds:.0} s; the broker ends a consumer after 1800 s; \
             hint: a smaller `prefetch` or `time`, or a larger `concurrency`",
            manifest.consume.concurrency
        ));
    }
    for queue in &manifest.queues {
        if queue.quorum && !queue.arguments.iter().any(|(name, _)| name == "x-dead-letter-exchange") {
            warnings.push(format!(
                "quorum queue `{}` has no dead-letter exchange: brokers from 4.0 on drop a message after 20 deliveries; \
                 hint: set `x-delivery-limit` or `x-dead-letter-exchange` in its `arguments`",
                queue.name
            ));
        }
    }
    warnings
}
