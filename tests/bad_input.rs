//! What a person gets wrong, from manifests to passwords: told in words that help, and no harm to what is right. Also the
//! commands that need no host.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{self, Host, HostConfig};
use crate::harness::process::{self, Output};
use crate::harness::{DEADLINE, places, wait_until};
use crate::outcomes::{guest, row};

const CONTRACT: &str = "wabbit:worker/handler@0.1.0";

/// A core module with one function, exported by this name.
fn core_module(export: &str) -> Vec<u8> {
    let section = |id: u8, content: &[u8]| [&[id, u8::try_from(content.len()).unwrap()], content].concat();
    let export = [&[1, u8::try_from(export.len()).unwrap()], export.as_bytes(), &[0, 0]].concat();
    let parts = [section(1, &[1, 0x60, 0, 0]), section(3, &[1, 0]), section(7, &export), section(10, &[1, 2, 0, 0x0b])];
    [&b"\0asm\x01\0\0\0"[..], &parts.concat()].concat()
}

/// Plugins that are none, and what is said of each.
fn bad_plugins() -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let read = |name: &str| fs::read(guest(name)).unwrap();
    let mut truncated = read("probe");
    truncated.truncate(truncated.len() / 2);
    vec![
        ("empty", Vec::new(), vec!["is empty", CONTRACT]),
        ("truncated", truncated, vec!["truncated or damaged", CONTRACT]),
        ("not-wasm", b"#!/bin/sh\necho hello\n".to_vec(), vec!["is not wasm", CONTRACT]),
        ("elf", b"\x7fELF\x02\x01\x01".to_vec(), vec!["ELF", CONTRACT]),
        ("core", core_module("sum"), vec!["is a core module without a handler", CONTRACT]),
        (
            "core-handler",
            core_module("wabbit:worker/handler@0.1.0#handle"),
            vec!["is a core module whose `wabbit:worker/handler@0.1.0#handle` does not fit"],
        ),
        (
            "core-other-version",
            core_module("wabbit:worker/handler@0.2.0#handle"),
            vec!["wabbit:worker/handler@0.2.0#handle", "a version that this host does not know", CONTRACT],
        ),
        ("no-export", read("no_export"), vec!["is a component without a handler", CONTRACT]),
        ("unknown-import", read("unknown_import"), vec!["imports `acme:db/store@1.0.0`"]),
        (
            "wants-http",
            read("wants_http"),
            vec!["wasi:http/", "`[grant] http`", "hint: add `http = [\"https://api.example.com\"]`"],
        ),
        ("other-version", read("other_version"), vec!["wabbit:worker/handler@0.9.0", CONTRACT]),
    ]
}

/// Manifests that are wrong by themselves or beside each other, and what is said of each.
fn bad_manifests() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let worker = |queue: &str, more: &str| format!("plugin = \"probe.wasm\"\n[[queue]]\nname = \"{queue}\"\n{more}");
    vec![
        ("not-toml", "plugin = \n".into(), vec!["not-toml.toml:1"]),
        (
            "unknown-key",
            worker("a", "[consume]\nprefech = 3\n"),
            vec!["unknown key `prefech`", "did you mean `prefetch`?", "unknown-key.toml:5", "prefech = 3"],
        ),
        (
            "wrong-type",
            worker("b", "[consume]\nprefetch = \"many\"\n"),
            vec!["`prefetch` must be an integer, not a string", "wrong-type.toml:5"],
        ),
        (
            "several",
            "plugin = 1\n[limits]\ntime = \"5\"\n".into(),
            vec!["`plugin` must be a string", "not a duration", "needs a `[[queue]]`"],
        ),
        ("no-plugin", worker("d", "").replace("probe", "nowhere"), vec!["nowhere.wasm", "cannot be read"]),
        ("shared-1", worker("shared", ""), vec!["`shared`", "shared-2"]),
        ("shared-2", worker("shared", ""), vec!["`shared`", "shared-1"]),
    ]
}

