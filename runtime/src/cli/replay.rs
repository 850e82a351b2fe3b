//! `wabbit replay`: recorded deliveries through one plugin, offline and determined.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{Failed, SettingsArgs, settings, style};
use crate::{
    app::{
        Rehearsal,
        settings::{LogFormat, Settings},
    },
    delivery::recording::{self, Recorded},
    escape::escape,
    folder,
    manifest::{self, Manifest, read, report, report::Problem},
    outcome::{self, Failure, Outcome, Settlement},
    sandbox::{Plugin, Sandbox, Source},
    scenario::{self, FILE_BYTES_MAX, Given},
    telemetry,
};

/// JSON takes no more bytes for one of a body, where it escapes each.
const ESCAPED: usize = 6;
/// What a line may have beside the body, in bytes.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Publications that are named on the line of an outcome.
const PUBLICATIONS_SHOWN: usize = 3;

#[derive(Args)]
pub(super) struct Replay {
    /// The deliveries, as `wabbit record` writes them
    #[arg(value_name = "FILE.jsonl")]
    recording: PathBuf,
    /// The plugin
    #[arg(value_name = "PLUGIN.wasm")]
    plugin: PathBuf,
    #[command(flatten)]
    stage: StageArgs,
    /// Print JSON, a line for each delivery
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What recorded deliveries are handled with, beside the plugin.
#[derive(Args)]
pub(super) struct StageArgs {
    /// Use the limits and grants of this manifest; without one, nothing is granted
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Give what `[given]` of this scenario says: HTTP answers, the store, files, secrets, the seed
    #[arg(long, value_name = "FILE", requires = "manifest")]
    given: Option<PathBuf>,
}

impl Replay {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.overrides())?;
        telemetry::init_logging(LogFormat::Text)?;
        let stage = Stage::new(&self.stage, &settings)?;
        let mut lines = Lines::open(&self.recording, &settings)?;
        let executor = executor()?;
        let (mut handler, mut tally) = (stage.handler(&self.plugin, &executor)?, Tally::default());
        while let Some(line) = lines.next()? {
            let result = handler.handle(&executor, &line.recorded)?;
            if self.json {
                let number = line.number;
                let row = match &result {
                    Ok(outcome) => {
                        let outcome = outcome::json::of(outcome).map_err(anyhow::Error::from)?;
                        json!({ "line": number, "outcome": outcome })
                    }
                    Err(Failure { kind, error }) => {
                        json!({ "line": number, "failure": kind.as_str(), "error": error })
                    }
                };
                println!("{row}");
            } else {
                println!("{}: {}", line.number, shown(&result));
            }
            tally.add(&result);
        }
        if !self.json {
            println!("{}", tally.text());
        }
        if tally.failures == 0 { Ok(()) } else { Err(Failed::Reported) }
    }
}

/// One thread: what a handler does, it does in the same order each time.
pub(super) fn executor() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What all plugins that handle a recording are given.
pub(super) struct Stage<'s> {
    settings: &'s Settings,
    sandbox: Sandbox,
    manifest: Manifest,
    given: Given,
}

impl<'s> Stage<'s> {
    /// Reads the manifest and what is given.
    pub(super) fn new(args: &StageArgs, settings: &'s Settings) -> Result<Self, Failed> {
        let wrong =
            |path: &Path, problems: Vec<Problem>| Failed::Configuration(report::render(path, &problems, style()));
        let mut manifest = match &args.manifest {
            Some(path) => read::text_of(path)
                .map_err(|problem| vec![problem])
                .and_then(|text| manifest::parse(path, &text, &settings.host.ceilings()))
                .map_err(|problems| wrong(path, problems))?,
            None => Manifest::bare("replay"),
        };
        // Any version may be tried.
        manifest.digest = None;
        let given = match &args.given {
            Some(path) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                let files = |name: &str| {
                    folder::read(&folder.join(name), FILE_BYTES_MAX)
                        .map_err(|unread| format!("`{name}` cannot be read: {unread}"))
                };
                let text = read::text_of(path).map_err(|problem| wrong(path, vec![problem]))?;
                scenario::given(&text, &files).map_err(|problems| wrong(path, problems))?
            }
            None => Given::default(),
        };
        let problems = given.check(&manifest);
        if !problems.is_empty() {
            let path = args.given.as_deref().or(args.manifest.as_deref()).unwrap_or(Path::new(""));
            let hint = |problem: Problem| match &args.given {
                None => problem.hint("give it by a scenario: `--given FILE`"),
                Some(_) => problem,
            };
            return Err(wrong(path, problems.into_iter().map(hint).collect()));
        }
        let sandbox = Sandbox::determined(&settings.host, &settings.compile, Some(&settings.cache))?;
        Ok(Self { settings, sandbox, manifest, given })
    }

    /// A plugin that is to handle deliveries. A command that is a core module becomes a component, as it does where folders
    /// are granted: there its clocks wait in the world's time.
    pub(super) fn handler(&self, path: &Path, executor: &tokio::runtime::Runtime) -> anyhow::Result<Handler> {
        let plugin: Arc<Plugin> = Source::read(path, self.settings.compile.file)
            .and_then(|source| self.sandbox.load(&source, true))
            .map_err(|error| anyhow::anyhow!(error.of(path)))?;
        let rehearsal =
            executor.block_on(Rehearsal::new(self.settings, self.manifest.clone(), plugin, &self.given, false));
        Ok(Handler(rehearsal.with_context(|| format!("plugin `{}`", path.display()))?))
    }
}

