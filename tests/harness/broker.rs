//! RabbitMQ for the tests. One node serves all tests of a run, each in a vhost of its own; a test that kills, stops or
//! freezes its broker starts a private node.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use wabbit_embedded_broker::{Limits, Server};

use super::certificates::{self, Certificates};
use super::places;
use super::process::{self, Lines, Output, Process};
use super::wait_until;

/// Names a broker that runs already. Tests that use the shared broker then run in its vhost, one after another. With
/// the value `embedded`, each of them has an embedded broker of its own.
pub const EXTERNAL: &str = "WABBIT_TEST_AMQP_URL";

/// The value that stands for no broker that runs already.
const EMBEDDED: &str = "embedded";

/// How long a node may take to start or to stop; 5 s is usual.
const NODE_DEADLINE: Duration = Duration::from_secs(120);

/// How long one call of `rabbitmqctl` may take; half a second is usual.
const CTL_DEADLINE: Duration = Duration::from_secs(60);

/// Where to get a node that cannot be started.
const HINT: &str = "hint: scripts/require-rabbitmq installs RabbitMQ";

/// A place at the broker that belongs to one test.
pub struct Vhost {
    /// The URL that leads there.
    pub url: String,
    /// Its name, for `rabbitmqctl -p`.
    pub name: String,
    /// Distinguishes the names of this test where the vhost is shared with others, else empty.
    prefix: String,
    /// With an external broker, tests take turns.
    _turn: Option<MutexGuard<'static, ()>>,
    /// The embedded broker that it is a place at.
    _server: Option<Server>,
}

impl Vhost {
    /// A name for a queue or exchange that no other test uses, with an external broker either. Not needed for names
    /// that a test deletes itself.
    pub fn unique(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// What makes a node one of a cluster.
pub struct Membership {
    /// The port of the epmd through which the nodes find each other.
    pub epmd_port: u16,
    /// What they know each other by.
    pub cookie: String,
}

/// A RabbitMQ broker.
pub struct Broker {
    kind: Kind,
}

enum Kind {
    Node(Box<Node>),
    External(String),
    Embedded,
}

/// A node of our own. Fields drop in this order: the process ends before its folder goes.
struct Node {
    process: Option<Process>,
    log: Lines,
    port: u16,
    /// Where the nodes of its cluster find each other.
    epmd_port: Option<u16>,
    certificates: Certificates,
    vhosts: Mutex<Vhosts>,
    /// How many vhosts are created at once.
    batch: u32,
    folder: TempDir,
}

/// Vhosts that were created in advance.
#[derive(Default)]
struct Vhosts {
    created: u32,
    free: VecDeque<String>,
}

impl Broker {
    /// The broker that all tests of this run share. Nothing that a test does to it may disturb the others.
    pub async fn shared() -> &'static Broker {
        static EXTERNAL_BROKER: OnceLock<Broker> = OnceLock::new();
        match env::var(EXTERNAL) {
            Ok(url) if url != EMBEDDED => EXTERNAL_BROKER.get_or_init(|| Broker { kind: Kind::External(url) }),
            _ => Broker::ours().await,
        }
    }

    /// The shared broker for tests that need `rabbitmqctl`, TLS or real vhosts: a node of ours, even where
    /// `WABBIT_TEST_AMQP_URL` names another, or what is embedded, where that is asked for.
    pub async fn ours() -> &'static Broker {
        static OURS: OnceCell<Broker> = OnceCell::const_new();
        let create = async || match env::var(EXTERNAL) {
            Ok(url) if url == EMBEDDED => Broker { kind: Kind::Embedded },
            // A call of `rabbitmqctl` takes half a second, and creates sixteen vhosts as fast as one.
            _ => Broker::create("", 16).await,
        };
        OURS.get_or_init(create).await
    }

    /// A node of this test's own.
    pub async fn private() -> Broker {
        Broker::private_with("").await
    }

    /// A node of this test's own with more lines in its configuration, such as `heartbeat = 2`.
    pub async fn private_with(configuration: &str) -> Broker {
        Broker::create(configuration, 1).await
    }

    /// A node of a cluster, on this port.
    pub async fn member(port: u16, membership: &Membership, configuration: &str) -> Broker {
        Broker::create_at(port, Some(membership), configuration, 1).await
    }

    async fn create(configuration: &str, batch: u32) -> Broker {
        Broker::create_at(places::ports(), None, configuration, batch).await
    }

