//! `wabbit check`: everything that can be told without a broker.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use hyper::Method;
use serde_json::{Value as Json, json};

use super::{Failed, SettingsArgs, executor, host::ask, settings_with_manifests, style};
use crate::{
    app::{self, Grantor, Loader, Reach, settings::Overrides},
    manifest::{Manifest, Order, report},
    sandbox::Sandbox,
};

/// The broker ends the channel of a consumer that keeps a delivery for longer (RabbitMQ's `consumer_timeout`).
const BROKER_ACK_TIMEOUT_SECONDS: f64 = 30.0 * 60.0;

/// The argument of a queue that has all its deliveries go to one consumer, and to another only when that is gone.
const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print what a running host would change, and change nothing
    #[arg(long)]
    diff: bool,
    /// That host's admin address [default: 127.0.0.1:9290]
    #[arg(long, value_name = "ADDRESS", env = "WABBIT_ADMIN")]
    admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let mut overrides = self.settings.overrides();
        if self.diff {
            overrides.admin = self.admin;
            return diff(&overrides, self.json);
        }
        let settings = settings_with_manifests(&overrides)?;
        let executor = executor()?;
        let loaded = executor.block_on(async {
            let sandbox = Arc::new(Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache))?);
            let grantor = Arc::new(Grantor::new(&settings, Reach::Nothing)?);
            app::load(&settings, &Arc::new(Loader::new(&settings, sandbox, grantor, None))).await
        })?;
        executor.shutdown_background();
        let max_body = settings.host.max_body as u64;
        if self.json {
            let workers: Vec<_> = loaded
                .versions
                .iter()
                .map(|version| {
                    let manifest = &version.manifest;
                    json!({
                        "name": manifest.name,
                        "plugin": manifest.plugin,
                        "digest": version.digest,
                        "queues": manifest.queues.iter().map(|queue| &queue.name).collect::<Vec<_>>(),
                        "memory_max_bytes": memory(manifest, max_body),
                        "warnings": warnings(manifest),
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
            for version in &loaded.versions {
                let manifest = &version.manifest;
                let memory = bytesize::ByteSize::b(memory(manifest, max_body));
                println!("{}: ok, at most {memory} of deliveries in memory", manifest.name);
                for warning in warnings(manifest) {
                    eprintln!("warning: {}: {warning}", manifest.name);
                }
            }
        }
        if loaded.refused.is_empty() { Ok(()) } else { Err(Failed::Configuration(String::new())) }
    }
}

/// What a host that runs would do now. It looks at its own folders.
fn diff(overrides: &Overrides, json: bool) -> Result<(), Failed> {
    let plan: Json = ask(overrides, Method::GET, "/plan")?;
    let object = |key: &str| plan.get(key).and_then(Json::as_object).cloned().unwrap_or_default();
    let (steps, problems) = (object("steps"), object("problems"));
    let texts = |list: Option<&Json>| {
        let list = list.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    if json {
        println!("{plan}");
    } else {
        if steps.is_empty() && problems.is_empty() {
            println!("nothing would change");
        }
        for (worker, step) in &steps {
            let name = step.get("step").and_then(Json::as_str).unwrap_or_default();
            let changes = texts(step.get("changes"));
            match changes.is_empty() {
                true => println!("{worker}: {name}"),
                false => println!("{worker}: {name}: {}", changes.join(", ")),
            }
        }
        for (path, problems) in &problems {
            for problem in texts(Some(problems)) {
                eprintln!("error: {path}: {problem}");
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failed::Configuration(String::new())) }
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