/// A plugin that handles recorded deliveries, one after the other.
pub(super) struct Handler(Rehearsal);

impl Handler {
    pub(super) fn handle(
        &mut self,
        executor: &tokio::runtime::Runtime,
        recorded: &Recorded,
    ) -> anyhow::Result<Result<Outcome, Failure>> {
        Ok(executor.block_on(self.0.handle(&recorded.delivery, Some(recorded.at)))?.result)
    }
}

/// The lines of a recording.
pub(super) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    number: usize,
    bytes_max: usize,
}

/// One of them.
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) recorded: Recorded,
}

impl Lines {
    pub(super) fn open(path: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let bytes_max = settings.host.max_body.saturating_mul(ESCAPED).saturating_add(HEAD_BYTES_MAX);
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), number: 0, bytes_max })
    }

    /// The next line; blank ones are passed over.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Failed> {
        loop {
            self.number += 1;
            let mut line = Vec::new();
            let read = (&mut self.file).take(self.bytes_max as u64 + 1).read_until(b'\n', &mut line);
            read.with_context(|| format!("cannot read `{}`", self.path.display()))?;
            let wrong = |error: String| {
                let place = format!("{}:{}", self.path.display(), self.number);
                Failed::Configuration(format!("error: {place}: this is no recorded delivery: {error}"))
            };
            if line.is_empty() {
                return Ok(None);
            }
            if line.len() > self.bytes_max {
                return Err(wrong(format!("it has more than {} bytes", self.bytes_max)));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let recorded = recording::parse(line.trim_ascii()).map_err(wrong)?;
            return Ok(Some(Line { number: self.number, recorded }));
        }
    }
}

/// An outcome on one line.
fn shown(result: &Result<Outcome, Failure>) -> String {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(failure) => return format!("failure: {}", escape(failure.to_string().as_bytes())),
    };
    let mut text = super::invoke::settlement(&outcome.settlement);
    let targets = outcome.publications.iter().map(|publication| {
        let (exchange, key) = (publication.exchange.as_bytes(), publication.routing_key.as_bytes());
        format!("`{}/{}`", escape(exchange), escape(key))
    });
    let targets: Vec<_> = targets.take(PUBLICATIONS_SHOWN).collect();
    if !targets.is_empty() {
        text.push_str(&format!(", publishes to {}", targets.join(", ")));
        let more = outcome.publications.len() - targets.len();
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
    }
    escape(text.as_bytes())
}

/// How many came to what.
#[derive(Default)]
struct Tally {
    settled: BTreeMap<&'static str, usize>,
    failures: usize,
}

impl Tally {
    fn add(&mut self, result: &Result<Outcome, Failure>) {
        let Ok(outcome) = result else {
            self.failures += 1;
            return;
        };
        let word = match outcome.settlement {
            Settlement::Ack => "ack",
            Settlement::Requeue => "requeue",
            Settlement::Retry(_) => "retry",
            Settlement::DeadLetter(_) => "dead-letter",
        };
        *self.settled.entry(word).or_default() += 1;
    }

    fn text(&self) -> String {
        let all = self.settled.values().sum::<usize>() + self.failures;
        let mut counts: Vec<_> = self.settled.iter().map(|(word, count)| format!("{count} {word}")).collect();
        if self.failures > 0 {
            counts.push(format!("{} failed", self.failures));
        }
        let colon = if counts.is_empty() { "" } else { ": " };
        format!("{all} deliver{}{colon}{}", if all == 1 { "y" } else { "ies" }, counts.join(", "))
    }
}
