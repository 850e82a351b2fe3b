//! What a manifest grants: settings, secrets, a key-value store, variables and arguments, each through a real host.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{self, Host, HostConfig};
use crate::harness::process::{self, Output};
use crate::harness::{DEADLINE, places};
use crate::outcomes::{guest, row};

const SECRET: &str = "hunter2-hunter2";

/// A project with this manifest, and a secret in a file.
fn project(grant: &str) -> TempDir {
    let folder = places::folder("grants");
    fs::create_dir(folder.path().join("manifests")).unwrap();
    fs::write(folder.path().join("key"), "first line of it\nsecond line of it\n").unwrap();
    fs::write(folder.path().join("manifests/w.toml"), manifest("w", grant)).unwrap();
    folder
}

fn manifest(plugin: &str, grant: &str) -> String {
    format!(
        "plugin = \"{plugin}.wasm\"\n[[queue]]\nname = \"{plugin}\"\n[[queue]]\nname = \"told\"\nconsume = false\n\
         [failure]\nattempts = 1\n[limits]\ntime = \"20s\"\n[grant]\npublish = [\"/told\"]\n{grant}\n"
    )
}

/// Runs a guest on a body, with the project's manifest.
pub async fn invoke(folder: &Path, plugin: &str, body: &Value, more: &[&str]) -> Output {
    let (plugin, body) = (guest(plugin).display().to_string(), body.to_string());
    let arguments = ["invoke", &plugin, "--manifest", "manifests/w.toml", "--body", &body];
    let mut command = host::wabbit(folder);
    command.args(arguments).args(more).env("MAIL_TOKEN", SECRET);
    process::run("wabbit", command, DEADLINE).await
}

/// The body of the one publication.
pub async fn told(folder: &Path, plugin: &str, body: &Value, more: &[&str]) -> Value {
    let output = invoke(folder, plugin, body, &[more, &["--json"]].concat()).await;
    let outcome: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = outcome["publications"][0]["text"].as_str().unwrap_or_else(|| panic!("{output:?}"));
    serde_json::from_str(text).unwrap()
}

const VALUES: &str = "config = { from = \"shop@example.com\", empty = \"\" }\n\
                      secrets = { token = \"env:MAIL_TOKEN\", key = \"file:key\" }";

#[tokio::test]
async fn settings_and_secrets_are_read_by_name() {
    let folder = project(VALUES);
    let read = async |name: &str| told(folder.path(), "reader", &json!({"name": name, "how": "publish"}), &[]).await;
    let all = json!({"from": "shop@example.com", "empty": ""});
    assert_eq!(read("from").await, json!({"get": "shop@example.com", "all": all}));
    assert_eq!(read("empty").await, json!({"get": "", "all": all}));
    assert_eq!(read("nothing").await, json!({"get": null, "all": all}));
    // What is printed for a person shows no secret; that the handler had it is seen below.
    assert_eq!(read("token").await, json!({"get": "***", "all": all}));
}

#[tokio::test]
async fn a_secret_is_shown_to_nobody() {
    let folder = project(VALUES);
    for how in ["print", "error", "panic", "dead-letter", "exchange", "publish"] {
        for (name, value) in [("token", SECRET), ("key", "first line"), ("key", "second line")] {
            for more in [&[][..], &["--json"]] {
                let output = invoke(folder.path(), "reader", &json!({"name": name, "how": how}), more).await;
                let shown = format!("{}{}", output.stdout, output.stderr);
                assert!(!shown.contains(value) && shown.contains("***"), "{how}: {output:?}");
            }
        }
    }

    // The same of a host: its log, its admin address, its dead letters. What is published is the handler's own affair.
    let vhost = Broker::shared().await.vhost("secrets").await;
    let peer = Peer::connect(&vhost.url).await;
    let config = HostConfig::new(&vhost.url)
        .plugin("reader.wasm", &guest("reader"))
        .environment("MAIL_TOKEN", SECRET)
        .manifest("reader", &manifest("reader", "secrets = { token = \"env:MAIL_TOKEN\" }"));
    let host = Host::ready(config).await;
    for how in ["print", "error", "panic", "dead-letter", "exchange"] {
        let body = json!({"name": "token", "how": how}).to_string();
        peer.publish("", "reader", body.as_bytes(), persistent()).await;
    }
    for letter in peer.drain("reader.dead", 4, DEADLINE).await {
        let error = letter.text_header("x-wabbit-error").unwrap();
        assert!(error.contains("***") && !error.contains("hunter2"), "{error}");
    }
    host.wait_for_log("*** was printed").await;
    let (log, workers) = (host.logs().join("\n"), host.get("/workers").await.to_string());
    assert!(!log.contains("hunter2") && !workers.contains("hunter2") && workers.contains("***"), "{log}\n{workers}");
    peer.publish("", "reader", json!({"name": "token", "how": "publish"}).to_string().as_bytes(), persistent()).await;
    assert_eq!(peer.take("told", DEADLINE).await.json(), json!({"get": SECRET, "all": {}}));
}