/// The same files for a host and for the commands.
#[derive(Default)]
struct Files {
    plugins: Vec<(String, Vec<u8>)>,
    manifests: Vec<(String, String)>,
    expected: Vec<(String, Vec<&'static str>)>,
}

fn bad_files() -> Files {
    let mut files = Files::default();
    for (name, bytes, expected) in bad_plugins() {
        files.plugins.push((format!("{name}.wasm"), bytes));
        files.manifests.push((name.into(), format!("plugin = \"{name}.wasm\"\n[[queue]]\nname = \"{name}\"\n")));
        files.expected.push((name.into(), expected));
    }
    for (name, text, expected) in bad_manifests() {
        files.manifests.push((name.into(), text));
        files.expected.push((name.into(), expected));
    }
    files
}

/// A folder with `plugins` and `manifests`, as a project has them; the worker `good` among the bad ones.
fn project(files: &Files) -> TempDir {
    let folder = places::folder("project");
    for name in ["plugins", "manifests"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::copy(guest("probe"), folder.path().join("plugins/probe.wasm")).unwrap();
    fs::write(folder.path().join("manifests/good.toml"), GOOD).unwrap();
    for (name, bytes) in &files.plugins {
        fs::write(folder.path().join("plugins").join(name), bytes).unwrap();
    }
    for (name, text) in &files.manifests {
        fs::write(folder.path().join("manifests").join(format!("{name}.toml")), text).unwrap();
    }
    folder
}

const GOOD: &str = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"good\"\n";

#[track_caller]
fn expect_all(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[tokio::test]
async fn what_is_bad_is_named_and_the_good_ones_run() {
    let vhost = Broker::ours().await.vhost("bad-files").await;
    let files = bad_files();
    let mut config = HostConfig::new(&vhost.url).plugin("probe.wasm", &guest("probe")).manifest("good", GOOD);
    for (name, bytes) in &files.plugins {
        config = config.plugin_bytes(name, bytes);
    }
    for (name, text) in &files.manifests {
        config = config.manifest(name, text);
    }
    let host = Host::ready(config).await;
    let log = host.logs().join("\n");
    for (name, expected) in &files.expected {
        expect_all(&log, expected);
        let row = row(&host, name).await;
        assert_eq!(row["state"], "refused", "{name}");
        // The reason leaves out what has a place in the file.
        assert!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
    }
    assert_eq!(row(&host, "good").await["state"], "consuming");
    let peer = Peer::connect(&vhost.url).await;
    peer.publish("", "good", b"x", persistent()).await;
    peer.wait_for_count("good", 0, DEADLINE).await;
    for (name, _) in &files.expected {
        assert_eq!(peer.try_count(name).await, None, "a queue was declared for `{name}`");
    }
}

#[tokio::test]
async fn check_says_the_same_without_a_broker() {
    let files = bad_files();
    let folder = project(&files);
    let Output { code, stdout, stderr } = host::run(folder.path(), &["check"]).await;
    assert_eq!(code, 64, "{stderr}");
    assert!(stdout.starts_with("good: ok") && stdout.lines().count() == 1, "{stdout}");
    files.expected.iter().for_each(|(_, expected)| expect_all(&stderr, expected));

    let Output { code, stdout, .. } = host::run(folder.path(), &["check", "--json"]).await;
    assert_eq!(code, 64);
    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&told["workers"][0]["name"], told["workers"].as_array().unwrap().len()), (&json!("good"), 1));
    let problems = told["problems"].as_object().unwrap();
    assert_eq!(problems.len(), files.expected.len());
    let unknown = &problems["unknown-key"][0];
    assert_eq!((&unknown["line"], &unknown["hint"]), (&json!(5), &json!("did you mean `prefetch`?")));
    assert_eq!(problems["several"].as_array().unwrap().len(), 3);

    // A strict host does not start, and says why.
    let Output { code, stderr, .. } = host::run(folder.path(), &["run", "--strict", "--admin", "off"]).await;
    assert_eq!(code, 64, "{stderr}");
    expect_all(&stderr, &["--strict", "unknown key `prefech`", "is not wasm"]);

    let good = project(&Files::default());
    let Output { code, stdout, stderr } = host::run(good.path(), &["check"]).await;
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
}

#[tokio::test]
async fn wrong_settings_and_wrong_usage_have_codes_of_their_own() {
    let folder = project(&Files::default());
    let check = async |toml: &str, arguments: &[&str], code: i32, expected: &[&str]| {
        fs::write(folder.path().join("wabbit.toml"), toml).unwrap();
        let output = host::run(folder.path(), arguments).await;
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{arguments:?}");
        expect_all(&output.stderr, expected);
    };
    check("grace = 5\n", &["run"], 64, &["wabbit.toml:1", "`grace` must be a duration"]).await;
    check("[amqp]\nurll = \"x\"\n", &["check"], 64, &["wabbit.toml:2", "did you mean `url`?"]).await;
    check("[amqp]\nurl = \"amqp://u:s3same@\"\n", &["run"], 64, &["wabbit.toml:2", "host"]).await;
    check("", &["run", "--environment", "production"], 64, &["`production`"]).await;
    check("", &["run", "--config", "nowhere.toml"], 64, &["nowhere.toml"]).await;
    check("", &["run", "--admin", "everywhere"], 64, &["--admin", "`everywhere`", "127.0.0.1:9290"]).await;
    check("", &["run", "--amqp-url", "http://x"], 64, &["--amqp-url", "amqp://"]).await;
    check("", &["run", "--manifests", "nowhere", "--admin", "off"], 64, &["nowhere", "hint: "]).await;
    check("", &["check", "--manifests", "nowhere"], 64, &["nowhere", "hint: "]).await;
    check("", &["run", "--prefetch", "3"], 2, &["--prefetch"]).await;
    check("", &["rn"], 2, &["rn"]).await;
    check("", &["publish"], 2, &["--routing-key"]).await;
    check("", &["publish", "--routing-key", "k", "--header", "novalue"], 2, &["NAME=VALUE"]).await;
    check("", &["invoke"], 2, &["FILE"]).await;

    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check("", &["run", "--admin", &address], 1, &[&address, "--admin"]).await;
}

#[tokio::test]
async fn a_broker_that_refuses_is_explained_and_no_password_shown() {
    let vhost = Broker::ours().await.vhost("refusing").await;
    let password = "hay-und-stroh-4711";
    let stranger = vhost.url.replace("guest:guest", &format!("guest:{password}"));
    let nowhere = format!("{}-not-there", stranger.replace(password, "guest"));
    let cases = [
        (&stranger, ["ACCESS_REFUSED", "check the user and the password"]),
        (&nowhere, ["not-there", "check the vhost"]),
    ];
    for (url, expected) in cases {
        let config = HostConfig::new(url).plugin("probe.wasm", &guest("probe")).manifest("good", GOOD);
        let mut host = Host::start(config);
        host.wait_for_log(expected[1]).await;
        let (status, reasons) = host.get_status("/readyz").await;
        assert_eq!(status, 503);
        expect_all(&reasons, &expected);
        let pages = [reasons, host.metrics().await, host.get("/workers").await.to_string()].concat();
        let sent = host::run(host.folder(), &["publish", "--amqp-url", url, "--routing-key", "good"]).await;
        assert_eq!(sent.code, 1);
        expect_all(&sent.stderr, &expected);
        assert_eq!(host.terminate().await, 0, "it stops without ever having had a broker");
        let all = [pages, sent.stdout, sent.stderr, host.logs().join("\n")].concat();
        assert!(!all.contains(password) && !all.contains("4711"), "{all}");
        assert!(all.contains("guest:***@"), "{all}");
    }
}

#[tokio::test]
async fn tls_needs_the_right_authority() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("tls-host").await;
    let url = broker.tls_url(&vhost);
    let config = || HostConfig::new(&url).plugin("probe.wasm", &guest("probe")).manifest("good", GOOD);
    let host = Host::start(config());
    let line = host.wait_for_log("no broker").await;
    expect_all(&line, &["ertificate", "`ca` in `[amqp]`"]);
    assert_eq!(host.get_status("/readyz").await.0, 503);
    drop(host);

