//! Files that lie in the plugins folder and are no plugin for this worker, or for anybody.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fastrand::Rng;
use serde_json::Value;

use super::corpus::Verdict::{Harmless, Refused};
use super::corpus::{Attack, Case, Entry, case};
use super::plugins;
use crate::harness::{host, places};
use crate::outcomes::guest;

/// Interfaces of WASI and others that a plugin can ask for and that a manifest without grants does not give.
const INTERFACES: &[&str] = &[
    "wasi:http/outgoing-handler@0.2.0",
    "wasi:http/incoming-handler@0.2.0",
    "wasi:http/types@0.2.0",
    "wasi:http/client@0.3.0",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/runtime@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/watch@0.2.0-draft",
    "wasi:blobstore/blobstore@0.2.0-draft",
    "wasi:messaging/producer@0.2.0-draft",
    "wasi:sql/readwrite@0.2.0-draft",
    "wasi:nn/graph@0.2.0-rc-2024-10-28",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:crypto/symmetric@0.2.0-draft",
    "wasi:tls/types@0.2.0-draft",
    "wasi:webgpu/webgpu@0.0.1",
    "wasi:i2c/i2c@0.2.0-draft",
    "wasi:gpio/digital@0.2.0-draft",
    "wasi:usb/device@0.2.0-draft",
    "wasi:threads/spawn@0.1.0",
    "wasi:observe/tracer@0.2.0-draft",
    "wasi:secrets/reveal@0.1.0-draft",
    "wabbit:worker/admin@0.1.0",
    "wabbit:worker/context@0.2.0",
    "host:process/spawn@1.0.0",
];

/// The same of core modules.
const FUNCTIONS: &[(&str, &str)] = &[
    ("env", "system"),
    ("wasi", "thread-spawn"),
    ("wasi_unstable", "fd_write"),
    ("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.start-connect"),
    ("wasi:filesystem/types@0.2.0", "[method]descriptor.open-at"),
];

