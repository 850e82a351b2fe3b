//! The embedded broker does what RabbitMQ does: one script of behaviours sees both, and its README says what it saw.

use std::fs;
use std::time::Duration;

use wabbit_embedded_broker::{Limits, Server};

use crate::harness::broker::Broker;
use crate::harness::{places, python, wait_until};

/// How long the script may take against one broker; half a minute is usual.
const DEADLINE: Duration = Duration::from_secs(300);

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
