//! The second part of the worked example: mails that are sent and reports that are kept, with the manifests as they are
//! but for the address of the API.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::{Broker, Vhost};
use crate::harness::host::{Host, HostConfig};
use crate::harness::http::Server;
use crate::harness::{DEADLINE, places, wait_until};
use crate::outcomes::{row, settled};

const API: &str = "http://127.0.0.1:8025";

/// A host with all four workers of the example. `api` is called, and requests to `granted` are granted.
async fn shop(test: &str, api: &str, granted: &str) -> (Vhost, Peer, Host) {
    let vhost = Broker::ours().await.vhost(test).await;
    let mut config = HostConfig::new(&vhost.url).environment("MAIL_TOKEN", "swordfish");
    for (folder, worker) in [
        ("manifests", "order-notify"),
        ("manifests", "order-report"),
        ("examples/mail-and-files", "order-mail"),
        ("examples/mail-and-files", "order-archive"),
    ] {
        let plugin = format!("{}.wasm", worker.replace('-', "_"));
        let text = fs::read_to_string(places::root().join(folder).join(format!("{worker}.toml"))).unwrap();
        let text = text.replace(&format!("{API}/mails"), api).replace(API, granted);
        config = config.plugin(&plugin, &places::root().join("plugins").join(&plugin)).manifest(worker, &text);
    }
    let host = Host::ready(config).await;
    let peer = Peer::connect(&vhost.url).await;
    (vhost, peer, host)
}

async fn order(peer: &Peer, id: &str, email: &str) {
    let order = json!({ "id": id, "user_email": email, "product": "hay", "quantity": 2 }).to_string();
    for key in ["order.notify", "order.report"] {
        peer.publish("order", key, order.as_bytes(), persistent()).await;
    }
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

/// The names of the files in the folder of reports.
fn reports(host: &Host) -> BTreeSet<String> {
    let entries = fs::read_dir(host.folder().join("target/reports")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn each_order_is_a_mail_that_is_sent_and_a_report_that_is_kept() {
    const CUSTOMERS: usize = 5;
    const ORDERS: usize = 30;
    let server = Server::start().await;
    let (_vhost, peer, mut host) = shop("mail-and-files", &server.url("/kept/0"), &server.url("")).await;
    let email = |number: usize| format!("customer-{}@example.com", number % CUSTOMERS);
    for number in 0..ORDERS {
        order(&peer, &format!("A-{number}"), &email(number)).await;
    }
    for worker in ["order-mail", "order-archive"] {
        wait_for_settled(&host, worker, "acked", ORDERS as u64).await;
    }

    let text = "Thank you for your order. We are packing it now.";
    let mail = |number| json!({ "to": email(number), "subject": "Your order", "text": text });
    let mut sent: Vec<Value> = server.kept().iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
    let mut expected: Vec<_> = (0..ORDERS).map(mail).collect();
    for mails in [&mut sent, &mut expected] {
        mails.sort_by_key(ToString::to_string);
    }
    assert_eq!((sent, server.heads().len()), (expected, ORDERS));
    for (head, _) in server.kept() {
        assert!(head.starts_with("POST /kept/0 HTTP/1.1\r\n"), "{head}");
        for line in ["authorization: Bearer swordfish", "content-type: application/json"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
    }

    assert_eq!(reports(&host), (0..ORDERS).map(|number| format!("A-{number}.txt")).collect());
    for number in 0..ORDERS {
        let expected = format!("Order A-{number}\n\nCustomer: {}\nProduct:  hay\nQuantity: 2\n", email(number));
        let path = host.folder().join(format!("target/reports/A-{number}.txt"));
        assert_eq!(fs::read_to_string(path).unwrap(), expected);
    }

    // The count is there again after a host that was killed, and the token is shown to nobody.
    let each = ORDERS / CUSTOMERS;
    host.wait_for_log(&format!("mail {each} to customer-3@example.com")).await;
    host.kill();
    host.ended(DEADLINE).await;
    host.start_again();
    host.wait_until_ready().await;
    order(&peer, "B-1", &email(3)).await;
    host.wait_for_log(&format!("mail {} to customer-3@example.com", each + 1)).await;
    assert!(host.logs().iter().all(|line| !line.contains("swordfish")), "{}", host.logs().join("\n"));
}

/// Whoever has the id of a mail sends it along, and an API that is away gets the mail when it is back.
#[tokio::test]
async fn an_api_that_is_away_gets_each_mail_once_it_is_back() {
    let server = Server::start().await;
    let (_vhost, peer, host) = shop("mail-later", &server.url("/kept/2"), &server.url("")).await;
    let mail = json!({ "to": "ada@example.com", "subject": "Your order" }).to_string();
    peer.publish("mail", "order.notify", mail.as_bytes(), persistent().with_message_id("A-17".into())).await;
    wait_for_settled(&host, "order-mail", "acked", 1).await;
    let [(head, body)] = &*server.kept() else { panic!("{:?}", server.kept()) };
    assert!(body == &mail && head.contains("\r\nidempotency-key: A-17\r\n"), "{head}{body}");
    // Two that were refused, counted by nobody, and the one.
    assert_eq!((server.heads().len(), settled(&host, "order-mail", "retried").await), (3, 2));
    host.wait_for_log("mail 1 to ada@example.com").await;
    assert_eq!((peer.count("mail").await, peer.count("mail.dead").await), (0, 0));
    let told = row(&host, "order-mail").await["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("the server answered 503"), "{told}");
}

#[tokio::test]
async fn a_mail_to_elsewhere_is_dead_lettered_with_what_to_grant() {
    let (granted, other) = (Server::start().await, Server::start().await);
    let (_vhost, peer, host) = shop("mail-elsewhere", &other.url("/kept/0"), &granted.url("")).await;
    order(&peer, "A-17", "ada@example.com").await;
    let letter = peer.take("mail.dead", DEADLINE).await;
    assert_eq!(letter.json()["to"], "ada@example.com");
    let told = format!("POST {}: not granted by the manifest's `[grant] http`", other.url(""));
    assert_eq!(letter.text_header("x-wabbit-error"), Some(told));
    // At once, and with the very entry in the log.
    assert_eq!(settled(&host, "order-mail", "retried").await, 0);
    host.wait_for_log(&format!("hint: add `\"{}\"` to `http` in `[grant]`", other.url(""))).await;
    assert_eq!((granted.heads().len(), other.heads().len()), (0, 0));
}

#[tokio::test]
async fn no_name_of_an_order_leads_out_of_the_folder_of_reports() {
    let server = Server::start().await;
    let (_vhost, peer, host) = shop("mail-names", &server.url("/kept/0"), &server.url("")).await;
    for id in ["../A-17", "/A-17", "A/17", ""] {
        order(&peer, id, "ada@example.com").await;
        let letter = peer.take("reports.dead", DEADLINE).await;
        let told = format!("the message id `{id}` is no name for a file");
        assert_eq!(letter.text_header("x-wabbit-error"), Some(told));
    }
    assert_eq!(reports(&host), BTreeSet::new());
    assert!(!Path::new(&host.folder().join("target/A-17.txt")).exists());
}
