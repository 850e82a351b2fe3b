//! Folders: a handler reads and writes within them, and nowhere else.

use std::fs;
use std::os::unix::{fs::symlink, net::UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::stat::{Mode, SFlag};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::grants::{invoke, told};
use crate::harness::places;

/// A project with folders to be granted, and beside them what nobody is to see.
fn project(files: &str) -> TempDir {
    let folder = places::folder("files");
    for name in ["manifests", "r", "w", "r/inner", "outside"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for (name, text) in [("r/a", "seen"), ("r/inner/b", "seen too"), ("outside/secret", "hidden")] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let manifest = format!(
        "plugin = \"filer.wasm\"\n[[queue]]\nname = \"w\"\n[limits]\ntime = \"20s\"\n[grant]\npublish = [\"/told\"]\n\
         files = [{files}]\n"
    );
    fs::write(folder.path().join("manifests/w.toml"), manifest).unwrap();
    folder
}

const READ: &str = "{ host = \"r\", guest = \"/r\" }";
const WRITE: &str = "{ host = \"w\", guest = \"/w\", write = true, max = 10240 }";

async fn run(folder: &TempDir, calls: Value) -> Vec<Value> {
    run_as(folder, "filer", calls).await
}

async fn run_as(folder: &TempDir, plugin: &str, calls: Value) -> Vec<Value> {
    let body = json!({"calls": calls, "to": "told"});
    match told(folder.path(), plugin, &body, &["--effects"]).await {
        Value::Array(answers) => answers,
        other => panic!("{other}"),
    }
}

/// The file at this path in the project.
fn content(folder: &TempDir, path: &str) -> String {
    fs::read_to_string(folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[tokio::test]
async fn files_are_read_and_written() {
    let folder = project(&format!("{READ}, {WRITE}"));
    let calls = json!([
        {"read": "/r/a"}, {"list": "/r"}, {"read": "/r/inner/../inner/b"},
        {"make": "/w/new/folder"}, {"write": ["/w/new/folder/x", "one"]}, {"append": ["/w/new/folder/x", " two"]},
        {"rename": ["/w/new/folder/x", "/w/y"]}, {"read": "/w/y"}, {"raw": "folders"},
    ]);
    let expected = [
        json!("seen"),
        json!(["a", "inner"]),
        json!("seen too"),
        json!(null),
        json!(null),
        json!(null),
        json!(null),
        json!("one two"),
        json!(["/r", "/w"]),
    ];
    assert_eq!(run(&folder, calls).await, expected);
    assert_eq!(content(&folder, "w/y"), "one two");

    // What is for reading is not written to, by any call.
    let calls = json!([
        {"write": ["/r/a", "x"]}, {"write": ["/r/new", "x"]}, {"append": ["/r/a", "x"]}, {"make": "/r/new"},
        {"delete": "/r/a"}, {"rename": ["/r/a", "/r/b"]}, {"rename": ["/r/a", "/w/b"]}, {"rename": ["/w/y", "/r/y"]},
        {"length": ["/r/a", 0]}, {"raw": {"link": ["a", "b"]}}, {"raw": {"symlink": ["a", "b"]}},
        {"raw": {"create": "b"}}, {"raw": {"unlink": "a"}}, {"raw": {"across": ["a", "b"]}},
    ]);
    for (number, answer) in run(&folder, calls).await.iter().enumerate() {
        assert!(answer["error"].is_string(), "call {number}: {answer}");
    }
    assert_eq!((content(&folder, "r/a").as_str(), fs::read_dir(folder.path().join("r")).unwrap().count()), ("seen", 2));

    // Without effects there is no folder, and somebody is told so.
    let body = json!({"calls": [{"raw": "folders"}], "to": "told"});
    assert_eq!(told(folder.path(), "filer", &body, &[]).await, json!(["no folder"]));
    let output = invoke(folder.path(), "filer", &body, &[]).await;
    assert!(output.stderr.contains("no folder is granted; hint: --effects"), "{output:?}");
}

#[tokio::test]
async fn paths_do_not_leave_their_folder() {
    let folder = project(WRITE);
    let path = |name: &str| folder.path().join(name);
    // What somebody else put there.
    symlink(path("outside"), path("w/absolute")).unwrap();
    symlink("../outside", path("w/relative")).unwrap();
    symlink("../outside/secret", path("w/file")).unwrap();
    symlink("../outside/new", path("w/dangling")).unwrap();
    symlink("..", path("w/up")).unwrap();
    symlink("loop", path("w/loop")).unwrap();
    symlink("fine", path("w/inside")).unwrap();
    fs::write(path("w/fine"), "fine").unwrap();
    let outside = path("outside/secret").display().to_string();
    let ways = [
        "../outside/secret",
        "./../outside/secret",
        "fine/../../outside/secret",
        "absolute/secret",
        "relative/secret",
        "file",
        "up/outside/secret",
        "up/../outside/secret",
        "relative/../outside/secret",
        "loop",
        "loop/secret",
        &outside,
        "//etc/passwd",
        "/etc/passwd",
        "../../../../../../../../etc/passwd",
        "/proc/self/environ",
        "..",
        "../w/../outside/secret",
        "absolute/../outside/secret",
        "dangling",
        "dangling/x",
        "",
    ];
    let mut calls = Vec::new();
    for way in ways {
        for call in ["read", "create", "stat", "unlink", "readlink"] {
            // A link may be read, looked at in its own place, and taken away: it is inside.
            let is_link = ["file", "dangling", "loop"].contains(&way);
            if !(is_link && (call == "unlink" || call == "readlink")) {
                calls.push(json!({"raw": {call: way}}));
            }
        }
        for call in ["link", "rename"] {
            calls.push(json!({"raw": {call: [way, "mine"]}}));
            calls.push(json!({"raw": {call: ["fine", way]}}));
        }
        calls.push(json!({"raw": {"symlink": [way, "link"]}}));
        calls.push(json!({"raw": {"symlink": ["fine", way]}}));
    }
    // Links within the folder are followed by none of these, and one to itself may be renamed.
    calls.retain(|call| {
        !["file", "dangling", "loop"].iter().any(|link| {
            call["raw"]["link"] == json!([link, "mine"])
                || call["raw"]["rename"] == json!([link, "mine"])
                || call["raw"]["rename"] == json!(["fine", link])
        })
    });
    let answers = run(&folder, json!(calls)).await;
    for (call, answer) in calls.iter().zip(&answers) {
        assert!(answer["error"].is_string(), "{call}: {answer}");
    }
    assert_eq!(answers.len(), calls.len());
    assert_eq!(content(&folder, "outside/secret"), "hidden");
    assert_eq!(fs::read_dir(path("outside")).unwrap().count(), 1);
    assert_eq!(run(&folder, json!([{"read": "/w/inside"}, {"read": "/etc/passwd"}])).await[0], json!("fine"));
    assert!(!path("w/mine").exists() && !path("w/link").exists());
}

/// Neither does one that somebody swaps for a link while it is walked through.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_changes_meanwhile_does_not_leave_its_folder() {
    let folder = project(WRITE);
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("w/swap")).unwrap();
    fs::write(path("w/swap/secret"), "fine").unwrap();
    symlink(path("outside"), path("w/link")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let swapping = thread::spawn({
        let (done, [swap, link, aside]) = (Arc::clone(&done), ["w/swap", "w/link", "w/aside"].map(path));
        move || {
            while !done.load(Ordering::Relaxed) {
                for (from, to) in [(&swap, &aside), (&link, &swap), (&swap, &link), (&aside, &swap)] {
                    fs::rename(from, to).unwrap();
                }
            }
        }
    });
    let calls: Vec<_> =
        ["read", "create"].iter().cycle().take(6000).map(|call| json!({"raw": {*call: "swap/secret"}})).collect();
    let answers = run(&folder, json!(calls)).await;
    done.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert_eq!(answers.len(), calls.len());
    // Both were met: the folder, and the link in its place.
    assert!(answers.iter().any(|answer| answer["error"].is_string()), "{:?}", answers.first());
    assert!(answers.iter().any(|answer| *answer == json!(4)));
    assert!(!answers.contains(&json!("hidden")));
    assert_eq!(content(&folder, "outside/secret"), "hidden");
}

/// To open a pipe would wait for its other end, on a thread that is never free again.
#[tokio::test]
async fn pipes_sockets_and_devices_are_not_opened() {
    for (grant, host, guest) in [(READ, "r", "/r"), (WRITE, "w", "/w")] {
        let folder = project(grant);
        let path = |name: &str| folder.path().join(host).join(name);
        let mode = Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&path("pipe"), mode).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("pipe", path("to-pipe")).unwrap();
        let mut names = vec!["pipe", "to-pipe", "socket"];
        // It takes a right that not everybody has.
        if nix::sys::stat::mknod(&path("device"), SFlag::S_IFCHR, mode, nix::sys::stat::makedev(1, 5)).is_ok() {
            names.push("device");
        }
        for name in names {
            let calls = json!([
                {"raw": {"read": name}}, {"raw": {"create": name}}, {"read": format!("{guest}/{name}")},
                {"append": [format!("{guest}/{name}"), "x"]}, {"length": [format!("{guest}/{name}"), 0]},
            ]);
            for (number, answer) in run(&folder, calls).await.iter().enumerate() {
                assert!(answer["error"].is_string(), "{name}, call {number}: {answer}");
            }
        }
    }
}

/// What was written through a stream is written, though the handler did not wait for it.
#[tokio::test]
async fn what_is_not_waited_for_is_written() {
    let folder = project(WRITE);
    let answers = run(&folder, json!([{"raw": {"streams": ["many", 500]}}])).await;
    let took = answers[0].as_u64().unwrap_or_else(|| panic!("{answers:?}"));
    assert!((64..=500).contains(&took), "{took}");
    let written = fs::read(folder.path().join("w/many")).unwrap().iter().filter(|&&byte| byte != 0).count();
    assert_eq!(written as u64, took * 4);
}

/// Bytes of a folder as the limit counts them.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        1024 + if metadata.is_dir() { metadata.len() + size(&entry.path()) } else { metadata.len() }
    });
    entries.sum()
}