/// Functions that a manifest can grant, with what they take, and the key that is to be added.
const GRANTABLE: &[(&str, &str, &str, &str)] = &[
    ("wasi:http/outgoing-handler@0.2.0", "handle", "i32 i32 i32 i32", "hint: add `http = "),
    ("wasi:keyvalue/store@0.2.0-draft", "open", "i32 i32 i32", "hint: add `keyvalue = "),
    ("wasi:config/store@0.2.0-rc.1", "get", "i32 i32 i32", "hint: add `config = "),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, what, entry, says| cases.push(case(name, what, Attack::File(entry), Refused(says)));
    for (n, interface) in INTERFACES.iter().enumerate() {
        let what = if n == 0 { "asks for an interface that is not granted, or not there" } else { "" };
        let says = refusal(interface);
        add("not-granted-import", what, text(&component(&format!("(import \"{interface}\" (instance))"))), says);
    }
    for (module, function) in FUNCTIONS {
        let import = format!("(import \"{module}\" \"{function}\" (func))");
        add("not-granted-import", "", text(&core(&import)), "imports `");
    }
    for (module, function, parameters, hint) in GRANTABLE {
        let import = format!("(import \"{module}\" \"{function}\" (func (param {parameters})))");
        add("not-granted-import", "", text(&core(&import)), hint);
    }
    for (name, says) in [(r"\1b[2J", r"\u{1b}[2J"), (&"x".repeat(90_000), "xx…")] {
        let import = format!(r#"(module (import "wasi_snapshot_preview1" "{name}" (func)) (func (export "_start")))"#);
        add("not-granted-import", "", text(&import), says);
    }
    for (what, bytes) in not_wasm() {
        add("not-wasm", what, Entry::Bytes(bytes), "expected a component");
    }
    let probe = fs::read(guest("probe")).unwrap();
    for (n, share) in [1, 10, 500, 900, 999].into_iter().enumerate() {
        let what = if n == 0 { "is half-written, or damaged" } else { "" };
        let bytes = probe[..probe.len() * share / 1000].to_vec();
        add("half-written", what, Entry::Bytes(bytes), "truncated or damaged");
    }
    let holed = [&probe[..probe.len() / 3], &vec![0; 4096], &probe[probe.len() / 3 + 4096..]].concat();
    add("half-written", "", Entry::Bytes(holed), "");
    let doubled = [&probe[..], &probe[..]].concat();
    add("half-written", "", Entry::Bytes(doubled), "");
    let long = [&probe[..], &[0; 100_000]].concat();
    add("half-written", "", Entry::Bytes(long), "truncated or damaged");

    add("huge-file", "has more bytes than a plugin may", Entry::Hole(129 << 20), "the limit is");
    add("folder-as-plugin", "is a folder, a device, a pipe", Entry::Folder, "");
    add("device-as-plugin", "is a device", Entry::Link("/dev/zero".into()), "");
    add("link-to-nothing", "is a link to nothing, or to itself", Entry::Link("nowhere.wasm".into()), "cannot be read");
    add("link-out-of-the-folder", "is a link out of the folder", Entry::Link("/etc/passwd".into()), "link");
    add("pipe-as-plugin", "is a pipe", Entry::Pipe, "is not a regular file");

    add("deep-nesting", "is nested thousands deep", text(&component(&nested(90))), "");
    add("deep-nesting", "", Entry::Bytes(deep(5_000)), "");
    add("deep-types", "has types nested thousands deep, or exponentially large", text(&deep_type(2_000)), "");
    add("deep-types", "", text(&large_type(40)), "");
    add("many-instances", "has thousands of instances", text(&many_instances(5_000)), "instances");
    add("many-instances", "", text(&many_instances(900)), "instances");
    add("instances-of-instances", "has 10⁹ instances of each other", text(&instances(9)), "the limit of");
    add(
        "too-large-for-the-pool",
        "declares more memory, tables, functions or locals than there are",
        text(&core("(table 100000000 funcref)")),
        "",
    );
    add("too-large-for-the-pool", "", text(&core_with("65000", "")), "");
    add("too-large-for-the-pool", "", text(&core_with("i64 100000000000", "")), "");
    add("too-large-for-the-pool", "", text(&core(&"(memory 1)".repeat(100))), "");
    add("too-large-for-the-pool", "", text(&core(&"(table 1 funcref)".repeat(100))), "");
    add("too-large-for-the-pool", "", text(&core(&format!("(func (local {}))", "i64 ".repeat(60_000)))), "");
    add("too-large-for-the-pool", "", text(&core(&format!("(func (param {}))", "i64 ".repeat(2_000)))), "");
    add("threads", "asks for threads or shared memory", text(&core_with("1 1 shared", "")), "");
    add("threads", "", text(&core("(import \"env\" \"memory\" (memory 1 1 shared))")), "imports `");
    // Which of the compiler's bounds it meets first, its time or its memory, depends on how busy the machine is.
    add("slow-to-compile", "takes long to compile", Entry::Bytes(slow_to_compile()), "in `[compile]` of `wabbit.toml`");
    cases
}

/// How a component with this import and no handler is refused. What a manifest can grant is known, so it comes to light
/// first that there is no handler; [`GRANTABLE`] has handlers.
fn refusal(import: &str) -> &'static str {
    let grantable = ["wasi:config/store@", "wasi:http/", "wasi:keyvalue/store@", "wasi:keyvalue/atomics@"];
    if grantable.iter().any(|name| import.starts_with(name)) { "does not fit the contract" } else { "imports `" }
}

