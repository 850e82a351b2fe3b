//! `wabbit build`: compiles the plugins that changed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, value_parser};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failed, SettingsArgs, executor, new::SdkArgs, settings};
use crate::project::build::{Build as Compile, Built, Event, NotBuilt, Wanted};

/// Plugins that are compiled at once.
const JOBS_MAX: u64 = 64;
/// How often a terminal is shown that something goes on.
const SHOWN_EVERY: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(super) struct Build {
    /// The plugins, by the names of their folders; all where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How many are compiled at once [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=JOBS_MAX))]
    jobs: Option<u64>,
    /// Compile what did not change, too
    #[arg(long)]
    force: bool,
    /// Leave out plugins in languages whose tools are not here
    #[arg(long)]
    available: bool,
    /// The folder of sources, one folder for each plugin [default: src in the folder of plugins]
    #[arg(long, value_name = "DIR", env = "WABBIT_SOURCES")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    sdk: SdkArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Build {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.overrides())?;
        let sources = self.sources.unwrap_or_else(|| settings.plugins.join("src"));
        if !sources.is_dir() {
            let folder = sources.display();
            return Err(anyhow::anyhow!("there is no `{folder}`\nhint: `wabbit new` makes a first plugin there").into());
        }
        let cores = available_parallelism().map_or(1, |cores| cores.get() as u64);
        let jobs = usize::try_from(self.jobs.unwrap_or(cores).min(JOBS_MAX)).unwrap_or(1);
        let compile = Compile {
            sdk: self.sdk.find()?,
            sources,
            plugins: settings.plugins,
            wanted: Wanted::Named(self.names),
            jobs,
            force: self.force,
        };
        let teller = Teller::new(self.available, ProgressBar::new_spinner());
        let stop = CancellationToken::new();
        executor()?.block_on(async {
            // From here on Ctrl-C ends the compilers first; they are no part of the terminal's group.
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let mut signals = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>()?;
            let stopping = async {
                let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
                futures_util::future::select_all(waits).await;
                stop.cancel();
                std::future::pending::<()>().await;
            };
            let tell = |event| teller.tell(event);
            tokio::select! {
                result = compile.run(&stop, &tell) => result.map_err(anyhow::Error::from),
                () = stopping => Ok(()),
            }
        })?;
        if stop.is_cancelled() {
            return Err(anyhow::anyhow!("interrupted").into());
        }
        if teller.has_failed.get() { Err(Failed::Reported) } else { Ok(()) }
    }
}

/// Says what happens, in the order in which it does.
pub(super) struct Teller {
    /// Whether missing tools are no failure.
    available: bool,
    has_failed: Cell<bool>,
    compiling: RefCell<BTreeSet<String>>,
    progress: ProgressBar,
}

impl Teller {
    /// Tells of builds where missing tools are a failure, or are none. The bar is drawn on a terminal only.
    pub(super) fn new(available: bool, progress: ProgressBar) -> Self {
        if let Ok(style) = ProgressStyle::with_template("{spinner} compiling {msg} ({elapsed})") {
            progress.set_style(style);
        }
        Self { available, has_failed: Cell::new(false), compiling: RefCell::default(), progress }
    }

    /// One event.
    pub(super) fn tell(&self, event: Event) {
        match event {
            Event::Waiting => self.progress.suspend(|| eprintln!("waiting for another build to end")),
            Event::Begun(name) => {
                if self.compiling.borrow().is_empty() {
                    self.progress.reset();
                }
                self.compiling.borrow_mut().insert(name);
                self.progress.enable_steady_tick(SHOWN_EVERY);
            }
            Event::Ended(name, result) => {
                self.compiling.borrow_mut().remove(&name);
                self.progress.suspend(|| self.tell_end(&name, result));
            }
        }
        let names: Vec<_> = self.compiling.borrow().iter().cloned().collect();
        self.progress.set_message(names.join(", "));
        if names.is_empty() {
            self.progress.disable_steady_tick();
            self.progress.finish_and_clear();
        }
    }

    fn tell_end(&self, name: &str, result: Result<Built, NotBuilt>) {
        match result {
            Ok(Built::Unchanged) => return eprintln!("{name}: unchanged"),
            Ok(Built::Compiled { file, bytes, took }) => {
                let took = took.map_or("compiled before".into(), |took| format!("{:.1} s", took.as_secs_f64()));
                return eprintln!("{} ({}, {took})", file.display(), size(bytes));
            }
            Err(NotBuilt::Stopped) => {}
            Err(NotBuilt::Lacking(title, tools)) => {
                let names: Vec<_> = tools.iter().map(|tool| format!("`{}`", tool.name)).collect();
                let lacking = format!("{title} lacks {}", names.join(", "));
                if self.available {
                    return eprintln!("{name}: left out, since {lacking}");
                }
                eprintln!("error: {name}: {lacking}");
                let installs: BTreeSet<_> = tools.iter().map(|tool| tool.install.as_str()).collect();
                for install in installs {
                    eprintln!("hint: {install}");
                }
            }
            Err(NotBuilt::Failed(reason, log)) => {
                eprintln!("error: {name}: {reason}");
                if let Err(error) = show(&log) {
                    eprintln!("error: {error:#}");
                }
            }
            Err(NotBuilt::Error(reason)) => eprintln!("error: {name}: {reason}"),
        }
        self.has_failed.set(true);
    }
}

/// Prints what a compiler said, in full.
fn show(log: &Path) -> anyhow::Result<()> {
    let mut file = fs::File::open(log).with_context(|| format!("cannot read `{}`", log.display()))?;
    std::io::copy(&mut file, &mut std::io::stderr().lock())?;
    Ok(())
}

/// A size in the units in which files of plugins are compared.
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes =
            [(999, "999 B"), (1_000, "1 KB"), (60_215, "60 KB"), (1_640_000, "1.6 MB"), (18_000_000, "18.0 MB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }
}
