//! One trial: a host, a peer that puts messages in and takes out what becomes of them, and what is to be said of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Connection, Tally, World,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tempfile::TempDir;
use tokio::{
    runtime::Builder,
    task::{JoinHandle, LocalSet, spawn_local},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use wabbit::app::{
    self, Executors, RunError,
    settings::{Overrides, Settings},
};

use crate::scenario::{Change, Scenario};

/// By then faults are over.
const FAULTS_MAX: Duration = Duration::from_secs(120);
/// By then everything is done, after the last fault.
const DONE_MAX: Duration = Duration::from_secs(30 * 60);
/// For a host to end.
const END_MAX: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// What trials have in common: the handler in two versions, and the cache of what it compiles to.
pub struct Folder {
    folder: TempDir,
    versions: [Vec<u8>; 2],
    cache: PathBuf,
}

impl Folder {
    pub fn new(guest: &Path) -> Self {
        let bytes = fs::read(guest).unwrap_or_else(|error| panic!("{}: {error}; hint: make guests", guest.display()));
        // A section that says nothing makes another version of it.
        let other = [&bytes[..], &[0, 6, 5], b"other"].concat();
        let cache = std::env::current_dir().unwrap().join("target/tmp/simulation-cache");
        fs::create_dir_all(&cache).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), versions: [bytes, other], cache }
    }
}

/// What is to be said of a trial.
#[derive(Default)]
pub struct Told {
    pub violations: Vec<String>,
    /// Outputs and dead letters that were there already.
    pub repeated: u64,
    pub tally: Tally,
}

pub fn run(scenario: &Scenario, folder: &Folder) -> Told {
    fastrand::seed(scenario.seed);
    let own = tempfile::tempdir_in(folder.folder.path()).unwrap();
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let told = LocalSet::new().block_on(&runtime, async {
        let world = World::new(scenario.seed, scenario.faults.clone());
        world.enter();
        let moving = world.clone();
        let moving = tokio::spawn(async move { moving.run().await });
        let told = Trial { scenario, folder, own: own.path(), world: &world, version: 0 }.run().await;
        moving.abort();
        told
    });
    runtime.shutdown_background();
    told
}

struct Trial<'t> {
    scenario: &'t Scenario,
    folder: &'t Folder,
    own: &'t Path,
    world: &'t World,
    version: usize,
}

struct Host {
    stop: CancellationToken,
    ended: JoinHandle<Result<(), RunError>>,
}

