//! A host that another command runs as its child, and what it says of itself.

use std::{
    collections::VecDeque,
    env,
    net::SocketAddr,
    process::{self, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::TcpStream,
    process::Command,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::SettingsArgs;
use crate::app::settings::Settings;

/// For the host to say its address.
const START_MAX: Duration = Duration::from_secs(120);
/// For the host to end.
const STOP_MAX: Duration = Duration::from_secs(40);
/// For one answer of the host.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The bytes of one answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The bytes of a line of its log; the rest of a longer one is left out.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Lines of its log that are shown where it fails.
const TAIL_LINES: usize = 20;
/// What its log says its address by.
const ADDRESS: &str = "admin address http://";

pub(super) struct Child {
    process: tokio::process::Child,
    id: u32,
    address: SocketAddr,
    tail: Arc<Mutex<VecDeque<String>>>,
    sender: tokio::sync::Mutex<http1::SendRequest<Empty<Bytes>>>,
}

impl Child {
    /// Starts `wabbit run` by the same settings, with these flags as well. The lines of its log go to `lines`, if somebody reads them.
    pub(super) async fn start(
        arguments: &SettingsArgs,
        settings: &Settings,
        broker: Option<&str>,
        flags: impl FnOnce(&mut Command),
        lines: Option<mpsc::Sender<String>>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe().context("where this program lies")?);
        command.args(["run", "--admin", "127.0.0.1:0"]);
        flags(&mut command);
        if let Some(config) = &arguments.config {
            command.arg("--config").arg(config);
        }
        if let Some(environment) = &arguments.environment {
            command.arg("--environment").arg(environment);
        }
        command.arg("--cache").arg(&settings.cache).arg("--parent").arg(process::id().to_string());
        if let Some(url) = broker.or(arguments.amqp_url.as_deref()) {
            // Arguments are read by everybody on the machine.
            command.env("WABBIT_AMQP_URL", url);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start a host")?;
        let id = process.id().context("the host ended at once")?;
        let tail = Arc::<Mutex<VecDeque<String>>>::default();
        let (address_sender, address) = oneshot::channel();
        if let Some(log) = process.stderr.take() {
            tokio::spawn(follow(BufReader::new(log), Arc::clone(&tail), address_sender, lines));
        }
        let Ok(Ok(address)) = timeout(START_MAX, address).await else {
            bail!("the host did not start:\n{}", shown(&tail));
        };
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { process, id, address, tail, sender: tokio::sync::Mutex::new(sender) })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Asks it for something.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder().uri(path).header(HOST, self.address.to_string()).body(Empty::new())?;
        let answer = async {
            let response = {
                let mut sender = self.sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await?
            };
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            anyhow::Ok((status, body.map_err(anyhow::Error::from_boxed)?.to_bytes()))
        };
        let answer = timeout(ANSWER_MAX, answer).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer")));
        answer.with_context(|| format!("the host does not answer:\n{}", self.tail()))
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> String {
        shown(&self.tail)
    }

    /// Waits until it ends by itself.
    pub(super) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.process.wait().await?)
    }

    /// Ends it in order.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.id.cast_signed()), Signal::SIGTERM)?;
        let status = timeout(STOP_MAX, self.process.wait()).await.context("the host does not end")??;
        anyhow::ensure!(status.success(), "the host ended with {status}:\n{}", self.tail());
        Ok(())
    }
}

/// Reads its log to the end.
async fn follow(
    mut log: BufReader<tokio::process::ChildStderr>,
    tail: Arc<Mutex<VecDeque<String>>>,
    address: oneshot::Sender<SocketAddr>,
    lines: Option<mpsc::Sender<String>>,
) {
    let mut address = Some(address);
    let mut line = Vec::new();
    while (&mut log).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let found = text.split_once(ADDRESS).map(|(_, found)| found.split('"').next().unwrap_or_default());
        if let Some(found) = found.and_then(|found| found.parse().ok())
            && let Some(address) = address.take()
        {
            // Whoever started it may have given up.
            _ = address.send(found);
        }
        {
            let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(text.clone());
        }
        if let Some(lines) = &lines {
            // Who reads them may have ended.
            _ = lines.send(text).await;
        }
        line.clear();
    }
}

fn shown(tail: &Mutex<VecDeque<String>>) -> String {
    let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().map(|line| format!("  | {line}\n")).collect()
}
