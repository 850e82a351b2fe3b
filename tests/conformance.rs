//! Every language against the same table: its conformance handler, run by the host on one delivery after another.
//!
//! A row that is green is what `docs/languages.md` calls supported. `make languages` writes the results, with sizes and
//! times, into that page.

pub mod cases;
mod granted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::host;
use crate::harness::http::Server;
use crate::harness::places;
use crate::harness::process::Output;
use crate::languages::promised;
use cases::{Case, Expect};

/// What a handler may take, in MiB: the least that suffices stands in the table.
const MEMORIES_MIB: [u32; 5] = [64, 128, 256, 512, 1024];
/// How often in a row.
const IN_A_ROW: u32 = 1_000;

/// The conformance handlers that were built: language and file.
fn built() -> BTreeMap<String, PathBuf> {
    let folder = places::root().join("target/guests/conformance");
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "wasm"));
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

/// A folder with a manifest for each size of memory, and a server that its handlers may ask.
struct Bench {
    folder: tempfile::TempDir,
    plugin: PathBuf,
    /// Whether it is a WASI command, which has its settings from the environment.
    command: bool,
    server: Server,
}

impl Bench {
    async fn new(plugin: &Path) -> Bench {
        let folder = places::folder("conformance");
        let server = Server::start().await;
        let file = plugin.display().to_string();
        let seen = host::run(folder.path(), &["inspect", &file, "--json"]).await;
        let seen: Value = serde_json::from_str(&seen.success()).unwrap();
        let command = seen["kind"].as_str().unwrap().contains("command");
        fs::write(folder.path().join("token"), "sesame!\n").unwrap();
        let granted = if command {
            "env = { greeting = \"gr\u{fc}n\" }\n".to_owned()
        } else {
            let origin = server.url("");
            format!(
                "config = {{ greeting = \"gr\u{fc}n\" }}\nkeyvalue = {{ store = \"counts\", memory = true }}\nhttp = [\"{origin}\"]\n"
            )
        };
        for memory in MEMORIES_MIB {
            let manifest = format!(
                "plugin = \"x.wasm\"\n[[queue]]\nname = \"q\"\n[limits]\nmemory = \"{memory}MiB\"\ntime = \"5s\"\n\
                 [grant]\npublish = [\"conf\", \"/#\"]\n{granted}secrets = {{ token = \"file:token\" }}\n\
                 files = [{{ host = \"reports\", guest = \"/reports\", write = true }}]\n"
            );
            fs::create_dir_all(folder.path().join(memory.to_string())).unwrap();
            fs::write(folder.path().join(format!("{memory}/conf.toml")), manifest).unwrap();
        }
        fs::write(folder.path().join("wabbit.toml"), "[limits]\nmemory = \"1GiB\"\nrunning = 2\n").unwrap();
        Bench { folder, plugin: plugin.to_owned(), command, server }
    }

    /// Runs the handler on a delivery, with this much memory.
    async fn invoke(&self, delivery: &Value, memory: u32, more: &[&str]) -> (Value, Output) {
        let file = self.folder.path().join("delivery.json");
        fs::write(&file, delivery.to_string()).unwrap();
        let (file, manifest) = (file.display().to_string(), format!("{memory}/conf.toml"));
        let plugin = self.plugin.display().to_string();
        let mut arguments = vec!["invoke", &plugin, "--manifest", &manifest, "--delivery", &file, "--json"];
        arguments.extend(more);
        let output = host::run(self.folder.path(), &arguments).await;
        // Wrong usage is said on stderr alone.
        let answer = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
        assert!(!answer.is_null() || output.code == 2, "{output:?}");
        (answer, output)
    }
}

/// Whether a case is met, by the least memory that suffices.
async fn run(bench: &Bench, case: &Case) -> Result<u32, String> {
    for memory in MEMORIES_MIB {
        let (answer, output) = bench.invoke(&case.delivery, memory, &["--effects"]).await;
        let result = judge(case, &answer, &output);
        // Too little memory must be said to be that, and then more is tried.
        let short = answer["failure"] == "memory-limit" && !matches!(case.expect, Expect::Failure(..));
        if !short || memory == MEMORIES_MIB[MEMORIES_MIB.len() - 1] {
            return result.map(|()| memory);
        }
    }
    unreachable!("the last size returns")
}

/// The same in an instance that has handled the delivery before. A command has none to keep.
async fn kept(bench: &Bench, case: &Case, memory: u32) -> Result<u32, String> {
    // What is counted goes on counting.
    if bench.command || case.name == "a count" {
        return Ok(memory);
    }
    let (answer, output) = bench.invoke(&case.delivery, memory, &["--effects", "--reuse", "--repeat", "2"]).await;
    judge(case, &answer, &output).map(|()| memory).map_err(|error| format!("in an instance that is kept: {error}"))
}

fn judge(case: &Case, answer: &Value, output: &Output) -> Result<(), String> {
    let mut outcome = answer.clone();
    for key in ["took_us", "took_us_p99", "repeated"] {
        outcome.as_object_mut().unwrap().remove(key);
    }
    let met = match &case.expect {
        Expect::Outcome(expected) => {
            normalise(&mut outcome, expected);
            outcome == *expected
        }
        Expect::DeadLetter(text) => {
            let reason = outcome["settlement"]["dead-letter"].as_str().unwrap_or_default();
            reason.to_lowercase().contains(text)
        }
        Expect::Failure(kinds, text) => {
            let kind = outcome["failure"].as_str().unwrap_or_default();
            kinds.contains(&kind) && outcome["error"].as_str().unwrap_or_default().contains(text)
        }
        Expect::Logged(text) => outcome["settlement"] == "ack" && output.stderr.contains(text),
    };
    let expected = match &case.expect {
        Expect::Outcome(expected) => short(&expected.to_string()),
        Expect::DeadLetter(text) => format!("a dead letter: {text}"),
        Expect::Failure(kinds, text) => format!("{kinds:?}: {text}"),
        Expect::Logged(text) => format!("in the log: {text}"),
    };
    let stderr = output.stderr.lines().last().unwrap_or_default();
    if met {
        Ok(())
    } else {
        Err(format!("expected {expected}\n    got {}\n    {stderr}", short(&outcome.to_string())))
    }
}