impl Trial<'_> {
    async fn run(mut self) -> Told {
        for name in ["manifests", "plugins", "state"] {
            fs::create_dir(self.own.join(name)).unwrap();
        }
        fs::write(self.own.join("wabbit.toml"), "[reload]\nwatch = \"poll\"\npoll = \"500ms\"\n").unwrap();
        self.put_plugin();
        self.put_manifest(self.scenario.prefetch);
        let peer = self.peer().await;
        let mut host = self.start();
        let mut changes = self.scenario.changes.iter().peekable();
        for (number, (pause, command)) in self.scenario.inputs.iter().enumerate() {
            sleep(*pause).await;
            while let Some((_, change)) = changes.next_if(|(at, _)| *at == number) {
                match change {
                    Change::Plugin => {
                        self.version = 1 - self.version;
                        self.put_plugin();
                    }
                    Change::Manifest => self.put_manifest(self.scenario.prefetch + 1),
                    Change::Restart => {
                        if let Err(violation) = host.end().await {
                            return Told { violations: vec![violation], ..Told::default() };
                        }
                        host = self.start();
                    }
                }
            }
            publish(&peer, number, &command.text(number)).await;
        }
        let mut told = Told::default();
        if !self.settled(FAULTS_MAX).await {
            self.world.heal();
            if !self.settled(DONE_MAX).await {
                let (ready, unacked) = self.world.held();
                let work = self.world.queue_length("work");
                told.violations.push(format!(
                    "it is not done after {DONE_MAX:?}: {work:?} in the queue, {ready} wait in all queues, {unacked} are unsettled"
                ));
            }
        }
        if let Err(violation) = host.end().await {
            told.violations.push(violation);
        }
        self.check(&peer, &mut told).await;
        told.tally = self.world.tally();
        told
    }

    fn start(&self) -> Host {
        let overrides = || Overrides {
            config: Some(self.own.join("wabbit.toml")),
            plugins: Some(self.own.join("plugins")),
            manifests: Some(self.own.join("manifests")),
            state: Some(self.own.join("state")),
            cache: Some(self.folder.cache.clone()),
            admin: Some("off".to_owned()),
            ..Overrides::default()
        };
        let mut settings = Settings::load(&overrides()).unwrap();
        settings.host.running = 4;
        let again = settings.clone();
        let here = tokio::runtime::Handle::current();
        let executors = Executors { brief: here.clone(), long: here };
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let ended =
            spawn_local(app::run(settings, Box::new(move || Ok(again.clone())), executors, stop.clone(), hurry));
        Host { stop, ended }
    }

    fn put_plugin(&self) {
        let file = self.own.join("plugins/probe.wasm");
        let fresh = self.own.join("fresh");
        fs::write(&fresh, &self.folder.versions[self.version]).unwrap();
        fs::rename(fresh, file).unwrap();
    }

    fn put_manifest(&self, prefetch: u16) {
        fs::write(self.own.join("fresh"), self.scenario.manifest(prefetch)).unwrap();
        fs::rename(self.own.join("fresh"), self.own.join("manifests/work.toml")).unwrap();
    }

    /// A client whose connection is never cut.
    async fn peer(&self) -> Channel {
        let runtime = lapin::runtime::default_runtime().unwrap();
        let connection =
            Connection::connect_uri_with_config(Default::default(), Default::default(), Default::default(), runtime);
        let channel = connection.await.unwrap().create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        if self.scenario.quorum {
            arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
        }
        channel.queue_declare("work".into(), durable, arguments).await.unwrap();
        channel.queue_declare("out".into(), durable, FieldTable::default()).await.unwrap();
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        channel.exchange_declare("ex".into(), lapin::ExchangeKind::Direct, exchange, none()).await.unwrap();
        channel.queue_bind("out".into(), "ex".into(), "out".into(), QueueBindOptions::default(), none()).await.unwrap();
        channel
    }

    /// Whether everything came to its end within this time: nothing waits but what came out.
    async fn settled(&self, within: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let came_out: usize = ["out", "work.dead"].iter().filter_map(|queue| self.world.queue_length(queue)).sum();
            if self.world.held() == (came_out, 0) {
                return true;
            }
            if tokio::time::Instant::now() > deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// Whether each input came to the end that it is to come to, and to no other.
    async fn check(&self, peer: &Channel, told: &mut Told) {
        let Scenario { inputs, faults, ordered, .. } = self.scenario;
        let mut outputs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        let mut first = Vec::new();
        for body in take_all(peer, "out").await {
            let output = body.split_once('/').and_then(|(id, n)| Some((id.parse().ok()?, n.parse().ok()?)));
            let Some(output) = output else {
                told.violations.push(format!("an output of no input: {body}"));
                continue;
            };
            if !outputs.contains_key(&output) {
                first.push(output);
            }
            *outputs.entry(output).or_default() += 1;
        }
        let mut letters: BTreeMap<usize, u64> = BTreeMap::new();
        for body in take_all(peer, "work.dead").await {
            let of = |number: &usize| inputs[*number].1.text(*number) == body;
            let id = (0..inputs.len()).find(of);
            let Some(id) = id else {
                told.violations.push(format!("a dead letter of no input: {body}"));
                continue;
            };
            *letters.entry(id).or_default() += 1;
        }
        for (id, (_, command)) in inputs.iter().enumerate() {
            let letter = letters.get(&id).copied().unwrap_or(0);
            match command.outputs() {
                Some(count) => {
                    // Inputs with the same text cannot be told apart by their letters; none of these is to have one.
                    if letter > 0 {
                        told.violations.push(format!("input {id}, {command:?}, is a dead letter"));
                    }
                    for n in 0..count {
                        if !outputs.contains_key(&(id, n)) {
                            told.violations.push(format!("input {id}, {command:?}: output {n} is lost"));
                        }
                    }
                }
                None if outputs.range((id, 0)..(id + 1, 0)).next().is_some() => {
                    told.violations.push(format!("input {id}, {command:?}, has an output"));
                }
                None => {}
            }
        }
        let failing = inputs.iter().enumerate().filter(|(_, (_, command))| command.outputs().is_none());
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (id, (_, command)) in failing {
            *expected.entry(command.text(id)).or_default() += 1;
        }
        for (text, count) in expected {
            let of = |number: &usize| inputs[*number].1.text(*number) == text;
            let id = (0..inputs.len()).find(of).unwrap();
            let found = letters.get(&id).copied().unwrap_or(0);
            if found < count {
                told.violations.push(format!("{} of {count} dead letters are lost: {text}", count - found));
            }
            told.repeated += found.saturating_sub(count);
        }
        told.repeated += outputs.values().map(|count| count - 1).sum::<u64>();
        if faults.is_empty() && told.repeated > 0 {
            told.violations.push(format!("{} are repeated, and nothing happened", told.repeated));
        }
        if *ordered && !first.is_sorted() {
            told.violations.push(format!("the order is not kept: {first:?}"));
        }
        if self.world.queue_length("wabbit.lost").unwrap_or(0) > 0 {
            told.violations.push("there are messages in `wabbit.lost`".to_owned());
        }
    }
}

impl Host {
    /// Ends it in order.
    async fn end(self) -> Result<(), String> {
        self.stop.cancel();
        match tokio::time::timeout(END_MAX, self.ended).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!("the host failed: {error}")),
            Ok(Err(error)) => Err(format!("the host broke down: {error}")),
            Err(_) => Err(format!("the host does not end within {END_MAX:?}")),
        }
    }
}

async fn publish(peer: &Channel, number: usize, body: &str) {
    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(number.to_string().into());
    let options = BasicPublishOptions::default();
    let confirm = peer.basic_publish("".into(), "work".into(), options, body.as_bytes(), properties).await.unwrap();
    confirm.await.unwrap();
}

/// The bodies of all that waits in a queue.
async fn take_all(peer: &Channel, queue: &str) -> Vec<String> {
    // A queue that nobody needed is not there.
    let mut bodies = Vec::new();
    let passive = QueueDeclareOptions { passive: false, durable: true, ..QueueDeclareOptions::default() };
    if queue == "out" {
        peer.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
    }
    while let Ok(Some(message)) = peer.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await {
        bodies.push(String::from_utf8(message.delivery.data).unwrap());
    }
    bodies
}
