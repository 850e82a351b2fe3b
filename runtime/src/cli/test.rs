//! `wabbit test`: the scenarios of plugins, in the real sandbox, without a broker.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value as Json, json};

use super::{
    Failed, SettingsArgs,
    diff::{Diff, json_of},
    settings, style,
};
use crate::{
    app::{
        Rehearsal,
        settings::{LogFormat, Settings},
    },
    folder,
    manifest::{self, Folder, Manifest, read, report, report::Problem, values::nearest_or_all},
    project::scenarios::{Tested, tested},
    sandbox::{Plugin, Sandbox, Source},
    scenario::{self, Difference, Expect, FILE_BYTES_MAX, Got, Scenario},
    telemetry,
};

/// Lines that a handler wrote, shown where its scenario fails.
const LOG_LINES_MAX: usize = 20;

#[derive(Args)]
pub(super) struct Test {
    /// The plugins, by the names of their folders; all that have scenarios where none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only scenarios that have this in their name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write what came into the scenarios, as what is expected
    #[arg(long)]
    update: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The folder of sources, one folder for each plugin [default: src in the folder of plugins]
    #[arg(long, value_name = "DIR", env = "WABBIT_SOURCES")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What came of a scenario.
enum Ended {
    Ok(usize),
    Updated,
    Failed(Vec<Step>),
    /// It cannot be run, for this reason.
    Error(String),
    /// The file that is wrong, and how.
    Wrong(PathBuf, Vec<Problem>),
}

/// A delivery that did not come to what was expected.
struct Step {
    number: usize,
    differences: Vec<Difference>,
    log: Vec<String>,
}

impl Test {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings(&self.settings.clone().overrides())?;
        telemetry::init_logging(LogFormat::Text)?;
        let sources = self.sources.clone().unwrap_or_else(|| settings.plugins.join("src"));
        if !sources.is_dir() {
            let folder = sources.display();
            return Err(anyhow::anyhow!("there is no `{folder}`\nhint: `wabbit new` makes a first plugin there").into());
        }
        let all = tested(&sources, &self.names).map_err(anyhow::Error::from)?;
        let sandbox = Sandbox::determined(&settings.host, &settings.compile, Some(&settings.cache))?;
        let manifests = manifests(&settings)?;
        let (mut teller, mut count) = (Teller::new(self.json), 0);
        for plugin in &all {
            let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let only = self.only.as_deref().unwrap_or_default();
            let chosen: Vec<_> = plugin.scenarios.iter().filter(|path| name(path).contains(only)).collect();
            if chosen.is_empty() {
                continue;
            }
            if plugin.is_stale(&settings.plugins).map_err(anyhow::Error::from)? {
                let name = &plugin.name;
                eprintln!("warning: {name}: the plugin is older than its sources\nhint: `wabbit build {name}`");
            }
            let stage = Stage { settings: &settings, manifests: &manifests, plugin, update: self.update };
            let loaded = stage.load(&sandbox);
            for path in chosen {
                let ended = match &loaded {
                    Ok(loaded) => stage.scenario(path, loaded)?,
                    Err(error) => Ended::Error(error.clone()),
                };
                teller.tell(&plugin.name, &name(path), path, &ended);
                count += 1;
            }
        }
        if count == 0 {
            let hint = format!("write one as `{}`", sources.join("NAME/scenarios/NAME.toml").display());
            let hint = if self.only.is_some() { "`--only` is in no scenario's name".to_owned() } else { hint };
            return Err(anyhow::anyhow!("there are no scenarios\nhint: {hint}").into());
        }
        teller.end()
    }
}

/// All manifests; none where there is no folder of them.
fn manifests(settings: &Settings) -> anyhow::Result<Folder> {
    if !settings.manifests.is_dir() {
        return Ok(Folder::default());
    }
    manifest::read_folder(&settings.manifests, &settings.host.ceilings(), |_| true)
        .with_context(|| format!("cannot read the folder of manifests `{}`", settings.manifests.display()))
}

/// What the scenarios of one plugin share.
struct Stage<'t> {
    settings: &'t Settings,
    manifests: &'t Folder,
    plugin: &'t Tested,
    update: bool,
}

