//! What the source text has to keep to, whoever edits it: which rooms may name which crates, how long a file may be,
//! what must not be in it. Rules are data; each has samples, so that a rule which finds nothing any more is noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::places;

/// One rule over the files below some folders.
struct Rule {
    /// What holds.
    says: &'static str,
    /// Files, and folders with all that is in them. For a room, `runtime/src/ROOM` is its file `ROOM.rs`, too.
    within: &'static [&'static str],
    /// Parts of these to which the rule does not apply.
    except: &'static [&'static str],
    forbids: Forbids,
    /// What the rule must find.
    bad: &'static [&'static str],
    /// What it must not mind.
    good: &'static [&'static str],
}

enum Forbids {
    /// Crates, as code names them: comments and strings do not count, `NAME_anything` does.
    Crates(&'static [&'static str]),
    /// Text in code; comments and strings do not count.
    Code(&'static [&'static str]),
    /// Text anywhere.
    Text(&'static [&'static str]),
    /// More lines than this.
    LinesAbove(usize),
    /// `.await` in code, but on a call of a plain function or of what begins like one of these.
    AwaitingBut(&'static [&'static str]),
}

/// The rooms that decide, and know nothing of how things are done.
const PURE: &[&str] = &[
    "runtime/src/delivery",
    "runtime/src/manifest",
    "runtime/src/outbound/address",
    "runtime/src/outbound/guard",
    "runtime/src/outbound/origin",
    "runtime/src/outcome",
    "runtime/src/reload",
    "runtime/src/route",
    "runtime/src/settle",
];

/// Everything that people write and read.
const SOURCES: &[&str] =
    &["Makefile", "examples", "fuzz", "manifests", "plugins/src", "runtime", "scripts", "sdk", "tests"];

