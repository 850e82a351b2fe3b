//! `wabbit record`, `wabbit replay` and `wabbit compare`: deliveries copied from a broker, and handled without one.

use std::fs;
use std::path::Path;

use lapin::ExchangeKind;
use lapin::types::AMQPValue;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::amqp::{Peer, persistent, table};
use crate::harness::broker::{Broker, Vhost};
use crate::harness::process::{Lines, Output, Process};
use crate::harness::{DEADLINE, host, places, wait_until};
use crate::outcomes::guest;

/// A vhost with the exchange and the queue of a manifest, which is in the folder `manifests`.
struct Shop {
    vhost: Vhost,
    peer: Peer,
    folder: tempfile::TempDir,
    queue: String,
    exchange: String,
}

impl Shop {
    async fn open(test: &str) -> Shop {
        let vhost = Broker::shared().await.vhost(test).await;
        let peer = Peer::connect(&vhost.url).await;
        let (queue, exchange) = (vhost.unique("orders"), vhost.unique("shop"));
        peer.exchange(&exchange, ExchangeKind::Topic, true).await;
        peer.durable_queue(&queue).await;
        peer.bind(&queue, &exchange, "order.*").await;
        let folder = places::folder("recording");
        fs::create_dir(folder.path().join("manifests")).unwrap();
        let shop = Shop { vhost, peer, folder, queue, exchange };
        shop.manifest("shop", &format!("bind = [{{ exchange = \"{}\", routing-key = \"order.*\" }}]", shop.exchange));
        shop
    }

    /// A manifest whose queue has these lines.
    fn manifest(&self, name: &str, lines: &str) {
        let queue = if name == "shop" { self.queue.clone() } else { self.vhost.unique(name) };
        let exchange = format!("[[exchange]]\nname = \"{}\"\ntype = \"topic\"\n", self.exchange);
        let text = format!("plugin = \"probe.wasm\"\n{exchange}[[queue]]\nname = \"{queue}\"\n{lines}\n");
        fs::write(self.folder.path().join(format!("manifests/{name}.toml")), text).unwrap();
    }

