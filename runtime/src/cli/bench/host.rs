//! The host that is measured: a child, and what it says of itself.

use std::{
    collections::{BTreeMap, VecDeque},
    env,
    net::SocketAddr,
    path::Path,
    process::{self, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::Command,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::super::SettingsArgs;
use crate::app::settings::Settings;

/// For the host to compile the plugin and to consume.
const START_MAX: Duration = Duration::from_secs(120);
/// For one more message to be settled.
const STALL_MAX: Duration = Duration::from_secs(30);
/// For the host to end.
const STOP_MAX: Duration = Duration::from_secs(40);
/// For one answer of the host.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The bytes of one answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How often it is looked whether the host consumes.
const LOOK: Duration = Duration::from_millis(50);
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
    /// When what is done last grew, and to what.
    progress: Mutex<(Instant, u64)>,
}

/// What became of deliveries so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) by_outcome: BTreeMap<String, u64>,
    pub(super) failures: BTreeMap<String, u64>,
}

impl Counts {
    /// Deliveries that will not come back.
    pub(super) fn done(&self) -> u64 {
        ["acked", "dead-lettered", "skipped"].iter().filter_map(|outcome| self.by_outcome.get(*outcome)).sum()
    }

    /// From the text of `/metrics`.
    fn parse(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines() {
            let Some((name, rest)) = line.split_once('{') else { continue };
            let (to, label) = match name {
                "wabbit_deliveries_total" => (&mut counts.by_outcome, "outcome=\""),
                "wabbit_failures_total" => (&mut counts.failures, "error_type=\""),
                _ => continue,
            };
            let value = rest.split_once(label).and_then(|(_, rest)| rest.split_once('"'));
            let Some((value, rest)) = value else { continue };
            let count = rest.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
            if count > 0 {
                to.insert(value.to_owned(), count);
            }
        }
        counts
    }
}

/// Where the host was at one time.
pub(super) struct Measured {
    pub(super) at: Instant,
    pub(super) done: u64,
    pub(super) cpu: Duration,
}

