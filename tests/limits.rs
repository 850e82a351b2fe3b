//! What one delivery, or one file, may cost: overrunning a limit ends that delivery with the limit's name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::host;
use crate::harness::places;
use crate::harness::process::Output;
use crate::outcomes::guest;

/// A command that is a core module: what it imports of WASI 0.1, what else it has, and what it does.
fn core_command(imports: &str, more: &str, body: &str) -> Vec<u8> {
    let text = format!("(module {imports} (memory (export \"memory\") 1) {more} (func (export \"_start\") {body}))");
    wat::parse_str(text).unwrap()
}

fn wasi(name: &str, parameters: usize) -> String {
    let parameters = "i32 ".repeat(parameters);
    format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {parameters}) (result i32)))")
}

/// A command that answers with a publication of so many headers.
fn many_headers(count: usize) -> Vec<u8> {
    let headers: serde_json::Map<_, _> = (0..count).map(|n| (format!("h{n}"), Value::from(n))).collect();
    let outcome =
        json!({ "settlement": "ack", "publications": [{ "properties": { "headers": headers } }] }).to_string();
    let text = format!("(data (i32.const 8) \"{}\")", outcome.replace('"', "\\22"));
    let write = format!(
        "(i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const {})) \
         (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 60000)))",
        outcome.len()
    );
    core_command(&wasi("fd_write", 4), &text, &write)
}

/// A command that is a component, and makes timers without end.
fn many_handles() -> Vec<u8> {
    let text = r#"
        (component
          (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
          (alias export $poll "pollable" (type $pollable))
          (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $outer))
            (export "pollable" (type $p (eq $outer)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
          (core func $subscribe (canon lower (func $clock "subscribe-duration")))
          (core module $m
            (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
            (func (export "run") (result i32) (loop (drop (call $subscribe (i64.const 0))) (br 0)) (i32.const 0)))
          (core instance $i (instantiate $m (with "host" (instance (export "subscribe" (func $subscribe))))))
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $r (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $r)))
    "#;
    wat::parse_str(text).unwrap()
}

/// Runs a plugin with these lines in its manifest's `[limits]`, and the host with this `wabbit.toml`.
async fn invoke(folder: &TempDir, plugin: &[u8], limits: &str, settings: &str) -> (Value, Output) {
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("plugin.wasm"), plugin).unwrap();
    fs::write(path("wabbit.toml"), settings).unwrap();
    fs::write(path("m.toml"), format!("plugin = \"plugin.wasm\"\n[[queue]]\nname = \"q\"\n[limits]\n{limits}"))
        .unwrap();
    let (plugin, manifest, settings) = (path("plugin.wasm"), path("m.toml"), path("wabbit.toml"));
    let (cache, folder_path) = (path("cache"), folder.path());
    let arguments =
        ["invoke", &plugin, "--manifest", &manifest, "--config", &settings, "--cache", &cache, "--body", "x", "--json"];
    let output = host::run(folder_path, &arguments).await;
    (serde_json::from_str(&output.stdout).unwrap_or(Value::Null), output)
}

#[tokio::test]
async fn a_limit_that_is_overrun_ends_the_delivery_by_its_name() {
    let folder = places::folder("limits");
    let endless = |call: &str| format!("(loop {call} (br 0))");
    let random = endless("(drop (call $random_get (i32.const 0) (i32.const 1000)))");
    let one_random = "(drop (call $random_get (i32.const 0) (i32.const 60000)))";
    let yields = endless("(drop (call $sched_yield))");
    let table = "(table $t 10 funcref)";
    let grow = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))";
    let cases = [
        (
            "host-calls = 1000",
            core_command(&wasi("sched_yield", 0), "", &yields),
            "host-call-limit",
            "the limit of 1000",
        ),
        (
            "random = \"10KiB\"",
            core_command(&wasi("random_get", 2), "", &random),
            "random-limit",
            "the limit of 10.0 KiB",
        ),
        ("random = \"10KiB\"", core_command(&wasi("random_get", 2), "", one_random), "random-limit", "10.0 KiB"),
        ("tables = 500", core_command("", table, grow), "table-limit", "the limit of 500"),
        ("tables = 500", core_command("", "(table 501 funcref)", ""), "table-limit", "the limit of 500"),
        ("handles = 100", many_handles(), "handle-limit", "the limit of 100"),
        ("headers = 3", many_headers(4), "output-limit", "a publication with 4 headers, the limit is 3"),
    ];
    for (limit, plugin, kind, value) in cases {
        let (told, output) = invoke(&folder, &plugin, limit, "").await;
        assert_eq!(told["failure"], kind, "{limit}: {told}\n{}", output.stderr);
        assert!(told["error"].as_str().unwrap().contains(value), "{limit}: {told}");
        // The host's own limit is that of a manifest that has none.
        let (told, _) = invoke(&folder, &plugin, "", &format!("[limits]\n{limit}\n")).await;
        assert_eq!(told["failure"], kind, "{limit} of the host: {told}");
    }
    let (_, output) = invoke(&folder, &many_handles(), "handles = 11", "[limits]\nhandles = 10\n").await;
    assert_eq!(output.code, 64);
    assert!(output.stderr.contains("`handles` is more than the host allows: `10`"), "{}", output.stderr);
    let (_, output) = invoke(&folder, &many_headers(1), "headers = 1001", "").await;
    assert!(output.stderr.contains("`headers` is more than the host allows: `1000`"), "{}", output.stderr);
    // As many as the limit are fine; it is another rule that this one is not granted.
    let (told, _) = invoke(&folder, &many_headers(3), "headers = 3", "").await;
    assert_eq!(told["failure"], "publication-refused", "{told}");
}

