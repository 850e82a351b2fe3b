//! The harness itself: what the other tests rely on when they stop, freeze and restart brokers.

use std::fs;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::{Connection, ConnectionProperties, ExchangeKind};

use crate::harness::amqp::{Peer, Published, persistent};
use crate::harness::broker::Broker;
use crate::harness::{DEADLINE, places, process, python, wait_until};

#[tokio::test]
async fn what_is_published_is_drained_in_order() {
    let vhost = Broker::shared().await.vhost("in-order").await;
    let peer = Peer::connect(&vhost.url).await;
    let (queue, exchange) = (vhost.unique("work"), vhost.unique("orders"));
    peer.exchange(&exchange, ExchangeKind::Direct, false).await;
    peer.durable_queue(&queue).await;
    peer.bind(&queue, &exchange, "new").await;

    let bodies: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    peer.publish_all(&exchange, "new", &bodies, persistent()).await;
    peer.wait_for_count(&queue, 1000, DEADLINE).await;
    let nowhere = peer.try_publish(&exchange, "nobody", b"", persistent()).await.unwrap();
    assert_eq!(nowhere, Published::Returned);

    let first = peer.drain(&queue, 600, DEADLINE).await;
    let rest = peer.drain(&queue, 400, DEADLINE).await;
    let texts: Vec<_> = first.iter().chain(&rest).map(|message| message.text().to_owned()).collect();
    assert_eq!(texts, bodies);
    assert_eq!(peer.count(&queue).await, 0);
    peer.delete_queue(&queue).await;
    assert_eq!(peer.try_count(&queue).await, None);
}

#[tokio::test]
async fn vhosts_keep_tests_apart() {
    let broker = Broker::ours().await;
    let (one, other) = (broker.vhost("one").await, broker.vhost("other").await);
    let (here, there) = (Peer::connect(&one.url).await, Peer::connect(&other.url).await);
    here.durable_queue("work").await;
    here.publish("", "work", b"mine", persistent()).await;
    assert_eq!(here.count("work").await, 1);
    assert_eq!(there.try_count("work").await, None);
    assert!(broker.ctl(&["list_queues", "-q", "-p", &one.name]).await.contains("work"));
}

#[tokio::test]
async fn a_killed_broker_comes_back_with_its_durable_messages() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("restart").await;
    let peer = Peer::connect(&vhost.url).await;
    peer.durable_queue("kept").await;
    peer.publish("", "kept", b"still here", persistent()).await;

    broker.flush().await;
    broker.kill();
    assert!(Peer::try_connect(&vhost.url).await.is_err(), "nobody listens");
    broker.start().await;
    let peer = Peer::connect_when_up(&vhost.url, DEADLINE).await;
    assert_eq!(peer.take("kept", DEADLINE).await.text(), "still here");

    broker.stop().await;
    broker.start().await;
    let peer = Peer::connect_when_up(&vhost.url, DEADLINE).await;
    assert_eq!(peer.count("kept").await, 0, "acked before the broker was stopped");
}

#[tokio::test]
async fn a_frozen_broker_is_silent_until_it_is_thawed() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("freeze").await;
    let peer = Peer::connect(&vhost.url).await;
    peer.durable_queue("slow").await;

    broker.freeze().await;
    let publish = peer.try_publish("", "slow", b"patience", persistent());
    tokio::pin!(publish);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut publish).await;
    assert!(early.is_err(), "a frozen broker confirmed: {early:?}");
    broker.thaw();
    assert_eq!(publish.await.unwrap(), Published::Routed);
}

#[tokio::test]
async fn the_tls_listener_is_trusted_by_its_own_authority_only() {
    let broker = Broker::ours().await;
    let vhost = broker.vhost("tls").await;
    let url = broker.tls_url(&vhost);
    let properties = ConnectionProperties::default;
    assert!(Connection::connect(&url, properties()).await.is_err());
    let trust =
        OwnedTLSConfig { cert_chain: Some(fs::read_to_string(broker.authority()).unwrap()), ..Default::default() };
    let runtime = lapin::runtime::default_runtime().unwrap();
    let connection = Connection::connect_with_config(&url, properties(), trust, runtime).await;
    connection.unwrap().create_channel().await.unwrap();
}

#[tokio::test]
async fn python_speaks_to_the_broker() {
    let vhost = Broker::shared().await.vhost("python").await;
    let queue = vhost.unique("greetings");
    let folder = places::folder("python");
    let script = folder.path().join("greet.py");
    let text = "import pika, sys\n\
                url, queue = sys.argv[1:]\n\
                with pika.BlockingConnection(pika.URLParameters(url)) as connection:\n\
                \x20   channel = connection.channel()\n\
                \x20   channel.queue_declare(queue, durable=True)\n\
                \x20   channel.confirm_delivery()\n\
                \x20   channel.basic_publish('', queue, 'hello')\n";
    fs::write(&script, text).unwrap();
    python::run(&script, &[&vhost.url, &queue], DEADLINE).await.success();
    let peer = Peer::connect(&vhost.url).await;
    assert_eq!(peer.take(&queue, DEADLINE).await.text(), "hello");
    peer.delete_queue(&queue).await;
}

#[tokio::test]
async fn children_die_with_whoever_started_them() {
    // A process in between stands for a test run that is killed: it starts a child as the harness does, and dies.
    let lines = process::Lines::default();
    let mut between = process::bound("sh");
    between.args(["-c", r#"setpriv --pdeathsig KILL -- sleep 600 & echo "$!"; wait"#]);
    let mut between = process::Process::start("the process in between", between, &lines);
    let child = wait_until(DEADLINE, "the child's process id", async || {
        lines.all().pop().ok_or_else(|| "nothing was printed yet".to_owned())
    })
    .await;
    let running = || {
        let text = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        text.contains("sleep")
    };
    wait_until(
        DEADLINE,
        "the child to run",
        async || {
            if running() { Ok(()) } else { Err("it does not yet".to_owned()) }
        },
    )
    .await;
    between.kill();
    wait_until(
        DEADLINE,
        "the child to be gone",
        async || {
            if running() { Err("it still runs".to_owned()) } else { Ok(()) }
        },
    )
    .await;
}

#[tokio::test]
async fn a_node_starts_no_port_mapper() {
    let broker = Broker::ours().await;
    // What the node does by itself once a minute; a port mapper would outlive it.
    broker.ctl(&["eval", "rabbit_nodes:ensure_epmd()."]).await;
    let folder = broker.folder().display().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read =
            |name: &str| String::from_utf8_lossy(&fs::read(entry.path().join(name)).unwrap_or_default()).into_owned();
        let ours = read("environ").contains(&folder);
        assert!(!(ours && read("comm").starts_with("epmd")), "{} is a port mapper", entry.path().display());
    }
}

#[tokio::test]
#[should_panic(expected = "waited 50ms for the moon: it is still day")]
async fn a_wait_fails_with_its_reason() {
    wait_until(Duration::from_millis(50), "the moon", async || Err::<(), _>("it is still day".to_owned())).await;
}
