//! Manifests: what a worker is, as a person writes it down.
//!
//! A file is read in two steps: the text becomes a tree that knows where each value stands (`read`), and the tree
//! becomes the validated types below (`parse`), so that whatever holds a [`Manifest`] need not check it again.

pub(crate) mod limits;
mod parse;
pub(crate) mod read;
pub mod report;
pub(crate) mod values;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

pub use limits::Ceilings;
pub use parse::{parse, read_folder};
pub(crate) use parse::{plugins_named, secret};
pub use values::{HttpGrant, Pattern, PublishGrant};

use crate::{delivery::Table, sandbox::Digest};

/// A validated `manifests/NAME.toml`: one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The worker's name: the file's name without `.toml`.
    pub name: String,
    /// The file that it was read from.
    pub path: PathBuf,
    /// The file's name in the plugins folder; never a path.
    pub plugin: String,
    /// What the file must be, byte for byte. None for whatever is there.
    pub digest: Option<Digest>,
    /// How much of the topology the host takes care of.
    pub declare: Declare,
    /// Declared before the queues.
    pub exchanges: Vec<Exchange>,
    /// What it consumes: at least one.
    pub queues: Vec<Queue>,
    /// Declared for others, and not consumed: `consume = false`.
    pub other_queues: Vec<Queue>,
    /// How deliveries are taken.
    pub consume: Consume,
    /// What one delivery may use.
    pub limits: Limits,
    /// Where failures go.
    pub failure: FailurePolicy,
    /// When the worker pauses because most deliveries fail. Default never.
    pub breaker: Option<BreakerPolicy>,
    /// How publications are treated.
    pub publish: Publish,
    /// What the handler may do.
    pub grant: Grant,
    /// How a new version of the plugin proves itself.
    pub reload: Reload,
    /// Whether instances are kept.
    pub instance: Instance,
}

/// `declare = "…"`, at the top of a manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Declare {
    /// Declare what the manifest names (the default).
    #[default]
    Create,
    /// Check that it exists, and create nothing.
    Verify,
    /// Do neither.
    Nothing,
}

/// An `[[exchange]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Never empty: the default exchange needs no declaration.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Default true.
    pub durable: bool,
    /// Default false.
    pub auto_delete: bool,
    /// Default false.
    pub internal: bool,
    /// Passed to the broker as they are.
    pub arguments: Table,
}

/// The four kinds of AMQP 0-9-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By the exact routing key.
    Direct,
    /// To every queue that is bound.
    Fanout,
    /// By patterns of words.
    Topic,
    /// By header arguments.
    Headers,
}

impl ExchangeKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// A `[[queue]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Empty for a server-named queue.
    pub name: String,
    /// Default true; false for a server-named queue.
    pub durable: bool,
    /// Default false; true for a server-named queue.
    pub exclusive: bool,
    /// Default false; true for a server-named queue.
    pub auto_delete: bool,
    /// `quorum = true`: sets `x-queue-type`. Default false.
    pub quorum: bool,
    /// Passed to the broker as they are; `x-queue-type` is among them where `quorum` is set.
    pub arguments: Table,
    /// What feeds it, beside the default exchange.
    pub bind: Vec<Binding>,
}

/// One entry of a queue's `bind`.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Never empty: RabbitMQ refuses bindings to the default exchange.
    pub exchange: String,
    /// Default empty.
    pub routing_key: String,
    /// For a headers exchange.
    pub arguments: Table,
}

/// `[consume]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Consume {
    /// Unsettled deliveries for each queue, 1 to 65,535. Default 200.
    pub prefetch: u16,
    /// Deliveries of this worker handled at once, 1 to 10,000. Default 16.
    pub concurrency: usize,
    /// What is handled one after the other.
    pub order: Order,
    /// When a delivery is acked.
    pub ack: Ack,
    /// What is not handled a second time. Default nothing.
    pub dedupe: Option<Dedupe>,
}

/// `[consume] dedupe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// What messages are told apart by.
    pub by: DedupeBy,
    /// For how long one that is done is known, 1 s to 30 days. Default 1 h.
    pub window: Duration,
    /// How many are known, 1 to 500,000. Default 100,000.
    pub ids: usize,
    /// Whether they are kept in memory alone, and forgotten with the host. Default false: on disk as well.
    pub memory: bool,
}

/// `by` of `[consume] dedupe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DedupeBy {
    /// The property `message-id`.
    MessageId,
    /// The value of this header.
    Header(String),
}