    let folder = places::folder("tls");
    let settings = folder.path().join("wabbit.toml");
    fs::write(&settings, format!("[amqp]\nca = \"{}\"\n", broker.authority().display())).unwrap();
    let settings = settings.display().to_string();
    let host = Host::ready(config().argument("--config").argument(&settings)).await;
    let peer = Peer::connect(&vhost.url).await;
    peer.publish("", "good", b"x", persistent()).await;
    peer.wait_for_count("good", 0, DEADLINE).await;
    drop(host);

    fs::write(folder.path().join("none.toml"), "[amqp]\nca = \"none.pem\"\n").unwrap();
    let missing = folder.path().join("none.toml").display().to_string();
    let host = Host::start(config().argument("--config").argument(&missing));
    host.wait_for_log("none.pem").await;
}

/// The broker's place is empty when the host starts: it keeps trying, says so, and needs no help once somebody is there.
#[tokio::test]
async fn a_broker_that_comes_later_is_found() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("later").await;
    let place = SocketAddr::from((Ipv4Addr::LOCALHOST, places::ports()));
    let url = vhost.url.replace(&format!("127.0.0.1:{}", broker.port()), &place.to_string());
    let config = HostConfig::new(&url).plugin("probe.wasm", &guest("probe")).manifest("good", GOOD);
    let mut host = Host::start(config);
    host.wait_for_log("no broker").await;
    // Its worker begins as soon as the plugin is compiled.
    let waits = "worker `good` waits for the broker";
    wait_until(DEADLINE, waits, async || match host.get_status("/readyz").await {
        (503, reasons) if reasons.contains(waits) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let (_, reasons) = host.get_status("/readyz").await;
    expect_all(&reasons, &["no broker", &place.to_string()]);
    assert_eq!(host.get_status("/healthz").await.0, 200, "it lives, though it has nothing to do");
    assert_eq!(row(&host, "good").await["state"], "waiting");

    let listener = net::TcpListener::bind(place).await.unwrap();
    let port = broker.port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    host.wait_until_ready().await;
    let peer = Peer::connect(&vhost.url).await;
    peer.publish("", "good", b"x", persistent()).await;
    peer.wait_for_count("good", 0, DEADLINE).await;
}

#[tokio::test]
async fn inspect_says_what_each_file_is() {
    let folder = places::folder("inspect");
    let inspect = async |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let path = path.display().to_string();
        let text = host::run(folder.path(), &["inspect", &path]).await;
        let json = host::run(folder.path(), &["inspect", "--json", &path]).await;
        assert_eq!(text.code, json.code);
        (text, serde_json::from_str::<Value>(&json.stdout).unwrap())
    };
    let kinds = [
        ("empty", "not-wasm"),
        ("truncated", "not-wasm"),
        ("not-wasm", "not-wasm"),
        ("elf", "not-wasm"),
        ("core", "core-module"),
        ("core-handler", "core-handler"),
        ("core-other-version", "other-version"),
        ("no-export", "component"),
        ("unknown-import", "handler"),
        ("wants-http", "handler"),
        ("other-version", "other-version"),
    ];
    for ((name, bytes, expected), (_, kind)) in bad_plugins().into_iter().zip(kinds) {
        let (Output { code, stdout, stderr }, json) = inspect(name, &bytes).await;
        let runs = ["handler", "core-handler"].contains(&kind);
        assert_eq!(code, i32::from(!runs), "{name}: {stderr}");
        // Whether a core module fits is found out when it is loaded.
        if name != "core-handler" {
            expect_all(&format!("{stdout}{stderr}"), &expected);
        }
        assert_eq!(json["kind"], kind, "{name}");
        assert_eq!(json["size"], bytes.len(), "{name}");
    }
    let (Output { code, stdout, .. }, json) = inspect("probe", &fs::read(guest("probe")).unwrap()).await;
    assert_eq!((code, &json["kind"], &json["needs"], &json["unknown"]), (0, &json!("handler"), &json!([]), &json!([])));
    expect_all(&stdout, &[json["digest"].as_str().unwrap(), CONTRACT, "wasi:cli/exit@", "bytes"]);
    let Output { code, stderr, .. } = host::run(folder.path(), &["inspect", "nowhere.wasm"]).await;
    assert_eq!(code, 1);
    expect_all(&stderr, &["nowhere.wasm"]);
}

