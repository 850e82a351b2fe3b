//! From the tree of a manifest to the validated [`Manifest`]. All that is wrong with a file is found in one go.

mod arguments;
mod dedupe;
mod folder;
mod grant;
mod instance;
mod reload;
mod topology;

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    Ack, Backoff, BreakerPolicy, Ceilings, Consume, DeadLetter, Declare, FailurePolicy, Grant, HttpGrant, Manifest,
    Order, Publish, PublishGrant, Queue, Unroutable,
    limits::limits,
    read::{self, Section},
    report::{Place, Problem},
    values::{declared_name, network, quoted, show_duration},
};
use crate::{
    sandbox::Digest,
    settle::ladder::{DELAY_MAX, DELAY_MIN},
};

pub(crate) use folder::plugins_named;
pub use folder::read_folder;
pub(crate) use grant::secret;

const NAME_BYTES_MAX: usize = 100;
const CONCURRENCY_MAX: usize = 10_000;
const ATTEMPTS_MAX: usize = 1_000;
const BACKOFF_FACTOR_MAX: f64 = 100.0;
const BREAKER_SHARE_MAX: f64 = 0.99;
const BREAKER_WINDOW_MIN: usize = 2;
const BREAKER_WINDOW_MAX: usize = 1_000;
const BREAKER_PAUSE_MIN: Duration = Duration::from_millis(100);
const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
const UNROUTABLE: &[(&str, Unroutable)] = &[("fail", Unroutable::Fail), ("drop", Unroutable::Drop)];

/// Validates the text of one manifest. The path gives the worker its name; the file is not looked at.
pub fn parse(path: &Path, text: &str, ceilings: &Ceilings) -> Result<Manifest, Vec<Problem>> {
    parse_with_places(path, text, ceilings).map(|(manifest, _)| manifest)
}

/// The same, with the place of each queue's name.
fn parse_with_places(
    path: &Path,
    text: &str,
    ceilings: &Ceilings,
) -> Result<(Manifest, Vec<Option<Place>>), Vec<Problem>> {
    read::document(text, |top| {
        let name = worker_name(top, path);
        let declare = [("create", Declare::Create), ("verify", Declare::Verify), ("none", Declare::Nothing)];
        let declare = top.one_of("declare", &declare).unwrap_or_default();
        let exchanges = topology::exchanges(top, declare);
        let topology::Queues { consumed, others } = topology::queues(top, declare, &exchanges);
        let (queues, places): (Vec<_>, Vec<_>) = consumed.into_iter().unzip();
        let taken = top.section("consume", |section| consume(section, queues.len()));
        if taken.ack == Ack::None {
            nothing_is_kept(top);
        }
        let manifest = Manifest {
            plugin: plugin(top),
            digest: top.checked("digest", digest),
            limits: top.section("limits", |section| limits(section, ceilings)),
            failure: top.section("failure", |section| failure(section, &name, &queues)),
            breaker: top.has("breaker").then(|| top.section("breaker", breaker)),
            consume: taken,
            publish: top.section("publish", publish),
            grant: top.section("grant", grant),
            reload: top.section("reload", reload::reload),
            instance: top.section("instance", instance::instance),
            path: path.to_owned(),
            name,
            declare,
            exchanges,
            queues,
            other_queues: others,
        };
        (manifest, places)
    })
}

/// The name goes into queue names, metrics and addresses of the admin port, so that it is kept plain.
fn worker_name(top: &Section<'_>, path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        let problem = Problem::new(format!("{} cannot be a worker's name", quoted(&name)));
        let rule = format!("letters, digits, `-`, `_` and `.`, at most {NAME_BYTES_MAX} of them");
        top.report("", problem.hint(format!("rename the file: {rule}")));
    }
    name
}

fn plugin(top: &mut Section<'_>) -> String {
    top.require("plugin", "plugin = \"NAME.wasm\"");
    top.checked("plugin", plugin_file).unwrap_or_default()
}

