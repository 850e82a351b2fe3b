//! `wabbit dev` and `wabbit broker`: all that a handler needs while it is written, and nothing to install.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::amqp::{Peer, Published, persistent};
use crate::harness::process::{self, Lines, Process};
use crate::harness::{host, places, python, wait_until};

/// For compiling a handler in C, and for the host to compile what comes out.
const LONG: Duration = Duration::from_secs(120);

/// Waits for lines, in this order, after those that are there already.
async fn see(lines: &Lines, wanted: &[&str]) {
    wait_until(LONG, &format!("{wanted:?}"), async || {
        let all = lines.all();
        let mut left = wanted.iter();
        let mut next = left.next();
        for line in &all {
            if next.is_some_and(|wanted| line.contains(wanted)) {
                next = left.next();
            }
        }
        next.map_or(Ok(()), |missing| Err(format!("`{missing}` in {all:#?}")))
    })
    .await;
}

/// A project with a handler in C, and `wabbit dev` in it.
async fn develop(folder: &Path, arguments: &[&str]) -> (Process, Lines) {
    let sdk = places::root().join("sdk").canonicalize().unwrap().display().to_string();
    host::run(folder, &["new", "c", "hello", "--sdk", &sdk]).await.success();
    let lines = Lines::default();
    let mut command = host::wabbit(folder);
    command.args(["dev", "--sdk", &sdk, "--listen", "127.0.0.1:0"]).args(arguments);
    (Process::start("dev", command, &lines), lines)
}

/// The address that the embedded broker says it has.
fn url(lines: &Lines) -> String {
    let all = lines.all();
    let told = all.iter().find_map(|line| line.split_once("amqp://")).expect("an address");
    format!("amqp://{}/%2f", told.1.split_whitespace().next().unwrap().trim_end_matches("/%2f"))
}

#[tokio::test]
async fn what_is_saved_runs_and_what_does_not_compile_is_shown() {
    let folder = places::folder("dev");
    let (mut dev, lines) = develop(folder.path(), &["--send", "plugins/src/hello/sample.json"]).await;
    see(&lines, &["plugins/hello.wasm", "sent `plugins/src/hello/sample.json`"]).await;
    see(&lines, &["plugins/hello.wasm", "hello | greeting Ada", "1 acked"]).await;

    let source = folder.path().join("plugins/src/hello/handler.c");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("greeting", "welcoming")).unwrap();
    see(&lines, &["1 acked", "plugins/hello.wasm", "swapped"]).await;

    // What the compiler says is there, and the last version goes on.
    fs::write(&source, format!("{text}\nint broken(")).unwrap();
    see(&lines, &["swapped", "handler.c", "error: expected"]).await;
    let url = url(&lines);
    let publish = ["publish", "--amqp-url", &url, "--routing-key", "hello", "--body", "Eve"];
    host::run(folder.path(), &publish).await.success();
    see(&lines, &["error: expected", "hello | welcoming Eve", "2 acked"]).await;

    let children = process::children(dev.id());
    assert!(!children.is_empty());
    dev.signal(Signal::SIGINT);
    assert_eq!(dev.ended(LONG).await.code(), Some(0), "{:#?}", lines.all());
    assert!(children.iter().all(|id| !process::is_running(*id)), "{children:?}");
}

/// On a terminal the workers stand below what passes, keys send samples, and the terminal is left as it was.
#[tokio::test]
async fn keys_send_samples_on_a_terminal() {
    let folder = places::folder("dev-terminal");
    let sdk = places::root().join("sdk").canonicalize().unwrap().display().to_string();
    host::run(folder.path(), &["new", "c", "hello", "--sdk", &sdk]).await.success();
    let mut command = process::bound("python3");
    command.arg(places::root().join("tests/fixtures/terminal.py").canonicalize().unwrap());
    // A sample goes nowhere before there is a queue for it.
    command.args(["1 hello=", "consuming=1", "sent `=s", "2 acked=9", "there is no worker 9=q", "--"]);
    // By the words of a command that has its environment in order.
    let dev = host::wabbit(folder.path());
    command.current_dir(folder.path()).envs(dev.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").arg(places::build().join("wabbit")).args([
        "dev",
        "--sdk",
        &sdk,
        "--listen",
        "127.0.0.1:0",
    ]);
    let shown = process::run("a terminal", command, LONG).await.success();
    let last = ["not seen: []", "exit code 0, the terminal as before: True"];
    assert!(shown.ends_with(&format!("{}\n{}\n", last[0], last[1])), "{shown}");
    // What is done, and what can be done.
    for part in ["plugins/hello.wasm", "consuming", "hello | greeting Ada", "2 acked", "1-9 send the worker's sample"] {
        assert!(shown.contains(part), "no `{part}`: {shown}");
    }
}

