//! The built host as a child process, with folders of its own.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::{self, Lines, Output, Process};
use super::{DEADLINE, places, wait_until};

/// How long a host may take until it is ready: a plugin of 18 MB is compiled for 15 s by one core that does nothing else.
const READY_DEADLINE: Duration = Duration::from_secs(180);

/// What is done to a host's folder before it starts.
type Prepare = Box<dyn Fn(&Path) + Send + Sync>;

/// What a host is started with.
#[derive(Default)]
pub struct HostConfig {
    /// Another binary than `wabbit`.
    binary: Option<String>,
    amqp_url: String,
    plugins: Vec<(String, Vec<u8>)>,
    manifests: Vec<(String, String)>,
    prepare: Option<Prepare>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl HostConfig {
    /// A host without plugins and manifests.
    pub fn new(amqp_url: &str) -> HostConfig {
        HostConfig { amqp_url: amqp_url.to_owned(), ..HostConfig::default() }
    }

    /// Adds a plugin: a file by this name, with what is in `source`.
    pub fn plugin(self, name: &str, source: &Path) -> HostConfig {
        let bytes = fs::read(source)
            .unwrap_or_else(|error| panic!("{}: {error}; `make plugins guests` builds it", source.display()));
        self.plugin_bytes(name, &bytes)
    }

    /// Adds a plugin of these bytes, whatever they are.
    pub fn plugin_bytes(mut self, name: &str, bytes: &[u8]) -> HostConfig {
        self.plugins.push((name.to_owned(), bytes.to_vec()));
        self
    }

    /// Adds the manifest `NAME.toml`.
    pub fn manifest(mut self, name: &str, text: &str) -> HostConfig {
        self.manifests.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Does this to the folder that has `plugins` and `manifests`, before the host is started: for what is no file.
    pub fn prepare(mut self, prepare: impl Fn(&Path) + Send + Sync + 'static) -> HostConfig {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Adds an argument of `wabbit run`.
    pub fn argument(mut self, argument: &str) -> HostConfig {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Runs another binary of the same build, such as `wabbit-faulty`.
    pub fn binary(mut self, name: &str) -> HostConfig {
        self.binary = Some(name.to_owned());
        self
    }

    /// Sets a variable of the environment.
    pub fn environment(mut self, name: &str, value: &str) -> HostConfig {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A host. Dropping it kills it; where a test fails, its log is shown.
pub struct Host {
    process: Process,
    log: Lines,
    admin: SocketAddr,
    config: HostConfig,
    folder: TempDir,
}

impl Host {
    /// Starts a host, and does not wait for it.
    pub fn start(config: HostConfig) -> Host {
        let folder = places::folder("host");
        let (plugins, manifests) = (folder.path().join("plugins"), folder.path().join("manifests"));
        for path in [&plugins, &manifests] {
            fs::create_dir(path).unwrap();
        }
        for (name, bytes) in &config.plugins {
            fs::write(plugins.join(name), bytes).unwrap();
        }
        for (name, text) in &config.manifests {
            fs::write(manifests.join(format!("{name}.toml")), text).unwrap();
        }
        if let Some(prepare) = &config.prepare {
            prepare(folder.path());
        }
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, places::ports()));
        let log = Lines::default();
        let process = spawn(&config, folder.path(), admin, &log);
        Host { process, log, admin, config, folder }
    }

    /// Starts a host, and waits until all its workers consume.
    pub async fn ready(config: HostConfig) -> Host {
        let mut host = Host::start(config);
        host.wait_until_ready().await;
        host
    }

    /// Waits until all workers consume. The test fails where the host ends instead.
    pub async fn wait_until_ready(&mut self) {
        let (process, log, admin) = (&mut self.process, &self.log, self.admin);
        wait_until(READY_DEADLINE, "the host to be ready", async || {
            if let Some(status) = process.status() {
                panic!("the host ended before it was ready: {status}\n{log}");
            }
            match http_get(admin, "/readyz").await {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("/readyz answers {status}: {body}\n{log}")),
                Err(error) => Err(format!("/readyz: {error}\n{log}")),
            }
        })
        .await;
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its admin address.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What it ever had resident, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The folder that the host watches for plugins.
    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// The folder that the host reads manifests from.
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// The folder that holds all of it, and the host's working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Everything it wrote to stdout and stderr, across restarts, bounded.
    pub fn logs(&self) -> Vec<String> {
        self.log.all()
    }

    /// Forgets the log so far, to wait for something new.
    pub fn clear_logs(&self) {
        self.log.clear();
    }

    /// Waits until a line contains `text`, and returns the first that does.
    pub async fn wait_for_log(&self, text: &str) -> String {
        wait_until(DEADLINE, format!("`{text}` in the host's log"), async || {
            self.log.find(text).ok_or_else(|| format!("it says\n{}", self.log))
        })
        .await
    }

    /// Status and body of a path at the admin address.
    pub async fn get_status(&self, path: &str) -> (u16, String) {
        http_get(self.admin, path).await.unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log))
    }

    /// The same of a host that may not listen yet.
    pub async fn try_get(&self, path: &str) -> Result<(u16, String), String> {
        http_get(self.admin, path).await
    }

    /// Asks at the admin address with these lines in the request's head: the status, and all of the answer.
    pub async fn ask(&self, method: &str, path: &str, head: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n");
        let answer = exchange(self.admin, &request).await;
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log));
        (status(&answer).unwrap_or_else(|error| panic!("{error}")), answer)
    }

