//! The steps of a delivery's way, one at a time and without a broker: how long each takes, by divan.
//!
//! With the argument `count STEP N` it does one of them N times and nothing else, for `make instructions`, which counts
//! what the processor does for it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark that cannot go on says so by panicking"
)]

use std::{
    env,
    hint::black_box,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use divan::Bencher;
use wabbit::{
    app::{self, Grantor, Reach, Version, settings::Overrides, settings::Settings},
    delivery::{Delivery, Properties, Value},
    manifest,
    outcome::{Outcome, Publication, Settlement, check},
    route::route,
    sandbox::{Kept, Sandbox, Source, compile::COMMAND},
};

/// A handler of each kind, and where it lies in `target/guests`.
const GUESTS: [(&str, &str); 8] = [
    ("rust", "bench_ack.wasm"),
    ("c", "conformance/c.wasm"),
    ("nim", "conformance/nim.wasm"),
    ("javascript", "conformance/javascript.wasm"),
    ("python", "conformance/python.wasm"),
    ("command", "command.wasm"),
    ("core-command", "core_command.wasm"),
    ("publishing", "bench_relay.wasm"),
];
const BODY_BYTES: usize = 100;
const MAX_BODY: usize = 16 << 20;

/// What all of them ask for.
const MANIFEST: &str = r#"
plugin = "x.wasm"
[[queue]]
name = "q"
[limits]
memory = "256MiB"
[grant]
publish = ["/#"]
config = { greeting = "hello" }
keyvalue = { store = "bench", memory = true }
http = ["https://api.example.com"]
"#;

/// A handler, ready to be called.
struct Guest {
    executor: tokio::runtime::Runtime,
    version: Version,
    kept: Kept,
    delivery: Delivery,
}

impl Guest {
    fn new(name: &str) -> Self {
        Self::within(name, Settings::load(&Overrides::default()).unwrap())
    }

    fn within(name: &str, settings: Settings) -> Self {
        let path = path(name);
        let manifest = manifest::parse(Path::new("bench.toml"), MANIFEST, &settings.host.ceilings()).unwrap();
        let sandbox = Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache)).unwrap();
        let source = Source::read(&path, settings.compile.file).unwrap();
        let plugin = sandbox.load(&source, false).unwrap();
        let log = app::log(&settings, &manifest);
        let grantor = Grantor::new(&settings, Reach::Scratch).unwrap();
        let version = app::version(&settings, &grantor, Arc::new(manifest), plugin, log).unwrap();
        // The clock goes on for as long as the sandbox is there.
        std::mem::forget((sandbox, grantor));
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { executor, version, kept: Kept::new(u32::MAX), delivery: delivery() }
    }

    fn fresh(&self) -> Outcome {
        self.executor.block_on(self.version.plugin.handle(&self.delivery, &self.version.scope)).unwrap()
    }

    fn reused(&self) -> Outcome {
        let call = self.version.plugin.handle_again(&self.delivery, &self.version.scope, &self.kept);
        self.executor.block_on(call).unwrap()
    }
}

fn path(name: &str) -> PathBuf {
    let (_, file) = GUESTS.iter().find(|(guest, _)| *guest == name).unwrap_or_else(|| panic!("no guest `{name}`"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests").join(file);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}; hint: make guests", path.display()))
}

fn delivery() -> Delivery {
    let headers = vec![("do".to_owned(), Value::text("ack")), ("shop".to_owned(), Value::text("north"))];
    Delivery {
        // Commands take what they are to do from the body.
        body: format!("{:<BODY_BYTES$}", r#"{"tell":true}"#).into_bytes(),
        properties: Properties { headers, delivery_mode: Some(2), ..Properties::default() },
        exchange: "orders".into(),
        routing_key: "order.paid".into(),
        queue: "q".into(),
        redelivered: false,
        attempt: 1,
    }
}

fn outcome() -> Outcome {
    let properties = Properties { delivery_mode: Some(2), ..delivery().properties };
    let publication =
        Publication { exchange: String::new(), routing_key: "out".into(), body: vec![b'x'; BODY_BYTES], properties };
    Outcome { settlement: Settlement::Ack, publications: vec![publication] }
}

#[divan::bench(args = GUESTS.map(|(name, _)| name))]
fn fresh_instance_and_call(bencher: Bencher, name: &str) {
    let guest = Guest::new(name);
    bencher.bench_local(|| guest.fresh());
}

#[divan::bench(args = GUESTS.map(|(name, _)| name).into_iter().filter(|name| !name.contains("command")))]
fn call_of_a_kept_instance(bencher: Bencher, name: &str) {
    let guest = Guest::new(name);
    bencher.bench_local(|| guest.reused());
}

#[divan::bench]
fn routed(bencher: Bencher) {
    let delivery = delivery();
    bencher.bench_local(|| route(black_box(&delivery), MAX_BODY, None, 5));
}

#[divan::bench]
fn outcome_to_publication(bencher: Bencher) {
    let guest = Guest::new("publishing");
    bencher.with_inputs(outcome).bench_local_values(|outcome| carried(outcome, &guest.version));
}

/// From an outcome to what is sent.
fn carried(outcome: Outcome, version: &Version) {
    for publication in outcome.publications {
        let checked = check(publication, None, &version.rules).unwrap();
        black_box(wabbit::amqp::to_properties(checked.publication.properties));
    }
}

/// Does one step so many times. Valgrind offers less room for addresses than a pool for many handlers takes, and a
/// processor of its own, for which the plugin is compiled first.
fn count(step: &str, times: usize) {
    let mut settings = Settings::load(&Overrides::default()).unwrap();
    settings.host.running = 1;
    let (step, name) = step.split_once(':').unwrap_or((step, "publishing"));
    let sandbox = Sandbox::new(&settings.host, &settings.compile, Some(&settings.cache)).unwrap();
    sandbox.compile_here(&Source::read(&path(name), settings.compile.file).unwrap()).unwrap();
    drop(sandbox);
    let guest = Guest::within(name, settings);
    let delivery = delivery();
    for _ in 0..times {
        match step {
            "fresh" => drop(black_box(guest.fresh())),
            "kept" => drop(black_box(guest.reused())),
            "routed" => drop(black_box(route(black_box(&delivery), MAX_BODY, None, 5))),
            "outcome" => carried(black_box(outcome()), &guest.version),
            step => panic!("no step `{step}`"),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // The sandbox has plugins compiled by a child, which is the program that runs, and this is another one than the host.
        [COMMAND, ..] => return wabbit::cli::main(),
        ["count", step, times] => count(step, times.parse().unwrap()),
        _ => divan::main(),
    }
    ExitCode::SUCCESS
}