/// `[consume] ack`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ack {
    /// When all that it caused is done (the default).
    #[default]
    Done,
    /// Before its handler begins: what fails is lost.
    None,
}

/// `[consume] order`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing (the default).
    #[default]
    None,
    /// All deliveries of a queue.
    Queue,
    /// All deliveries of a queue that have the same routing key.
    RoutingKey,
    /// All deliveries of a queue that have the same value in this header; those without it are in no order.
    Header(String),
}

/// `[limits]`: what one delivery may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Wall-clock time from instantiation to the returned outcome. Default 5 s.
    pub time: Duration,
    /// Bytes of linear memory, summed over all memories of the instance. Default 64 MiB.
    pub memory: usize,
    /// HTTP requests. Default 50.
    pub requests: usize,
    /// Publications of the outcome. The host's limit where there is none, as for all that follow.
    pub publications: Option<usize>,
    /// Headers of one publication.
    pub headers: Option<usize>,
    /// Bytes of the outcome.
    pub output: Option<usize>,
    /// Calls of the host.
    pub host_calls: Option<usize>,
    /// Handles that are open at once.
    pub handles: Option<usize>,
    /// Elements of tables, all together.
    pub tables: Option<usize>,
    /// Bytes of randomness.
    pub random: Option<usize>,
    /// Bytes that the worker logs in a second.
    pub log: Option<usize>,
}

/// `[failure]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FailurePolicy {
    /// How often a delivery is tried at all, 1 to 1,000. Default 5.
    pub attempts: u32,
    /// The pauses between.
    pub backoff: Backoff,
    /// Where a delivery goes after its last try.
    pub dead_letter: DeadLetter,
}

/// `[failure] dead-letter`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeadLetter {
    /// `QUEUE.dead` for each queue (the default).
    #[default]
    ByQueue,
    /// This queue, for all queues of the worker.
    Named(String),
    /// To the queues' own `x-dead-letter-exchange`, by a nack: without the host's headers, and with no more than the
    /// broker's own guarantee.
    Broker,
}

/// `[failure] backoff`: the pause after a failure, where the handler named none.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// After the first try, 100 ms to 7 days. Default 1 s.
    pub first: Duration,
    /// How much longer each is than the one before, 1 to 100. Default 2.
    pub factor: f64,
    /// The longest, up to 7 days. Default 5 min.
    pub max: Duration,
}

/// `[breaker]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// The share of failed deliveries, 0 to 0.99: with more of them it opens. Default 0.5.
    pub share: f64,
    /// The last deliveries that are looked at, 2 to 1,000. Default 20.
    pub window: usize,
    /// For how long no delivery is taken, 100 ms to 1 h. Default 10 s.
    pub pause: Duration,
}

/// `[reload]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// A file with a delivery, as JSON, that a version must handle before it runs; a relative path begins where the
    /// folder of manifests lies. Default none.
    pub smoke: Option<PathBuf>,
    /// Whether handling it reaches as far as the grants do. Default false: it leaves no trace.
    pub smoke_effects: bool,
    /// The deliveries that a new version of the plugin is watched for, 0 to 100,000; 0 for none. Default 20.
    pub probation: u32,
    /// For how long at most, 1 s to 1 h. Default 60 s.
    pub probation_time: Duration,
    /// By how much the share of failed deliveries may exceed that of the version before, 0 to 1. Default 0.2.
    pub margin: f64,
}

/// `[instance]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Whether an instance handles one delivery after the other. Default false: each has one of its own.
    pub reuse: bool,
    /// So many at most, 1 to 1,000,000. Default 1,000.
    pub max_deliveries: u32,
}

impl Default for Instance {
    fn default() -> Self {
        Self { reuse: false, max_deliveries: 1_000 }
    }
}

/// `[publish]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publish {
    /// What an unroutable publication means. Default [`Unroutable::Fail`].
    pub unroutable: Unroutable,
}

/// What becomes of a delivery whose publication no queue took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unroutable {
    /// The delivery has failed (the default).
    #[default]
    Fail,
    /// It is counted, and the delivery goes on.
    Drop,
}

