//! One trial: a host, a peer that puts messages in and takes out what becomes of them, and what is to be said of it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Connection, Tally, World,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
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

use crate::scenario::{Change, Command, Scenario};

/// By then faults are over.
const FAULTS_MAX: Duration = Duration::from_secs(120);
/// By then everything is done, after the last fault.
const DONE_MAX: Duration = Duration::from_secs(30 * 60);
/// For a host to end.
const END_MAX: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Where outputs go.
const OUT: &str = "out";
/// Where dead letters go.
const DEAD: &str = "work.dead";

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

/// A client whose connection is never cut.
struct Peer {
    connection: Connection,
    /// For what is published.
    channel: Channel,
    world: World,
    /// The bodies of what it has taken out, by the queue.
    taken: RefCell<BTreeMap<String, Vec<String>>>,
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
        // Looking takes a thread of its own, which is no seed's: it is done where there is something to see.
        let watch = if self.scenario.changes_files() { "poll" } else { "off" };
        fs::write(self.own.join("wabbit.toml"), format!("[reload]\nwatch = \"{watch}\"\npoll = \"500ms\"\n")).unwrap();
        self.put_plugin();
        self.put_manifest(self.scenario.prefetch);
        let peer = Peer::connect(self.scenario, self.world).await;
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
                    Change::Unbind(time) => peer.unbind(*time).await,
                    Change::DeleteExchange(time) => peer.delete_exchange(*time).await,
                    Change::DeleteDeadLetters => peer.delete_dead_letters().await,
                }
            }
            self.make_room(&peer).await;
            peer.publish(number, &command.text(number)).await;
        }
        let mut told = Told::default();
        if !self.settled(&peer, FAULTS_MAX, false).await {
            self.world.heal();
            if !self.settled(&peer, DONE_MAX, self.scenario.breaker).await {
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
        peer.take(OUT).await;
        peer.take(DEAD).await;
        told.tally = self.world.tally();
        self.check(&peer.taken.borrow(), &mut told);
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

    /// Whether everything came to its end within this time: nothing waits but what came out. Where a breaker is open and
    /// all that is left fails the first time, no try is charged until another delivery comes through, which `others` do.
    async fn settled(&self, peer: &Peer, within: Duration, others: bool) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            self.make_room(peer).await;
            let came_out: usize = [OUT, DEAD].iter().filter_map(|queue| self.world.queue_length(queue)).sum();
            if self.world.held() == (came_out, 0) {
                return true;
            }
            if tokio::time::Instant::now() > deadline {
                return false;
            }
            if others {
                peer.publish(self.scenario.inputs.len(), &Command::Ack.text(0)).await;
            }
            sleep(LOOK).await;
        }
    }

    /// Takes out what there is, where the queue has little room.
    async fn make_room(&self, peer: &Peer) {
        if self.scenario.room.is_some() {
            peer.take(OUT).await;
        }
    }

    /// Whether each input came to the end that it is to come to, and to no other.
    fn check(&self, taken: &BTreeMap<String, Vec<String>>, told: &mut Told) {
        let Scenario { inputs, faults, ordered, changes, .. } = self.scenario;
        let of = |queue: &str| taken.get(queue).into_iter().flatten();
        let mut outputs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        let mut first = Vec::new();
        for body in of(OUT) {
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
        for body in of(DEAD) {
            let id = (0..inputs.len()).find(|number| inputs[*number].1.text(*number) == *body);
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
                    // Inputs with the same text cannot be told apart by their letters; none of these has the same.
                    if letter > 0 && (count == 0 || !self.scenario.is_troubled()) {
                        told.violations.push(format!("input {id}, {command:?}, is a dead letter"));
                    }
                    for n in (0..count).filter(|_| letter == 0) {
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
        let is_quiet = faults.is_empty() && changes.is_empty() && self.scenario.room.is_none();
        if is_quiet && told.repeated > 0 {
            told.violations.push(format!("{} are repeated, and nothing happened", told.repeated));
        }
        // What was dead-lettered, and whose ack was lost then, may come through the next time, behind its successors.
        first.retain(|(id, _)| !letters.contains_key(id));
        // A full queue may take the second output of an input, and the first not before the next try.
        if *ordered && !first.is_sorted_by_key(|(id, _)| *id) {
            told.violations.push(format!("the order is not kept: {first:?}"));
        }
        if told.tally.unacked > self.scenario.unacked_max() {
            let most = self.scenario.unacked_max();
            told.violations.push(format!("{} were unsettled at once, of at most {most}", told.tally.unacked));
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

impl Peer {
    async fn connect(scenario: &Scenario, world: &World) -> Rc<Self> {
        let runtime = lapin::runtime::default_runtime().unwrap();
        let connection =
            Connection::connect_uri_with_config(Default::default(), Default::default(), Default::default(), runtime);
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let [mut of_work, mut of_out] = [FieldTable::default(), FieldTable::default()];
        if scenario.quorum {
            of_work.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        if let Some(room) = scenario.room {
            of_out.insert("x-max-length".into(), AMQPValue::LongInt(room));
            of_out.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        }
        channel.queue_declare("work".into(), durable, of_work).await.unwrap();
        channel.queue_declare(OUT.into(), durable, of_out).await.unwrap();
        let peer = Self { connection, channel, world: world.clone(), taken: RefCell::default() };
        peer.bind().await;
        Rc::new(peer)
    }

    /// A channel for what the broker may refuse.
    async fn aside(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    async fn bind(&self) {
        let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let none = FieldTable::default;
        self.channel.exchange_declare("ex".into(), lapin::ExchangeKind::Direct, exchange, none()).await.unwrap();
        let options = QueueBindOptions::default();
        self.channel.queue_bind(OUT.into(), "ex".into(), "out".into(), options, none()).await.unwrap();
    }

    fn bind_after(self: &Rc<Self>, time: Duration) {
        let peer = Rc::clone(self);
        spawn_local(async move {
            sleep(time).await;
            peer.bind().await;
        });
    }

    async fn unbind(self: &Rc<Self>, time: Duration) {
        let unbind = self.channel.queue_unbind(OUT.into(), "ex".into(), "out".into(), FieldTable::default());
        unbind.await.unwrap();
        self.bind_after(time);
    }

    async fn delete_exchange(self: &Rc<Self>, time: Duration) {
        self.channel.exchange_delete("ex".into(), ExchangeDeleteOptions::default()).await.unwrap();
        self.bind_after(time);
    }

    /// If another comes in between, the queue stays.
    async fn delete_dead_letters(&self) {
        self.take(DEAD).await;
        let if_empty = QueueDeleteOptions { if_empty: true, ..QueueDeleteOptions::default() };
        _ = self.aside().await.queue_delete(DEAD.into(), if_empty).await;
    }

    async fn publish(&self, number: usize, body: &str) {
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(number.to_string().into());
        let options = BasicPublishOptions::default();
        let publish = self.channel.basic_publish("".into(), "work".into(), options, body.as_bytes(), properties);
        publish.await.unwrap().await.unwrap();
    }

    /// Takes out all that waits in a queue, if it is there.
    async fn take(&self, queue: &str) {
        let channel = self.aside().await;
        while self.world.queue_length(queue).is_some() {
            let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() else {
                return;
            };
            let body = String::from_utf8(message.delivery.data).unwrap();
            self.taken.borrow_mut().entry(queue.to_owned()).or_default().push(body);
        }
    }
}
