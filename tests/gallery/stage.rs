//! A broker with workers on it: hosts with the manifests of a row, or in their place the scripts in pika.

use std::cell::Cell;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wabbit_embedded_broker::{Limits, Server};

use crate::harness::broker::{Broker, Vhost};
use crate::harness::process::{self, Lines, Process};
use crate::harness::{DEADLINE, host, places, python, wait_until};

/// How long a script may take; a hundred thousand messages take a minute or two.
pub const LONG: Duration = Duration::from_secs(400);

/// Who works, and on which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    RabbitMq,
    Embedded,
    /// The scripts in pika, on the embedded broker.
    Pika,
}

pub struct Stage {
    pub setting: Setting,
    pub url: String,
    pub row: &'static str,
    hosts: Cell<u32>,
    folder: TempDir,
    server: Option<Server>,
    _vhost: Option<Vhost>,
}

impl Stage {
    pub async fn new(setting: Setting, row: &'static str) -> Stage {
        let (mut server, mut vhost) = (None, None);
        let url = if setting == Setting::RabbitMq {
            vhost.insert(Broker::ours().await.vhost(&format!("gallery-{row}")).await).url.clone()
        } else {
            let server = server.insert(Server::bind("127.0.0.1:0", Limits::default()).await.unwrap());
            format!("amqp://guest:guest@{}/%2F", server.local_addr())
        };
        Stage { setting, url, row, hosts: Cell::new(0), folder: places::folder("gallery"), server, _vhost: vhost }
    }

    /// Whether hosts work, and not the scripts in their place.
    pub fn is_wabbit(&self) -> bool {
        self.setting != Setting::Pika
    }

    /// All manifests of the row on a host, or these scripts in their place: the name of a worker and its arguments.
    pub async fn workers(&self, scripts: &[(&str, &[&str])]) -> Cast {
        self.some_workers(&[], scripts).await
    }

    /// The same with some of the manifests.
    pub async fn some_workers(&self, manifests: &[&str], scripts: &[(&str, &[&str])]) -> Cast {
        let number = self.hosts.get();
        self.hosts.set(number + 1);
        let folder = self.folder.path().join(number.to_string());
        let mut cast = Cast {
            url: self.url.clone(),
            row: self.row,
            folder,
            admin: admin(),
            names: Vec::new(),
            players: Vec::new(),
            pika: Vec::new(),
        };
        fs::create_dir(&cast.folder).unwrap();
        if self.is_wabbit() {
            cast.names = copy_manifests(self.row, manifests, &cast.folder.join("manifests/gallery").join(self.row));
        } else {
            cast.pika = scripts.iter().map(|(name, arguments)| (name.to_string(), cast.filled(arguments))).collect();
            cast.names = scripts.iter().map(|(name, _)| name.to_string()).collect();
            fs::create_dir_all(cast.folder.join("target/gallery/logs")).unwrap();
        }
        cast.start().await;
        cast
    }

    /// Runs the script that publishes, and looks at what comes out: what it said, where it ended well.
    pub async fn client(&self, arguments: &[&str]) -> String {
        let script = match self.row {
            "orders" => "examples/orders.py".to_owned(),
            row => format!("examples/gallery/{row}-client.py"),
        };
        let common = ["--url", self.url.as_str(), "--deadline", "300"];
        python::run(&places::root().join(script), &[&common, arguments].concat(), LONG).await.success()
    }

    /// Ends what was begun.
    pub async fn close(self) {
        if let Some(server) = self.server {
            server.stop().await;
        }
    }
}

/// Starts a worker in pika.
pub fn script(file: &str, url: &str, name: &str, arguments: &[String]) -> (Process, Lines) {
    let mut command = process::bound("python3");
    command.arg(places::root().join(format!("examples/gallery/{file}.py")));
    command.args(["--url", url, "--deadline", "600"]).args(arguments);
    command.env("PYTHONPATH", places::root().join("target/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    let lines = Lines::default();
    (Process::start(name, command, &lines), lines)
}

fn admin() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, places::ports()))
}

/// Copies those manifests of a row, or all, as they are; returns their workers' names.
pub fn copy_manifests(row: &str, wanted: &[&str], folder: &Path) -> Vec<String> {
    fs::create_dir_all(folder).unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(places::root().join("manifests/gallery").join(row)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_manifest = path.extension().is_some_and(|extension| extension == "toml");
        if is_manifest && (wanted.is_empty() || wanted.contains(&name.as_str())) {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            names.push(name);
        }
    }
    assert!(!names.is_empty() && names.len() >= wanted.len(), "{row}: {names:?}");
    names.sort();
    names
}

