//! `wabbit dev`: a broker, a host and the compilers in one command, for whoever writes handlers.

mod rows;
mod samples;
mod screen;
mod sources;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    thread::available_parallelism,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use futures_util::future::{LocalBoxFuture, OptionFuture};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use wabbit_embedded_broker::{Limits, Server};

use super::{Failed, SettingsArgs, broker, child::Child, executor, new::SdkArgs, settings_with_manifests};
use crate::{
    app::settings::{Overrides, Settings},
    manifest::plugins_named,
    project::build::{Build, Wanted},
};
use rows::{Row, Rows};
use samples::Samples;
use screen::{Key, Screen};
use sources::Sources;

/// How often the host is asked, and sources are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of the host's log that wait for the screen. A host that says more waits.
const TOLD_MAX: usize = 256;
/// Keys that were pressed and not seen to.
const KEYS_MAX: usize = 8;

#[derive(Args)]
pub(super) struct Dev {
    /// Where the embedded broker listens [default: 127.0.0.1:5672, or a free port where that is taken]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "amqp_url")]
    listen: Option<SocketAddr>,
    /// Send this delivery, as JSON, once its worker consumes
    #[arg(long, value_name = "FILE")]
    send: Option<PathBuf>,
    /// The worker that it is sent to [default: the one whose sources it lies beside, or the only one]
    #[arg(long, value_name = "WORKER", requires = "send")]
    to: Option<String>,
    /// Print lines only, on a terminal too
    #[arg(long)]
    plain: bool,
    /// The folder of sources, one folder for each plugin [default: src in the folder of plugins]
    #[arg(long, value_name = "DIR", env = "WABBIT_SOURCES")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    sdk: SdkArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Dev {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings_with_manifests(&self.settings.clone().overrides())?;
        std::fs::create_dir_all(&settings.plugins)
            .with_context(|| format!("cannot make `{}`", settings.plugins.display()))?;
        let screen = Screen::new(self.plain);
        let executor = executor()?;
        let result = executor.block_on(self.run(settings, &screen));
        screen.close();
        executor.shutdown_background();
        Ok(result?)
    }

    async fn run(self, settings: Settings, screen: &Screen) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let mut signals = signals.into_iter().map(signal).collect::<Result<Vec<_>, _>>()?;
        let stopping = stop.clone();
        let _signals = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
            futures_util::future::select_all(waits).await;
            stopping.cancel();
        }));

        let server = match &self.settings.amqp_url {
            Some(_) => None,
            None => Some(listen(self.listen).await?),
        };
        let url = server.as_ref().map(|server| format!("amqp://guest:guest@{}/%2f", server.local_addr()));
        let settings = match &url {
            Some(url) => {
                Settings::load(&Overrides { amqp_url: Some(url.clone()), ..self.settings.clone().overrides() })
                    .map_err(|error| anyhow::anyhow!("{error}"))?
            }
            None => settings,
        };
        match &server {
            Some(server) => screen.say(&format!(
                "an embedded broker listens on amqp://guest:guest@{} until this ends",
                server.local_addr()
            )),
            None => screen.say(&format!("the broker is {}", settings.amqp.urls.at(0))),
        }
        let folder = self.sources.clone().unwrap_or_else(|| settings.plugins.join("src"));
        let samples = Samples::new(&folder, self.send.clone(), self.to.clone());
        let mut developer = Developer {
            build: None,
            sources: Sources::new(&folder),
            manifests: Sources::new(&settings.manifests),
            stop: &stop,
            screen,
            settings: &settings,
            samples,
            rows: Rows::default(),
        };
        if folder.is_dir() {
            developer.build = Some(Build {
                sdk: self.sdk.find()?,
                sources: folder,
                plugins: settings.plugins.clone(),
                wanted: Wanted::Files(BTreeSet::new()),
                jobs: available_parallelism().map_or(1, usize::from),
                force: false,
            });
        }
        let result = developer.run(&self.settings, url.as_deref()).await;
        if let Some(server) = server {
            server.stop().await;
        }
        result
    }
}

/// Where nothing else is asked for, where everybody looks for a broker; else anywhere.
async fn listen(address: Option<SocketAddr>) -> anyhow::Result<Server> {
    match address {
        Some(address) => broker::listen(address).await,
        None => {
            let usual = Server::bind(broker::DEFAULT, Limits::default()).await;
            match usual {
                Ok(server) => Ok(server),
                Err(_) => broker::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await,
            }
        }
    }
}

struct Developer<'d> {
    /// What is compiled; nothing where there are no sources.
    build: Option<Build>,
    sources: Sources,
    /// They say what is to be compiled.
    manifests: Sources,
    stop: &'d CancellationToken,
    screen: &'d Screen,
    settings: &'d Settings,
    samples: Samples,
    rows: Rows,
}

