//! `wabbit dead list`: the dead-letter queues that the manifests name. AMQP cannot list queues.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{print, with_broker};
use crate::{
    amqp::{self, Session},
    cli::{Failed, SettingsArgs, settings_with_manifests, style},
    manifest::{Manifest, read_folder, report},
    settle::ladder::LOST_QUEUE,
};

#[derive(Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

struct Row {
    queue: String,
    /// `None` where it is not there.
    letters: Option<u32>,
    workers: Vec<String>,
}

impl List {
    pub(super) fn execute(self) -> Result<(), Failed> {
        let settings = settings_with_manifests(&self.settings.overrides())?;
        let folder = read_folder(&settings.manifests, &settings.host.ceilings(), |_| true)
            .with_context(|| format!("cannot read the folder of manifests `{}`", settings.manifests.display()))?;
        for (path, problems) in &folder.problems {
            eprintln!("{}", report::render(path, problems, style()).trim_end());
        }
        let json = self.json;
        with_broker(&settings, async |session| {
            let rows = rows(&session, queues(&folder.manifests)).await?;
            print(&if json { as_json(&rows) } else { as_table(&rows) })
        })?;
        if folder.problems.is_empty() { Ok(()) } else { Err(Failed::Configuration(String::new())) }
    }
}

/// The dead-letter queues, with the workers that each belongs to.
fn queues(manifests: &[Manifest]) -> BTreeMap<String, Vec<String>> {
    let mut queues: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for manifest in manifests {
        for queue in &manifest.queues {
            let Some(dead_letter) = manifest.dead_letter(queue) else { continue };
            let workers = queues.entry(dead_letter).or_default();
            if !workers.contains(&manifest.name) {
                workers.push(manifest.name.clone());
            }
        }
    }
    queues
}

async fn rows(session: &Session, queues: BTreeMap<String, Vec<String>>) -> Result<Vec<Row>, Failed> {
    let mut rows = Vec::new();
    // Of messages whose wait for another try ended after their queue was deleted.
    let lost = (!queues.contains_key(LOST_QUEUE)).then(|| (LOST_QUEUE.to_owned(), Vec::new()));
    for (queue, workers) in queues.into_iter().chain(lost) {
        let letters = amqp::count(session, &queue).await?;
        // Nobody has lost anything where this one is not there.
        if letters.is_some() || !workers.is_empty() {
            rows.push(Row { queue, letters, workers });
        }
    }
    Ok(rows)
}

fn as_json(rows: &[Row]) -> String {
    let row = |row: &Row| {
        json!({
            "queue": row.queue,
            "there": row.letters.is_some(),
            "letters": row.letters.unwrap_or(0),
            "workers": row.workers,
        })
    };
    format!("{}\n", json!({ "queues": rows.iter().map(row).collect::<Vec<_>>() }))
}

fn as_table(rows: &[Row]) -> String {
    let head = ["queue".to_owned(), "letters".to_owned(), "workers".to_owned()];
    let cells = |row: &Row| {
        let letters = row.letters.map_or_else(|| "not there".to_owned(), |letters| letters.to_string());
        let workers = if row.workers.is_empty() { "-".to_owned() } else { row.workers.join(", ") };
        [row.queue.clone(), letters, workers]
    };
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let width = lines.iter().map(|[queue, ..]| queue.chars().count()).max().unwrap_or(0);
    lines.iter().map(|[queue, letters, workers]| format!("{queue:<width$}  {letters:<9}  {workers}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn names_come_from_the_manifests() {
        let manifest = |name: &str, text: &str| {
            let text = format!("plugin = \"p.wasm\"\n{text}");
            let ceilings = crate::app::settings::Settings::load(&Default::default()).unwrap().host.ceilings();
            crate::manifest::parse(Path::new(&format!("{name}.toml")), &text, &ceilings).unwrap()
        };
        let manifests = [
            manifest(
                "a",
                "[[queue]]\nname = \"one\"\n[[queue]]\nname = \"two\"\n[[queue]]\nname = \"x\"\nconsume = false\n",
            ),
            manifest(
                "b",
                "[[queue]]\nname = \"three\"\n[[queue]]\nname = \"four\"\n[failure]\ndead-letter = \"one.dead\"\n",
            ),
            manifest("c", "[[queue]]\nname = \"\"\n"),
        ];
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let expected = [("c.dead", names(&["c"])), ("one.dead", names(&["a", "b"])), ("two.dead", names(&["a"]))];
        assert_eq!(queues(&manifests), expected.map(|(queue, workers)| (queue.to_owned(), workers)).into());
    }

    #[test]
    fn rows_are_aligned() {
        let row = |queue: &str, letters, workers: &[&str]| Row {
            queue: queue.into(),
            letters,
            workers: workers.iter().map(|&worker| worker.to_owned()).collect(),
        };
        let rows =
            [row("work.dead", Some(12), &["a", "b"]), row("gr\u{fc}n", None, &["c"]), row(LOST_QUEUE, Some(0), &[])];
        let expected = "queue        letters    workers\n\
                        work.dead    12         a, b\n\
                        gr\u{fc}n         not there  c\n\
                        wabbit.lost  0          -\n";
        assert_eq!(as_table(&rows), expected);
        let json = r#"{"letters":0,"queue":"grün","there":false,"workers":["c"]}"#;
        assert!(as_json(&rows).contains(json), "{}", as_json(&rows));
    }
}
