//! The host that is measured: a child, and what it says of itself.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use hyper::StatusCode;
use indicatif::ProgressBar;
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::{sleep, timeout};

use super::super::{SettingsArgs, child};
use crate::app::settings::Settings;

/// For the host to compile the plugin and to consume.
const CONSUMING_MAX: Duration = Duration::from_secs(120);
/// For one more message to be settled.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether the host consumes.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Child {
    host: child::Child,
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
        let flags = |command: &mut tokio::process::Command| {
            command.args(["--strict", "--log-format", "text"]);
            for (flag, name) in [("--manifests", "manifests"), ("--plugins", "plugins"), ("--state", "state")] {
                command.arg(flag).arg(folder.join(name));
            }
        };
        let host = child::Child::start(arguments, settings, None, flags, None).await?;
        let child = Self { host, progress: Mutex::new((Instant::now(), 0)) };
        let consuming = async {
            while child.host.get("/readyz").await?.0 != StatusCode::OK {
                let (_, workers) = child.host.get("/workers").await?;
                let workers: serde_json::Value = serde_json::from_slice(&workers)?;
                if let Some(state @ ("failed" | "refused")) =
                    workers.pointer("/0/state").and_then(|state| state.as_str())
                {
                    bail!("the worker is {state}:\n{}", child.host.tail());
                }
                sleep(LOOK).await;
            }
            Ok(())
        };
        match timeout(CONSUMING_MAX, consuming).await {
            Ok(result) => result?,
            Err(_) => bail!("the host does not consume:\n{}", child.host.tail()),
        }
        *child.progress.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), 0);
        Ok(child)
    }

    /// What became of deliveries so far. Errors: for a while nothing has.
    pub(super) async fn look(&self) -> anyhow::Result<Counts> {
        let (_, text) = self.host.get("/metrics").await?;
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
            bail!("no delivery was done within {time}, after {done}:\n{}", self.host.tail());
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
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.host.id()))?;
        // The name before it may have any character.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = fields.iter().skip(11).take(2).map(|field| field.parse::<u64>()).sum::<Result<u64, _>>()?;
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// The most that was resident so far.
    pub(super) fn memory_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.host.id()))?;
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(most.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Ends it in order.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.host.stop().await
    }
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