#[tokio::test]
async fn a_folder_takes_no_more_than_its_limit() {
    const MAX: u64 = 10 * 1024;
    let folder = project(WRITE);
    let grown = |folder: &TempDir| {
        let bytes = size(&folder.path().join("w"));
        assert!(bytes <= MAX, "{bytes} bytes");
        bytes
    };
    let full =
        |answer: &Value| assert!(answer["error"].as_str().is_some_and(|text| text.contains("No space")), "{answer}");
    // By any way of growing, and to the last byte.
    let calls = json!([
        {"fill": ["/w/a", 0, 20_000]}, {"fill": ["/w/a", 1_000_000_000_000_u64, 1]}, {"length": ["/w/a", 20_000]},
        {"fill": ["/w/b", 0, 4000]}, {"fill": ["/w/b", 0, 4000]}, {"fill": ["/w/a", 0, 4192]}, {"fill": ["/w/b", 4000, 1]},
        {"write": ["/w/c", "x"]}, {"make": "/w/d"}, {"raw": {"link": ["a", "e"]}}, {"append": ["/w/a", "x"]},
    ]);
    let answers = run(&folder, calls).await;
    for (number, answer) in answers.iter().enumerate() {
        match number {
            3..=5 => assert_eq!(answer, &Value::Null, "call {number}"),
            9 => assert_eq!(answer["error"], "insufficient-space"),
            _ => full(answer),
        }
    }
    assert_eq!(grown(&folder), MAX);
    // Also for the next host. What is deleted makes room.
    let answers =
        run(&folder, json!([{"append": ["/w/a", "x"]}, {"delete": "/w/b"}, {"fill": ["/w/f", 0, 4000]}])).await;
    full(&answers[0]);
    assert_eq!(answers[1..], [Value::Null, Value::Null]);
    assert_eq!(grown(&folder), MAX);

    // Files that are deleted and still open take room, too; and many small ones.
    let folder = project(WRITE);
    assert_eq!(run(&folder, json!([{"fill-deleted": [100, 3000]}])).await, [json!(3)]);
    assert_eq!(run(&folder, json!([{"entries": 100}])).await, [json!(10)]);
    assert_eq!(grown(&folder), MAX);

    // Two folders, two limits: nothing is moved from one into the other.
    let two = format!("{}, {}", WRITE, WRITE.replace("\"w\"", "\"outside\"").replace("/w", "/o"));
    let folder = project(&two);
    let answers = run(&folder, json!([{"fill": ["/w/a", 0, 5000]}, {"raw": {"across": ["a", "b"]}}])).await;
    assert_eq!(answers, [Value::Null, json!({"error": "cross-device"})]);
}

/// A command that is a core module writes through the same bounds as a component does.
#[tokio::test]
async fn the_limit_holds_for_every_form_of_command() {
    for form in ["command", "core_command"] {
        let folder = project(WRITE);
        let append = async |bytes: usize| {
            let action = json!({"file": ["/w/a", bytes], "stdout": "{\"settlement\": \"ack\"}"});
            let output = invoke(folder.path(), form, &action, &["--effects"]).await;
            assert_eq!(output.code, 0, "{form}: {output:?}");
            output.stderr
        };
        let (first, second) = (append(9000).await, append(9000).await);
        assert!(first.contains("Ok(())"), "{form}: {first}");
        assert!(second.contains("Err(\"No space left on device"), "{form}: {second}");
        let bytes = fs::metadata(folder.path().join("w/a")).unwrap().len();
        assert!((9000..=9216).contains(&bytes), "{form}: {bytes}");
    }
}