    async fn create_at(port: u16, membership: Option<&Membership>, configuration: &str, batch: u32) -> Broker {
        let is_embedded = env::var(EXTERNAL).is_ok_and(|url| url == EMBEDDED);
        assert!(!is_embedded, "this test needs RabbitMQ; scripts/test-embedded is to leave it out");
        let folder = places::folder("broker");
        if let Some(Membership { cookie, .. }) = membership {
            let home = folder.path().join("home");
            fs::create_dir(&home).unwrap();
            fs::write(home.join(".erlang.cookie"), cookie).unwrap();
            fs::set_permissions(home.join(".erlang.cookie"), Permissions::from_mode(0o400)).unwrap();
        }
        let certificates = certificates::create(folder.path());
        let tls = format!(
            "listeners.ssl.1 = 127.0.0.1:{}\n\
             ssl_options.cacertfile = {}\n\
             ssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\n",
            port + 3,
            certificates.authority.display(),
            certificates.certificate.display(),
            certificates.key.display(),
        );
        fs::write(folder.path().join("extra.conf"), format!("{tls}{configuration}\n")).unwrap();
        let mut node = Node {
            process: None,
            log: Lines::default(),
            port,
            epmd_port: membership.map(|membership| membership.epmd_port),
            certificates,
            vhosts: Mutex::default(),
            batch,
            folder,
        };
        node.start().await;
        Broker { kind: Kind::Node(Box::new(node)) }
    }

    /// A fresh vhost for the test `name`.
    pub async fn vhost(&self, name: &str) -> Vhost {
        match &self.kind {
            Kind::Node(node) => {
                let vhost = node.take_vhost().await;
                // Shown with a failing test only; leads from the test to the broker's log.
                println!("{name} runs in vhost {vhost} of {}", node.folder.path().display());
                Vhost {
                    url: format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", node.port),
                    name: vhost,
                    prefix: String::new(),
                    _turn: None,
                    _server: None,
                }
            }
            Kind::Embedded => {
                let server = embedded().await;
                Vhost {
                    url: format!("amqp://guest:guest@{}/%2f", server.local_addr()),
                    name: "/".to_owned(),
                    prefix: String::new(),
                    _turn: None,
                    _server: Some(server),
                }
            }
            Kind::External(url) => {
                static TURN: Mutex<()> = Mutex::const_new(());
                Vhost {
                    url: url.clone(),
                    name: url.rsplit_once('/').map_or("/", |(_, vhost)| vhost).to_owned(),
                    prefix: format!("{name}-{}-", std::process::id()),
                    _turn: Some(TURN.lock().await),
                    _server: None,
                }
            }
        }
    }

    /// The URL of a vhost over TLS. The certificate is signed by [`Broker::authority`], which nobody trusts by default.
    pub fn tls_url(&self, vhost: &Vhost) -> String {
        let port = self.node().port + 3;
        format!("amqps://guest:guest@127.0.0.1:{port}/{}", vhost.name)
    }

    /// The certificate authority of the TLS listener, a PEM file.
    pub fn authority(&self) -> &Path {
        &self.node().certificates.authority
    }