const RULES: &[Rule] = &[
    Rule {
        says: "only `amqp` names lapin",
        within: &["runtime/src"],
        except: &["runtime/src/amqp"],
        forbids: Forbids::Crates(&["lapin", "amq_protocol"]),
        bad: &[
            "use lapin::Channel;",
            "fn f(channel: &lapin::Channel) {}",
            "let url = \"http://x\"; lapin::connect(url)",
            "let quote = '\"'; use lapin::Channel; // \"",
            "fn f<'a>(x: &'a str) -> lapin::Result<()> {}",
            "use amq_protocol_types::X;",
        ],
        good: &[
            "// unlike lapin, we carry the epoch",
            "/// See [`lapin::Channel`].",
            "//! lapin",
            "/* lapin /* lapin */ lapin */ fn f() {}",
            "let level = \"lapin=warn\";",
            "let raw = r#\"\"lapin\"\"#;",
            "let lapinlike = 1;",
        ],
    },
    Rule {
        says: "only `sandbox` names wasmtime",
        within: &["runtime/src"],
        except: &["runtime/src/sandbox"],
        forbids: Forbids::Crates(&["wasmtime"]),
        bad: &["use wasmtime::Engine;", "use wasmtime_wasi::WasiCtx;"],
        good: &["// wasmtime compiles it", "let digest = 1;"],
    },
    Rule {
        says: "what decides is pure: no tokio, lapin or wasmtime",
        within: PURE,
        except: &[],
        forbids: Forbids::Crates(&["tokio", "lapin", "wasmtime"]),
        bad: &["use tokio::sync::mpsc;", "use tokio_util::sync::CancellationToken;", "#[tokio::test]"],
        good: &["// tokio runs this", "use std::time::Duration;"],
    },
    Rule {
        says: "the embedded broker is pure, but for its server: no tokio, no clock",
        within: &["runtime/embedded-broker/src"],
        except: &["runtime/embedded-broker/src/server.rs"],
        forbids: Forbids::Crates(&["tokio", "lapin", "Instant", "SystemTime"]),
        bad: &["use tokio::sync::mpsc;", "let now = Instant::now();", "use std::time::SystemTime;"],
        good: &["// tokio runs this", "use std::time::Duration;"],
    },
    Rule {
        says: "no channel is unbounded",
        within: &["runtime/embedded-broker/src", "runtime/src"],
        except: &[],
        forbids: Forbids::Code(&[
            "unbounded_channel",
            "mpsc::unbounded",
            "flume::unbounded",
            "UnboundedSender",
            "UnboundedReceiver",
            "mpsc::channel()",
        ]),
        bad: &["let (a, b) = mpsc::unbounded_channel();", "let (a, b) = std::sync::mpsc::channel();"],
        good: &["let (a, b) = mpsc::channel(16);", "// an unbounded_channel would do harm", "oneshot::channel()"],
    },
    Rule {
        says: "no call to the broker is awaited without a time limit",
        within: &["runtime/src/amqp"],
        except: &[],
        forbids: Forbids::AwaitingBut(&[
            "tokio::",
            "std::",
            // Ours, which keep to this rule themselves.
            "Self::connect",
            "Session::connect",
            "session.",
            "self.session.",
            // Waiting for something that may never happen, or inside a limit.
            "events.next",
            "self.settling.next",
            // Polled and never waited for: the run has its eye on confirms, and what is not written ends with the channel.
            "channel.basic_ack",
            "channel.basic_nack",
            "channel.basic_publish",
            "confirm",
        ]),
        bad: &[
            "channel.close(200, \"done\".into()).await?;",
            "let answer = self.channel.queue_declare(name.into(), options(a, b))\n    .await\n    .unwrap();",
            "let asked = channel.queue_purge(q); asked.await",
            "Connection::connect(uri).await",
        ],
        good: &[
            "within(CALL_TIMEOUT, channel.close(200, \"done\".into())).await?;",
            "within(LIMIT, asked)\n    .await\n    .map_err(f)?;",
            "let channel = session.consume_channel().await?;",
            "tokio::time::timeout(LOOK, next(&mut events)).await",
            "// asked.await",
        ],
    },
    Rule {
        says: "no file is longer than 600 lines",
        within: &[
            "examples",
            "fuzz",
            "plugins/src",
            "runtime/embedded-broker",
            "runtime/src",
            "scripts",
            "sdk",
            "tests",
        ],
        except: &[],
        forbids: Forbids::LinesAbove(600),
        bad: &[LONG],
        good: &["fn f() {}\n"],
    },
    Rule {
        says: "nothing is left for later in the sources",
        within: SOURCES,
        except: &[],
        forbids: Forbids::Text(&[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")]),
        bad: &[concat!("// TO", "DO: later"), concat!("# FIX", "ME")],
        good: &["// done"],
    },
    Rule {
        says: "no code is a placeholder",
        within: SOURCES,
        except: &[],
        forbids: Forbids::Code(&["todo!", "unimplemented!"]),
        bad: &["fn f() { todo!() }", "fn f() { unimplemented!(\"x\") }"],
        good: &["// `todo!` is a macro", "fn todo() {}"],
    },
];

/// 601 lines.
const LONG: &str = {
    const BYTES: [u8; 601] = [b'\n'; 601];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => panic!(),
    }
};

/// What a newcomer looks for, and where.
const PRESENT: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "docs",
    "examples",
    "manifests",
    "plugins/src",
    "runtime/src",
    "sdk/wit",
    "tests",
];