impl Stage<'_> {
    /// A command that is a core module becomes a component, as it does where folders are granted: there its clocks wait
    /// in the world's time.
    fn load(&self, sandbox: &Sandbox) -> Result<Arc<Plugin>, String> {
        let path = self.settings.plugins.join(&self.plugin.file);
        if !path.exists() {
            return Err(format!("there is no `{}`\nhint: `wabbit build {}`", path.display(), self.plugin.name));
        }
        Source::read_in(&self.settings.plugins, &self.plugin.file, self.settings.compile.file)
            .and_then(|source| sandbox.load(&source, true))
            .map_err(|error| error.of(&path))
    }

    fn scenario(&self, path: &Path, plugin: &Arc<Plugin>) -> Result<Ended, Failed> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = |name: &str| {
            folder::read(&folder.join(name), FILE_BYTES_MAX)
                .map_err(|unread| format!("`{name}` cannot be read: {unread}"))
        };
        let parsed = read::text_of(path)
            .map_err(|problem| vec![problem])
            .and_then(|text| scenario::parse(&text, &files).map(|scenario| (text, scenario)));
        let (text, scenario) = match parsed {
            Ok(parsed) => parsed,
            Err(problems) => return Ok(Ended::Wrong(path.to_owned(), problems)),
        };
        let mut manifest = match self.manifest(&scenario, folder) {
            Ok(manifest) => manifest,
            Err((at, problems)) => return Ok(Ended::Wrong(at.unwrap_or_else(|| path.to_owned()), problems)),
        };
        let problems = scenario.given.check(&manifest);
        if !problems.is_empty() {
            return Ok(Ended::Wrong(path.to_owned(), problems));
        }
        // What is tried is what was built, whatever runs.
        manifest.digest = None;
        // One thread: what it does, it does in the same order each time.
        let executor =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
        let played = executor.block_on(async {
            let given = &scenario.given;
            let mut rehearsal = Rehearsal::new(self.settings, manifest, Arc::clone(plugin), given, true).await?;
            let mut came = Vec::new();
            for step in &scenario.steps {
                came.push(rehearsal.handle(&step.delivery, step.clock).await?);
            }
            Ok::<_, anyhow::Error>(came)
        });
        let came = match played {
            Ok(came) => came,
            Err(error) => return Ok(Ended::Error(format!("{error:#}"))),
        };
        if self.update {
            let results: Vec<(&Expect, &Got)> = scenario.steps.iter().map(|step| &step.expect).zip(&came).collect();
            let new =
                scenario::update(&text, &results).map_err(|error| anyhow::anyhow!("`{}`: {error}", path.display()))?;
            if new != text {
                write(path, &new).with_context(|| format!("cannot write `{}`", path.display()))?;
                return Ok(Ended::Updated);
            }
        }
        Ok(judge(&scenario, &came))
    }

    /// The manifest that a scenario is played with. Errors: the problems, and the file where it is not the scenario.
    fn manifest(&self, scenario: &Scenario, folder: &Path) -> Result<Manifest, (Option<PathBuf>, Vec<Problem>)> {
        let all = &self.manifests.manifests;
        let here = |problem: Problem| (None, vec![problem]);
        let Some((name, place)) = &scenario.manifest else {
            let mine: Vec<_> = all.iter().filter(|manifest| manifest.plugin == self.plugin.file).collect();
            let names: Vec<_> = mine.iter().map(|manifest| format!("`{}`", manifest.name)).collect();
            return match mine.as_slice() {
                [manifest] => Ok(Manifest::clone(manifest)),
                [] => Err(self.bad_one().unwrap_or_else(|| {
                    let problem = Problem::new(format!("no manifest names the plugin `{}`", self.plugin.file));
                    here(problem.hint("say which one it is to have: `manifest = \"NAME\"`, or `\"PATH.toml\"`"))
                })),
                _ => {
                    let problem = Problem::new(format!("the manifests {} name this plugin", names.join(", ")));
                    Err(here(problem.hint("say which one it is to have: `manifest = \"NAME\"`")))
                }
            };
        };
        if name.ends_with(".toml") {
            let path = folder.join(name);
            let text = read::text_of(&path).map_err(|problem| (Some(path.clone()), vec![problem]))?;
            let ceilings = self.settings.host.ceilings();
            return manifest::parse(&path, &text, &ceilings).map_err(|problems| (Some(path), problems));
        }
        if let Some(manifest) = all.iter().find(|manifest| manifest.name == *name) {
            return Ok(manifest.clone());
        }
        let bad =
            self.manifests.problems.iter().find(|(path, _)| path.file_stem().is_some_and(|stem| stem == name.as_str()));
        if let Some((path, problems)) = bad {
            return Err((Some(path.clone()), problems.clone()));
        }
        let known: Vec<_> = all.iter().map(|manifest| manifest.name.as_str()).collect();
        let problem = Problem::new(format!("there is no manifest `{name}`")).at(place.clone());
        Err(here(problem.hint(nearest_or_all(name, &known))))
    }

    /// A manifest that is wrong and may be this plugin's, for it has its name.
    fn bad_one(&self) -> Option<(Option<PathBuf>, Vec<Problem>)> {
        let mut bad = self.manifests.problems.iter();
        let found = bad.find(|(path, _)| path.file_stem().is_some_and(|stem| stem == self.plugin.name.as_str()));
        found.map(|(path, problems)| (Some(path.clone()), problems.clone()))
    }
}

