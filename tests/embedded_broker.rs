//! The embedded broker does what RabbitMQ does: one script of behaviours sees both, and its README says what it saw.

use std::fs;
use std::time::Duration;

use wabbit_embedded_broker::{Limits, Server};

use crate::harness::broker::Broker;
use crate::harness::{places, process, python, wait_until};

/// How long the script may take against one broker; half a minute is usual.
const DEADLINE: Duration = Duration::from_secs(300);

/// What other clients do and see, in lines.
async fn told(url: &str) -> Vec<String> {
    let clients = places::root().join("tests/clients");
    let aio = python::run(&clients.join("aio.py"), &[url], DEADLINE).await.success();
    let mut command = process::bound("node");
    command.arg(clients.join("amqplib.js")).arg(url);
    command.env("NODE_PATH", places::root().canonicalize().unwrap().join("target/clients/node_modules"));
    let amqplib = process::run("amqplib", command, DEADLINE).await.success();
    aio.lines().chain(amqplib.lines()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_see_no_difference() {
    let server = Server::bind("127.0.0.1:0", Limits::default()).await.unwrap();
    let vhost = Broker::ours().await.vhost("clients").await;
    let embedded = format!("amqp://guest:guest@{}", server.local_addr());
    let (of_rabbitmq, of_embedded) = tokio::join!(told(&vhost.url), told(&embedded));
    let expected = [
        "in order True",
        "answered HELLO 7 True",
        "returned 312 NO_ROUTE",
        "refused PRECONDITION_FAILED - inequivalent arg 'durable'",
        "deleted 0",
        "in order true",
        "returned 312 NO_ROUTE",
        "answered HELLO 9",
        "refused 404",
    ];
    assert_eq!(
        (of_rabbitmq, of_embedded),
        (expected.map(str::to_owned).to_vec(), expected.map(str::to_owned).to_vec())
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_broker_does_what_rabbitmq_does() {
    let vhost = Broker::ours().await.vhost("behaviours").await;
    let server = Server::bind("127.0.0.1:0", Limits::default()).await.unwrap();
    let embedded = format!("amqp://guest:guest@{}/%2F", server.local_addr());
    let scripts = places::root().join("tests/behaviours");
    let run = scripts.join("run.py");
    let [rabbitmq, embedded] = [[vhost.url.clone()], [embedded]];
    let (rabbitmq, embedded) =
        tokio::join!(python::run(&run, &rabbitmq, DEADLINE), python::run(&run, &embedded, DEADLINE));
    let folder = places::folder("behaviours");
    let [of_rabbitmq, of_embedded] = ["rabbitmq.jsonl", "embedded.jsonl"].map(|name| folder.path().join(name));
    fs::write(&of_rabbitmq, rabbitmq.success()).unwrap();
    fs::write(&of_embedded, embedded.success()).unwrap();
    let readme = places::root().join("runtime/embedded-broker/README.md");
    let arguments = ["check".as_ref(), readme.as_os_str(), of_rabbitmq.as_os_str(), of_embedded.as_os_str()];
    python::run(&scripts.join("table.py"), &arguments, DEADLINE).await.success();
    wait_until(Duration::from_secs(10), "the broker to notice that all clients are gone", async || {
        let stats = server.stats();
        let idle = stats.connections == 0 && stats.consumers == 0 && stats.unacked == 0 && stats.partial_bytes == 0;
        if idle { Ok(()) } else { Err(format!("{stats:?}")) }
    })
    .await;
    server.stop().await;
}