/// One host, or the scripts in its place. Dropping it kills it.
pub struct Cast {
    url: String,
    row: &'static str,
    /// What the manifests' paths begin at is `manifests/gallery` in here.
    pub folder: PathBuf,
    admin: SocketAddr,
    names: Vec<String>,
    /// The scripts with their arguments; none where a host works.
    pika: Vec<(String, Vec<String>)>,
    players: Vec<(Process, Lines)>,
}

impl Cast {
    fn filled(&self, arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|argument| argument.replace("FOLDER", self.folder.to_str().unwrap())).collect()
    }

    /// Starts the host, or the scripts, and waits until all consume.
    pub async fn start(&mut self) {
        assert!(self.players.is_empty(), "they run already");
        if self.pika.is_empty() {
            let mut command = host::wabbit(&self.folder);
            command.args(["run", "--amqp-url", &self.url, "--admin", &self.admin.to_string(), "--plugins"]);
            command.arg(places::root().canonicalize().unwrap().join("plugins"));
            command.arg("--manifests").arg(format!("manifests/gallery/{}", self.row));
            let lines = Lines::default();
            self.players.push((Process::start("the host", command, &lines), lines));
        }
        for (name, arguments) in &self.pika {
            self.players.push(script(&format!("{}-worker", self.row), &self.url, name, arguments));
        }
        let (names, scripts) = (&self.names, !self.pika.is_empty());
        let players = &mut self.players;
        wait_until(Duration::from_secs(180), format!("the workers of {}", self.row), async || {
            for (number, name) in names.iter().enumerate() {
                let (process, lines) = &mut players[if scripts { number } else { 0 }];
                if let Some(status) = process.status() {
                    panic!("`{name}` ended with {status}\n{lines}");
                }
                let ready = if scripts { "consuming".to_owned() } else { format!(" consuming worker={name} ") };
                if lines.find(&ready).is_none() {
                    return Err(format!("`{name}` does not consume\n{lines}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// What a worker printed, in its order.
    pub fn printed(&self, worker: &str) -> Vec<String> {
        if self.pika.is_empty() {
            let end = format!(" worker={worker} stream=\"stdout\"");
            let lines = self.players.iter().flat_map(|(_, lines)| lines.all());
            let said = lines.filter_map(|line| Some(line.strip_suffix(&end)?.split_once(" INFO ")?.1.to_owned()));
            return said.collect();
        }
        let player = self.names.iter().position(|name| name == worker).and_then(|number| self.players.get(number));
        let lines = player.map(|(_, lines)| lines.all()).unwrap_or_default();
        lines.into_iter().filter(|line| line != "consuming").collect()
    }

    /// Waits until a worker has printed as many lines as these, and compares them: in their order where that is kept.
    pub async fn expect(&self, worker: &str, ordered: bool, expected: impl IntoIterator<Item = String>) {
        let expected: Vec<_> = expected.into_iter().collect();
        let mut printed = wait_until(DEADLINE, format!("{} lines of `{worker}`", expected.len()), async || {
            let printed = self.printed(worker);
            if printed.len() >= expected.len() { Ok(printed) } else { Err(format!("{} are there", printed.len())) }
        })
        .await;
        assert_lines(&mut printed, ordered, expected);
    }

    /// The same of a file.
    pub async fn expect_file(&self, path: &str, expected: impl IntoIterator<Item = String>) {
        let expected: Vec<_> = expected.into_iter().collect();
        let path = self.folder.join(path);
        let mut lines = wait_until(DEADLINE, format!("{} lines in {}", expected.len(), path.display()), async || {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.len() >= expected.len() { Ok(lines) } else { Err(format!("{} are there", lines.len())) }
        })
        .await;
        assert_lines(&mut lines, true, expected);
    }

    /// A number that the host's metrics have.
    pub async fn metric(&self, name: &str) -> u64 {
        let exchange = async {
            let mut stream = TcpStream::connect(self.admin).await?;
            let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await.unwrap().unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no `{name}` in {answer}"))
    }

    /// Ends all with SIGKILL.
    pub fn kill(&mut self) {
        for (process, _) in &mut self.players {
            process.kill();
        }
        self.players.clear();
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (_, lines) in &self.players {
                eprintln!("a worker's log ends with\n{lines}");
            }
        }
    }
}

fn assert_lines(lines: &mut Vec<String>, ordered: bool, mut expected: Vec<String>) {
    if !ordered {
        lines.sort();
        expected.sort();
    }
    let differs = lines.iter().zip(&expected).position(|(line, expected)| line != expected);
    assert!(lines.len() == expected.len(), "{} lines, and not {}: {lines:?}", lines.len(), expected.len());
    assert!(differs.is_none(), "line {differs:?} of {lines:?}");
}