    fn words<'w>(&'w self, arguments: &[&'w str]) -> Vec<&'w str> {
        [&["record"], arguments, &["--amqp-url", &self.vhost.url]].concat()
    }

    async fn record(&self, arguments: &[&str]) -> Output {
        host::run(self.folder.path(), &self.words(arguments)).await
    }

    /// A recording that has begun.
    async fn begin(&self, arguments: &[&str]) -> (Process, Lines) {
        let mut command = host::wabbit(self.folder.path());
        command.args(self.words(arguments));
        let lines = Lines::default();
        let process = Process::start("wabbit record", command, &lines);
        wait_until(DEADLINE, "the recording to begin", async || {
            lines.find("recording what comes to").ok_or_else(|| lines.to_string())
        })
        .await;
        (process, lines)
    }

    fn recorded(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_recorded_and_the_queue_does_not_notice() {
    let shop = Shop::open("record").await;
    shop.peer.publish(&shop.exchange, "order.old", b"before", persistent()).await;
    let (mut process, _) = shop.begin(&[&shop.queue, "--limit", "3", "--out", "f.jsonl"]).await;
    let headers = table(&[("shop", AMQPValue::LongString("north".into()))]);
    let properties = persistent().with_headers(headers).with_message_id("7".into());
    shop.peer.publish(&shop.exchange, "order.new", b"first", properties).await;
    shop.peer.listen(&shop.exchange, "other").await;
    shop.peer.publish(&shop.exchange, "other", b"not for the queue", persistent()).await;
    shop.peer.publish("", &shop.queue, b"past the exchange", persistent()).await;
    for body in [&b"\xff"[..], b"third", b"fourth"] {
        shop.peer.publish(&shop.exchange, "order.new", body, persistent()).await;
    }
    assert_eq!(process.ended(DEADLINE).await.code(), Some(0));
    let recorded = shop.recorded("f.jsonl");
    assert_eq!(recorded.len(), 3, "{recorded:?}");
    let expected = json!({
        "text": "first", "exchange": shop.exchange, "routing_key": "order.new", "queue": shop.queue,
        "redelivered": false, "attempt": 1,
        "properties": { "persistent": true, "message_id": "7", "headers": { "shop": "north" } },
    });
    assert_eq!(recorded[0]["delivery"], expected);
    assert!(recorded[0]["recorded_at"].as_str().unwrap().ends_with('Z'), "{recorded:?}");
    assert_eq!(
        (&recorded[1]["delivery"]["base64"], &recorded[2]["delivery"]["text"]),
        (&json!("/w=="), &json!("third"))
    );
    // All is in the queue as it was, and nothing is left at the broker or beside the file.
    let left: Vec<_> = shop.peer.drain(&shop.queue, 6, DEADLINE).await;
    assert!(left.iter().all(|message| !message.redelivered), "{left:?}");
    assert_eq!(left.iter().map(|message| message.body.len()).collect::<Vec<_>>(), [6, 5, 17, 1, 5, 6]);
    assert_eq!(shop.files(), ["f.jsonl", "manifests"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_ends_in_time_or_when_it_is_told_with_what_it_has() {
    let shop = Shop::open("record-end").await;
    let output = shop.record(&[&shop.queue, "--time", "300ms", "--out", "none.jsonl"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (0, "0 recorded\n"), "{output:?}");
    assert_eq!(shop.recorded("none.jsonl"), Vec::<Value>::new());

    let (mut process, lines) = shop.begin(&[&shop.queue, "--out", "some.jsonl"]).await;
    assert_eq!(
        shop.files(),
        [".recording", "manifests", "none.jsonl"]
            .map(|name| { shop.files().into_iter().find(|file| file.starts_with(name)).unwrap_or_default() })
    );
    // Once the copy is acked it is in the file: the queue of copies is empty then, and nobody else sees it.
    shop.peer.publish(&shop.exchange, "order.new", b"one", persistent()).await;
    shop.peer.wait_for_count(&shop.queue, 1, DEADLINE).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    process.signal(Signal::SIGINT);
    assert_eq!(process.ended(DEADLINE).await.code(), Some(0), "{lines}");
    assert_eq!(shop.recorded("some.jsonl").len(), 1);
    assert_eq!(shop.files(), ["manifests", "none.jsonl", "some.jsonl"]);

    // What is there is not written over.
    let output = shop.record(&[&shop.queue, "--out", "some.jsonl"]).await;
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("there is a `some.jsonl` already"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_gives_no_copies_is_refused() {
    let shop = Shop::open("record-refused").await;
    shop.manifest("direct", "");
    let direct = shop.vhost.unique("direct");
    for (queue, parts) in [
        (direct.as_str(), ["is fed by the default exchange alone", "hint: bind it to an exchange"]),
        ("nobody", ["no manifest names a queue `nobody`", "hint: "]),
    ] {
        let output = shop.record(&[queue, "--out", "f.jsonl"]).await;
        assert_eq!(output.code, 64, "{output:?}");
        for part in parts {
            assert!(output.stderr.contains(part), "`{part}` is not in\n{}", output.stderr);
        }
    }
    // An exchange that is not there.
    shop.manifest("gone", &format!("bind = [{{ exchange = \"{}\", routing-key = \"x\" }}]", shop.exchange));
    shop.peer.channel().exchange_delete(shop.exchange.as_str().into(), Default::default()).await.unwrap();
    let output = shop.record(&[&shop.vhost.unique("gone"), "--out", "f.jsonl"]).await;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("cannot bind queue"), "{}", output.stderr);
    assert_eq!(shop.files(), ["manifests"]);
}

/// A recording of these deliveries, and a manifest that lets them publish.
fn recording(folder: &Path, deliveries: &[Value]) {
    let line = |(second, delivery): (usize, &Value)| {
        json!({ "recorded_at": format!("2026-01-01T00:00:0{second}.000Z"), "delivery": delivery }).to_string() + "\n"
    };
    fs::write(folder.join("f.jsonl"), deliveries.iter().enumerate().map(line).collect::<String>()).unwrap();
    let manifest = "plugin = \"x.wasm\"\n[[queue]]\nname = \"q\"\n[grant]\npublish = [\"/told\"]\n";
    fs::write(folder.join("m.toml"), manifest).unwrap();
}

async fn run(folder: &Path, words: &[&str]) -> Output {
    host::run(folder, words).await
}

#[tokio::test]
async fn a_replay_is_the_same_each_time() {
    let folder = places::folder("replay");
    recording(folder.path(), &[json!({ "text": "20000" }), json!({}), json!({ "text": "1" })]);
    for form in ["fickle", "core_fickle"] {
        let plugin = guest(form).display().to_string();
        let words = ["replay", "f.jsonl", &plugin, "--manifest", "m.toml"];
        // It would wait for longer than it may.
        let text = run(folder.path(), &words).await;
        let lines: Vec<_> = text.stdout.lines().collect();
        assert_eq!(text.code, 1, "{text:?}");
        assert!(lines[0].starts_with("1: failure: time-limit"), "{lines:?}");
        assert_eq!(
            lines[1..],
            ["2: ack, publishes to `/told`", "3: ack, publishes to `/told`", "3 deliveries: 2 ack, 1 failed"]
        );
        let json = [&words[..], &["--json"]].concat();
        let (once, again) = (run(folder.path(), &json).await.stdout, run(folder.path(), &json).await.stdout);
        assert_eq!(once, again, "{form}");
        let second: Value = serde_json::from_str(once.lines().nth(1).unwrap()).unwrap();
        let told: Value = serde_json::from_str(second["outcome"]["publications"][0]["text"].as_str().unwrap()).unwrap();
        // When it was recorded, and a step later, since the handler looked at another clock first.
        assert_eq!((&second["line"], &told["wall"][0]), (&json!(2), &json!("1767225601001000000")), "{told}");
    }
}

#[tokio::test]
async fn what_a_recording_does_not_have_is_named() {
    let folder = places::folder("replay-given");
    let store = json!({ "text": json!({ "calls": [{ "increment": ["a", 1] }], "to": "told" }).to_string() });
    recording(folder.path(), &[store.clone(), store]);
    let manifest = fs::read_to_string(folder.path().join("m.toml")).unwrap() + "keyvalue = \"default\"\n";
    fs::write(folder.path().join("m.toml"), manifest).unwrap();
    let plugin = guest("counter").display().to_string();
    let words = ["replay", "f.jsonl", &plugin, "--manifest", "m.toml"];
    let output = run(folder.path(), &words).await;
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("1: failure: host: the key-value store `default` is not given"), "{output:?}");
    fs::write(folder.path().join("given.toml"), "[given.keyvalue]\na = \"5\"\n").unwrap();
    let output = run(folder.path(), &[&words[..], &["--given", "given.toml", "--json"]].concat()).await.success();
    assert!(output.contains("[6]") && output.contains("[7]"), "{output}");

    for (line, part) in [("{", "f.jsonl:1: this is no recorded delivery"), ("{}", "missing field `recorded_at`")] {
        fs::write(folder.path().join("f.jsonl"), line).unwrap();
        let output = run(folder.path(), &words).await;
        assert_eq!(output.code, 64, "{output:?}");
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
}

#[tokio::test]
async fn two_plugins_are_compared() {
    let folder = places::folder("compare");
    let publish =
        |body: &str| json!({ "do": "publish", "publications": [{ "to": "/told", "body": body }] }).to_string();
    recording(
        folder.path(),
        &[json!({ "text": publish("{\"a\": 1}") }), json!({ "text": "no command" }), json!({ "text": "2" })],
    );
    let [probe, fickle] = ["probe", "fickle"].map(|name| guest(name).display().to_string());
    let same = run(folder.path(), &["compare", &probe, &probe, "f.jsonl", "--manifest", "m.toml"]).await;
    assert_eq!(same.success(), "3 deliveries: no outcome differs\n");
    let words = ["compare", &probe, &fickle, "f.jsonl", "--manifest", "m.toml"];
    let differ = run(folder.path(), &words).await;
    assert_eq!(differ.code, 1, "{differ:?}");
    for part in [
        "line 1\n  publications[0].json.a\n    - 1\n    + (nothing)\n",
        "line 2\n  publications[0]\n    - (nothing)\n",
        "3 deliveries: 3 differ",
    ] {
        assert!(differ.stdout.contains(part), "`{part}` is not in\n{}", differ.stdout);
    }
    let json = run(folder.path(), &[&words[..], &["--json"]].concat()).await.stdout;
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&first["line"], &first["differences"][0]["path"]), (&json!(1), &json!("publications[0].json.a")));
}