fn plugin_file(text: &str) -> Result<String, Problem> {
    if text.contains(['/', '\\']) {
        let problem = Problem::new(format!("{} is a path, not a file's name", quoted(text)));
        return Err(problem.hint("the file is looked for in the plugins folder"));
    }
    let stem = text.strip_suffix(".wasm").unwrap_or_default();
    if stem.is_empty() || stem.starts_with('.') || text.chars().any(char::is_control) {
        let problem = Problem::new(format!("{} is not the name of a plugin", quoted(text)));
        return Err(problem.hint("a plugin's name ends in `.wasm`"));
    }
    Ok(text.to_owned())
}

fn digest(text: &str) -> Result<Digest, Problem> {
    Digest::parse(text).ok_or_else(|| {
        Problem::new(format!("{} is not a digest", quoted(text)))
            .hint("`sha256:` and 64 hexadecimal digits, as `wabbit inspect FILE` prints them")
    })
}

fn consume(section: &mut Section<'_>, queues: usize) -> Consume {
    let default = Consume::default();
    let prefetch = section.integer("prefetch", 1..=usize::from(u16::MAX));
    let prefetch = prefetch.and_then(|prefetch| u16::try_from(prefetch).ok()).unwrap_or(default.prefetch);
    // Without a queue there is another problem already.
    let most = usize::from(prefetch).saturating_mul(queues.max(1));
    let concurrency = section.integer("concurrency", 1..=CONCURRENCY_MAX);
    if concurrency.is_some_and(|concurrency| concurrency > most) {
        let message = format!("`concurrency` can never be reached: at most {most} deliveries are in hand");
        let hint = format!("raise `prefetch`, or write `concurrency = {most}`");
        section.report("concurrency", Problem::new(message).hint(hint));
    }
    let order = section.text_or("order", order_word, order_table).unwrap_or_default();
    let ack = section.one_of("ack", &[("done", Ack::Done), ("none", Ack::None)]).unwrap_or_default();
    let dedupe = dedupe::dedupe(section);
    if dedupe.is_some() && ack == Ack::None {
        let problem = Problem::new("`dedupe` has no meaning with `ack = \"none\"`");
        section.report("dedupe", problem.hint("an ack does not say that a delivery is done: leave one of them out"));
    }
    Consume { prefetch, concurrency: concurrency.unwrap_or(default.concurrency.min(most)), order, ack, dedupe }
}

/// What fails is lost where the ack does not wait for it.
fn nothing_is_kept(top: &Section<'_>) {
    for section in ["failure", "breaker"] {
        if top.has(section) {
            let problem = Problem::new(format!("`[{section}]` has no meaning with `ack = \"none\"`"));
            top.report(section, problem.hint("a delivery is gone before its handler begins: leave one of them out"));
        }
    }
}

fn order_word(word: &str) -> Result<Order, Problem> {
    match word {
        "none" => Ok(Order::None),
        "queue" => Ok(Order::Queue),
        _ => {
            let hint = "one of `\"none\"`, `\"queue\"`, `{ key = \"routing-key\" }`, `{ key = \"header:NAME\" }`";
            Err(Problem::new(format!("`order` cannot be {}", quoted(word))).hint(hint))
        }
    }
}

fn order_table(section: &mut Section<'_>) -> Option<Order> {
    section.require("key", "key = \"routing-key\"");
    section.checked("key", |key| match (key, key.strip_prefix("header:")) {
        ("routing-key", _) => Ok(Order::RoutingKey),
        (_, Some(name)) if !name.is_empty() => Ok(Order::Header(name.to_owned())),
        _ => {
            let problem = Problem::new(format!("{} cannot be the key of an order", quoted(key)));
            Err(problem.hint("`\"routing-key\"`, or `\"header:NAME\"`"))
        }
    })
}