/// `[grant]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// What the handler may publish. Default nothing.
    pub publish: Vec<PublishGrant>,
    /// What it reads by name. Default none, in which case it may not even ask, unless there are secrets.
    pub config: Option<BTreeMap<String, String>>,
    /// The same, and shown nowhere. Variables of a command as well.
    pub secrets: BTreeMap<String, SecretSource>,
    /// What it keeps from one delivery to the next. Default nothing.
    pub keyvalue: Option<KeyValueGrant>,
    /// The folders that it sees. Default none.
    pub files: Vec<FilesGrant>,
    /// The variables of a command. Default none.
    pub env: BTreeMap<String, String>,
    /// The arguments of a command, after its name. Default none.
    pub args: Vec<String>,
    /// Where it may send HTTP requests. Default nowhere.
    pub http: Vec<HttpGrant>,
}

/// `[grant] keyvalue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueGrant {
    /// The store's name.
    pub store: String,
    /// Whether all workers that share this name share its values. Default false: each has its own.
    pub shared: bool,
    /// Whether it is kept in memory, and is empty after a restart. Default false: it is kept on disk.
    pub memory: bool,
}

/// An entry of `[grant] files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesGrant {
    /// The folder; a relative path begins where the folder of manifests lies.
    pub host: PathBuf,
    /// Where the handler sees it: a path from the root.
    pub guest: String,
    /// Whether the handler may change it. Default false.
    pub write: bool,
    /// Bytes that its writing may bring the folder to, 4 KiB to 1 TiB. Default 100 MiB.
    pub max: u64,
}

/// Where a secret is: a manifest never holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `env:NAME`: in this variable of the host's environment.
    Env(String),
    /// `file:PATH`: in this file; a relative path begins where the folder of manifests lies.
    File(PathBuf),
}

/// As it is written in a manifest.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(variable) => write!(f, "env:{variable}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Grant {
    /// The keys that open an interface of the host to the handler.
    pub fn keys(&self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        if self.config.is_some() || !self.secrets.is_empty() {
            keys.push("config");
        }
        if !self.http.is_empty() {
            keys.push("http");
        }
        if self.keyvalue.is_some() {
            keys.push("keyvalue");
        }
        keys
    }
}

/// All manifests of a folder, good and bad.
#[derive(Debug, Default)]
pub struct Folder {
    /// In the order of their names; no two of them on one queue.
    pub manifests: Vec<Manifest>,
    /// What is wrong with the others, by file.
    pub problems: BTreeMap<PathBuf, Vec<report::Problem>>,
}

impl Queue {
    /// Whether the manifest gives it this argument.
    pub fn has_argument(&self, name: &str) -> bool {
        self.arguments.iter().any(|(known, _)| known == name)
    }
}

impl Manifest {
    /// A manifest with no queue, no grant and every default, for a plugin that is run without a file of its own.
    pub fn bare(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: PathBuf::new(),
            plugin: String::new(),
            digest: None,
            declare: Declare::default(),
            exchanges: Vec::new(),
            queues: Vec::new(),
            other_queues: Vec::new(),
            consume: Consume::default(),
            limits: Limits::default(),
            failure: FailurePolicy::default(),
            breaker: None,
            publish: Publish::default(),
            grant: Grant::default(),
            reload: Reload::default(),
            instance: Instance::default(),
        }
    }

    /// The dead-letter queue of one of its queues; none where the broker does it, and where nothing is kept.
    pub fn dead_letter(&self, queue: &Queue) -> Option<String> {
        if self.consume.ack == Ack::None {
            return None;
        }
        // The broker refuses names that begin as those it gives, so a server-named queue's dead letters go by the
        // worker.
        let source = if queue.name.is_empty() { &self.name } else { &queue.name };
        match &self.failure.dead_letter {
            DeadLetter::ByQueue => Some(format!("{source}.dead")),
            DeadLetter::Named(name) => Some(name.clone()),
            DeadLetter::Broker => None,
        }
    }
}

impl Default for Consume {
    fn default() -> Self {
        Self { prefetch: 200, concurrency: 16, order: Order::None, ack: Ack::Done, dedupe: None }
    }
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self { attempts: 5, backoff: Backoff::default(), dead_letter: DeadLetter::default() }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { share: 0.5, window: 20, pause: Duration::from_secs(10) }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self { smoke: None, smoke_effects: false, probation: 20, probation_time: Duration::from_secs(60), margin: 0.2 }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), factor: 2.0, max: Duration::from_secs(5 * 60) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(5),
            memory: 64 * 1024 * 1024,
            requests: 50,
            publications: None,
            headers: None,
            output: None,
            host_calls: None,
            handles: None,
            tables: None,
            random: None,
            log: None,
        }
    }
}
