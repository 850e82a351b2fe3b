//! `wabbit run`: the host.

use std::{
    os::unix::process::parent_id,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, builder::FalseyValueParser};
use nix::sys::{prctl, signal::Signal};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{Failed, SettingsArgs, settings_with_manifests};
use crate::{
    app::{self, Executors, RunError, settings::Settings},
    telemetry,
};

/// For the threads of a host that has done all to end.
const ENDING_MAX: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The folder of what a host leaves to the next one after a crash [default: ~/.local/state/wabbit]
    #[arg(long, value_name = "DIR", env = "WABBIT_STATE")]
    state: Option<PathBuf>,
    /// Where health, workers and metrics are served, or `off` [default: 127.0.0.1:9290]
    #[arg(long, value_name = "ADDRESS", env = "WABBIT_ADMIN")]
    admin: Option<String>,
    /// `text` or `json` [default: text]
    #[arg(long, value_name = "FORMAT", env = "WABBIT_LOG_FORMAT")]
    log_format: Option<String>,
    /// How long deliveries in hand may take when the host is stopped [default: 30s]
    #[arg(long, value_name = "TIME", env = "WABBIT_GRACE")]
    grace: Option<String>,
    /// Do not start when a manifest or its plugin is bad
    #[arg(long, env = "WABBIT_STRICT", value_parser = FalseyValueParser::new())]
    strict: bool,
    /// The process that it must not outlive
    #[arg(long, hide = true)]
    parent: Option<u32>,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failed> {
        if let Some(parent) = self.parent {
            prctl::set_pdeathsig(Signal::SIGTERM).map_err(anyhow::Error::from)?;
            // It may have ended before the line above.
            if parent_id() != parent {
                return Err(anyhow::anyhow!("whoever started this host is gone").into());
            }
        }
        let mut overrides = self.settings.overrides();
        overrides.state = self.state;
        overrides.admin = self.admin;
        overrides.log_format = self.log_format;
        overrides.grace = self.grace;
        overrides.strict = self.strict.then_some(true);
        let settings = settings_with_manifests(&overrides)?;
        telemetry::init_logging(settings.log_format)?;
        let executor =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(anyhow::Error::from)?;
        let (brief, long) = (super::executor()?, super::executor()?);
        let executors = Executors { brief: brief.handle().clone(), long: long.handle().clone() };
        let result = executor.block_on(async {
            let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
            let _signals =
                tokio_util::task::AbortOnDropHandle::new(tokio::spawn(signals(stop.clone(), hurry.clone())?));
            let reread: app::Reread = Box::new(move || Settings::load(&overrides));
            app::run(settings, reread, executors, stop, hurry).await
        });
        // Nothing of worth is left. A thread that still ran while the process is taken apart could crash it, so they end
        // first; a compiler that is still at work is not waited for.
        let deadline = Instant::now() + ENDING_MAX;
        for ending in [brief, long, executor] {
            ending.shutdown_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        result.map_err(|error| match error {
            RunError::Strict => Failed::Configuration(error.to_string()),
            RunError::Other(error) => Failed::Error(error),
        })
    }
}

/// The first signal stops the host in order, the second at once.
fn signals(
    stop: CancellationToken,
    hurry: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for token in [stop, hurry] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            token.cancel();
        }
    })
}