/// A worker that cannot run says why, and runs once it can.
#[tokio::test]
async fn a_manifest_that_is_mended_is_followed() {
    let folder = places::folder("dev-manifest");
    let (mut dev, lines) = develop(folder.path(), &[]).await;
    see(&lines, &["worker hello: consuming"]).await;
    let manifest = folder.path().join("manifests/hello.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, format!("{text}\n[consume]\nprefech = 1\n")).unwrap();
    see(&lines, &["worker hello: consuming", "unknown key `prefech`"]).await;
    fs::write(&manifest, format!("{text}\n[consume]\nprefetch = 1\n")).unwrap();
    see(&lines, &["unknown key `prefech`", "worker=hello"]).await;

    // Sources that no manifest names are left alone, until one does.
    let sources = folder.path().join("plugins/src");
    fs::create_dir(sources.join("other")).unwrap();
    for file in fs::read_dir(sources.join("hello")).unwrap().map(|entry| entry.unwrap()) {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), sources.join("other").join(file.file_name())).unwrap();
        }
    }
    fs::write(sources.join("hello/handler.c"), "int broken(").unwrap();
    see(&lines, &["prefech", "error: expected"]).await;
    assert!(!folder.path().join("plugins/other.wasm").exists(), "{:#?}", lines.all());
    let other = "plugin = \"other.wasm\"\n\n[[queue]]\nname = \"other\"\n";
    fs::write(folder.path().join("manifests/other.toml"), other).unwrap();
    see(&lines, &["error: expected", "plugins/other.wasm", "worker other: consuming"]).await;
    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.ended(LONG).await.code(), Some(0), "{:#?}", lines.all());
}

/// Where somebody has the usual port, the broker takes another. A folder that is moved away is missed, and nothing ends.
#[tokio::test]
async fn what_is_taken_or_missing_ends_nothing() {
    // Where this fails another program has the port, which is as good.
    let _held = std::net::TcpListener::bind("127.0.0.1:5672");
    let folder = places::folder("dev-taken");
    let sdk = places::root().join("sdk").canonicalize().unwrap().display().to_string();
    host::run(folder.path(), &["new", "c", "hello", "--sdk", &sdk]).await.success();
    let (mut command, lines) = (host::wabbit(folder.path()), Lines::default());
    command.args(["dev", "--sdk", &sdk]);
    let mut dev = Process::start("dev", command, &lines);
    see(&lines, &["worker hello: consuming"]).await;
    let url = url(&lines);
    assert!(url.contains("@127.0.0.1:") && !url.contains(":5672/"), "{url}");

    let manifests = folder.path().join("manifests");
    fs::rename(&manifests, folder.path().join("elsewhere")).unwrap();
    see(&lines, &["worker hello: consuming", "error: cannot read `manifests`"]).await;
    let greet = async |body: &str| {
        let publish = ["publish", "--amqp-url", &url, "--routing-key", "hello", "--body", body];
        host::run(folder.path(), &publish).await.success();
    };
    greet("Eve").await;
    see(&lines, &["error: cannot read `manifests`", "hello | greeting Eve"]).await;

    fs::rename(folder.path().join("elsewhere"), &manifests).unwrap();
    let source = folder.path().join("plugins/src/hello/handler.c");
    fs::write(&source, fs::read_to_string(&source).unwrap().replace("greeting", "welcoming")).unwrap();
    see(&lines, &["hello | greeting Eve", "plugins/hello.wasm", "swapped"]).await;
    greet("Ada").await;
    see(&lines, &["swapped", "hello | welcoming Ada"]).await;
    let missed = lines.all().iter().filter(|line| line.contains("error: cannot read `manifests`")).count();
    assert_eq!(missed, 1, "{:#?}", lines.all());
    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.ended(LONG).await.code(), Some(0), "{:#?}", lines.all());
}

/// The broker alone, for clients that know nothing of it: the script of the orders example, and a worker.
#[tokio::test]
async fn the_scripts_of_the_example_run_against_the_embedded_broker() {
    let (folder, lines) = (places::folder("broker"), Lines::default());
    let mut command = host::wabbit(folder.path());
    command.args(["broker", "--listen", "127.0.0.1:0"]);
    let mut broker = Process::start("broker", command, &lines);
    see(&lines, &["amqp://guest:guest@127.0.0.1:"]).await;
    let url = url(&lines);

    let mut command = host::wabbit(folder.path());
    let root = places::root().canonicalize().unwrap();
    command.args(["run", "--amqp-url", &url, "--admin", "off", "--plugins"]).arg(root.join("plugins"));
    command.arg("--manifests").arg(root.join("manifests"));
    let told = Lines::default();
    let mut host = Process::start("host", command, &told);
    see(&told, &["consuming"]).await;
    let script = root.join("examples/orders.py");
    let arguments = ["--url", &url, "--orders", "100", "--deadline", "60"];
    let output = python::run(&script, &arguments, LONG).await.success();
    assert!(output.contains("100"), "{output}");

    let peer = Peer::connect(&url).await;
    assert_eq!(peer.try_publish("", "nobody", b"x", persistent()).await.unwrap(), Published::Returned);
    peer.close().await;
    for process in [&mut host, &mut broker] {
        process.signal(Signal::SIGTERM);
        assert_eq!(process.ended(LONG).await.code(), Some(0), "{:#?} {:#?}", lines.all(), told.all());
    }
}
