//! Exchanges, queues and bindings: made as the manifest says, looked for, or left alone; and what happens where the broker
//! has something else.

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{ExchangeKind, Queue};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::amqp::{Peer, Published, persistent, table};
use crate::harness::host::Host;
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, backstage, curtain, row, stage};

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

const DURABLE: QueueDeclareOptions =
    QueueDeclareOptions { passive: false, durable: true, exclusive: false, auto_delete: false, nowait: false };

/// Declares a queue on a channel of its own; the answer is an error where it is there with other properties.
async fn declare(
    peer: &Peer,
    queue: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> lapin::Result<Queue> {
    peer.new_channel().await.queue_declare(queue.into(), options, arguments).await
}

#[tokio::test]
async fn every_kind_of_exchange_routes_by_its_bindings() {
    let manifest = r##"
plugin = "probe.wasm"
[[exchange]]
name = "@direct"
type = "direct"
durable = false
[[exchange]]
name = "@topic"
type = "topic"
[[exchange]]
name = "@fanout"
type = "fanout"
auto-delete = true
[[exchange]]
name = "@headers"
type = "headers"
arguments = { alternate-exchange = "@fanout" }
[[exchange]]
name = "@any"
type = "headers"
[[queue]]
name = "@work"
bind = [
    { exchange = "@direct", routing-key = "new" },
    { exchange = "@direct", routing-key = "old" },
    { exchange = "@topic", routing-key = "order.*" },
    { exchange = "@topic", routing-key = "#.urgent" },
    { exchange = "@fanout" },
    { exchange = "@headers", arguments = { x-match = "all", format = "pdf", pages = 2 } },
    { exchange = "@any", arguments = { x-match = "any", format = "pdf", pages = 2 } },
]
"##;
    let stage = stage("exchanges", "", &[("probe", manifest)]).await;
    let header = |name: &str, value: AMQPValue| (name.to_owned(), value);
    let (pdf, two) = (header("format", text("pdf")), header("pages", AMQPValue::LongInt(2)));
    let both = vec![pdf.clone(), two.clone()];
    type Headers = Vec<(String, AMQPValue)>;
    let cases: &[(&str, &str, Headers, bool)] = &[
        ("direct", "new", vec![], true),
        ("direct", "old", vec![], true),
        ("direct", "newer", vec![], false),
        ("topic", "order.new", vec![], true),
        ("topic", "order.new.eu", vec![], false),
        ("topic", "mail.eu.urgent", vec![], true),
        ("topic", "urgent", vec![], true),
        ("fanout", "whatever", vec![], true),
        ("headers", "", both.clone(), true),
        // The alternate exchange has it.
        ("headers", "", vec![pdf.clone()], true),
        ("any", "", vec![two], true),
        ("any", "", vec![header("format", text("txt"))], false),
    ];
    for (exchange, key, headers, arrives) in cases {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let properties = persistent().with_headers(table(&headers));
        let published =
            stage.peer.try_publish(&stage.named(&format!("@{exchange}")), key, b"x", properties).await.unwrap();
        let expected = if *arrives { Published::Routed } else { Published::Returned };
        assert_eq!(published, expected, "{exchange} {key} {headers:?}");
    }
    let arrived = cases.iter().filter(|(.., arrives)| *arrives).count() as u64;
    stage.wait_for_settled("probe", "acked", arrived).await;
}

#[tokio::test]
async fn queues_are_what_the_manifest_says() {
    let manifest = r#"
plugin = "probe.wasm"
[[queue]]
name = "@plain"
[[queue]]
name = "@bounded"
arguments = { x-max-length = 3, x-overflow = "reject-publish", x-expires = 5_000_000_000 }
[[queue]]
name = "@exclusive"
durable = false
exclusive = true
[[queue]]
name = "@fleeting"
durable = false
auto-delete = true
[[queue]]
name = "@replicated"
quorum = true
[[queue]]
name = "@kept"
consume = false
arguments = { x-max-priority = 5 }
[[queue]]
name = "@out"
consume = false
[grant]
publish = ["/@out"]
"#;
    let stage = stage("queues", "", &[("probe", manifest)]).await;
    let consumed = ["plain", "bounded", "exclusive", "fleeting", "replicated"];
    // One handler for all of them, which is told where each delivery comes from.
    for name in consumed {
        let command = stage.named(r#"{"do":"describe","to":"/@out"}"#);
        stage.peer.publish("", &stage.vhost.unique(name), command.as_bytes(), persistent()).await;
    }
    let mut told: Vec<String> = stage
        .take("out", consumed.len())
        .await
        .iter()
        .map(|message| message.json()["queue"].as_str().unwrap().into())
        .collect();
    told.sort();
    let mut expected: Vec<String> = consumed.iter().map(|name| stage.vhost.unique(name)).collect();
    expected.sort();
    assert_eq!(told, expected);
    // Each has dead letters of its own.
    for name in consumed {
        stage.peer.publish("", &stage.vhost.unique(name), br#"{"do":"error"}"#, persistent()).await;
        let letter = stage.take(&format!("{name}.dead"), 1).await.remove(0);
        assert_eq!(letter.text_header("x-wabbit-queue"), Some(stage.vhost.unique(name)));
    }

    let quorum = ("x-queue-type", text("quorum"));
    let limit = ("x-delivery-limit", AMQPValue::LongInt(1_000_000));
    let bounded = [
        ("x-max-length", AMQPValue::LongInt(3)),
        ("x-overflow", text("reject-publish")),
        ("x-expires", AMQPValue::LongLongInt(5_000_000_000)),
    ];
    let fleeting = QueueDeclareOptions { durable: false, auto_delete: true, ..DURABLE };
    let same: [(&str, QueueDeclareOptions, FieldTable); 8] = [
        ("plain", DURABLE, table(&[])),
        ("bounded", DURABLE, table(&bounded)),
        ("fleeting", fleeting, table(&[])),
        ("replicated", DURABLE, table(std::slice::from_ref(&quorum))),
        ("kept", DURABLE, table(&[("x-max-priority", AMQPValue::LongInt(5))])),
        ("plain.dead", DURABLE, table(&[])),
        ("exclusive.dead", DURABLE, table(&[])),
        // As safe as the queue that its letters come from.
        ("replicated.dead", DURABLE, table(&[quorum, limit])),
    ];
    for (name, options, arguments) in same {
        let answer = declare(&stage.peer, &stage.vhost.unique(name), options, arguments).await;
        answer.unwrap_or_else(|error| panic!("`{name}` is another: {error}"));
    }
    let exclusive = stage.named("@exclusive");
    let error = declare(
        &stage.peer,
        &exclusive,
        QueueDeclareOptions { durable: false, exclusive: true, ..DURABLE },
        table(&[]),
    );
    assert!(error.await.unwrap_err().to_string().contains("RESOURCE_LOCKED"));

    // Those that live as long as their consumer go with the host.
    let Stage { mut host, peer, vhost, .. } = stage;
    host.signal(Signal::SIGTERM);
    host.ended(DEADLINE).await;
    for name in ["exclusive", "fleeting"] {
        wait_until(DEADLINE, format!("`{name}` to be gone"), async || {
            match peer.try_count(&vhost.unique(name)).await {
                None => Ok(()),
                Some(_) => Err("it is there".into()),
            }
        })
        .await;
    }
    assert_eq!(peer.try_count(&vhost.unique("plain")).await, Some(0));
}

/// A worker on a queue that the broker names, which hears all of `@news`.
pub(crate) fn nameless(plugin: &str) -> String {
    format!(
        "plugin = \"{plugin}.wasm\"\n[[exchange]]\nname = \"@news\"\ntype = \"fanout\"\n[[queue]]\nname = \"\"\n\
         bind = [{{ exchange = \"@news\" }}]\n"
    )
}

#[tokio::test]
async fn a_queue_that_the_server_names_has_the_workers_dead_letters() {
    let name = format!("nameless-{}", std::process::id());
    let stage = stage("server-named", "", &[(&name, &nameless("probe"))]).await;
    stage.peer.publish(&stage.named("@news"), "", br#"{"do":"error","text":"no"}"#, persistent()).await;
    let letter = stage.peer.take(&format!("{name}.dead"), DEADLINE).await;
    assert!(letter.text_header("x-wabbit-queue").unwrap().starts_with("amq.gen-"), "{letter:?}");
    stage.peer.publish(&stage.named("@news"), "", b"x", persistent()).await;
    stage.wait_for_settled(&name, "acked", 1).await;
    stage.peer.delete_queue(&format!("{name}.dead")).await;
}

#[tokio::test]
async fn dead_letters_go_where_the_manifest_says() {
    let queues = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@one\"\n[[queue]]\nname = \"@two\"\n";
    let named = format!("{queues}[failure]\nattempts = 1\ndead-letter = \"@lost\"\n");
    let (vhost, folder, config) = backstage("lost", "", &[("probe", &named)]).await;
    // Somebody made it already, in another way than the host would: it is taken as it is.
    let peer = Peer::connect(&vhost.url).await;
    let arguments = table(&[("x-max-length", AMQPValue::LongInt(1000)), ("x-max-priority", AMQPValue::LongInt(3))]);
    peer.queue(&vhost.unique("lost"), QueueDeclareOptions { durable: false, ..DURABLE }, arguments).await;
    let stage = curtain(vhost, folder, config).await;
    for queue in ["one", "two"] {
        stage.peer.publish("", &stage.vhost.unique(queue), br#"{"do":"error"}"#, persistent()).await;
    }
    let letters = stage.take("lost", 2).await;
    let mut from: Vec<_> = letters.iter().map(|letter| letter.text_header("x-wabbit-queue").unwrap()).collect();
    from.sort();
    assert_eq!(from, [stage.vhost.unique("one"), stage.vhost.unique("two")]);
    assert_eq!(stage.peer.try_count(&stage.vhost.unique("one.dead")).await, None);

    // While it is gone nothing is lost; the host makes it again.
    stage.peer.delete_queue(&stage.vhost.unique("lost")).await;
    stage.peer.publish("", &stage.vhost.unique("one"), br#"{"do":"error"}"#, persistent()).await;
    stage.host.wait_for_log("a copy was not taken").await;
    wait_until(DEADLINE, "a letter in the new queue", async || {
        match stage.peer.try_count(&stage.vhost.unique("lost")).await {
            Some(1) => Ok(()),
            count => Err(format!("{count:?}")),
        }
    })
    .await;
}

/// Waits until this worker alone is stopped, for a reason with all of these in it.
async fn expect_failed(host: &Host, reason: &[&str]) {
    host.wait_for_log("admin address").await;
    wait_until(DEADLINE, format!("a reason with {reason:?}"), async || {
        let late = row(host, "late").await;
        let told = late["reason"].as_str().unwrap_or_default();
        match late["state"] == "failed" && reason.iter().all(|part| told.contains(part)) {
            true => Ok(()),
            false => Err(format!("{late}")),
        }
    })
    .await;
    wait_until(DEADLINE, "the other worker to consume", async || {
        match row(host, "other").await["state"] == json!("consuming") {
            true => Ok(()),
            false => Err("it does not yet".into()),
        }
    })
    .await;
    let (status, reasons) = host.get_status("/readyz").await;
    assert_eq!(status, 503);
    assert!(reasons.contains("worker `late`") && reason.iter().all(|part| reasons.contains(part)), "{reasons}");
    assert!(!reasons.contains("worker `other`"), "{reasons}");
    let log = host.logs();
    let told = |line: &String| line.contains("worker=late") && reason.iter().all(|part| line.contains(part));
    assert!(log.iter().any(told), "{}", log.join("\n"));
}

const OTHER: (&str, &str) = ("other", "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@other\"\n");

/// All that a manifest with `declare = "verify"` names is there but one thing, which keeps that worker from starting until
/// somebody makes it.
#[tokio::test]
async fn what_is_only_verified_is_waited_for() {
    let late = r#"
plugin = "probe.wasm"
declare = "verify"
[[exchange]]
name = "@declared"
type = "topic"
[[queue]]
name = "@late"
bind = [{ exchange = "@bound", routing-key = "k" }]
"#;
    let check = async |missing: &str, kind: &str| {
        let (vhost, _folder, config) = backstage(&format!("verify-{missing}"), "", &[OTHER, ("late", late)]).await;
        let peer = Peer::connect(&vhost.url).await;
        let make = async |name: &str| match name {
            "declared" => peer.exchange(&vhost.unique(name), ExchangeKind::Topic, true).await,
            "bound" => peer.exchange(&vhost.unique(name), ExchangeKind::Direct, true).await,
            _ => peer.durable_queue(&vhost.unique(name)).await,
        };
        for name in ["declared", "bound", "late", "late.dead"] {
            if name != missing {
                make(name).await;
            }
        }
        let mut host = Host::start(config);
        expect_failed(&host, &["NOT_FOUND", &format!("{kind} `{}`", vhost.unique(missing))]).await;
        if kind == "queue" {
            assert_eq!(peer.try_count(&vhost.unique(missing)).await, None, "verifying creates nothing");
        }
        make(missing).await;
        host.wait_until_ready().await;
        peer.publish("", &vhost.unique("late"), br#"{"do":"error"}"#, persistent()).await;
        peer.take(&vhost.unique("late.dead"), DEADLINE).await;
    };
    // Side by side, since each waits for the worker's next try.
    tokio::join!(
        check("declared", "exchange"),
        check("bound", "exchange"),
        check("late", "queue"),
        check("late.dead", "queue"),
    );
}

#[tokio::test]
async fn what_is_not_declared_is_left_alone() {
    let late = r#"
plugin = "probe.wasm"
declare = "none"
[[exchange]]
name = "@never"
type = "topic"
[[queue]]
name = "@late"
durable = false
arguments = { x-max-length = 7 }
bind = [{ exchange = "@never", routing-key = "k" }]
[failure]
attempts = 1
"#;
    let (vhost, _folder, config) = backstage("none", "", &[OTHER, ("late", late)]).await;
    let peer = Peer::connect(&vhost.url).await;
    let name = |name: &str| vhost.unique(name);
    let mut host = Host::start(config);
    expect_failed(&host, &["NOT_FOUND", &name("late")]).await;
    // Not at all what the manifest says, which nobody compares here.
    peer.durable_queue(&name("late")).await;
    host.wait_until_ready().await;
    peer.publish("", &name("late"), b"x", persistent()).await;
    peer.wait_for_count(&name("late"), 0, DEADLINE).await;
    // Its dead letters have nowhere to go: they come back until somebody makes the queue.
    peer.publish("", &name("late"), br#"{"do":"error"}"#, persistent()).await;
    host.wait_for_log("a copy was not taken").await;
    assert_eq!(peer.try_count(&name("late.dead")).await, None);
    peer.durable_queue(&name("late.dead")).await;
    peer.take(&name("late.dead"), DEADLINE).await;
}

/// Something is there under the name, and is another: the broker says in what, and the worker tells it on.
#[tokio::test]
async fn what_differs_is_named() {
    let worker = |more: &str| format!("plugin = \"probe.wasm\"\n{more}");
    let queue = "[[queue]]\nname = \"@late\"\n";
    let exchange = "[[exchange]]\nname = \"@taken\"\ntype = \"direct\"\n";
    let transient = QueueDeclareOptions { durable: false, ..DURABLE };
    let cases: [(&str, String, QueueDeclareOptions, &[&str]); 4] = [
        ("durable", worker(queue), transient, &["'durable'", "queue"]),
        (
            "argument",
            worker(&format!("{queue}arguments = {{ x-max-length = 3 }}\n")),
            DURABLE,
            &["'x-max-length'", "queue"],
        ),
        ("quorum", worker(&format!("{queue}quorum = true\n")), DURABLE, &["'x-queue-type'", "queue"]),
        ("type", worker(&format!("{exchange}{queue}")), DURABLE, &["'type'", "exchange"]),
    ];
    let check = async |(case, manifest, options, differs): (&str, String, QueueDeclareOptions, &[&str])| {
        let (vhost, _folder, config) = backstage(&format!("differs-{case}"), "", &[OTHER, ("late", &manifest)]).await;
        let peer = Peer::connect(&vhost.url).await;
        let (late, taken) = (vhost.unique("late"), vhost.unique("taken"));
        peer.queue(&late, options, table(&[])).await;
        peer.exchange(&taken, ExchangeKind::Fanout, true).await;
        let mut host = Host::start(config);
        let reason = [differs, &["PRECONDITION_FAILED", "hint"]].concat();
        expect_failed(&host, &reason).await;
        // What was in the way is gone: no help is needed.
        peer.delete_queue(&late).await;
        peer.channel().exchange_delete(taken.as_str().into(), Default::default()).await.unwrap();
        host.wait_until_ready().await;
    };
    futures_util::future::join_all(cases.map(check)).await;
}

/// Bindings that somebody else made are left as they are, and a restart finds everything in place.
#[tokio::test]
async fn declaring_twice_changes_nothing() {
    let manifest = "plugin = \"probe.wasm\"\n[[exchange]]\nname = \"@orders\"\ntype = \"direct\"\n[[queue]]\nname = \"@work\"\n\
                    bind = [{ exchange = \"@orders\", routing-key = \"mine\" }]\n";
    let mut stage = stage("twice", "", &[("probe", manifest)]).await;
    let (work, orders) = (stage.named("@work"), stage.named("@orders"));
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    let channel = stage.peer.channel();
    channel.queue_bind(work.as_str().into(), orders.as_str().into(), "theirs".into(), options, none).await.unwrap();
    for _ in 0..2 {
        stage.host.terminate().await;
        for key in ["mine", "theirs"] {
            stage.peer.publish(&orders, key, b"x", persistent()).await;
        }
        assert_eq!(stage.peer.count(&work).await, 2, "messages wait for the host");
        stage.host.start_again();
        stage.host.wait_until_ready().await;
        stage.wait_for_settled("probe", "acked", 2).await;
    }
}