/// A function that takes memory and time to compile.
fn slow_to_compile(functions: usize) -> Vec<u8> {
    let body = "(drop (i32.const 0))".repeat(50);
    let functions = format!("(func {body})").repeat(functions);
    core_command("", &functions, "")
}

#[tokio::test]
async fn compiling_is_bounded_and_harms_nobody() {
    let folder = places::folder("limits");
    let probe = fs::read(guest("probe")).unwrap();
    let large = slow_to_compile(30_000);
    for (plugin, settings, expected) in [
        (&large, "time = \"100ms\"", "does not compile within the limit of 100ms; hint: raise `time` in `[compile]`"),
        (&large, "memory = \"256MiB\"", "takes more memory than the limit of 256.0 MiB; hint: raise `memory`"),
        (&probe, "file = \"10KiB\"", "the limit is 10.0 KiB; hint: raise `file` in `[compile]`"),
    ] {
        let (_, output) = invoke(&folder, plugin, "", &format!("[compile]\n{settings}\n")).await;
        assert_eq!(output.code, 1, "{settings}");
        assert!(output.stderr.contains("plugin.wasm` ") && output.stderr.contains(expected), "{}", output.stderr);
    }
}

/// Runs `wabbit check` in a project of this folder.
async fn check(folder: &Path) -> Output {
    let path = |name: &str| folder.join(name).display().to_string();
    let (plugins, manifests, settings) = (path("plugins"), path("manifests"), path("wabbit.toml"));
    let (cache, folder_path) = (path("cache"), folder);
    let arguments =
        ["check", "--plugins", &plugins, "--manifests", &manifests, "--config", &settings, "--cache", &cache];
    host::run(folder_path, &arguments).await
}

#[tokio::test]
async fn plugins_are_pinned_and_stay_in_their_folder() {
    let folder = places::folder("pins");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["plugins", "manifests", "plugins/..data"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::copy(guest("bench_ack"), folder.path().join("plugins/ack.wasm")).unwrap();
    fs::copy(guest("bench_ack"), folder.path().join("plugins/..data/mounted.wasm")).unwrap();
    symlink("..data/mounted.wasm", folder.path().join("plugins/mounted.wasm")).unwrap();
    symlink(guest("bench_ack").canonicalize().unwrap(), folder.path().join("plugins/outside.wasm")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("plugins/pipe.wasm"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let inspected = host::run(folder.path(), &["inspect", "--json", &guest("bench_ack").display().to_string()]).await;
    let digest = serde_json::from_str::<Value>(&inspected.stdout).unwrap()["digest"].as_str().unwrap().to_owned();
    let wrong = format!("sha256:{}", "0".repeat(64));
    let worker = |plugin: &str, more: &str| {
        let queue = format!("{plugin}-{}", more.len());
        format!("plugin = \"{plugin}.wasm\"\n{more}\n[[queue]]\nname = \"{queue}\"\n")
    };
    let pin = |digest: &str| format!("digest = \"{digest}\"");
    write("wabbit.toml", "");
    for (name, text) in [
        ("free", worker("ack", "")),
        ("mounted", worker("mounted", "")),
        ("outside", worker("outside", "")),
        ("pipe", worker("pipe", "")),
        ("pinned", worker("ack", &pin(&digest))),
        ("stale", worker("ack", &format!("{} # stale", pin(&wrong)))),
    ] {
        write(&format!("manifests/{name}.toml"), &text);
    }
    let output = check(folder.path()).await;
    assert_eq!(output.stdout.lines().filter(|line| line.contains(": ok")).count(), 3, "{}", output.stdout);
    for expected in [
        "plugins/outside.wasm` is a link that leads out of its folder".to_owned(),
        "plugins/pipe.wasm` is not a regular file".to_owned(),
        format!("is not what the manifest pins, `{wrong}`; hint: if the file is right, write `digest = \"{digest}\"`"),
    ] {
        assert!(output.stderr.contains(&expected), "{expected}\n{}", output.stderr);
    }
    write("wabbit.toml", "[plugins]\nrequire-digest = true\n");
    let output = check(folder.path()).await;
    assert_eq!(output.stdout.lines().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>(), ["pinned"]);
    assert!(output.stderr.contains(&format!("add `digest = \"{digest}\"`")), "{}", output.stderr);
}