    /// The port for AMQP on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.node().port
    }

    /// Where the node keeps its data and its logs.
    pub fn folder(&self) -> &Path {
        self.node().folder.path()
    }

    /// The process id of the node.
    pub fn id(&self) -> u32 {
        self.node().process.as_ref().expect("the broker is stopped").id()
    }

    /// Runs `rabbitmqctl`, and returns what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        self.node().ctl(arguments).await.success()
    }

    /// Makes sure that what was declared so far survives [`Broker::kill`]. RabbitMQ holds declarations back for up to
    /// some seconds before it writes them; about one in ten queues declared right before a SIGKILL is gone after it,
    /// with its messages, confirmed or not. Messages themselves are written before they are confirmed.
    pub async fn flush(&self) {
        self.ctl(&["eval", "mnesia:sync_log()."]).await;
    }

    /// Ends the node with SIGKILL, as a power cut would. See [`Broker::flush`] for what that loses.
    pub fn kill(&mut self) {
        self.node_mut().running().kill();
        self.node_mut().process = None;
    }

    /// Ends the node in order.
    pub async fn stop(&mut self) {
        let node = self.node_mut();
        node.running().signal(Signal::SIGTERM);
        node.running().ended(NODE_DEADLINE).await;
        node.process = None;
    }

    /// Starts the node again with the data and on the port that it had.
    pub async fn start(&mut self) {
        self.node_mut().start().await;
    }

    /// Kills the node, and starts it again with the data and on the port that it had.
    pub async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    /// Halts the node: its connections stay open, and nobody answers. A signal is only on its way when it was sent: on a
    /// busy machine a node still answered after that, so this returns when each of its threads has stopped.
    pub async fn freeze(&mut self) {
        self.node_mut().running().signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.id());
        wait_until(NODE_DEADLINE, "every thread of the broker to stop", async || {
            for task in fs::read_dir(&tasks).map_err(|error| error.to_string())? {
                let stat = task.and_then(|task| fs::read_to_string(task.path().join("stat")));
                // The name comes before, in brackets, and may have anything in it.
                match stat.map_err(|error| error.to_string())?.rsplit_once(") ") {
                    Some((_, rest)) if rest.starts_with('T') => {}
                    other => return Err(format!("{other:?}")),
                }
            }
            Ok(())
        })
        .await;
    }

    /// Lets a frozen node go on.
    pub fn thaw(&mut self) {
        self.node_mut().running().signal(Signal::SIGCONT);
    }

    fn node(&self) -> &Node {
        match &self.kind {
            Kind::Node(node) => node,
            Kind::External(_) | Kind::Embedded => {
                panic!(
                    "this needs a broker of ours (`Broker::ours` or `Broker::private`), and {EXTERNAL} names another; \
                     scripts/test-embedded is to leave it out"
                )
            }
        }
    }

    fn node_mut(&mut self) -> &mut Node {
        match &mut self.kind {
            Kind::Node(node) => node,
            Kind::External(_) | Kind::Embedded => unreachable!("only private brokers are ever mutable"),
        }
    }
}

impl Node {
    async fn start(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        let mut command = self.script("rabbitmq-node");
        command.arg(self.folder.path()).arg(self.port.to_string());
        let process = self.process.insert(Process::start("the broker", command, &self.log));
        let (port, log, folder) = (self.port, &self.log, self.folder.path());
        wait_until(NODE_DEADLINE, format!("the broker on port {port}"), async || {
            if let Some(status) = process.status() {
                let node_log = fs::read_to_string(folder.join("log/node.log")).unwrap_or_default();
                let skip = node_log.lines().count().saturating_sub(30);
                let end: Vec<_> = node_log.lines().skip(skip).collect();
                panic!("the broker ended: {status}\n{HINT}\n{log}{}", end.join("\n"));
            }
            answers(port).await
        })
        .await;
    }

    fn script(&self, name: &str) -> Command {
        let mut command = process::bound(places::root().join("scripts").join(name));
        command.env_remove("ERL_EPMD_PORT").envs(self.epmd_port.map(|port| ("ERL_EPMD_PORT", port.to_string())));
        command
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("the broker is stopped")
    }

    async fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.script("rabbitmq-ctl");
        command.arg(self.folder.path()).arg(self.port.to_string()).args(arguments);
        process::run("rabbitmqctl", command, CTL_DEADLINE).await
    }

    async fn take_vhost(&self) -> String {
        let mut vhosts = self.vhosts.lock().await;
        if vhosts.free.is_empty() {
            let (first, last) = (vhosts.created + 1, vhosts.created + self.batch);
            self.ctl(&["eval", &create_vhosts(first, last)]).await.success();
            vhosts.created = last;
            vhosts.free.extend((first..=last).map(|number| format!("test-{number}")));
        }
        vhosts.free.pop_front().unwrap()
    }
}

/// An embedded broker, on threads that no test blocks.
async fn embedded() -> Server {
    static THREADS: OnceLock<Runtime> = OnceLock::new();
    let threads = THREADS.get_or_init(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    threads.spawn(Server::bind("127.0.0.1:0", Limits::default())).await.unwrap().unwrap()
}

/// In Erlang: creates the vhosts `test-FIRST` to `test-LAST`, each with every right for `guest`.
fn create_vhosts(first: u32, last: u32) -> String {
    format!(
        "[begin \
           V = <<\"test-\", (integer_to_binary(N))/binary>>, \
           ok = rabbit_vhost:add(V, <<\"tests\">>), \
           ok = rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, V, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"tests\">>) \
         end || N <- lists:seq({first}, {last})]."
    )
}

/// Whether a broker speaks AMQP on this port: it answers the protocol header with its first method.
async fn answers(port: u16) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        stream.read_u8().await
    };
    match tokio::time::timeout(Duration::from_secs(2), exchange).await {
        Ok(Ok(1)) => Ok(()),
        Ok(Ok(byte)) => Err(format!("it answered with a frame of type {byte}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}
