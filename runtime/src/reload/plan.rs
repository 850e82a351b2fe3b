//! What the files say and what runs, compared: what is to be done for each worker.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use super::{Change, changes};
use crate::{manifest::Manifest, sandbox::Digest};

/// What a worker is made of: by this a change is recognised, and what was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// The digest of its plugin; none where there is no file to read.
    pub plugin: Option<Digest>,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What it was made of.
    pub candidate: Candidate,
    /// What was wrong with it.
    pub reason: String,
    /// Whether it ran, and failed of messages. It is not tried again as it is; what else was wrong may be looked at
    /// anew by whoever asks for it.
    pub rolled_back: bool,
}

/// A worker that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// The manifest that its queues are consumed by.
    pub setup: Arc<Manifest>,
    /// The manifest of the version that takes the next delivery.
    pub manifest: Arc<Manifest>,
    /// The digest of its plugin.
    pub plugin: Digest,
}

/// What lies in the folders.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By worker.
    pub candidates: BTreeMap<String, Candidate>,
    /// Workers of which nothing is said now: a manifest that is wrong, a file that is being written.
    pub unsaid: BTreeSet<String>,
}

/// What is to be done for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// There is a manifest for it now.
    Start,
    /// Its manifest is gone: what is in hand is finished.
    Stop,
    /// Another version takes the next delivery.
    Swap {
        /// The keys of the manifest that changed, `plugin` where the file is another.
        changes: BTreeSet<&'static str>,
    },
    /// What is in hand is finished, and the queues are consumed anew.
    Reconsume {
        /// As with a swap.
        changes: BTreeSet<&'static str>,
    },
    /// Its plugin is gone; it keeps the version that it has.
    Keep,
}

/// What is to be done, by worker; nothing for those that stay as they are.
///
/// What was refused is not tried again as it was, unless that is `asked` for. Workers that are `stale` get a new version:
/// what the host's settings say has changed since theirs was made.
pub fn plan(
    running: &BTreeMap<String, Running>,
    wanted: &Wanted,
    refused: &BTreeMap<String, Vec<Refusal>>,
    asked: bool,
    stale: &BTreeSet<String>,
) -> BTreeMap<String, Step> {
    let mut steps = BTreeMap::new();
    for (name, candidate) in &wanted.candidates {
        let anew = stale.contains(name);
        let refusals = refused.get(name).map_or(&[][..], Vec::as_slice);
        let mut known = refusals.iter().filter(|refusal| refusal.candidate == *candidate);
        if known.any(|refusal| refusal.rolled_back || !(asked || anew)) {
            continue;
        }
        let candidate = &without_taken_back(candidate, running.get(name), refusals);
        let step = match running.get(name) {
            None => Some(Step::Start),
            Some(running) => step(running, candidate, anew),
        };
        steps.extend(step.map(|step| (name.clone(), step)));
    }
    for name in running.keys() {
        if !wanted.candidates.contains_key(name) && !wanted.unsaid.contains(name) {
            steps.insert(name.clone(), Step::Stop);
        }
    }
    steps
}

/// Where the plugin that lies there was taken back, the manifest is followed with the plugin that runs.
fn without_taken_back(candidate: &Candidate, running: Option<&Running>, refused: &[Refusal]) -> Candidate {
    match running {
        Some(running) if refused.iter().any(|refusal| refusal.holds_back(candidate)) => {
            Candidate { manifest: Arc::clone(&candidate.manifest), plugin: Some(running.plugin) }
        }
        _ => candidate.clone(),
    }
}

impl Refusal {
    /// Whether it is this candidate's plugin that was taken back.
    pub fn holds_back(&self, candidate: &Candidate) -> bool {
        self.rolled_back && self.candidate.plugin == candidate.plugin
    }
}