fn failure(section: &mut Section<'_>, worker: &str, queues: &[Queue]) -> FailurePolicy {
    let dead_letter = section.checked("dead-letter", |text| match text {
        "" => Err(Problem::new("a dead-letter queue needs a name")),
        "broker" => match queues.iter().find(|queue| !queue.has_argument("x-dead-letter-exchange")) {
            None => Ok(DeadLetter::Broker),
            Some(queue) => {
                let message = format!("the broker does not dead-letter from queue {}", quoted(&queue.name));
                let hint = "give it the argument `x-dead-letter-exchange`, or leave `dead-letter` to the host";
                Err(Problem::new(message).hint(hint))
            }
        },
        name if queues.iter().any(|queue| queue.name == name) => {
            let problem = Problem::new(format!("{} would be its own dead-letter queue", quoted(name)));
            Err(problem.hint("a failed delivery would come back for ever: name another queue"))
        }
        name => declared_name(name).map(DeadLetter::Named),
    });
    if !section.has("dead-letter") {
        for queue in queues {
            let source = if queue.name.is_empty() { worker } else { &queue.name };
            if declared_name(&format!("{source}.dead")).is_err() {
                let message = format!("{} needs a `dead-letter`: with `.dead` it is no valid name", quoted(source));
                section.report("", Problem::new(message).hint("name one: `[failure] dead-letter = \"…\"`"));
            }
        }
    }
    let default = FailurePolicy::default();
    let attempts = section.integer("attempts", 1..=ATTEMPTS_MAX).and_then(|attempts| u32::try_from(attempts).ok());
    let backoff = section.section("backoff", backoff);
    FailurePolicy {
        attempts: attempts.unwrap_or(default.attempts),
        backoff,
        dead_letter: dead_letter.unwrap_or_default(),
    }
}

fn backoff(section: &mut Section<'_>) -> Backoff {
    let default = Backoff::default();
    let first = section.duration("first", DELAY_MIN..=DELAY_MAX).unwrap_or(default.first);
    let max = section.duration("max", DELAY_MIN..=DELAY_MAX);
    if max.is_some_and(|max| max < first) {
        let problem = Problem::new(format!("`max` is shorter than `first`, which is `{}`", show_duration(&first)));
        section.report("max", problem.hint("the pauses grow from `first` to `max`"));
    }
    Backoff {
        factor: section.number("factor", 1.0..=BACKOFF_FACTOR_MAX).unwrap_or(default.factor),
        max: max.unwrap_or(default.max.max(first)),
        first,
    }
}

fn breaker(section: &mut Section<'_>) -> BreakerPolicy {
    let default = BreakerPolicy::default();
    BreakerPolicy {
        share: section.number("share", 0.0..=BREAKER_SHARE_MAX).unwrap_or(default.share),
        window: section.integer("window", BREAKER_WINDOW_MIN..=BREAKER_WINDOW_MAX).unwrap_or(default.window),
        pause: section.duration("pause", BREAKER_PAUSE_MIN..=BREAKER_PAUSE_MAX).unwrap_or(default.pause),
    }
}

fn publish(section: &mut Section<'_>) -> Publish {
    Publish { unroutable: section.one_of("unroutable", UNROUTABLE).unwrap_or_default() }
}

fn grant(section: &mut Section<'_>) -> Grant {
    let config = grant::config(section).map(BTreeMap::from_iter);
    let secrets = BTreeMap::from_iter(grant::secrets(section));
    if let Some(name) = secrets.keys().find(|name| config.as_ref().is_some_and(|config| config.contains_key(*name))) {
        let problem = Problem::new(format!("{} stands in `config` and in `secrets`", quoted(name)));
        section.report("secrets", problem.hint("a handler reads both by name: rename one of them"));
    }
    let env = BTreeMap::from_iter(grant::env(section));
    if let Some(name) = secrets.keys().find(|name| env.contains_key(*name)) {
        let problem = Problem::new(format!("{} stands in `env` and in `secrets`", quoted(name)));
        section.report("secrets", problem.hint("a command finds both in its environment: rename one of them"));
    }
    Grant {
        publish: section.list("publish", PublishGrant::parse, publish_grant),
        http: section.list("http", HttpGrant::parse, http_grant),
        config,
        secrets,
        keyvalue: grant::keyvalue(section),
        files: grant::files(section),
        env,
        args: grant::args(section),
    }
}

/// The longer form of an entry: `{ origin = "https://intern.example", networks = ["10.0.0.0/8"] }`.
fn http_grant(section: &mut Section<'_>) -> Option<HttpGrant> {
    section.require("origin", "origin = \"https://intern.example.com\"");
    let grant = section.checked("origin", HttpGrant::parse);
    let networks = section.one_or_more("networks", network).unwrap_or_default();
    Some(grant?.with_networks(networks))
}