#[tokio::test]
async fn what_is_not_there_keeps_its_worker_from_running() {
    let vhost = Broker::ours().await.vhost("no-secret").await;
    let long = places::folder("secrets");
    fs::write(long.path().join("long"), vec![b'x'; 70_000]).unwrap();
    let long = long.path().join("long").display().to_string();
    let bad = [
        ("unset", "reader", "secrets = { token = \"env:NOT_SET\" }", "secret `token`: `env:NOT_SET` is not set"),
        ("short", "reader", "secrets = { token = \"env:SHORT\" }", "`env:SHORT` has fewer than 4 bytes"),
        ("no-file", "reader", "secrets = { token = \"file:nowhere\" }", "`file:nowhere` cannot be read: No such file"),
        ("long", "reader", &format!("secrets = {{ token = \"file:{long}\" }}"), "has more than 65536 bytes"),
        ("device", "reader", "secrets = { token = \"file:/dev/zero\" }", "is not a regular file"),
        ("no-config", "reader", "", "hint: add `config = { NAME = \"VALUE\" }` to `[grant]`"),
        ("no-keyvalue", "counter", "", "hint: add `keyvalue = \"NAME\"` to `[grant]`"),
        ("env", "reader", "config = {}\nenv = { A = \"b\" }", "`[grant] env` is for WASI commands"),
        ("args", "reader", "config = {}\nargs = [\"a\"]", "`[grant] args` is for WASI commands"),
        ("no-folder", "filer", "files = [{ host = \"nowhere\", guest = \"/r\" }]", "nowhere` cannot be opened"),
        ("own-folder", "filer", "files = [{ host = \".\", guest = \"/r\", write = true }]", "cannot be written to: `"),
    ];
    let mut config = HostConfig::new(&vhost.url).environment("SHORT", "abc");
    for plugin in ["reader", "counter", "filer"] {
        config = config.plugin(&format!("{plugin}.wasm"), &guest(plugin));
    }
    for (name, plugin, grant, _) in &bad {
        let text = manifest(plugin, grant).replacen(&format!("name = \"{plugin}\""), &format!("name = \"{name}\""), 1);
        config = config.manifest(name, &text);
    }
    let good = manifest("reader", "config = {}");
    let host = Host::ready(config.manifest("good", &good)).await;
    for (name, _, _, expected) in &bad {
        let row = row(&host, name).await;
        assert_eq!(row["state"], "refused", "{row}");
        assert!(row["reason"].as_str().unwrap().contains(expected), "{row}");
    }
    assert_eq!(row(&host, "good").await["state"], "consuming");
    // Another machine may have what is missing here, so that `check` does not look.
    let output = host::run(host.folder(), &["check"]).await;
    assert!(!output.stderr.contains("is not set") && !output.stderr.contains("nowhere"), "{output:?}");
    assert!(output.stderr.contains("`[grant] env` is for WASI commands"), "{output:?}");
}

#[tokio::test]
async fn a_manifest_never_shows_a_secret_that_stands_in_it() {
    let folder = project("secrets = { token = \"hunter2\", publsh = 3 }");
    for arguments in [&["check"][..], &["check", "--json"]] {
        let output = host::run(folder.path(), arguments).await;
        assert_eq!(output.code, 64);
        let shown = output.stdout + &output.stderr;
        assert!(shown.contains("a secret does not stand in a manifest") && !shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_command_has_its_variables_and_arguments() {
    let grant =
        "args = [\"--verbose\", \"two words\"]\nenv = { LANG = \"C\" }\nsecrets = { TOKEN = \"env:MAIL_TOKEN\" }";
    let folder = project(grant);
    for form in ["command", "core_command"] {
        let told = told(folder.path(), form, &json!({"surroundings": true}), &[]).await;
        let env = json!({"LANG": "C", "TOKEN": "***"});
        assert_eq!(told, json!({"args": ["w", "--verbose", "two words"], "env": env}), "{form}");
    }
    let nothing = project("");
    let told = told(nothing.path(), "core_command", &json!({"surroundings": true}), &[]).await;
    assert_eq!(told, json!({"args": [], "env": {}}));
}

/// A core module without its custom sections: what a compiler makes that knows nothing of components.
fn plain(module: &[u8]) -> Vec<u8> {
    let (header, mut rest) = module.split_at(8);
    let mut plain = header.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        let digits = after.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let length = after[..digits].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        let (section, next) = rest.split_at(1 + digits + length);
        if id != 0 {
            plain.extend_from_slice(section);
        }
        rest = next;
    }
    plain
}

#[tokio::test]
async fn core_modules_import_what_is_granted_by_its_name() {
    let folder = project(&format!("{VALUES}\nkeyvalue = \"s\""));
    let run = async |name: &str, body: Value| {
        let path = folder.path().join(name);
        fs::write(&path, plain(&fs::read(guest(name)).unwrap())).unwrap();
        let arguments = ["invoke", name, "--manifest", "manifests/w.toml", "--json", "--body", &body.to_string()];
        let mut command = host::wabbit(folder.path());
        command.args(arguments).env("MAIL_TOKEN", SECRET);
        let output = process::run("wabbit", command, DEADLINE).await;
        let outcome: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        serde_json::from_str::<Value>(outcome["publications"][0]["text"].as_str().unwrap()).unwrap()
    };
    let read = run("core_reader", json!({"name": "from", "how": "publish"})).await;
    assert_eq!(read["get"], "shop@example.com");
    let counted = run("core_counter", json!({"calls": [{"increment": ["n", 2]}, "keys"], "to": "told"})).await;
    assert_eq!(counted, json!([2, ["n"]]));
}
