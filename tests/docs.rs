//! What the documentation says, held against what is: commands, links, tables of flags, metrics, keys, limits. Each check
//! is a function from texts to what is missing, with samples that it must find.

pub mod pages;
mod sources;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{self, Host, HostConfig};
use crate::harness::{DEADLINE, places, wait_until};
use pages::{Block, Reader, blocks, fits, shows};

/// Every page for people, relative to the root.
fn pages() -> Vec<PathBuf> {
    fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(places::root().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
            let name = name.to_str().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !matches!(name, "target" | "node_modules") {
                    collect(&path, pages);
                }
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    let mut pages = Vec::new();
    collect(Path::new(""), &mut pages);
    pages.sort();
    pages
}

fn read(path: impl AsRef<Path>) -> String {
    let path = places::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is between two markers, each time.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Vec<&'t str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(found, _)| found).collect()
}

/// The part of a page below a heading of the second level.
fn below<'p>(page: &'p str, heading: &str) -> &'p str {
    let part = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading `{heading}`")).1;
    part.split("\n## ").next().unwrap()
}

/// What stands in backticks outside of fenced blocks.
fn code_spans(page: &str) -> Vec<&str> {
    let prose = page.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

// Links.

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn headings(page: &str) -> BTreeSet<String> {
    let prose = page.split("```").step_by(2);
    prose.flat_map(str::lines).filter(|line| line.starts_with('#')).map(anchor).collect()
}

/// Links of a page that lead nowhere. `file` gives the text of a file by its path, relative to the page's folder.
fn broken_links(page: &str, file: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect();
    let links = between(&prose, "](", ")").into_iter().filter(|link| !link.contains("://"));
    let broken = links.filter(|link| {
        let (path, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if path.is_empty() { Some(page.to_owned()) } else { file(path) };
        target.is_none_or(|text| !heading.is_empty() && !headings(&text).contains(heading))
    });
    broken.map(str::to_owned).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for path in pages() {
        let page = read(&path);
        count += between(&page, "](", ")").len();
        let folder = places::root().join(&path).parent().unwrap().to_owned();
        let broken = broken_links(&page, |link| {
            let target = folder.join(link);
            target.exists().then(|| fs::read_to_string(target).unwrap_or_default())
        });
        assert!(broken.is_empty(), "{}: {broken:?}", path.display());
    }
    assert!(count > 30, "{count} links in all: are they still written as they were?");
}

#[test]
fn broken_links_are_found() {
    let files = |path: &str| (path == "there.md").then(|| "# A page\n\n## `[limits]` of it\n".to_owned());
    let page = "# Top\n[a](there.md) [b](there.md#limits-of-it) [c](#top) [d](https://example.com/x)\n\
                [e](gone.md) [f](there.md#gone) [g](#gone)\n```text\n[h](gone.md)\n```\n";
    assert_eq!(broken_links(page, files), ["gone.md", "there.md#gone", "#gone"]);
}

// Commands.

/// The commands of ours in a page: in blocks that are typed, and in backticks.
fn commands(page: &str) -> BTreeSet<Vec<String>> {
    let typed = blocks(page).into_iter().filter(|block| block.info.first().is_some_and(|word| word == "sh"));
    let typed: String = typed.map(|block| block.text).collect();
    let lines = typed.lines().chain(code_spans(page));
    lines.filter_map(command).collect()
}

/// The words of a command of ours, up to where a shell would end it.
fn command(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '|' | '&' | ';' | '<' | '>' | '#') if word.is_none() => break,
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    let start = words.iter().position(|word| !word.contains('=')).unwrap_or(0);
    let words = words.split_off(start);
    match &*words {
        [program, rest @ ..] if program == "wabbit" || program == "target/debug/wabbit" => Some(rest.to_vec()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_one() {
    let folder = places::folder("commands");
    let mut all = BTreeSet::new();
    for path in pages() {
        all.extend(commands(&read(&path)));
    }
    assert!(all.len() > 20, "found {all:?}");
    for words in all {
        let words: Vec<_> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let output = host::run(folder.path(), &words).await;
        assert_eq!(output.code, 0, "`wabbit {}`: {}", words.join(" "), output.stderr);
    }
    // What this would find.
    for wrong in [&["rum", "--help"][..], &["run", "--wrong", "--help"], &["check", "manifests", "--help"]] {
        assert_eq!(host::run(folder.path(), wrong).await.code, 2, "{wrong:?}");
    }
}

#[test]
fn commands_are_found() {
    let page = "`wabbit run` and `WABBIT_X=1 wabbit check --json` and `wabbit.toml`\n\
                ```sh\ntarget/debug/wabbit publish --body 'a | b' --lines <x | cat # done\nls wabbit\n```\n\
                ```text\nwabbit nothing\n```\n";
    let found = commands(page);
    let found: Vec<_> = found.iter().map(|words| words.join(" ")).collect();
    assert_eq!(found, ["check --json", "publish --body a | b --lines", "run"]);
}

/// The page on the command line, followed to the letter beside a host with the orders example.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_what_its_page_shows() {
    let vhost = Broker::shared().await.vhost("cli").await;
    let folder = places::folder("cli");
    fs::create_dir(folder.path().join("manifests")).unwrap();
    for manifest in ["manifests/order-notify.toml", "manifests/order-report.toml"] {
        fs::write(folder.path().join(manifest), read(manifest)).unwrap();
    }
    // Copies of the files, for the page makes a plugin of its own beside them.
    fs::create_dir(folder.path().join("plugins")).unwrap();
    for file in ["plugins/order_notify.wasm", "plugins/order_report.wasm"] {
        fs::copy(places::root().join(file), folder.path().join(file)).unwrap();
    }
    std::os::unix::fs::symlink(places::root().join("sdk"), folder.path().join("sdk")).unwrap();
    let shared = places::root().canonicalize().unwrap().join("plugins/src/.build/.rust-target");
    // The page shows a start that does not compile.
    host::run(folder.path(), &["check"]).await.success();

    let path = format!("{}:{}", places::build().display(), std::env::var("PATH").unwrap());
    let admin = format!("127.0.0.1:{}", places::ports());
    let (server, _) = vhost.url.rsplit_once('/').unwrap();
    let mut reader = Reader::new(folder.path())
        .without("CARGO_PKG_")
        .without("CARGO_MANIFEST_")
        .environment("PATH", &path)
        .environment("CARGO_TARGET_DIR", shared.to_str().unwrap())
        .environment("XDG_CACHE_HOME", places::temporary().join("cache").to_str().unwrap())
        .environment("WABBIT_AMQP_URL", &vhost.url)
        .environment("WABBIT_ADMIN", &admin)
        .replace("127.0.0.1:5672", server.rsplit_once('@').unwrap().1);
    // The address that an error gives as an example is no other with another port.
    let page =
        read("docs/cli.md").replace("admin address http://127.0.0.1:9290", &format!("admin address http://{admin}"));
    reader.follow("docs/cli.md", &blocks(&page)).await;
}

// Flags.

/// The flags and variables that a help text names.
fn flags(help: &str) -> BTreeSet<String> {
    let flags = help.split_whitespace().filter(|word| word.starts_with("--")).map(|word| word.trim_end_matches(','));
    let variables =
        between(help, "WABBIT_", "]").into_iter().map(|name| format!("WABBIT_{}", name.trim_end_matches('=')));
    flags.map(str::to_owned).chain(variables).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flag_is_on_the_page_of_commands() {
    let page = read("docs/cli.md");
    let folder = places::folder("flags");
    const COMMANDS: [&str; 13] = [
        "run", "check", "reload", "history", "inspect", "invoke", "publish", "new", "build", "test", "record",
        "replay", "compare",
    ];
    let dead = ["dead list", "dead show", "dead replay", "dead purge"];
    for command in COMMANDS.iter().chain(&dead) {
        let words: Vec<_> = command.split(' ').collect();
        let help = host::run(folder.path(), &[&*words, &["--help"]].concat()).await.success();
        let known = flags(&help);
        assert!(known.contains("--help"), "{known:?}");
        let part = below(&page, &format!("## `wabbit {}`", words[0]));
        let common = below(&page, "## Flags that choose the settings");
        for flag in known.iter().filter(|flag| *flag != "--help") {
            let is_in = |text: &str| text.contains(&format!("`{flag} ")) || text.contains(&format!("`{flag}`"));
            assert!(
                is_in(part) || known.contains("--config") && is_in(common),
                "`{flag}` of `{command}` is not on the page"
            );
        }
    }
    let help = "  --a <X>  text [env: WABBIT_A=]\n  -b, --bee  text [default: x] [env:\n   WABBIT_BEE]\n";
    assert_eq!(flags(help), ["--a", "--bee", "WABBIT_A", "WABBIT_BEE"].map(str::to_owned).into());
}

// Operations.

/// Whether JSON is as it is shown; `…` in a text stands for any part of it.
fn json_fits(shown: &Value, real: &Value) -> bool {
    match (shown, real) {
        (Value::String(shown), Value::String(real)) => fits(shown, real),
        (Value::Array(shown), Value::Array(real)) => {
            shown.len() == real.len() && shown.iter().zip(real).all(|(shown, real)| json_fits(shown, real))
        }
        (Value::Object(shown), Value::Object(real)) => {
            let same = |(name, shown): (&String, &Value)| real.get(name).is_some_and(|real| json_fits(shown, real));
            shown.len() == real.len() && shown.iter().all(same)
        }
        (shown, real) => shown == real,
    }
}

fn block_of<'b>(blocks: &'b [Block], info: &[&str]) -> &'b Block {
    blocks.iter().find(|block| block.info == info).unwrap_or_else(|| panic!("no block `{}`", info.join(" ")))
}

/// What the admin address says is what the page on operations shows: answers, metrics and the words in them.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_address_says_what_the_page_shows() {
    let vhost = Broker::shared().await.vhost("operations").await;
    let peer = Peer::connect(&vhost.url).await;
    let taken = vhost.unique("taken");
    peer.durable_queue(&taken).await;
    let resized = format!(
        "plugin = \"order_report.wasm\"\n[[queue]]\nname = \"{taken}\"\narguments = {{ x-max-length = 1000 }}\n"
    );
    let config = HostConfig::new(&vhost.url)
        .plugin("order_report.wasm", &places::root().join("plugins/order_report.wasm"))
        .manifest("order-report", &read("manifests/order-report.toml"))
        .manifest("resized", &resized)
        .manifest("order-mail", "plugin = \"order_report.wasm\"\n");
    let host = Host::start(config);
    host.wait_for_log("consuming").await;
    host.wait_for_log("406").await;
    for order in [r#"{"id": 17, "user_email": "ada@example.com", "product": "hay", "quantity": 2}"#, r#"{"id": 17"#] {
        peer.publish("order", "order.report", order.as_bytes(), persistent()).await;
    }

    let page = read("docs/operations.md").replace("`taken`", &format!("`{taken}`"));
    let page = page.replace("'taken'", &format!("'{taken}'")).replace("\"taken\"", &format!("\"{taken}\""));
    let blocks = blocks(&page);
    wait_until(DEADLINE, "`/readyz` as the page shows it", async || {
        let (status, body) = host.get_status("/readyz").await;
        match status == 503 && shows(block_of(&blocks, &["text", "GET", "/readyz"]), &body) {
            true => Ok(()),
            false => Err(format!("{status}: {body}")),
        }
    })
    .await;
    let shown: Value = serde_json::from_str(&block_of(&blocks, &["json", "GET", "/workers"]).text).unwrap();
    wait_until(DEADLINE, "`/workers` as the page shows it", async || {
        let real = host.get("/workers").await;
        if json_fits(&shown, &real) { Ok(()) } else { Err(real.to_string()) }
    })
    .await;
    assert_eq!(host.get_status("/healthz").await, (200, "ok\n".to_owned()));

    let metrics = host.metrics().await;
    assert_eq!(unknown_metrics(&metrics, &page), Vec::<String>::new());
    assert_eq!(unknown_metrics(&metrics, &page.replace("wabbit_failures_total", "wabbit_failings_total")).len(), 2);
    for word in between(&metrics, "outcome=\"", "\"").into_iter().chain(between(&metrics, "error_type=\"", "\"")) {
        assert!(page.contains(&format!("| `{word}` |")), "`{word}` is not on the page");
    }
    assert!(!json_fits(&serde_json::json!({"a": "x…"}), &serde_json::json!({"a": "xy", "b": 1})));
    assert!(!json_fits(&serde_json::json!([1]), &serde_json::json!([2])));
}

/// Metrics that the page does not name, and those that it names and are not there.
fn unknown_metrics(metrics: &str, page: &str) -> Vec<String> {
    let samples = metrics.lines().filter(|line| line.starts_with("wabbit_"));
    let names = samples.map(|line| line.split(['{', ' ']).next().unwrap());
    let family = |name: &str| {
        ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    let real: BTreeSet<_> = names.map(family).collect();
    let spans = code_spans(page).into_iter().filter(|span| span.starts_with("wabbit_"));
    let named: BTreeSet<_> = spans.map(|span| span.split(' ').next().unwrap().to_owned()).collect();
    assert!(real.len() > 5, "{metrics}");
    real.symmetric_difference(&named).cloned().collect()
}