    /// A path at the admin address that answers 200 with JSON, such as `/workers`.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.get_status(path).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("GET {path}: {error}: {body}"))
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let (status, body) = self.get_status("/metrics").await;
        assert_eq!(status, 200, "GET /metrics: {body}");
        body
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How it ended, where it has.
    pub fn status(&mut self) -> Option<i32> {
        self.process.status().map(process::exit_code)
    }

    /// Waits until it has ended, and returns its exit code.
    pub async fn ended(&mut self, deadline: Duration) -> i32 {
        process::exit_code(self.process.ended(deadline).await)
    }

    /// Sends SIGTERM, waits for the end, and returns the exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.ended(DEADLINE).await
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts an ended host again, with the same folders and address.
    pub fn start_again(&mut self) {
        assert!(self.process.status().is_some(), "the host still runs");
        self.process = spawn(&self.config, self.folder.path(), self.admin, &self.log);
    }

    /// The same with another binary, or `wabbit` where none is given, and with these variables alone.
    pub fn start_again_as(&mut self, binary: Option<&str>, environment: &[(String, String)]) {
        self.config.binary = binary.map(str::to_owned);
        self.config.environment = environment.to_vec();
        self.start_again();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the host's log ends with\n{}", self.log);
        }
    }
}

fn spawn(config: &HostConfig, folder: &Path, admin: SocketAddr, log: &Lines) -> Process {
    let mut command = command(config.binary.as_deref().unwrap_or("wabbit"), folder);
    command
        .args(["run", "--plugins", "plugins", "--manifests", "manifests", "--amqp-url"])
        .arg(&config.amqp_url)
        .arg("--admin")
        .arg(admin.to_string())
        .args(&config.arguments)
        .envs(config.environment.iter().map(|(name, value)| (name, value)));
    Process::start("the host", command, log)
}

/// Runs `wabbit` with these arguments to its end, in `folder`.
pub async fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = wabbit(folder);
    command.args(arguments);
    process::run("wabbit", command, DEADLINE).await
}

/// The built host in `folder`, and nothing from the developer's environment that could change what it does. Compiled
/// plugins are shared by all tests, since compiling them takes longer than most tests; a test about that cache sets
/// `XDG_CACHE_HOME` itself.
pub fn wabbit(folder: &Path) -> Command {
    command("wabbit", folder)
}

/// The host on a stopped clock, with switches for mistakes.
pub fn simulation(folder: &Path) -> Command {
    command("simulate-faulty", folder)
}

fn command(name: &str, folder: &Path) -> Command {
    let mut command = process::bound(binary(name));
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("WABBIT_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1")
        .env("XDG_CACHE_HOME", places::temporary().join("cache"))
        .env("XDG_STATE_HOME", folder.join("state"))
        .current_dir(folder);
    command
}

/// The host that belongs to this test binary. Building tests does not build it, so one that is older than its sources
/// would be tested without anyone noticing.
fn binary(name: &str) -> PathBuf {
    static CHECKED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let binary = places::build().join(name);
    if !CHECKED.lock().unwrap().contains(name) {
        let hint = match name {
            "wabbit" => "run `cargo build --workspace --bin wabbit` first",
            _ => "run `scripts/build-faulty` first",
        };
        let built = modified(&binary).unwrap_or_else(|| panic!("{} is not there; {hint}", binary.display()));
        // What cargo notes down: `BINARY: SOURCE SOURCE…`, blanks escaped.
        let sources = fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
        for source in sources.replace("\\ ", "\0").split_whitespace().skip(1) {
            let source = PathBuf::from(source.replace('\0', " "));
            if modified(&source).is_some_and(|changed| changed > built) {
                panic!("{} is newer than {}; {hint}", source.display(), binary.display());
            }
        }
        CHECKED.lock().unwrap().insert(name.to_owned());
    }
    binary
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, &request).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP: {answer}"))?;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Err("a chunked answer, which this client does not read".to_owned());
    }
    Ok((status(head)?, body.to_owned()))
}

/// The least of HTTP: one request on a connection of its own, with a time limit.
async fn exchange(address: SocketAddr, request: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await;
    answer.map_err(|_| "no answer in 10 s".to_owned())?.map_err(|error| error.to_string())
}

fn status(head: &str) -> Result<u16, String> {
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| format!("no status: {head}"))
}
