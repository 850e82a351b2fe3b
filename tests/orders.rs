//! The worked example, with the manifests and plugins of this project as they are.

use std::fs;

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{self, Host, HostConfig};
use crate::harness::{DEADLINE, places, python, wait_until};
use crate::outcomes::{metric, row, settled};

const WORKERS: [(&str, &str); 2] = [("order-notify", "order_notify"), ("order-report", "order_report")];

async fn orders(url: &str) -> Host {
    orders_in("", url).await
}

/// With plugins in another language, under the names of the Rust ones.
async fn orders_in(language: &str, url: &str) -> Host {
    let root = places::root();
    let mut config = HostConfig::new(url);
    for (worker, plugin) in WORKERS {
        let manifest = fs::read_to_string(root.join(format!("manifests/{worker}.toml"))).unwrap();
        config = config
            .plugin(&format!("{plugin}.wasm"), &root.join(format!("plugins/{plugin}{language}.wasm")))
            .manifest(worker, &manifest);
    }
    Host::ready(config).await
}

async fn wait_for_settled(host: &Host, worker: &str, outcome: &str, count: u64) {
    wait_until(DEADLINE, format!("{count} of `{worker}` to be {outcome}"), async || {
        match settled(host, worker, outcome).await {
            now if now == count => Ok(()),
            now => Err(format!("{now} are")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_shop_sees_its_mail_and_reports_arrive() {
    let vhost = Broker::ours().await.vhost("orders").await;
    let host = orders(&vhost.url).await;
    let script = places::root().join("examples/orders.py");
    let arguments = ["--url", vhost.url.as_str(), "--orders", "25"];
    let said = python::run(&script, &arguments, DEADLINE).await.success();
    assert!(said.contains("25 mails") && said.contains("25 reports"), "{said}");
    assert!(said.contains("every one of the 25 orders was notified and reported"), "{said}");

    // The admin address tells the truth.
    for (worker, plugin) in WORKERS {
        wait_for_settled(&host, worker, "acked", 25).await;
        let row = row(&host, worker).await;
        let file = host.plugins().join(format!("{plugin}.wasm")).display().to_string();
        let inspected = host::run(host.folder(), &["inspect", "--json", &file]).await.success();
        let expected = json!({
            "name": worker, "state": "consuming", "plugin": format!("{plugin}.wasm"),
            "digest": serde_json::from_str::<Value>(&inspected).unwrap()["digest"],
            "queues": [plugin], "in_flight": 0, "last_error": null, "probation": null, "refused": null,
            "counts": {"acked": 25, "requeued": 0, "retried": 0, "dead-lettered": 0, "put-back": 0, "skipped": 0},
        });
        assert_eq!(row, expected);
    }
    assert_eq!(host.get_status("/healthz").await.0, 200);
    assert_eq!(host.get_status("/readyz").await.0, 200);
    assert_eq!(host.get_status("/nothing").await.0, 404);
    let metrics = host.metrics().await;
    assert_eq!(metric(&metrics, "wabbit_broker_connected", ""), 1);
    assert_eq!(metric(&metrics, "wabbit_broker_connections_total", ""), 1);
    for (worker, _) in WORKERS {
        let labels = format!("worker=\"{worker}\"");
        for (name, value) in [
            ("wabbit_publications_total", 25),
            ("wabbit_handling_seconds_count", 25),
            ("wabbit_worker_consuming", 1),
            ("wabbit_deliveries_in_flight", 0),
            ("wabbit_replies_lost_total", 0),
        ] {
            assert_eq!(metric(&metrics, name, &labels), value, "{name} of {worker}");
        }
        assert_eq!(metric(&metrics, "wabbit_deliveries_total", &format!("{labels},outcome=\"acked\"")), 25);
        assert_eq!(metric(&metrics, "wabbit_failures_total", &format!("{labels},error_type=\"trap\"")), 0);
    }
    // What the handlers say is in the log, under their names.
    let log = host.logs();
    let told = |worker: &str, text: &str| {
        log.iter().any(|line| line.contains(text) && line.contains(&format!("worker={worker}")))
    };
    assert!(
        told("order-notify", "notifying customer-7.") && told("order-report", "reporting order "),
        "{}",
        log.join("\n")
    );
}

/// The properties, but for the number by which the host knows a publication again: it differs from run to run.
fn shown(message: &crate::harness::amqp::Message) -> String {
    let p = &message.properties;
    let headers = p.headers().as_ref().map(|table| {
        table.inner().iter().filter(|(name, _)| !name.as_str().starts_with("x-wabbit-")).collect::<Vec<_>>()
    });
    let others = (p.content_type(), p.delivery_mode(), p.message_id(), p.correlation_id(), p.expiration());
    format!("{headers:?} {others:?}")
}

/// The example stands there in three languages, and nobody outside notices which one runs.
#[tokio::test]
async fn a_language_in_anothers_place_changes_nothing() {
    let bodies = [
        json!({ "id": 7, "user_email": "ada@example.com", "product": "hay", "quantity": 2 }).to_string(),
        json!({ "id": "A-17", "user_email": "gr\u{fc}n@example.com", "product": "\u{1f407} \"hutch\"", "quantity": 1 })
            .to_string(),
        json!({ "id": i64::MAX / 1024, "user_email": "", "product": "", "quantity": u32::MAX, "more": [1, null] })
            .to_string(),
        json!({ "id": 8, "user_email": "a@example.com", "product": "hay", "quantity": 0 }).to_string(),
        json!({ "id": 1.5, "user_email": 5, "product": "hay", "quantity": 1 }).to_string(),
        "no JSON".to_owned(),
        String::new(),
    ];
    let mut seen = Vec::new();
    for language in ["", "_javascript", "_python"] {
        let vhost = Broker::ours().await.vhost(&format!("orders{}", language.replace('_', "-"))).await;
        let host = orders_in(language, &vhost.url).await;
        let peer = Peer::connect(&vhost.url).await;
        for body in &bodies {
            for kind in ["notify", "report"] {
                peer.publish("order", &format!("order.{kind}"), body.as_bytes(), persistent()).await;
            }
        }
        let mut all = Vec::new();
        for (worker, queue, dead) in
            [("order-notify", "mail", "order_notify.dead"), ("order-report", "reports", "order_report.dead")]
        {
            let count = bodies.len() as u64;
            wait_until(DEADLINE, format!("`{worker}` to be done{language}"), async || {
                match settled(&host, worker, "acked").await + settled(&host, worker, "dead-lettered").await {
                    now if now == count => Ok(()),
                    now => Err(format!("{now} are")),
                }
            })
            .await;
            let (good, bad) = (peer.count(queue).await as usize, peer.count(dead).await as usize);
            let mut published: Vec<_> = peer.drain(queue, good, DEADLINE).await;
            published.sort_by(|a, b| a.body.cmp(&b.body));
            all.extend(
                published
                    .into_iter()
                    .map(|m| format!("{} {} {:?} {:?}", m.exchange, m.routing_key, m.text(), shown(&m))),
            );
            let mut letters = peer.drain(dead, bad, DEADLINE).await;
            letters.sort_by(|a, b| a.body.cmp(&b.body));
            all.extend(
                letters
                    .into_iter()
                    .map(|m| format!("{:?} {:?}", m.text().to_owned(), m.text_header("x-wabbit-reason"))),
            );
        }
        seen.push(all);
    }
    assert_eq!(seen[0].len(), 2 * bodies.len(), "{:#?}", seen[0]);
    assert_eq!(seen[1], seen[0], "JavaScript");
    assert_eq!(seen[2], seen[0], "Python");
}

/// Mail and reports wait in queues that only the manifests know of, for whoever comes for them, whatever restarts.
#[tokio::test]
async fn mail_and_reports_are_kept_for_others() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("kept").await;
    let host = orders(&vhost.url).await;
    let peer = Peer::connect(&vhost.url).await;
    let order = json!({"id": "A-17", "user_email": "ada@example.com", "product": "hay", "quantity": 2}).to_string();
    peer.publish("order", "order.notify", br#"{"user_email":"ada@example.com"}"#, persistent()).await;
    peer.publish("order", "order.report", order.as_bytes(), persistent()).await;
    for (queue, worker) in [("mail", "order-notify"), ("reports", "order-report")] {
        peer.wait_for_count(queue, 1, DEADLINE).await;
        wait_for_settled(&host, worker, "acked", 1).await;
    }
    drop(host);
    broker.stop().await;
    broker.start().await;

    let peer = Peer::connect_when_up(&vhost.url, DEADLINE).await;
    let mail = peer.take("mail", DEADLINE).await;
    assert_eq!((mail.exchange.as_str(), mail.routing_key.as_str()), ("mail", "order.notify"));
    assert_eq!(mail.json()["to"], "ada@example.com");
    assert_eq!(mail.properties.content_type().as_ref().unwrap().as_str(), "application/json");
    let report = peer.take("reports", DEADLINE).await;
    assert_eq!((report.exchange.as_str(), report.routing_key.as_str()), ("reports", "order.report"));
    assert_eq!(report.text(), "Order A-17\n\nCustomer: ada@example.com\nProduct:  hay\nQuantity: 2\n");
    assert_eq!(report.properties.message_id().as_ref().unwrap().as_str(), "A-17");
    assert_eq!(report.header("order-id"), Some(&AMQPValue::LongString("A-17".into())));
    assert_eq!((mail.properties.delivery_mode(), report.properties.delivery_mode()), (&Some(2), &Some(2)));
}

#[tokio::test]
async fn a_malformed_order_is_dead_lettered_with_what_is_wrong() {
    let vhost = Broker::ours().await.vhost("malformed").await;
    let host = orders(&vhost.url).await;
    let peer = Peer::connect(&vhost.url).await;
    let cases: [(&str, &[u8], &str); 6] = [
        ("notify", b"{\"user_email\": \"ada@example.com\"", "EOF while parsing an object at line 1 column 32"),
        ("notify", b"{\"email\": 1}", "missing field `user_email`"),
        ("notify", b"", "EOF while parsing a value"),
        ("notify", b"\xff\xfe", "expected value at line 1 column 1"),
        (
            "report",
            b"{\"id\": 1, \"user_email\": \"a\", \"product\": \"hay\", \"quantity\": 0}",
            "expected a nonzero u32",
        ),
        ("report", b"[]", "invalid length 0"),
    ];
    for (kind, body, expected) in cases {
        peer.publish("order", &format!("order.{kind}"), body, persistent()).await;
        let letter = peer.take(&format!("order_{kind}.dead"), DEADLINE).await;
        assert_eq!(letter.body, body);
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("dead-lettered"));
        let error = letter.text_header("x-wabbit-error").unwrap();
        assert!(error.contains("the body is not the JSON expected") && error.contains(expected), "{error}");
        assert_eq!(letter.text_header("x-wabbit-exchange").as_deref(), Some("order"));
        assert_eq!(letter.text_header("x-wabbit-routing-key"), Some(format!("order.{kind}")));
        let last = row(&host, &format!("order-{kind}")).await["last_error"].as_str().unwrap().to_owned();
        assert!(last.contains(expected), "{last}");
    }
    wait_for_settled(&host, "order-notify", "dead-lettered", 4).await;
    wait_for_settled(&host, "order-report", "dead-lettered", 2).await;
    let labels = "worker=\"order-notify\",error_type=\"dead-lettered\"";
    assert_eq!(metric(&host.metrics().await, "wabbit_failures_total", labels), 4);
    for queue in ["mail", "reports", "order_notify", "order_report"] {
        assert_eq!(peer.count(queue).await, 0, "{queue}");
    }
}
