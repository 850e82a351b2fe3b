//! Every language of the SDK: a new handler by its template is compiled, and greets.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::process::{self, Output};
use crate::harness::{host, places};

/// Compilers take their time, above all when there are several of them.
const LONG: Duration = Duration::from_secs(1800);

/// Bytes of the template's handler in Rust: what is read from a disk at each start, and shown in its README.
const RUST_HELLO_BYTES_MAX: u64 = 60 * 1024;

/// The languages that the tests on a fresh machine promise.
pub fn promised() -> BTreeSet<String> {
    let list = fs::read_to_string(places::root().join("tests/languages")).unwrap();
    list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The languages whose tools are here. Where some must be, and are not, the test fails: under continuous integration
/// those that `make test` sets up, and all of them where it was told so.
async fn here() -> BTreeSet<String> {
    let sdk = places::root().join("sdk");
    let listed = host::run(&places::root(), &["new", "--list", "--json", "--sdk", sdk.to_str().unwrap()]).await;
    let listed: Vec<Value> = serde_json::from_str(&listed.success()).unwrap();
    let promised = promised();
    let all = env::var("WABBIT_TEST_LANGUAGES").is_ok_and(|which| which == "all");
    let mut here = BTreeSet::new();
    for row in &listed {
        let language = row["language"].as_str().unwrap();
        if row["available"] == true {
            assert!(row["version"].is_string(), "{language} does not say its compiler's version");
            here.insert(language.to_owned());
        } else {
            let must = all || env::var_os("CI").is_some() && promised.contains(language);
            assert!(!must, "`scripts/languages setup {language}` was to install what is missing: {}", row["lacking"]);
            eprintln!("{language} is not tested, since this is missing: {}", row["lacking"]);
        }
    }
    assert!(here.contains("rust"), "{listed:?}");
    here
}

/// Runs `wabbit build`, with what Rust handlers share compiled once for all tests.
async fn build(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = host::wabbit(folder);
    command.arg("build").args(arguments);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command.env("CARGO_TARGET_DIR", places::root().canonicalize().unwrap().join("plugins/src/.build/.rust-target"));
    process::run("wabbit build", command, LONG).await
}

async fn greets(folder: &Path, name: &str) {
    let (plugin, manifest) = (format!("plugins/{}.wasm", name.replace('-', "_")), format!("manifests/{name}.toml"));
    let invoke = async |body: &str| {
        let arguments = ["invoke", &plugin, "--manifest", &manifest, "--body", body, "--json"];
        let output = host::run(folder, &arguments).await;
        assert_eq!(output.code, 0, "{name}: {}{}", output.stdout, output.stderr);
        let outcome: Value = serde_json::from_str(&output.stdout).unwrap();
        (outcome, output.stderr)
    };
    let inspected: Value =
        serde_json::from_str(&host::run(folder, &["inspect", &plugin, "--json"]).await.success()).unwrap();
    let made_by: Vec<_> =
        inspected["producers"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let language = made_by[0].strip_prefix("language: ").unwrap_or_else(|| panic!("{name}: {made_by:?}"));
    let named = |text: &str| text.to_lowercase().replace("c++", "cpp").split(' ').next().unwrap().to_owned();
    assert!(name.ends_with(&named(language)) || name == "hello", "{name}: {made_by:?}");
    assert!(made_by.iter().any(|text| text.starts_with("processed-by: ")), "{name}: {made_by:?}");
    let (outcome, log) = invoke("hi").await;
    let [publication] = &**outcome["publications"].as_array().unwrap() else { panic!("{name}: {outcome}") };
    let fields = ["exchange", "routing_key", "text"].map(|field| publication[field].as_str().unwrap_or_default());
    assert_eq!((outcome["settlement"].as_str(), fields), (Some("ack"), ["", "greetings", "Hello, hi!"]), "{name}");
    assert!(log.contains("greeting hi"), "{name} logs `{log}`");
    let (outcome, _) = invoke("").await;
    assert_eq!(outcome["settlement"]["dead-letter"], "there is nobody to greet", "{name}: {outcome}");
    // By its own scenario, too.
    let played = host::run(folder, &["test", name]).await;
    assert_eq!((played.code, played.stderr.as_str()), (0, ""), "{name}: {}{}", played.stdout, played.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_language_greets() {
    let folder = places::folder("languages");
    let sdk = places::root().join("sdk").canonicalize().unwrap();
    let mut names = Vec::new();
    for language in here().await {
        let name = format!("hello-{language}");
        let arguments = ["new", &language, &name, "--sdk", sdk.to_str().unwrap()];
        host::run(folder.path(), &arguments).await.success();
        names.push(name);
    }
    build(folder.path(), &["--sdk", sdk.to_str().unwrap()]).await.success();
    for name in &names {
        greets(folder.path(), name).await;
    }
    // Side by side, too: each greets to the same queue.
    let checked = host::run(folder.path(), &["check"]).await.success();
    assert_eq!(checked.lines().count(), names.len(), "{checked}");
    let again = build(folder.path(), &["--sdk", sdk.to_str().unwrap()]).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.lines().all(|line| line.ends_with(": unchanged")), "{}", again.stderr);
}

/// An installed host is enough: it brings the SDKs along.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_alone_is_enough() {
    let folder = places::folder("alone");
    let made = host::run(folder.path(), &["new", "rust", "hello"]).await;
    assert_eq!((made.code, made.stderr.as_str()), (0, "wrote the SDKs into `sdk`\n"));
    build(folder.path(), &["hello"]).await.success();
    greets(folder.path(), "hello").await;
    let bytes = fs::metadata(folder.path().join("plugins/hello.wasm")).unwrap().len();
    assert!(bytes <= RUST_HELLO_BYTES_MAX, "{bytes} bytes");
}

/// A handler that does without what Rust's standard library has of WASI is one module that imports nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_without_wasi_imports_nothing_and_prints_nothing() {
    let folder = places::folder("bare");
    let sdk = places::root().join("sdk").canonicalize().unwrap();
    host::run(folder.path(), &["new", "rust", "hello", "--sdk", sdk.to_str().unwrap()]).await.success();
    let settings = folder.path().join("plugins/src/hello/Cargo.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + "\n[package.metadata.wabbit]\nwasi = false\n").unwrap();
    build(folder.path(), &["hello", "--sdk", sdk.to_str().unwrap()]).await.success();
    let inspected = host::run(folder.path(), &["inspect", "plugins/hello.wasm", "--json"]).await.success();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["imports"], serde_json::json!([]), "{inspected}");
    // The second does not fit into the memory that an instance begins with.
    for name in ["Ada".into(), "x".repeat(100_000)] {
        let arguments =
            ["invoke", "plugins/hello.wasm", "--manifest", "manifests/hello.toml", "--json", "--body", &name];
        let output = host::run(folder.path(), &arguments).await;
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        let outcome: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(outcome["publications"][0]["text"], format!("Hello, {name}!"));
    }
}