fn step(running: &Running, candidate: &Candidate, anew: bool) -> Option<Step> {
    let (change, mut keys) =
        changes(&running.setup, &running.manifest, &candidate.manifest).unwrap_or((Change::InPlace, BTreeSet::new()));
    match candidate.plugin {
        None if keys.is_empty() => return Some(Step::Keep),
        Some(plugin) if plugin == running.plugin => {}
        _ => _ = keys.insert("plugin"),
    }
    if anew {
        keys.insert("wabbit.toml");
    }
    if keys.is_empty() {
        return None;
    }
    Some(match change {
        Change::InPlace => Step::Swap { changes: keys },
        Change::Reconsume => Step::Reconsume { changes: keys },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::{Ceilings, parse};

    const BASE: &str = "plugin = \"a.wasm\"\n[[queue]]\nname = \"q\"\n";

    fn candidate(text: &str, plugin: Option<&str>) -> Candidate {
        let manifest = parse(Path::new("w.toml"), text, &Ceilings::of_memory(1 << 30)).unwrap();
        Candidate { manifest: Arc::new(manifest), plugin: plugin.map(|bytes| Digest::of(bytes.as_bytes())) }
    }

    /// One worker of which one version runs, with this plugin.
    struct Row {
        running: Option<&'static str>,
        wanted: Option<(String, Option<&'static str>)>,
        refused: Option<(Option<&'static str>, bool)>,
        /// Whether it was refused with another manifest.
        by_another: bool,
        unsaid: bool,
        asked: bool,
        anew: bool,
    }

    fn row(running: Option<&'static str>, more: Option<&str>, plugin: Option<&'static str>) -> Row {
        let wanted = more.map(|more| (format!("{BASE}{more}"), plugin));
        Row { running, wanted, refused: None, by_another: false, unsaid: false, asked: false, anew: false }
    }

    #[track_caller]
    fn check(row: Row, expected: Option<Step>) {
        let running = row.running.map(|plugin| {
            let Candidate { manifest, plugin } = candidate(BASE, Some(plugin));
            ("w".to_owned(), Running { setup: Arc::clone(&manifest), manifest, plugin: plugin.unwrap() })
        });
        let refused = row.refused.map(|(plugin, rolled_back)| {
            let text = row.wanted.as_ref().filter(|_| !row.by_another).map_or(BASE, |(text, _)| text);
            ("w".to_owned(), vec![Refusal { candidate: candidate(text, plugin), reason: String::new(), rolled_back }])
        });
        let mut wanted = Wanted::default();
        wanted.candidates.extend(row.wanted.map(|(text, plugin)| ("w".to_owned(), candidate(&text, plugin))));
        wanted.unsaid.extend(row.unsaid.then(|| "w".to_owned()));
        let (running, refused) = (running.into_iter().collect(), refused.into_iter().collect());
        let stale = row.anew.then(|| "w".to_owned()).into_iter().collect();
        let steps = plan(&running, &wanted, &refused, row.asked, &stale);
        assert_eq!(steps.get("w"), expected.as_ref());
        assert!(steps.len() <= 1);
    }

    fn swap(keys: &[&'static str]) -> Option<Step> {
        Some(Step::Swap { changes: keys.iter().copied().collect() })
    }

    #[test]
    fn nothing_changed_nothing_is_done() {
        check(row(None, None, None), None);
        check(row(Some("1"), Some(""), Some("1")), None);
        check(row(Some("1"), Some("# touched\n"), Some("1")), None);
    }

    #[test]
    fn workers_come_and_go_with_their_manifests() {
        check(row(None, Some(""), Some("1")), Some(Step::Start));
        // It is refused then, with a reason.
        check(row(None, Some(""), None), Some(Step::Start));
        check(row(Some("1"), None, None), Some(Step::Stop));
        // A manifest that is wrong does not stop the worker that it was right for.
        check(Row { unsaid: true, ..row(Some("1"), None, None) }, None);
        check(Row { unsaid: true, ..row(None, None, None) }, None);
    }

    #[test]
    fn what_changed_decides_how_it_is_applied() {
        check(row(Some("1"), Some(""), Some("2")), swap(&["plugin"]));
        check(row(Some("1"), Some("[limits]\ntime = \"1s\"\n"), Some("1")), swap(&["limits"]));
        check(row(Some("1"), Some("[limits]\ntime = \"1s\"\n"), Some("2")), swap(&["limits", "plugin"]));
        let reconsume = |keys: &[&'static str]| Some(Step::Reconsume { changes: keys.iter().copied().collect() });
        check(row(Some("1"), Some("[consume]\nprefetch = 99\n"), Some("1")), reconsume(&["consume.prefetch"]));
        check(
            row(Some("1"), Some("[consume]\nprefetch = 99\n"), Some("2")),
            reconsume(&["consume.prefetch", "plugin"]),
        );
    }

    #[test]
    fn a_plugin_that_is_gone_is_kept() {
        check(row(Some("1"), Some(""), None), Some(Step::Keep));
        // A manifest that asks for more than that cannot be followed, which is said when it is tried.
        check(row(Some("1"), Some("[limits]\ntime = \"1s\"\n"), None), swap(&["limits", "plugin"]));
    }

    #[test]
    fn what_was_refused_is_not_tried_again_as_it_is() {
        for running in [None, Some("1")] {
            check(Row { refused: Some((Some("2"), false)), ..row(running, Some(""), Some("2")) }, None);
        }
        for asked in [false, true] {
            check(Row { refused: Some((Some("2"), true)), asked, ..row(Some("1"), Some(""), Some("2")) }, None);
        }
        // What was taken back keeps no manifest from being followed.
        let taken_back = |more, asked| {
            let refused = Some((Some("2"), true));
            Row { refused, by_another: true, asked, ..row(Some("1"), Some(more), Some("2")) }
        };
        check(taken_back("[limits]\ntime = \"1s\"\n", false), swap(&["limits"]));
        check(taken_back("[limits]\ntime = \"1s\"\n", true), swap(&["limits"]));
        // A secret may have come since, a folder, a right.
        let asked =
            |running| Row { refused: Some((Some("2"), false)), asked: true, ..row(running, Some(""), Some("2")) };
        check(asked(None), Some(Step::Start));
        check(asked(Some("1")), swap(&["plugin"]));
        // Another one is tried; so is what was refused with another manifest.
        check(Row { refused: Some((Some("2"), true)), ..row(Some("1"), Some(""), Some("3")) }, swap(&["plugin"]));
        check(Row { refused: Some((Some("2"), true)), ..row(Some("1"), Some(""), Some("1")) }, None);
    }

    #[test]
    fn new_settings_make_new_versions() {
        check(Row { anew: true, ..row(Some("1"), Some(""), Some("1")) }, swap(&["wabbit.toml"]));
        check(Row { anew: true, ..row(Some("1"), Some(""), Some("2")) }, swap(&["plugin", "wabbit.toml"]));
        check(Row { anew: true, ..row(Some("1"), Some(""), None) }, Some(Step::Keep));
        check(
            Row { anew: true, refused: Some((Some("2"), false)), ..row(None, Some(""), Some("2")) },
            Some(Step::Start),
        );
    }

    #[test]
    fn each_worker_is_planned_by_itself() {
        let mut running = BTreeMap::new();
        let mut wanted = Wanted::default();
        for (name, plugin) in [("a", "1"), ("b", "2"), ("c", "1")] {
            let Candidate { manifest, plugin: digest } = candidate(BASE, Some("1"));
            let setup = Arc::clone(&manifest);
            running.insert(name.to_owned(), Running { setup, manifest, plugin: digest.unwrap() });
            wanted.candidates.insert(name.to_owned(), candidate(BASE, Some(plugin)));
        }
        wanted.candidates.remove("c");
        wanted.candidates.insert("d".into(), candidate(BASE, Some("1")));
        let steps = plan(&running, &wanted, &BTreeMap::new(), false, &BTreeSet::new());
        let expected = [("b", swap(&["plugin"]).unwrap()), ("c", Step::Stop), ("d", Step::Start)];
        assert_eq!(steps, expected.map(|(name, step)| (name.to_owned(), step)).into());
        // One alone is of older settings.
        let stale = BTreeSet::from(["a".to_owned(), "gone".to_owned()]);
        let steps = plan(&running, &wanted, &BTreeMap::new(), false, &stale);
        assert_eq!(steps["a"], swap(&["wabbit.toml"]).unwrap());
        assert_eq!(steps["b"], swap(&["plugin"]).unwrap());
    }

    #[test]
    fn what_was_taken_back_hides_no_other_refusal() {
        let running = candidate(BASE, Some("1"));
        let running = Running {
            setup: Arc::clone(&running.manifest),
            manifest: running.manifest,
            plugin: running.plugin.unwrap(),
        };
        let lies_there = candidate(&format!("{BASE}[limits]\ntime = \"1s\"\n"), Some("2"));
        let refusal = |candidate: Candidate, rolled_back| Refusal { candidate, reason: String::new(), rolled_back };
        let taken_back = refusal(candidate(BASE, Some("2")), true);
        let with_the_old_plugin = refusal(lies_there.clone(), false);
        let wanted = Wanted { candidates: BTreeMap::from([("w".to_owned(), lies_there)]), ..Wanted::default() };
        let running = BTreeMap::from([("w".to_owned(), running)]);
        let steps = |refusals: Vec<Refusal>, asked| {
            plan(&running, &wanted, &BTreeMap::from([("w".to_owned(), refusals)]), asked, &BTreeSet::new())
        };
        let tried = BTreeMap::from([("w".to_owned(), swap(&["limits"]).unwrap())]);
        assert_eq!(steps(vec![taken_back.clone()], false), tried);
        assert_eq!(steps(vec![with_the_old_plugin.clone(), taken_back.clone()], false), BTreeMap::new());
        assert_eq!(steps(vec![with_the_old_plugin, taken_back], true), tried);
    }
}