/// Holds what came against what was expected.
fn judge(scenario: &Scenario, came: &[Got]) -> Ended {
    let mut failed = Vec::new();
    for (number, (step, got)) in (1..).zip(scenario.steps.iter().zip(came)) {
        let differences = scenario::compare(&step.expect, got);
        if !differences.is_empty() {
            let log = got.log.iter().map(|line| line.text.clone()).collect();
            failed.push(Step { number, differences, log });
        }
    }
    if failed.is_empty() { Ended::Ok(came.len()) } else { Ended::Failed(failed) }
}

/// The file is whole at any time.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    aside.write_all(text.as_bytes())?;
    fs::set_permissions(aside.path(), path.metadata()?.permissions())?;
    aside.persist(path)?;
    Ok(())
}

/// Says what came, scenario by scenario.
struct Teller {
    json: bool,
    diff: Diff,
    rows: Vec<Json>,
    ok: usize,
    failed: usize,
    updated: usize,
    wrong: usize,
}

impl Teller {
    fn new(json: bool) -> Self {
        Self { json, diff: Diff::new(), rows: Vec::new(), ok: 0, failed: 0, updated: 0, wrong: 0 }
    }

    fn tell(&mut self, plugin: &str, name: &str, path: &Path, ended: &Ended) {
        let count = match ended {
            Ended::Ok(_) => &mut self.ok,
            Ended::Updated => &mut self.updated,
            Ended::Failed(_) | Ended::Error(_) => &mut self.failed,
            Ended::Wrong(..) => &mut self.wrong,
        };
        *count += 1;
        if self.json {
            let mut row = json!({ "plugin": plugin, "scenario": name, "file": path.display().to_string() });
            if let Some(row) = row.as_object_mut() {
                row.extend(fields(ended));
            }
            self.rows.push(row);
            return;
        }
        let (word, good) = match ended {
            Ended::Ok(_) => ("ok", true),
            Ended::Updated => ("updated", true),
            Ended::Failed(_) | Ended::Error(_) => ("failed", false),
            Ended::Wrong(..) => ("wrong", false),
        };
        println!("{plugin}/{name}: {}", self.diff.word(word, good));
        match ended {
            Ended::Ok(_) | Ended::Updated => {}
            Ended::Failed(steps) => {
                for Step { number, differences, log } in steps {
                    println!("  delivery {number}");
                    print!("{}", self.diff.show(differences, 4));
                    if !log.is_empty() {
                        println!("    the handler wrote");
                    }
                    let more = log.len().saturating_sub(LOG_LINES_MAX);
                    if more > 0 {
                        println!("      ({more} lines before)");
                    }
                    log.iter().skip(more).for_each(|line| println!("      {line}"));
                }
            }
            Ended::Error(error) => eprintln!("error: {plugin}: {error}"),
            Ended::Wrong(path, problems) => eprintln!("{}", report::render(path, problems, style()).trim_end()),
        }
    }

    fn end(self) -> Result<(), Failed> {
        let Self { json, rows, ok, failed, updated, wrong, .. } = self;
        if json {
            let count = json!({ "scenarios": rows, "ok": ok, "updated": updated, "failed": failed, "wrong": wrong });
            println!("{count}");
        } else {
            let all = ok + updated + failed + wrong;
            let counts = [(ok, "ok"), (updated, "updated"), (failed, "failed"), (wrong, "wrong")];
            let counts: Vec<_> =
                counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
            println!("{all} scenario{}: {}", if all == 1 { "" } else { "s" }, counts.join(", "));
        }
        match (wrong, failed) {
            (0, 0) => Ok(()),
            (0, _) => Err(Failed::Reported),
            _ => Err(Failed::Configuration(String::new())),
        }
    }
}

fn fields(ended: &Ended) -> Vec<(String, Json)> {
    let result = |word: &str| ("result".to_owned(), json!(word));
    match ended {
        Ended::Ok(deliveries) => vec![result("ok"), ("deliveries".into(), json!(deliveries))],
        Ended::Updated => vec![result("updated")],
        Ended::Failed(steps) => {
            let differences = steps.iter().flat_map(|step| {
                step.differences.iter().map(|difference| {
                    let mut row = json_of(difference);
                    if let Some(row) = row.as_object_mut() {
                        row.insert("delivery".into(), json!(step.number));
                    }
                    row
                })
            });
            vec![result("failed"), ("differences".into(), differences.collect())]
        }
        Ended::Error(error) => vec![result("failed"), ("error".into(), json!(error))],
        Ended::Wrong(path, problems) => {
            vec![result("wrong"), ("problems".into(), json!(report::rows(path, problems)))]
        }
    }
}