impl Child {
    /// Starts it, and waits until it consumes.
    pub(super) async fn start(arguments: &SettingsArgs, settings: &Settings, folder: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe().context("where this program lies")?);
        command.args(["run", "--strict", "--admin", "127.0.0.1:0", "--log-format", "text"]);
        for (flag, name) in [("--manifests", "manifests"), ("--plugins", "plugins"), ("--state", "state")] {
            command.arg(flag).arg(folder.join(name));
        }
        if let Some(config) = &arguments.config {
            command.arg("--config").arg(config);
        }
        if let Some(environment) = &arguments.environment {
            command.arg("--environment").arg(environment);
        }
        command.arg("--cache").arg(&settings.cache).arg("--parent").arg(process::id().to_string());
        if let Some(url) = &arguments.amqp_url {
            // Arguments are read by everybody on the machine.
            command.env("WABBIT_AMQP_URL", url);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut process = command.spawn().context("cannot start a host")?;
        let id = process.id().context("the host ended at once")?;
        let tail = Arc::<Mutex<VecDeque<String>>>::default();
        let (address_sender, address) = oneshot::channel();
        if let Some(log) = process.stderr.take() {
            tokio::spawn(follow(BufReader::new(log), Arc::clone(&tail), address_sender));
        }
        let Ok(Ok(address)) = timeout(START_MAX, address).await else {
            bail!("the host did not start:\n{}", shown(&tail));
        };
        let stream = TcpStream::connect(address).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (sender, progress) = (tokio::sync::Mutex::new(sender), Mutex::new((Instant::now(), 0)));
        let child = Self { process, id, address, tail, sender, progress };
        let consuming = async {
            while child.get("/readyz").await?.0 != StatusCode::OK {
                let (_, workers) = child.get("/workers").await?;
                let workers: serde_json::Value = serde_json::from_slice(&workers)?;
                if let Some(state @ ("failed" | "refused")) =
                    workers.pointer("/0/state").and_then(|state| state.as_str())
                {
                    bail!("the worker is {state}:\n{}", shown(&child.tail));
                }
                sleep(LOOK).await;
            }
            Ok(())
        };
        match timeout(START_MAX, consuming).await {
            Ok(result) => result?,
            Err(_) => bail!("the host does not consume:\n{}", shown(&child.tail)),
        }
        *child.progress.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), 0);
        Ok(child)
    }

    async fn get(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
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
        answer.with_context(|| format!("the host does not answer:\n{}", shown(&self.tail)))
    }

    /// What became of deliveries so far. Errors: for a while nothing has.
    pub(super) async fn look(&self) -> anyhow::Result<Counts> {
        let (_, text) = self.get("/metrics").await?;
        let counts = Counts::parse(std::str::from_utf8(&text)?);
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.done() != progress.1 {
            *progress = (Instant::now(), counts.done());
        }
        Ok(counts)
    }

    /// Fails where nothing was settled for too long.
    pub(super) fn check_progress(&self) -> anyhow::Result<()> {
        let (since, done) = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if since.elapsed() > STALL_MAX {
            let time = humantime::format_duration(STALL_MAX);
            bail!("no delivery was done within {time}, after {done}:\n{}", shown(&self.tail));
        }
        Ok(())
    }

    /// Waits until so many are done.
    pub(super) async fn wait_for(&self, done: u64, bar: &ProgressBar) -> anyhow::Result<()> {
        loop {
            let counts = self.look().await?;
            bar.set_position(counts.done());
            if counts.done() >= done {
                return Ok(());
            }
            self.check_progress()?;
            sleep(LOOK).await;
        }
    }

    pub(super) fn measure(&self, counts: &Counts) -> anyhow::Result<Measured> {
        Ok(Measured { at: Instant::now(), done: counts.done(), cpu: self.cpu()? })
    }

    /// What it has computed so far, in ticks of the system's (10 ms as a rule).
    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id))?;
        // The name before it may have any character.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = fields.iter().skip(11).take(2).map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// The most that was resident so far.
    pub(super) fn memory_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(most.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Ends it in order.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.id.cast_signed()), Signal::SIGTERM)?;
        let status = timeout(STOP_MAX, self.process.wait()).await.context("the host does not end")??;
        anyhow::ensure!(status.success(), "the host ended with {status}:\n{}", shown(&self.tail));
        Ok(())
    }
}

/// Reads its log to the end.
async fn follow(
    mut log: BufReader<tokio::process::ChildStderr>,
    tail: Arc<Mutex<VecDeque<String>>>,
    address: oneshot::Sender<SocketAddr>,
) {
    let mut address = Some(address);
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let found = text.split_once(ADDRESS).and_then(|(_, found)| found.parse().ok());
        if let Some(found) = found
            && let Some(address) = address.take()
        {
            // Whoever started it may have given up.
            _ = address.send(found);
        }
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text);
        drop(tail);
        line.clear();
    }
}

fn shown(tail: &Mutex<VecDeque<String>>) -> String {
    let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    tail.iter().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_metrics() {
        let counts = Counts::parse(
            "# HELP wabbit_deliveries Deliveries settled\n\
             wabbit_deliveries_total{worker=\"bench\",outcome=\"acked\"} 17\n\
             wabbit_deliveries_total{worker=\"bench\",outcome=\"requeued\"} 5\n\
             wabbit_deliveries_total{worker=\"bench\",outcome=\"dead-lettered\"} 3\n\
             wabbit_deliveries_total{worker=\"bench\",outcome=\"retried\"} 0\n\
             wabbit_failures_total{worker=\"bench\",error_type=\"trap\"} 3\n\
             wabbit_deliveries_in_flight{worker=\"bench\"} 9\n",
        );
        assert_eq!(counts.done(), 20);
        assert_eq!(counts.by_outcome.len(), 3);
        assert_eq!(counts.failures, BTreeMap::from([("trap".to_owned(), 3)]));
    }
}