impl<'d> Developer<'d> {
    async fn run(&mut self, arguments: &SettingsArgs, url: Option<&str>) -> anyhow::Result<()> {
        // What lies there first may not be what the sources are: no message is to meet an old handler.
        if let Some(build) = self.due()? {
            compile(build, self.stop, self.screen).await?;
        }
        if self.stop.is_cancelled() {
            return Ok(());
        }
        let state = tempfile::Builder::new().prefix("wabbit-dev-").tempdir()?;
        let (lines, mut log) = mpsc::channel(TOLD_MAX);
        let flags = |command: &mut tokio::process::Command| {
            command.args(["--log-format", "json"]).arg("--state").arg(state.path());
            command.arg("--manifests").arg(&self.settings.manifests).arg("--plugins").arg(&self.settings.plugins);
        };
        let mut host = Child::start(arguments, self.settings, url, flags, Some(lines)).await?;
        let mut keys = self.screen.keys(KEYS_MAX)?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut building: Option<LocalBoxFuture<'_, anyhow::Result<()>>> = None;
        let mut sending = None;
        let mut unread = String::new();
        let result = loop {
            tokio::select! {
                () = self.stop.cancelled() => break Ok(()),
                ended = host.ended() => {
                    break Err(anyhow::anyhow!("the host ended with {}:\n{}", ended?, host.tail()));
                }
                Some(line) = log.recv() => self.screen.log(&line),
                Some(key) = keys.recv() => match key {
                    Key::Quit => break Ok(()),
                    _ if sending.is_some() => self.screen.say("the last sample is still on its way"),
                    Key::Again => sending = self.send(self.samples.again(&self.rows)),
                    Key::Worker(number) => sending = self.send(self.sample_of(number)),
                },
                Some(said) = OptionFuture::from(sending.as_mut()) => {
                    sending = None;
                    self.screen.say(&said);
                }
                Some(done) = OptionFuture::from(building.as_mut()) => {
                    building = None;
                    if let Err(error) = done {
                        self.screen.say(&format!("error: {error:#}"));
                    }
                }
                _ = look.tick() => {
                    if building.is_none() {
                        match self.due() {
                            Ok(None) => {}
                            Ok(Some(build)) => {
                                unread.clear();
                                building = Some(Box::pin(compile(build, self.stop, self.screen)));
                            }
                            // A folder that was moved away may come back. The host goes on with what it has.
                            Err(error) => {
                                let error = format!("error: {error:#}");
                                if error != unread {
                                    self.screen.say(&error);
                                    unread = error;
                                }
                            }
                        }
                    }
                    let (_, workers) = host.get("/workers").await?;
                    let workers: Vec<Row> = serde_json::from_slice(&workers).context("the host's workers")?;
                    self.screen.workers(self.rows.look(workers));
                    if sending.is_none() {
                        let first = self.samples.first(&self.rows).transpose();
                        sending = first.and_then(|first| self.send(first));
                    }
                }
            }
        };
        // Compilers are ended before the folders go.
        self.stop.cancel();
        if let Some(building) = building {
            building.await?;
        }
        result?;
        host.stop().await
    }

    /// What is to be compiled, where anything changed: of all sources, those that the manifests name.
    fn due(&mut self) -> anyhow::Result<Option<Build>> {
        let Some(build) = &mut self.build else { return Ok(None) };
        let changed = [self.sources.look()?, self.manifests.look()?];
        if !changed.contains(&true) {
            return Ok(None);
        }
        let folder = &self.settings.manifests;
        let plugins = plugins_named(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
        build.wanted = Wanted::Files(plugins);
        Ok(Some(build.clone()))
    }

    /// The sample of a worker, by its place from 0.
    fn sample_of(&self, number: usize) -> Result<(Row, PathBuf), String> {
        let worker = self.rows.at(number).ok_or_else(|| format!("there is no worker {}", number + 1))?;
        Ok((worker.clone(), self.samples.of(worker)?))
    }

    /// Sends what was chosen. Becomes what is to be said of it.
    fn send(&mut self, chosen: Result<(Row, PathBuf), String>) -> Option<LocalBoxFuture<'d, String>> {
        let (worker, file) = match chosen {
            Ok(chosen) => chosen,
            Err(reason) => {
                self.screen.say(&format!("error: {reason}"));
                return None;
            }
        };
        self.samples.sends(&worker, &file);
        let settings = self.settings;
        Some(Box::pin(async move {
            match samples::send(settings, &worker, &file).await {
                Ok(to) => format!("sent `{}` to {to}", file.display()),
                Err(error) => format!("error: `{}` was not sent: {error:#}", file.display()),
            }
        }))
    }
}

/// Compiles what changed, and shows what happens.
async fn compile(build: Build, stop: &CancellationToken, screen: &Screen) -> anyhow::Result<()> {
    Ok(build.run(stop, &|event| screen.built(event)).await?)
}
