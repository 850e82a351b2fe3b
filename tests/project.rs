//! `wabbit new` and `wabbit build`, with languages that are made up: their compilers do what the sources say.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::process::{Lines, Output, Process};
use crate::harness::{DEADLINE, host, places, wait_until};

/// A compiler that notes each of its runs, then does what the file `do` says, if there is one, and copies its source.
const COMPILER: &str = r#"#!/usr/bin/env bash
set -eu
echo "$(basename "$1")" >>"$(dirname "$0")/.runs"
cd "$1"
if [ -e do ]; then out=$2; . ./do; fi
cp handler.fake "$2"
"#;

/// A project in a folder of its own, with the languages `fake`, whose compiler is above, and `absent`, which lacks
/// something.
struct Project(TempDir);

impl Project {
    fn new() -> Project {
        let project = Project(places::folder("project"));
        let language = |title: &str, marker: &str, tools: &str| {
            format!("title = \"{title}\"\nmarker = \"{marker}\"\nversion = \"echo {title} 1.0\"\ntools = [{tools}]\n")
        };
        project.write("sdk/fake/language.toml", &language("Fake", "handler.fake", ""));
        project.write("sdk/fake/build", COMPILER);
        let path = project.path("sdk/fake/build");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        project.write("sdk/fake/library", "1");
        project.write("sdk/fake/template/handler.fake", "{{name}} {{snake}} {{sdk}}\n");
        let tool = "{ name = \"absentc\", check = \"test -e tool\", install = \"apt-get install absentc\" }";
        project.write("sdk/absent/language.toml", &language("Absent", "handler.absent", tool));
        project.write("sdk/wit/worker.wit", "");
        fs::create_dir_all(project.path("plugins/src")).unwrap();
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn plugin(&self, name: &str, text: &str) {
        self.write(&format!("plugins/src/{name}/handler.fake"), text);
    }

    fn compiled(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path("plugins").join(file)).ok()
    }

    /// How often the compiler ran since this was asked the last time.
    fn runs(&self) -> usize {
        let path = self.path("sdk/fake/.runs");
        let runs = fs::read_to_string(&path).unwrap_or_default().lines().count();
        let _ = fs::remove_file(path);
        runs
    }

    async fn wabbit(&self, arguments: &[&str]) -> Output {
        host::run(self.0.path(), arguments).await
    }