/// Where a body is expected as JSON, its text is read: how it is spaced is the language's affair. So is whether a text
/// that is published is said to be one.
fn normalise(outcome: &mut Value, expected: &Value) {
    let Some(publications) = outcome["publications"].as_array_mut() else { return };
    for (publication, expected) in
        publications.iter_mut().zip(expected["publications"].as_array().into_iter().flatten())
    {
        if expected["text"].is_object() {
            let text = publication["text"].as_str().unwrap_or_default();
            publication["text"] = serde_json::from_str(text).unwrap_or(json!(text));
        }
        if expected["properties"]["content_type"].is_null() && publication["properties"]["content_type"] == "text/plain"
        {
            publication["properties"].as_object_mut().unwrap().remove("content_type");
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(1_000) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

#[tokio::test]
async fn every_language_answers_every_case_alike() {
    let built = built();
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        let missing: Vec<_> = promised().into_iter().filter(|language| !built.contains_key(language)).collect();
        assert!(missing.is_empty(), "not built: {missing:?}; hint: `make guests`");
    }
    assert!(!built.is_empty(), "no conformance handler is built; hint: `make guests`");
    let only = std::env::var("LANGUAGE").ok();
    let mut report = String::new();
    let mut results = serde_json::Map::new();
    for (language, file) in built.iter().filter(|(language, _)| only.as_ref().is_none_or(|only| only == *language)) {
        let bench = Bench::new(file).await;
        let mut rows = serde_json::Map::new();
        for case in cases::all().into_iter().chain(granted::all(bench.command, &bench.server.url("/answer"))) {
            let met = match run(&bench, &case).await {
                Ok(memory) => kept(&bench, &case, memory).await,
                Err(error) => Err(error),
            };
            match met {
                Ok(memory) => _ = rows.insert(case.name.to_owned(), json!(memory)),
                Err(error) => {
                    rows.insert(case.name.to_owned(), Value::Null);
                    writeln!(report, "{language}, {}: {error}", case.name).unwrap();
                }
            }
        }
        match in_a_row(&bench).await {
            Ok(times) => _ = rows.insert(format!("{IN_A_ROW} in a row"), times),
            Err(error) => writeln!(report, "{language}, {IN_A_ROW} in a row: {error}").unwrap(),
        }
        results.insert(language.clone(), Value::Object(rows));
    }
    let path = places::temporary().join("conformance.json");
    fs::write(&path, serde_json::to_string_pretty(&results).unwrap()).unwrap();
    assert!(report.is_empty(), "{report}");
}

/// The page has a row for each language, and for no other.
#[test]
fn the_page_lists_every_language() {
    let root = places::root();
    let page = fs::read_to_string(root.join("docs/languages.md")).unwrap();
    let table = page.split("<!-- table: ").nth(1).unwrap().split("<!-- end of table -->").next().unwrap();
    let rows = table.lines().filter_map(|row| row.split_once("](../sdk/")?.1.split_once("/README.md)"));
    let listed: BTreeSet<String> = rows.map(|(language, _)| language.to_owned()).collect();
    let folders = fs::read_dir(root.join("sdk")).unwrap().map(|entry| entry.unwrap().path());
    let languages = folders.filter(|folder| folder.join("language.toml").is_file());
    let expected = languages.map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(listed, expected);
}

/// What was built for the frozen contract runs for ever, and what is built now is of the same contract.
#[tokio::test]
async fn the_contract_0_1_0_is_spoken_for_ever() {
    let read = |path: &str| fs::read_to_string(places::root().join(path)).unwrap();
    let bare = |wit: &str| {
        wit.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("///")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(bare(&read("sdk/wit/worker.wit")), bare(&read("tests/fixtures/contract-0.1.0/worker.wit")));
    let known = ["echo", "describe", "context", "ack", "requeue", "retry", "dead-letter", "error", "no such thing"];
    let bench = Bench::new(&crate::outcomes::guest("contract_0_1_0")).await;
    let mut count = 0;
    for case in cases::all() {
        if known.iter().any(|what| case.delivery["properties"]["headers"]["do"] == *what) {
            run(&bench, &case).await.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            count += 1;
        }
    }
    assert!(count > 15, "{count} cases");
}

/// One after another: each in a fresh instance, then in one that is kept. Memory that grew would reach its limit.
async fn in_a_row(bench: &Bench) -> Result<Value, String> {
    let count = IN_A_ROW.to_string();
    let mut times = serde_json::Map::new();
    for (name, what, more) in [
        ("fresh", "ack", &["--repeat", &count][..]),
        ("kept", "churn", &["--repeat", "10000", "--reuse"]),
        ("kept, echo", "echo", &["--repeat", &count, "--reuse"]),
    ] {
        let (answer, output) = bench.invoke(&cases::told(what), MEMORIES_MIB[0], more).await;
        if output.stderr.contains("is a command, which ends") {
            continue;
        }
        if answer["settlement"] != "ack" {
            return Err(format!("{name}: {}", short(&answer.to_string())));
        }
        times.insert(name.to_owned(), answer["took_us"].clone());
    }
    Ok(Value::Object(times))
}