fn not_wasm() -> Vec<(&'static str, Vec<u8>)> {
    let noise = |seed: u64, length: usize| {
        let mut rng = Rng::with_seed(seed);
        (0..length).map(|_| rng.u8(..)).collect::<Vec<_>>()
    };
    vec![
        ("is compressed, a program, text, noise", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c\x02\0".to_vec()),
        ("", b"\x28\xb5\x2f\xfd\x04\x58".to_vec()),
        ("", b"PK\x03\x04".to_vec()),
        ("", b"\x7fELF\x02\x01\x01".to_vec()),
        ("", b"#!/bin/sh\ntouch /tmp/hostile\n".to_vec()),
        ("", b"(module)".to_vec()),
        ("", Vec::new()),
        ("", b"\0".to_vec()),
        ("", b"\0asm".to_vec()),
        ("", b"\0asm\xff\xff\xff\xff".to_vec()),
        ("", noise(1, 100_000)),
        ("", [&b"\0asm\x01\0\0\0"[..], &noise(2, 100_000)].concat()),
        ("", [&b"\0asm\x0d\0\x01\0"[..], &noise(3, 100_000)].concat()),
        // A section that says it is 4 GiB long.
        ("", b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f".to_vec()),
    ]
}

/// A component that exports an instance by the handler's name.
fn component(inner: &str) -> String {
    format!(
        "(component {inner} (component $c) (instance $i (instantiate $c)) (export \"wabbit:worker/handler@0.1.0\" (instance $i)))"
    )
}

/// A core module with a handler that acks.
fn core(inner: &str) -> String {
    core_with("4", inner)
}

/// The same with that memory.
fn core_with(memory: &str, inner: &str) -> String {
    format!(
        r#"(module {inner} (memory (export "memory") {memory}) (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 65536)
           (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) i32.const 1024))"#
    )
}

fn text(text: &str) -> Entry {
    Entry::Bytes(wat::parse_str(text).unwrap_or_else(|error| panic!("{error}")))
}

fn nested(depth: usize) -> String {
    ["(component ".repeat(depth), ")".repeat(depth)].concat()
}

/// Components in each other, deeper than text can be read.
fn deep(depth: usize) -> Vec<u8> {
    const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";
    let mut inner = HEAD.to_vec();
    for _ in 0..depth {
        let mut outer = HEAD.to_vec();
        outer.push(4);
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        outer.push(u8::try_from(length).unwrap());
        outer.extend_from_slice(&inner);
        inner = outer;
    }
    // Of all that would be a handler, it is the component that is instantiated.
    inner.extend_from_slice(&wat::parse_str(component("")).unwrap()[HEAD.len()..]);
    inner
}

/// A list of a list of …
fn deep_type(depth: usize) -> String {
    let mut text = "(type $t0 (list u8))".to_owned();
    for n in 1..depth {
        let _ = write!(text, "(type $t{n} (list $t{}))", n - 1);
    }
    component(&text)
}

/// A tuple of four of a tuple of four of …
fn large_type(depth: usize) -> String {
    let mut text = "(type $t0 (tuple u64 u64))".to_owned();
    for n in 1..depth {
        let inner = format!("$t{} ", n - 1).repeat(4);
        let _ = write!(text, "(type $t{n} (tuple {inner}))");
    }
    component(&text)
}

fn many_instances(count: usize) -> String {
    let instances = "(core instance (instantiate $m))".repeat(count);
    component(&format!("(core module $m (memory 1)) {instances}"))
}

/// A component of ten of a component of ten of …, with a module in the innermost.
fn instances(levels: usize) -> String {
    let mut inner = "(component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))".to_owned();
    for level in 1..=levels {
        let tens = format!("(instance (instantiate $c{}))", level - 1).repeat(10);
        inner = format!("(component $c{level} {inner} {tens})");
    }
    component(&format!("{inner} (instance (instantiate $c{levels}))"))
}

/// Functions of thousands of branches and values that live across all of them.
pub fn slow_to_compile() -> Vec<u8> {
    let mut body = String::new();
    for n in 0..20_000 {
        let local = n % 500;
        let _ = write!(
            body,
            "(if (local.get {local}) (then (local.set {} (i32.add (local.get {}) (local.get {})))))",
            (local * 7 + 1) % 500,
            (local * 13 + 5) % 500,
            (local * 31 + 3) % 500,
        );
    }
    let locals = "i32 ".repeat(500);
    wat::parse_str(core(&format!("(func (local {locals}) {body})").repeat(4))).unwrap()
}

/// A handler that does not fit the contract, which is noticed where it is compiled. Each number makes another one.
pub fn unfit(number: usize) -> Entry {
    text(&format!(
        "(module (memory (export \"memory\") 1) (func (export \"wabbit:worker/handler@0.1.0#handle\") (result i64) i64.const {number}))"
    ))
}