    /// Builds, which must end so, and returns what was said, line by line.
    async fn build(&self, arguments: &[&str], code: i32) -> Vec<String> {
        let output = self.wabbit(&[&["build"], arguments].concat()).await;
        assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{}", output.stderr);
        let mut lines: Vec<_> = output.stderr.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// What is said of a plugin that was compiled, without the time.
fn short(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.split_once(", ").map_or(line.as_str(), |(before, _)| before)).collect()
}

#[tokio::test]
async fn only_what_changed_is_compiled() {
    let project = Project::new();
    project.plugin("a", "a");
    project.plugin("order-mail", "mail");
    project.write("plugins/src/README.md", "no folder, no plugin");
    project.write("plugins/src/.hidden/x", "x");
    assert_eq!(short(&project.build(&[], 0).await), ["plugins/a.wasm (1 B", "plugins/order_mail.wasm (4 B"]);
    assert_eq!(project.compiled("order_mail.wasm").as_deref(), Some("mail"));
    assert_eq!(project.runs(), 2);
    assert_eq!(project.build(&[], 0).await, ["a: unchanged", "order-mail: unchanged"]);
    assert_eq!(project.runs(), 0);

    // Its own sources; what a compiler leaves there is none.
    project.plugin("a", "b");
    project.write("plugins/src/order-mail/target/x", "x");
    project.write("plugins/src/order-mail/node_modules/x/x", "x");
    assert_eq!(short(&project.build(&[], 0).await), ["order-mail: unchanged", "plugins/a.wasm (1 B"]);
    assert_eq!((project.compiled("a.wasm").as_deref(), project.runs()), (Some("b"), 1));

    // What the SDK puts into plugins, and nothing else of it.
    for (file, runs) in [
        ("sdk/fake/library", 2),
        ("sdk/wit/worker.wit", 2),
        ("sdk/fake/language.toml", 2),
        ("sdk/fake/template/new", 0),
        ("sdk/fake/conformance/new", 0),
        ("sdk/fake/.tools/new", 0),
        ("sdk/absent/library", 0),
    ] {
        let text = fs::read_to_string(project.path(file)).unwrap_or_default();
        project.write(file, &format!("{text}\n# changed\n"));
        project.build(&[], 0).await;
        assert_eq!(project.runs(), runs, "{file}");
    }

    // What is gone from the folder of plugins, or is another there, is put back.
    fs::remove_file(project.path("plugins/a.wasm")).unwrap();
    project.write("plugins/order_mail.wasm", "something else");
    let lines = project.build(&[], 0).await;
    assert_eq!(lines, ["plugins/a.wasm (1 B, compiled before)", "plugins/order_mail.wasm (4 B, compiled before)"]);
    assert_eq!((project.compiled("order_mail.wasm").as_deref(), project.runs()), (Some("mail"), 0));

    // What a killed build left is not taken for what was compiled.
    project.write("plugins/src/.build/a/out.wasm", "half");
    assert_eq!(short(&project.build(&["a"], 0).await), ["plugins/a.wasm (1 B"]);
    assert_eq!(project.build(&["order_mail"], 0).await, ["order-mail: unchanged"]);
    assert_eq!(project.runs(), 1);
    project.build(&["--force"], 0).await;
    assert_eq!(project.runs(), 2);
}

#[tokio::test]
async fn a_file_that_is_the_same_is_left_alone() {
    let project = Project::new();
    project.plugin("a", "a");
    project.build(&[], 0).await;
    let modified = || fs::metadata(project.path("plugins/a.wasm")).unwrap().modified().unwrap();
    let before = modified();
    project.write("plugins/src/a/comment", "new");
    assert_eq!(short(&project.build(&[], 0).await), ["plugins/a.wasm (1 B"]);
    assert_eq!((modified(), project.runs()), (before, 2));
    // Nothing is left beside it, either.
    let names = |folder: &str| fs::read_dir(project.path(folder)).unwrap().count();
    assert_eq!(names("plugins"), 2);
}

#[tokio::test]
async fn what_a_compiler_adds_to_the_sources_is_no_change() {
    let project = Project::new();
    project.plugin("locks", "x");
    project.write("plugins/src/locks/do", "echo 1 >lock");
    project.build(&[], 0).await;
    assert_eq!(project.build(&[], 0).await, ["locks: unchanged"]);
    project.write("plugins/src/locks/lock", "2");
    project.build(&[], 0).await;
    assert_eq!(project.runs(), 2);

    // What is changed while it compiles is compiled the next time.
    project.plugin("edited", "x");
    project.write("plugins/src/edited/do", "cp handler.fake \"$out\"; echo y >handler.fake; rm do; exit");
    project.build(&["edited"], 0).await;
    assert_eq!(project.compiled("edited.wasm").as_deref(), Some("x"));
    project.build(&["edited"], 0).await;
    assert_eq!(project.compiled("edited.wasm").as_deref(), Some("y\n"));
}

#[tokio::test]
async fn one_that_fails_is_told_in_full_and_stops_no_other() {
    let project = Project::new();
    for name in ["a", "bad", "silent", "z"] {
        project.plugin(name, name);
    }
    project.write("plugins/src/bad/do", "seq 1 5000; echo 'handler.fake:1: odd' >&2; cp handler.fake \"$out\"; exit 3");
    project.write("plugins/src/silent/do", "exit 0");
    project.write("plugins/bad.wasm", "what worked before");
    let lines = project.build(&["--jobs", "1"], 1).await;
    for line in [
        "error: bad: the compiler failed with exit code 3",
        "handler.fake:1: odd",
        "1",
        "5000",
        "error: silent: the compiler ended well, and left no file",
    ] {
        assert!(lines.iter().any(|said| said == line), "`{line}` is not in {lines:?}");
    }
    assert_eq!(project.compiled("bad.wasm").as_deref(), Some("what worked before"));
    assert_eq!((project.compiled("a.wasm").is_some(), project.compiled("z.wasm").is_some()), (true, true));
    assert_eq!(project.compiled("silent.wasm"), None);

    // It is tried again, whether it changed or not.
    project.runs();
    assert!(project.build(&["bad"], 1).await.contains(&"handler.fake:1: odd".to_owned()));
    fs::remove_file(project.path("plugins/src/bad/do")).unwrap();
    assert_eq!(short(&project.build(&["bad"], 0).await), ["plugins/bad.wasm (3 B"]);
    assert_eq!(project.runs(), 2);
}

#[tokio::test]
async fn a_missing_tool_is_told_with_how_to_install_it() {
    let project = Project::new();
    project.plugin("a", "a");
    for name in ["one", "two"] {
        project.write(&format!("plugins/src/{name}/handler.absent"), "x");
    }
    let told = ["error: one: Absent lacks `absentc`", "error: two: Absent lacks `absentc`"];
    let lines = project.build(&[], 1).await;
    let hint = "hint: apt-get install absentc";
    assert_eq!(short(&lines), [told[0], told[1], hint, hint, "plugins/a.wasm (1 B"]);

    let lines = project.build(&["--available"], 0).await;
    let left_out = ["one", "two"].map(|name| format!("{name}: left out, since Absent lacks `absentc`"));
    assert_eq!(lines, [vec!["a: unchanged".to_owned()], left_out.to_vec()].concat());
}

#[tokio::test]
async fn a_folder_of_no_or_several_languages_is_an_error() {
    let project = Project::new();
    project.plugin("a", "a");
    project.write("plugins/src/none/main.c", "x");
    project.plugin("both", "x");
    project.write("plugins/src/both/handler.absent", "x");
    for name in ["same-file", "same_file"] {
        project.plugin(name, "x");
    }
    let lines = project.build(&[], 1).await;
    let clash = "`same_file.wasm` would be the file of each of `same-file`, `same_file`";
    let expected = [
        "error: both: it is of more than one language: it has `handler.absent` (Absent) and `handler.fake` (Fake)",
        "error: none: it is of no language: it has none of `handler.absent` (Absent), `handler.fake` (Fake)",
        &format!("error: same-file: {clash}"),
        &format!("error: same_file: {clash}"),
    ];
    assert_eq!(lines[..4], expected);
    assert_eq!(project.runs(), 1, "{lines:?}");

    let unknown = project.build(&["a", "b"], 1).await;
    assert_eq!(unknown[0], "error: there are no sources named `b`");
    fs::remove_dir_all(project.path("plugins/src")).unwrap();
    assert_eq!(project.build(&[], 1).await[0], "error: there is no `plugins/src`");
}

#[tokio::test]
async fn a_language_that_cannot_be_read_is_told() {
    let project = Project::new();
    project.plugin("a", "a");
    project.write("sdk/odd/language.toml", "title = \"Odd\"\nmaker = \"x\"\n");
    let output = project.wabbit(&["build"]).await;
    assert_eq!(output.code, 1);
    assert!(output.stderr.starts_with("error: `sdk/odd/language.toml` cannot be used: "), "{}", output.stderr);
    assert!(output.stderr.contains("unknown field `maker`"), "{}", output.stderr);
}

/// Each waits for the other, so that they end only where both run at once.
#[tokio::test]
async fn plugins_are_compiled_side_by_side() {
    let project = Project::new();
    for (name, other) in [("a", "b"), ("b", "a")] {
        project.plugin(name, name);
        let meet = format!(
            "touch ../../{name}.begun; for i in $(seq 600); do [ ! -e ../../{other}.begun ] || break; sleep 0.1; done"
        );
        project.write(&format!("plugins/src/{name}/do"), &format!("{meet}; [ -e ../../{other}.begun ]"));
    }
    assert_eq!(project.build(&["--jobs", "2"], 0).await.len(), 2);

    // And one by one where that is asked for.
    for name in ["a", "b"] {
        let alone = "mkdir ../../alone; sleep 0.2; rmdir ../../alone";
        project.write(&format!("plugins/src/{name}/do"), alone);
    }
    assert_eq!(project.build(&["--jobs", "1"], 0).await.len(), 2);
    let refused = project.build(&["--jobs", "0"], 2).await;
    assert!(refused.iter().any(|line| line.starts_with("error: invalid value '0'")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_build_waits_for_the_first() {
    let project = Project::new();
    project.plugin("slow", "x");
    project.write("plugins/src/slow/do", "touch ../../begun; until [ -e ../../go ]; do sleep 0.05; done");
    let start = || {
        let lines = Lines::default();
        let mut command = host::wabbit(project.0.path());
        command.arg("build");
        (Process::start("wabbit build", command, &lines), lines)
    };
    let (mut first, _) = start();
    let begun = async || project.path("plugins/begun").exists().then_some(()).ok_or_else(|| "not yet".to_owned());
    wait_until(DEADLINE, "the compiler to begin", begun).await;
    let (mut second, second_lines) = start();
    let (mut third, third_lines) = start();
    for lines in [&second_lines, &third_lines] {
        let waits = async || lines.find("waiting for another build to end").ok_or_else(|| lines.to_string());
        wait_until(DEADLINE, "the others to wait", waits).await;
    }
    third.signal(Signal::SIGTERM);
    assert_eq!(third.ended(DEADLINE).await.code(), Some(1));
    project.write("plugins/go", "");
    assert!(first.ended(DEADLINE).await.success() && second.ended(DEADLINE).await.success());
    assert_eq!(second_lines.all(), ["waiting for another build to end", "slow: unchanged"]);
    assert_eq!(project.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_compilers() {
    let project = Project::new();
    project.plugin("slow", "x");
    project.write("plugins/src/slow/do", "sleep 600 & echo $! >../../child; wait");
    let lines = Lines::default();
    let mut command = host::wabbit(project.0.path());
    command.arg("build");
    let mut build = Process::start("wabbit build", command, &lines);
    let child = wait_until(DEADLINE, "the compiler to begin", async || {
        let id = fs::read_to_string(project.path("plugins/child")).unwrap_or_default();
        id.trim().parse::<u32>().map_err(|_| format!("{lines}"))
    })
    .await;
    let start = Instant::now();
    build.signal(Signal::SIGINT);
    assert_eq!(build.ended(DEADLINE).await.code(), Some(1));
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(lines.all(), ["error: interrupted"]);
    wait_until(DEADLINE, "the compiler's child to end", async || {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        if status.is_empty() || status.contains("State:\tZ") { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(project.compiled("slow.wasm"), None);
}

#[tokio::test]
async fn other_folders_can_be_chosen() {
    let project = Project::new();
    project.write("elsewhere/a/handler.fake", "x");
    project.write("links/.keep", "");
    symlink("../elsewhere/a", project.path("links/linked")).unwrap();
    let lines = project.build(&["--sources", "links", "--plugins", "out"], 0).await;
    assert_eq!(short(&lines), ["out/linked.wasm (1 B"]);
    let lines = project.build(&["--sources", "links", "--sdk", "nowhere"], 1).await;
    assert_eq!(lines, ["error: `nowhere` is no folder of SDKs"]);
}

#[tokio::test]
async fn a_new_plugin_is_told_with_what_comes_next() {
    let project = Project::new();
    let output = project.wabbit(&["new", "fake", "order_mail"]).await;
    let expected = "plugins/src/order-mail: a handler in Fake, with its test\n\
                    manifests/order-mail.toml: what it serves, and what it may do\n\
                    next:\n  wabbit build order-mail\n  \
                    wabbit invoke plugins/order_mail.wasm --manifest manifests/order-mail.toml --body Ada\n";
    assert_eq!(output.success(), expected);
    let made = fs::read_to_string(project.path("plugins/src/order-mail/handler.fake")).unwrap();
    assert_eq!(made, "order-mail order_mail ../../../sdk\n");
    assert_eq!(short(&project.build(&["order-mail"], 0).await), ["plugins/order_mail.wasm (35 B"]);

    for (arguments, code, error) in [
        (&["new", "fake", "order-mail"][..], 1, "error: `plugins/src/order-mail` is there already\n"),
        (
            &["new", "fake", "Order Mail"],
            2,
            "error: `Order Mail` is no name for a plugin: lower-case letters, digits, `-` and `_`, a letter first\n\
             hint: `order-mail`\n",
        ),
        (&["new", "fak", "x"], 2, "error: there is no language `fak`\nhint: did you mean `fake`?\n"),
        (&["new", "cobol", "x"], 2, "error: there is no language `cobol`\nhint: there are absent, fake\n"),
        (&["new", "fake", "x", "--sdk", "gone"], 1, "error: `gone` is no folder of SDKs\n"),
        (&["new", "--list", "--sdk", "gone"], 1, "error: `gone` is no folder of SDKs\n"),
    ] {
        let output = project.wabbit(arguments).await;
        assert_eq!((output.code, output.stderr.as_str()), (code, error), "{arguments:?}");
    }
    assert_eq!(fs::read_dir(project.path("plugins/src")).unwrap().count(), 2, "nothing is left of what failed");
}

#[tokio::test]
async fn the_list_says_what_is_missing() {
    let project = Project::new();
    let listed = project.wabbit(&["new", "--list"]).await.success();
    assert_eq!(listed, "absent  Absent  lacks absentc (apt-get install absentc)\nfake    Fake    Fake 1.0\n");
    let listed = project.wabbit(&["new", "--list", "--json"]).await.success();
    let expected = json!([
        {
            "language": "absent", "title": "Absent", "available": false, "version": null,
            "lacking": [{ "name": "absentc", "install": "apt-get install absentc" }],
        },
        { "language": "fake", "title": "Fake", "available": true, "version": "Fake 1.0", "lacking": [] },
    ]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap(), expected);
    project.write("sdk/absent/tool", "");
    assert!(project.wabbit(&["new", "--list"]).await.success().starts_with("absent  Absent  Absent 1.0\n"));
    assert_eq!(project.wabbit(&["new", "fake"]).await.code, 2);
}

/// A look at what there is leaves nothing behind.
#[tokio::test]
async fn the_list_needs_no_folder() {
    let folder = places::folder("bare");
    let listed = host::run(folder.path(), &["new", "--list"]).await.success();
    assert!(listed.lines().any(|line| line.starts_with("rust ")), "{listed}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}
