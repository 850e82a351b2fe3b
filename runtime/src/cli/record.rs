//! `wabbit record`: new deliveries of a queue, copied into a file. The queue and its consumers do not notice.

use std::{
    future::poll_fn,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use clap::Args;
use tempfile::NamedTempFile;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failed, SettingsArgs, executor, settings_with_manifests};
use crate::{
    amqp::{Session, Tap},
    app::settings::Settings,
    delivery::{Delivery, recording},
    manifest::{Queue, read_folder, values::nearest_or_all},
};

/// Deliveries of one recording.
const DELIVERIES_MAX: u64 = 1_000_000;
/// Bytes of one recording.
const BYTES_MAX: u64 = 4 << 30;
/// How long one takes.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Copies that are on their way.
const PREFETCH: u16 = 100;

#[derive(Args)]
pub(super) struct Record {
    /// The queue, by its name in a manifest
    queue: String,
    /// End after so many deliveries
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=DELIVERIES_MAX))]
    limit: u64,
    /// The file, which is not there yet; a line of JSON for each delivery
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// End after this time
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    time: Duration,
    #[command(flatten)]
    settings: SettingsArgs,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}, such as `60s`"))?;
    let most = humantime::format_duration(TIME_MAX);
    if time.is_zero() || time > TIME_MAX { Err(format!("it is from `1ms` to `{most}`")) } else { Ok(time) }
}

/// Why a recording ended.
enum End {
    /// It has all that was asked for, or its time is over, or somebody ended it.
    Done,
    /// It has as many bytes as it may.
    Full,
    /// The broker ended it.
    Lost(anyhow::Error),
}

impl Record {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings_with_manifests(&self.settings.clone().overrides())?;
        let queue = self.find(&settings)?;
        if self.out.exists() {
            let file = self.out.display();
            return Err(Failed::Usage(format!(
                "there is a `{file}` already\nhint: choose another `--out`, or delete it"
            )));
        }
        let mut recording = Recording::new(&self.out)?;
        let executor = executor()?;
        let end = executor.block_on(self.record(&settings, &queue, &mut recording));
        executor.shutdown_background();
        let (count, end) = (recording.count, end?);
        recording.keep(&self.out)?;
        println!("{count} recorded");
        match end {
            End::Done => Ok(()),
            End::Full => {
                let most = bytesize::ByteSize::b(BYTES_MAX);
                Err(anyhow::anyhow!("`{}` has {most}, which is all that it may", self.out.display()).into())
            }
            End::Lost(error) => Err(error.into()),
        }
    }

    /// The queue in a manifest, with what feeds it.
    fn find(&self, settings: &Settings) -> Result<Queue, Failed> {
        let folder = read_folder(&settings.manifests, &settings.host.ceilings(), |_| true)
            .with_context(|| format!("cannot read the folder of manifests `{}`", settings.manifests.display()))?;
        let mut queues = Vec::new();
        for manifest in folder.manifests {
            queues.extend(manifest.queues);
            queues.extend(manifest.other_queues);
        }
        let name = &self.queue;
        let Some(queue) = queues.iter().find(|queue| queue.name == *name && !name.is_empty()) else {
            let known: Vec<_> =
                queues.iter().map(|queue| queue.name.as_str()).filter(|name| !name.is_empty()).collect();
            let bad = folder.problems.len();
            let bad = if bad > 0 {
                format!("\nhint: `wabbit check`: manifests that are wrong: {bad}")
            } else {
                String::new()
            };
            let hint = nearest_or_all(name, &known);
            return Err(Failed::Configuration(format!("error: no manifest names a queue `{name}`\nhint: {hint}{bad}")));
        };
        if queue.bind.is_empty() {
            let text = format!(
                "error: queue `{name}` is fed by the default exchange alone, which gives no copies: its manifest names no \
                 binding\nhint: bind it to an exchange, and publish there"
            );
            return Err(Failed::Configuration(text));
        }
        Ok(queue.clone())
    }

    async fn record(&self, settings: &Settings, queue: &Queue, recording: &mut Recording) -> anyhow::Result<End> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let mut signals = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()?;
        let stopping = async {
            let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(waits).await;
        };
        let session = Arc::new(Session::connect_to_any(&settings.amqp).await?);
        let mut tap = Tap::open(&session, &queue.bind, PREFETCH).await?;
        eprintln!("recording what comes to `{}`", queue.name);
        let name: Arc<str> = queue.name.as_str().into();
        let (mut stopping, over) = (std::pin::pin!(stopping), tokio::time::sleep(self.time));
        let mut over = std::pin::pin!(over);
        let end = loop {
            if recording.count >= self.limit {
                break End::Done;
            }
            let next = poll_fn(|cx| match tap.poll_settled(cx) {
                std::task::Poll::Ready(trouble) => std::task::Poll::Ready(Err(trouble)),
                std::task::Poll::Pending => tap.poll_next(cx),
            });
            tokio::select! {
                next = next => match next {
                    Ok(received) => {
                        let delivery = Delivery { queue: Arc::clone(&name), ..Delivery::clone(&received.delivery) };
                        if !recording.add(&delivery)? {
                            break End::Full;
                        }
                        tap.done(&received);
                    }
                    Err(trouble) => break End::Lost(trouble.into()),
                },
                () = &mut over => break End::Done,
                () = &mut stopping => break End::Done,
                () = session.lost().cancelled() => break End::Lost(anyhow::anyhow!("the connection was lost")),
            }
        };
        // The queue goes with the connection that it is exclusive to.
        session.close().await;
        Ok(end)
    }
}

/// A file that is written aside.
struct Recording {
    file: std::io::BufWriter<NamedTempFile>,
    count: u64,
    bytes: u64,
}

impl Recording {
    fn new(out: &Path) -> anyhow::Result<Self> {
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".recording-").tempfile_in(folder);
        let file = file.with_context(|| format!("cannot write to the folder `{}`", folder.display()))?;
        Ok(Self { file: std::io::BufWriter::new(file), count: 0, bytes: 0 })
    }

    /// Whether there was room for it.
    fn add(&mut self, delivery: &Delivery) -> anyhow::Result<bool> {
        let line = recording::line(SystemTime::now(), delivery)?;
        if self.bytes.saturating_add(line.len() as u64) > BYTES_MAX {
            return Ok(false);
        }
        self.file.write_all(&line).context("cannot write the recording")?;
        self.count += 1;
        self.bytes += line.len() as u64;
        Ok(true)
    }

    /// Puts it where it was asked for. It is for its owner alone, for messages may hold anything.
    fn keep(self, out: &Path) -> anyhow::Result<()> {
        let file = self.file.into_inner().context("cannot write the recording")?;
        file.as_file().sync_all().context("cannot write the recording")?;
        file.persist_noclobber(out).with_context(|| format!("cannot write `{}`", out.display()))?;
        Ok(())
    }
}