/// The longer form of an entry: `{ to = "EXCHANGE/PATTERN", unroutable = "drop" }`.
fn publish_grant(section: &mut Section<'_>) -> Option<PublishGrant> {
    section.require("to", "to = \"EXCHANGE/ROUTING-KEY-PATTERN\"");
    let grant = section.checked("to", PublishGrant::parse);
    let chosen = section.one_of("unroutable", UNROUTABLE);
    match grant? {
        PublishGrant::Reply => {
            if section.has("unroutable") {
                let hint = "a reply that nobody waits for is counted and never fails a delivery";
                section.report("unroutable", Problem::new("`unroutable` has no meaning for a reply").hint(hint));
            }
            Some(PublishGrant::Reply)
        }
        PublishGrant::To { exchange, pattern, .. } => Some(PublishGrant::To { exchange, pattern, unroutable: chosen }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::Value,
        manifest::{
            Binding, Dedupe, DedupeBy, Exchange, ExchangeKind, FilesGrant, Instance, KeyValueGrant, Limits, Pattern,
            Reload, SecretSource,
        },
    };

    const CEILINGS: Ceilings = Ceilings::of_memory(256 << 20);

    fn read(text: &str) -> Manifest {
        parse(Path::new("manifests/order-notify.toml"), text, &CEILINGS).unwrap()
    }

    #[test]
    fn defaults() {
        let manifest = read("plugin = \"a.wasm\"\n[[queue]]\nname = \"jobs\"");
        let expected = Manifest {
            breaker: None,
            name: "order-notify".to_owned(),
            path: "manifests/order-notify.toml".into(),
            plugin: "a.wasm".to_owned(),
            digest: None,
            declare: Declare::Create,
            exchanges: Vec::new(),
            queues: vec![Queue {
                name: "jobs".to_owned(),
                durable: true,
                exclusive: false,
                auto_delete: false,
                quorum: false,
                arguments: Vec::new(),
                bind: Vec::new(),
            }],
            other_queues: Vec::new(),
            consume: Consume { prefetch: 200, concurrency: 16, order: Order::None, ack: Ack::Done, dedupe: None },
            limits: Limits { time: Duration::from_secs(5), memory: 64 << 20, ..Limits::default() },
            failure: FailurePolicy {
                attempts: 5,
                backoff: Backoff { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(300) },
                dead_letter: DeadLetter::ByQueue,
            },
            publish: Publish { unroutable: Unroutable::Fail },
            grant: Grant::default(),
            reload: Reload::default(),
            instance: Instance { reuse: false, max_deliveries: 1_000 },
        };
        assert_eq!(manifest, expected);
    }

    #[test]
    fn everything() {
        let manifest = read(
            r#"
            plugin = "order_notify.wasm"
            declare = "verify"

            [[exchange]]
            name = "order"
            type = "topic"
            durable = false
            auto-delete = true
            internal = true
            arguments = { alternate-exchange = "lost" }

            [[queue]]
            name = "order_notify"
            quorum = true
            bind = [
                { exchange = "order", routing-key = "order.notify" },
                { exchange = "amq.fanout" },
                { exchange = "elsewhere", arguments = { "x-match" = "any", format = "pdf" } },
            ]

            [[queue]]
            name = "amq.gen-1"
            durable = false
            exclusive = true
            auto-delete = true

            [queue.arguments]
            x-max-length = 1_000
            x-expires = 0x1_0000_0000
            x-share = 0.5
            x-single-active-consumer = true
            x-since = 1970-01-01T00:01:00Z
            x-list = [1, ["two"]]
            x-table = { a = -1 }

            [consume]
            prefetch = 10
            concurrency = 20
            order = { key = "header:customer" }
            dedupe = { by = "header:id", window = "2h", ids = 5, memory = true }

            [limits]
            time = "1m 30s"
            memory = 65_536
            requests = 7
            publications = 1
            headers = 2
            output = "2KiB"
            host-calls = 3
            handles = 4
            tables = 5
            random = 6
            log = "7KiB"

            [failure]
            attempts = 3
            backoff = { first = "100ms", factor = 1.5, max = "7days" }
            dead-letter = "lost"

            [publish]
            unroutable = "drop"

            [grant]
            publish = ["reply", "audit/order.*", "mail", { to = "/order_report", unroutable = "fail" }]
            config = { from = "shop@example.com" }
            secrets = { TOKEN = "env:MAIL_TOKEN", key = "file:keys/mail" }
            keyvalue = { store = "orders", shared = true, memory = true }
            files = [{ host = "in", guest = "/" }, { host = "/out", guest = "/a/b/", write = true, max = "1GiB" }]
            env = { LANG = "C" }
            args = ["--verbose", ""]
            http = ["https://*.example.com", { origin = "http://intern.example", networks = ["10.0.0.0/8", "fd00::/8"] }]

            [reload]
            smoke = "samples/order.json"
            smoke-effects = true
            probation = 7
            probation-time = "2m"
            margin = 0.5

            [instance]
            reuse = true
            max-deliveries = 50
            "#,
        );
        assert_eq!(manifest.declare, Declare::Verify);
        let reload = Reload {
            smoke: Some("samples/order.json".into()),
            smoke_effects: true,
            probation: 7,
            probation_time: Duration::from_secs(120),
            margin: 0.5,
        };
        assert_eq!(manifest.reload, reload);
        assert_eq!(manifest.instance, Instance { reuse: true, max_deliveries: 50 });
        let exchange = Exchange {
            name: "order".to_owned(),
            kind: ExchangeKind::Topic,
            durable: false,
            auto_delete: true,
            internal: true,
            arguments: vec![("alternate-exchange".to_owned(), Value::text("lost"))],
        };
        assert_eq!(manifest.exchanges, [exchange]);
        let bind = |exchange: &str, routing_key: &str, arguments: &[(&str, &str)]| Binding {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            arguments: arguments.iter().map(|(name, text)| ((*name).to_owned(), Value::text(*text))).collect(),
        };
        let first = Queue {
            name: "order_notify".to_owned(),
            durable: true,
            exclusive: false,
            auto_delete: false,
            quorum: true,
            arguments: vec![("x-queue-type".to_owned(), Value::text("quorum"))],
            bind: vec![
                bind("order", "order.notify", &[]),
                bind("amq.fanout", "", &[]),
                bind("elsewhere", "", &[("format", "pdf"), ("x-match", "any")]),
            ],
        };
        let arguments = [
            ("x-expires", Value::I64(1 << 32)),
            ("x-list", Value::Array(vec![Value::I32(1), Value::Array(vec![Value::text("two")])])),
            ("x-max-length", Value::I32(1000)),
            ("x-share", Value::F64(0.5)),
            ("x-since", Value::Timestamp(60)),
            ("x-single-active-consumer", Value::Bool(true)),
            ("x-table", Value::Table(vec![("a".to_owned(), Value::I32(-1))])),
        ];
        let second = Queue {
            name: "amq.gen-1".to_owned(),
            durable: false,
            exclusive: true,
            auto_delete: true,
            quorum: false,
            arguments: arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            bind: Vec::new(),
        };
        assert_eq!(manifest.queues, [first, second]);
        let order = Order::Header("customer".to_owned());
        let by = DedupeBy::Header("id".to_owned());
        let dedupe = Dedupe { by, window: Duration::from_secs(7200), ids: 5, memory: true };
        assert_eq!(
            manifest.consume,
            Consume { prefetch: 10, concurrency: 20, order, ack: Ack::Done, dedupe: Some(dedupe) }
        );
        let limits = Limits {
            time: Duration::from_secs(90),
            memory: 64 << 10,
            requests: 7,
            publications: Some(1),
            headers: Some(2),
            output: Some(2 << 10),
            host_calls: Some(3),
            handles: Some(4),
            tables: Some(5),
            random: Some(6),
            log: Some(7 << 10),
        };
        assert_eq!(manifest.limits, limits);
        let expected = FailurePolicy {
            attempts: 3,
            backoff: Backoff { first: DELAY_MIN, factor: 1.5, max: DELAY_MAX },
            dead_letter: DeadLetter::Named("lost".to_owned()),
        };
        assert_eq!(manifest.failure, expected);
        assert_eq!(manifest.publish.unroutable, Unroutable::Drop);
        let to = |exchange: &str, pattern: &str, unroutable| PublishGrant::To {
            exchange: exchange.to_owned(),
            pattern: Pattern::parse(pattern).unwrap(),
            unroutable,
        };
        let granted = [
            PublishGrant::Reply,
            to("audit", "order.*", None),
            to("mail", "#", None),
            to("", "order_report", Some(Unroutable::Fail)),
        ];
        assert_eq!(manifest.grant.publish, granted);
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| network(text).unwrap());
        let http = vec![
            HttpGrant::parse("https://*.example.com").unwrap(),
            HttpGrant::parse("http://intern.example").unwrap().with_networks(networks.into()),
        ];
        let owned = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let folder =
            |host: &str, guest: &str, write, max| FilesGrant { host: host.into(), guest: guest.into(), write, max };
        let expected = Grant {
            publish: granted.into(),
            http,
            config: Some(owned(&[("from", "shop@example.com")])),
            secrets: BTreeMap::from([
                ("TOKEN".to_owned(), SecretSource::Env("MAIL_TOKEN".to_owned())),
                ("key".to_owned(), SecretSource::File("keys/mail".into())),
            ]),
            keyvalue: Some(KeyValueGrant { store: "orders".to_owned(), shared: true, memory: true }),
            files: vec![folder("in", "/", false, 100 << 20), folder("/out", "/a/b", true, 1 << 30)],
            env: owned(&[("LANG", "C")]),
            args: vec!["--verbose".to_owned(), String::new()],
        };
        assert_eq!(manifest.grant, expected);
        assert_eq!(manifest.grant.keys(), ["config", "http", "keyvalue"]);
    }

    #[test]
    fn what_follows_from_the_rest() {
        // A queue that the server names is its consumer's own.
        let manifest = read("plugin = \"a.wasm\"\n[[queue]]\nname = \"\"\n[[queue]]\nname = \"\"\ndurable = true");
        let flags = |queue: &Queue| (queue.durable, queue.exclusive, queue.auto_delete);
        assert_eq!(manifest.queues.iter().map(flags).collect::<Vec<_>>(), [(false, true, true), (true, true, true)]);
        // The defaults keep to what the manifest and the host allow.
        let text = "plugin = \"a.wasm\"\nconsume = { prefetch = 1 }\n[[queue]]\nname = \"jobs\"";
        assert_eq!(
            read(text).consume,
            Consume { prefetch: 1, concurrency: 1, order: Order::None, ack: Ack::Done, dedupe: None }
        );
        let small = Ceilings::of_memory(1 << 20);
        assert_eq!(parse(Path::new("a.toml"), text, &small).unwrap().limits.memory, 1 << 20);
        let text = "plugin = \"a.wasm\"\n[[queue]]\nname = \"jobs\"\n[grant]\nkeyvalue = \"orders\"\nconfig = {}";
        let grant = read(text).grant;
        let own = KeyValueGrant { store: "orders".to_owned(), shared: false, memory: false };
        assert_eq!((grant.keys(), grant.keyvalue), (vec!["config", "keyvalue"], Some(own)));
        let text = "plugin = \"a.wasm\"\n[[queue]]\nname = \"q\"\n[consume]\ndedupe = \"message-id\"";
        let dedupe = Dedupe { by: DedupeBy::MessageId, window: Duration::from_secs(3600), ids: 100_000, memory: false };
        assert_eq!(read(text).consume.dedupe, Some(dedupe));
        // A queue type that is given as an argument counts as well.
        let text = "plugin = \"a.wasm\"\n[[queue]]\nname = \"q\"\narguments = { x-queue-type = \"quorum\" }";
        assert!(read(text).queues.iter().all(|queue| queue.quorum && queue.arguments.len() == 1));
    }
}