/// How many damaged files lie in one folder.
const IN_A_FOLDER: usize = 50;

/// So many files with holes, cuts and flipped bits, as plugins: `wabbit check` must say of each that it is good, or what
/// is wrong with it. Violations.
pub async fn damaged(count: usize, rng: &mut Rng) -> Vec<String> {
    let mut sound: Vec<Vec<u8>> =
        ["no_export", "unknown_import", "bench_ack"].map(|name| fs::read(guest(name)).unwrap()).into();
    sound.extend(plugins::cases().into_iter().filter(|case| case.verdict == Harmless).filter_map(|case| {
        match case.attack {
            Attack::Plugin(bytes) => Some(bytes),
            _ => None,
        }
    }));
    let mut violations = Vec::new();
    for first in (0..count).step_by(IN_A_FOLDER) {
        let numbers = first..count.min(first + IN_A_FOLDER);
        let folder = places::folder("damaged");
        for name in ["plugins", "manifests"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for number in numbers.clone() {
            let mut bytes = sound[rng.usize(..sound.len())].clone();
            damage(&mut bytes, rng);
            fs::write(folder.path().join(format!("plugins/d{number}.wasm")), bytes).unwrap();
            let manifest = format!("plugin = \"d{number}.wasm\"\n[[queue]]\nname = \"d{number}\"\n");
            fs::write(folder.path().join(format!("manifests/d{number}.toml")), manifest).unwrap();
        }
        let output = host::run(folder.path(), &["check", "--json"]).await;
        let told: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let good = told["workers"].as_array().map_or(0, Vec::len);
        let bad = told["problems"].as_object().map_or(0, serde_json::Map::len);
        if ![0, 64].contains(&output.code) || good + bad != numbers.len() {
            let folder = folder.keep();
            violations.push(format!(
                "damaged-files: {} ended with {}: {good} good, {bad} bad\n{}",
                folder.display(),
                output.code,
                output.stderr
            ));
        }
    }
    violations
}

fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..8) {
        // The head is left, so that more is read than that; and one cut more must leave something.
        let at = rng.usize(8..bytes.len().max(16) - 1).min(bytes.len() - 1);
        match rng.u8(..6) {
            0 => bytes.truncate(at.max(9)),
            1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes[at] = rng.u8(..),
            3 => bytes[at] = 0xff,
            4 => {
                let end = bytes.len().min(at + rng.usize(..64));
                bytes.drain(at..end);
            }
            _ => {
                let end = bytes.len().min(at + rng.usize(..64));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Looks at a file so many times while somebody else swaps it for another: the digest that is told must be of what was
/// looked at. Violations.
pub async fn swapped(count: usize) -> Vec<String> {
    let folder = places::folder("swapped");
    let path = folder.path().join("swapped.wasm");
    let kinds = ["bench_ack", "no_export"].map(|name| fs::read(guest(name)).unwrap());
    fs::write(&path, &kinds[0]).unwrap();
    let mut expected = Vec::new();
    for bytes in &kinds {
        fs::write(&path, bytes).unwrap();
        expected.push(inspect(&path).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, path, aside) = (Arc::clone(&stop), path.clone(), folder.path().join("aside"));
        thread::spawn(move || {
            for bytes in kinds.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(&aside, bytes).unwrap();
                fs::rename(&aside, &path).unwrap();
            }
        })
    };
    let mut violations = Vec::new();
    for _ in 0..count {
        let told = inspect(&path).await;
        if !expected.contains(&told) {
            violations.push(format!("swap-after-check: {told:?} is none of {expected:?}"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    violations
}

/// The digest, the kind and the size of a file, as `wabbit inspect` tells them.
async fn inspect(path: &Path) -> [String; 3] {
    let output = host::run(path.parent().unwrap(), &["inspect", "--json", &path.display().to_string()]).await;
    let told: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    ["digest", "kind", "size"].map(|key| told[key].to_string())
}