#[test]
fn the_sources_keep_every_rule() {
    let mut broken = Vec::new();
    for rule in RULES {
        for path in files(rule.within, rule.except) {
            // What is no text is no source.
            let Ok(text) = fs::read_to_string(places::root().join(&path)) else { continue };
            broken.extend(
                check(rule, &text).into_iter().map(|found| format!("{}: {found}: {}", path.display(), rule.says)),
            );
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_rule_finds_what_it_is_for() {
    for Rule { says, bad, good, .. } in RULES {
        let rule = RULES.iter().find(|rule| rule.says == *says).unwrap();
        assert!(!bad.is_empty() && !good.is_empty(), "{says}: without samples");
        for sample in *bad {
            assert!(!check(rule, sample).is_empty(), "{says}: not found in `{sample}`");
        }
        for sample in *good {
            let found = check(rule, sample);
            assert!(found.is_empty(), "{says}: `{sample}`: {found:?}");
        }
    }
}

#[test]
fn every_place_that_a_rule_names_exists() {
    // A room that was renamed would otherwise escape its rules.
    let missing: Vec<_> =
        RULES.iter().flat_map(|rule| rule.within.iter().chain(rule.except)).filter(|place| !exists(place)).collect();
    assert!(missing.is_empty(), "named in a rule, but not there: {missing:?}");
    assert!(!exists("runtime/src/no_such_room"));
}

#[test]
fn a_newcomer_finds_the_usual_files() {
    let missing: Vec<_> = PRESENT.iter().filter(|place| !exists(place)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn no_compiled_wasm_is_committed() {
    let root = places::root();
    if !root.join(".git").exists() {
        // An unpacked release knows nothing of commits.
        return;
    }
    let listed =
        Command::new("git").args(["ls-files", "--cached", "*.wasm", "*.cwasm"]).current_dir(root).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "", "compiled files are committed");
}

/// Every place where `text` breaks the rule, as `line NUMBER: what`.
fn check(rule: &Rule, text: &str) -> Vec<String> {
    let names = |line: &str, name: &str| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
    };
    let each_line = |text: &str, words: &[&str], is_in: &dyn Fn(&str, &str) -> bool| -> Vec<String> {
        let lines = text.lines().enumerate();
        lines
            .flat_map(|(index, line)| words.iter().map(move |word| (index + 1, line, *word)))
            .filter(|(_, line, word)| is_in(line, word))
            .map(|(number, _, word)| format!("line {number}: `{word}`"))
            .collect()
    };
    match &rule.forbids {
        Forbids::Crates(words) => each_line(&code(text), words, &names),
        Forbids::Code(words) => each_line(&code(text), words, &|line, word| line.contains(word)),
        Forbids::Text(words) => each_line(text, words, &|line, word| line.contains(word)),
        Forbids::AwaitingBut(allowed) => {
            let code = code(text);
            let waits = code.match_indices(".await").map(|(at, _)| &code[..at]);
            let forbidden = waits.filter_map(|before| {
                let (name, called) = callee(before);
                let plain = called && !name.contains(['.', ':']);
                let fine = plain || allowed.iter().any(|start| name.starts_with(start));
                (!fine).then(|| format!("line {}: `{name}`", before.lines().count()))
            });
            forbidden.collect()
        }
        Forbids::LinesAbove(limit) => {
            let lines = text.lines().count();
            if lines > *limit { vec![format!("{lines} lines")] } else { Vec::new() }
        }
    }
}

/// The path at the end of this code, and whether it is called there: `a.f` of `let x = a.f(y, g(z))`.
fn callee(code: &str) -> (&str, bool) {
    let code = code.trim_end();
    let mut depth = 0_usize;
    let start = code.char_indices().rev().find(|(_, c)| {
        match c {
            ')' => depth += 1,
            '(' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    let called = code.ends_with(')');
    let path = if called { &code[..start.map_or(0, |(at, _)| at)] } else { code };
    let from = path.rfind(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.' | ':')).map_or(0, |at| at + 1);
    (&path[from..], called)
}

/// Rust with its comments, strings and character literals taken out. Line breaks stay where they were.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip(rest, code.chars().next_back());
        let taken = if skipped == 0 { first.len_utf8() } else { skipped };
        let (head, tail) = rest.split_at(taken);
        if skipped == 0 {
            code.push(first);
        } else {
            code.push(' ');
            code.extend(head.chars().filter(|c| *c == '\n'));
        }
        rest = tail;
    }
    code
}

/// How many bytes at the start of `text` are no code; `before` is the last character of code.
fn skip(text: &str, before: Option<char>) -> usize {
    let until = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    if text.starts_with('r') && !before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c') {
        let hashes = text[1..].chars().take_while(|c| *c == '#').count();
        if text[1 + hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    if let Some(inner) = text.strip_prefix('\'') {
        // A lifetime has no quote after its first character.
        let mut inner = inner.chars();
        let escaped = inner.next() == Some('\\');
        if escaped || inner.next() == Some('\'') {
            return quoted(text, '\'');
        }
    }
    0
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

fn exists(place: &str) -> bool {
    let path = places::root().join(place);
    path.exists() || path.with_extension("rs").exists()
}

/// All files within these places, relative to the root, but those in `except`. Folders of build tools, lock files and
/// compiled plugins are nobody's writing.
fn files(within: &[&str], except: &[&str]) -> Vec<PathBuf> {
    let root = places::root();
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = within.iter().map(PathBuf::from).collect();
    open.extend(within.iter().map(|place| PathBuf::from(format!("{place}.rs"))));
    while let Some(path) = open.pop() {
        let whole = root.join(&path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let excepted = except.iter().any(|place| path == Path::new(place) || path == Path::new(&format!("{place}.rs")));
        let built = matches!(&*name, "target" | "node_modules" | "__pycache__") || name.starts_with('.');
        if excepted || built || whole.is_symlink() {
            continue;
        }
        if whole.is_dir() {
            open.extend(fs::read_dir(&whole).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else if whole.is_file() && !name.ends_with(".lock") && !name.ends_with("-lock.json") {
            found.push(path);
        }
    }
    found.sort();
    found.dedup();
    found
}