#[tokio::test]
async fn invoke_runs_one_message_without_a_broker() {
    let folder = project(&Files::default());
    let grants = format!("{GOOD}[grant]\npublish = [\"mail\", \"reply\"]\n[limits]\ntime = \"200ms\"\n");
    fs::write(folder.path().join("manifests/good.toml"), grants).unwrap();
    fs::write(folder.path().join("body.json"), r#"{"do":"describe","to":"mail/k"}"#).unwrap();
    fs::write(folder.path().join("bad.toml"), "plugin = 1\n").unwrap();
    let invoke =
        async |more: &[&str]| host::run(folder.path(), &[&["invoke", "plugins/probe.wasm"], more].concat()).await;
    let granted = ["--manifest", "manifests/good.toml"];
    let json = |output: &Output| serde_json::from_str::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));

    let output = invoke(
        &[
            &granted[..],
            &[
                "--body-file",
                "body.json",
                "--json",
                "--exchange",
                "order",
                "--routing-key",
                "order.new",
                "--header",
                "n=7",
                "--header",
                "big=5000000000",
                "--header",
                "t=a=b",
                "--header",
                "yes=true",
                "--content-type",
                "a/b",
                "--reply-to",
                "answers",
            ],
        ]
        .concat(),
    )
    .await;
    let told = json(&output);
    assert_eq!((output.code, &told["settlement"]), (0, &json!("ack")));
    assert!(told["took_us"].as_f64().is_some_and(|took| took > 0.0));
    let publication = &told["publications"][0];
    assert_eq!((&publication["exchange"], &publication["routing_key"]), (&json!("mail"), &json!("k")));
    let seen: Value = serde_json::from_str(publication["text"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&seen["exchange"], &seen["routing-key"], &seen["queue"]),
        (&json!("order"), &json!("order.new"), &json!("good"))
    );
    let headers = json!([["n", {"integer": 7}], ["big", {"integer": 5_000_000_000_u64}], ["t", {"text": "a=b"}], ["yes", {"boolean": true}]]);
    assert_eq!(seen["properties"]["headers"], headers);
    assert_eq!(
        (&seen["properties"]["content-type"], &seen["properties"]["reply-to"]),
        (&json!("a/b"), &json!("answers"))
    );

    let output = invoke(&["--body", r#"{"do":"retry","ms":1500}"#]).await;
    assert_eq!(output.code, 0);
    expect_all(&output.stdout, &["retry: 1s 500ms", "took "]);
    let output = invoke(&["--body", r#"{"do":"log","text":"hello there"}"#]).await;
    expect_all(&output.stderr, &["hello there"]);
    assert!(!output.stdout.contains("hello there"), "{}", output.stdout);

    // Without a manifest nothing is granted.
    let failures: [(&[&str], &str, &str, &str); 4] = [
        (&[], r#"{"do":"describe","to":"mail/k"}"#, "publication-refused", "is not granted"),
        (&granted, r#"{"do":"loop"}"#, "time-limit", "200ms"),
        (&granted, r#"{"do":"panic","text":"no hay"}"#, "trap", "no hay"),
        (&[], r#"{"do":"error","text":"closed"}"#, "handler-error", "closed"),
    ];
    for (arguments, body, kind, error) in failures {
        let output = invoke(&[arguments, &["--json", "--body", body]].concat()).await;
        let told = json(&output);
        assert_eq!((output.code, &told["failure"]), (1, &json!(kind)), "{body}");
        expect_all(told["error"].as_str().unwrap(), &[error]);
        let output = invoke(&[arguments, &["--body", body]].concat()).await;
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{body}");
        expect_all(&output.stderr, &[kind, error]);
    }
    let output = invoke(&["--manifest", "bad.toml"]).await;
    assert_eq!(output.code, 64);
    expect_all(&output.stderr, &["bad.toml:1", "`plugin` must be a string"]);
    let output = host::run(folder.path(), &["invoke", "plugins/nowhere.wasm"]).await;
    assert_eq!(output.code, 1);
    expect_all(&output.stderr, &["plugins/nowhere.wasm"]);
}

#[tokio::test]
async fn publish_confirms_or_says_what_became_of_it() {
    let vhost = Broker::shared().await.vhost("publish").await;
    let peer = Peer::connect(&vhost.url).await;
    let (queue, exchange) = (vhost.unique("work"), vhost.unique("order"));
    peer.durable_queue(&queue).await;
    peer.exchange(&exchange, lapin::ExchangeKind::Direct, false).await;
    peer.bind(&queue, &exchange, "new").await;
    let folder = places::folder("publish");
    fs::write(folder.path().join("body"), b"\xff\x00").unwrap();
    let publish = async |arguments: &[&str]| {
        host::run(folder.path(), &[&["publish", "--amqp-url", &vhost.url], arguments].concat()).await
    };
    let to_exchange = ["--exchange", &exchange, "--routing-key", "new"];

    let more =
        ["--body", "hello", "--persistent", "--content-type", "text/plain", "--header", "n=7", "--count", "2500"];
    let said = publish(&[&to_exchange[..], &more].concat()).await.success();
    assert!(said.starts_with("2500 confirmed in ") && said.ends_with(" a second (pipelined)\n"), "{said}");
    for message in peer.drain(&queue, 2500, DEADLINE).await {
        assert_eq!((message.text(), message.properties.delivery_mode()), ("hello", &Some(2)));
        assert_eq!(message.properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(message.header("n"), Some(&lapin::types::AMQPValue::LongInt(7)));
    }
    publish(&["--routing-key", &queue, "--body-file", "body"]).await.success();
    let message = peer.take(&queue, DEADLINE).await;
    assert_eq!((message.body.as_slice(), message.properties.delivery_mode()), (&b"\xff\x00"[..], &Some(1)));

    // Each line of standard input is a message.
    let mut lines = process::bound("sh");
    lines.args(["-c", r#"printf 'one\ntwo\n\nfour' | "$0" publish --lines --amqp-url "$1" --routing-key "$2""#]);
    lines.arg(places::build().join("wabbit")).args([&vhost.url, &queue]);
    assert_eq!(process::run("wabbit publish --lines", lines, DEADLINE).await.success(), "4 confirmed\n");
    let bodies: Vec<_> = peer.drain(&queue, 4, DEADLINE).await.iter().map(|m| m.text().to_owned()).collect();
    assert_eq!(bodies, ["one", "two", "", "four"]);

    let failures: [(&[&str], &[&str]); 6] = [
        (
            &["--lines", "--routing-key", &queue, "--confirms", "each,batch"],
            &["`--lines` can be read once", "--confirms"],
        ),
        (
            &["--exchange", &exchange, "--routing-key", "old", "--count", "3"],
            &["0 confirmed", "3 returned", "hint: bind a queue"],
        ),
        (&["--routing-key", "nobody-there"], &["1 returned"]),
        (&["--exchange", "never-declared", "--routing-key", "k"], &["never-declared", "NOT_FOUND"]),
        (&["--routing-key", &"k".repeat(300)], &["300 bytes", "255"]),
        (&["--routing-key", &queue, "--body-file", "nowhere"], &["nowhere"]),
    ];
    for (arguments, expected) in failures {
        let Output { code, stdout, stderr } = publish(arguments).await;
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}: {stderr}");
        expect_all(&stderr, expected);
    }
    assert_eq!(peer.count(&queue).await, 0);
    let closed = format!("amqp://127.0.0.1:{}", places::ports());
    let Output { code, stderr, .. } =
        host::run(folder.path(), &["publish", "--amqp-url", &closed, "--routing-key", "k"]).await;
    assert_eq!(code, 1);
    expect_all(&stderr, &["cannot connect to", "127.0.0.1"]);
}
