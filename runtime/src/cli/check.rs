//! `wabbit check`: everything that can be told without a broker.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use serde_json::json;

use super::{Failed, SettingsArgs, executor, settings_with_manifests, style};
use crate::{
    app::{self, Grantor, Reach},
    manifest::{Manifest, Order, report},
    sandbox::Sandbox,
    telemetry::Metrics,
};

/// The broker ends the channel of a consumer that keeps a delivery for longer (RabbitMQ's `consumer_timeout`).
const BROKER_ACK_TIMEOUT_SECONDS: f64 = 30.0 * 60.0;

/// The argument of a queue that has all its deliveries go to one consumer, and to another only when that is gone.
const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

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
            let sandbox = Arc::new(Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache))?);
            let grantor = Grantor::new(&settings, Reach::Nothing)?;
            app::load(&settings, &sandbox, &grantor, &Metrics::default()).await
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
    let at_once = match manifest.consume.order {
        Order::Queue => manifest.consume.concurrency.min(manifest.queues.len()),
        _ => manifest.consume.concurrency,
    };
    let rounds = prefetch.div_ceil(at_once.max(1));
    let seconds = rounds as f64 * manifest.limits.time.as_secs_f64();
    if seconds > BROKER_ACK_TIMEOUT_SECONDS {
        warnings.push(format!(
            "{prefetch} deliveries, {at_once} at once, may take up to {seconds:.0} s; the broker ends a consumer after \
             1800 s; hint: a smaller `prefetch` or `time`, or a larger `concurrency`"
        ));
    }
    for queue in &manifest.queues {
        let one_at_a_time = queue.exclusive || queue.has_argument(SINGLE_ACTIVE_CONSUMER);
        if manifest.consume.order != Order::None && !one_at_a_time {
            warnings.push(format!(
                "queue `{}` keeps its order within one host only; hint: `{SINGLE_ACTIVE_CONSUMER} = true` in its \
                 `arguments`, if several hosts consume it",
                queue.name
            ));
        }
        if queue.quorum && !["x-dead-letter-exchange", "x-delivery-limit"].iter().any(|name| queue.has_argument(name)) {
            warnings.push(format!(
                "quorum queue `{}` has no dead-letter exchange: brokers from 4.0 on drop a message after 20 deliveries; \
                 hint: set `x-delivery-limit` or `x-dead-letter-exchange` in its `arguments`",
                queue.name
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::{Ceilings, parse};

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let text = format!("plugin = \"a.wasm\"\n{text}");
        let manifest = parse(Path::new("a.toml"), &text, &Ceilings::of_memory(1 << 30)).unwrap();
        let told = warnings(&manifest);
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, part) in told.iter().zip(expected) {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn what_is_rarely_meant_is_told() {
        check("[[queue]]\nname = \"q\"", &[]);
        let slow = "[limits]\ntime = \"3m\"\n";
        check(&format!("{slow}[[queue]]\nname = \"q\""), &["200 deliveries, 16 at once, may take up to 2340 s"]);
        let quorum = "[[queue]]\nname = \"q\"\nquorum = true\n";
        check(quorum, &["quorum queue `q` has no dead-letter exchange"]);
        for argument in ["x-delivery-limit = 100", "x-dead-letter-exchange = \"x\""] {
            check(&format!("{quorum}arguments = {{ {argument} }}"), &[]);
        }
    }

    #[test]
    fn an_order_needs_a_queue_with_one_consumer() {
        let ordered = "[consume]\norder = \"queue\"\nprefetch = 20\n[[queue]]\nname = \"q\"\n";
        check(ordered, &["queue `q` keeps its order within one host only"]);
        check(&format!("{ordered}arguments = {{ x-single-active-consumer = true }}"), &[]);
        check(&format!("{ordered}exclusive = true"), &[]);
        // One by one takes longer than side by side.
        let slow = ordered.replace("[[queue]]", "[limits]\ntime = \"2m\"\n[[queue]]");
        check(&format!("{slow}exclusive = true"), &["20 deliveries, 1 at once, may take up to 2400 s"]);
    }
}
