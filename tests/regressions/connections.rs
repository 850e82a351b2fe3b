//! Connections that are lost, and consumers that did not come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{IMPATIENT, WORKER, consumers, probe, publish, scene, wait_for_consumer, wait_until_unready};
use crate::harness::amqp::{Message, Peer, Published, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::Host;
use crate::harness::{DEADLINE, wait_until};

/// <https://github.com/mosquito/aio-pika/issues/231>: after RabbitMQ was restarted, the connection that calls itself
/// robust was there again, but its queue had no consumer. Here the consumer is back after an orderly restart and after
/// a kill, the host says meanwhile that it is not ready, and everything published since is handled.
#[tokio::test(flavor = "multi_thread")]
async fn aio_pika_231_the_consumer_is_back_after_a_restart() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("aio-pika-231").await;
    let mut host = Host::ready(probe(&vhost.url, WORKER)).await;
    for round in ["stopped", "killed"] {
        broker.flush().await;
        if round == "stopped" {
            broker.stop().await
        } else {
            broker.kill()
        }
        wait_until_unready(&host).await;
        broker.start().await;
        host.wait_until_ready().await;
        let peer = Peer::connect_when_up(&vhost.url, DEADLINE).await;
        assert_eq!(consumers(&peer, "work").await, Some(1), "after it was {round}");
        peer.publish_all("", "work", (0..50).map(|n| publish("out", n).to_string()), persistent()).await;
        let outputs: BTreeSet<usize> =
            peer.drain("out", 50, DEADLINE).await.iter().map(|message| message.text().parse().unwrap()).collect();
        assert_eq!(outputs, (0..50).collect(), "after it was {round}");
        peer.wait_for_count("work", 0, DEADLINE).await;
    }
}

/// <https://github.com/mosquito/aio-pika/issues/563>: when a connection got stuck, without being closed, it was
/// replaced after the missed heartbeats, but the channels on it were not: nobody consumed any more. Here a broker that
/// is not heard any more is given up, and channels, topology and consumers are made anew with the connection.
#[tokio::test(flavor = "multi_thread")]
async fn aio_pika_563_a_connection_that_is_stuck_is_replaced_with_its_channels() {
    let manifest = format!(
        "{WORKER}[[exchange]]\nname = \"shared\"\ntype = \"fanout\"\ndurable = false\n[[queue]]\nname = \"events\"\n\
         bind = [{{ exchange = \"shared\" }}]\n"
    );
    let mut scene = scene("aio-pika-563", IMPATIENT, &manifest).await;
    for round in 0..2 {
        // The broker still hears the host the first time, so that it keeps the old consumers; then nobody hears anybody.
        if round == 0 {
            scene.wire.hold_answers()
        } else {
            scene.wire.hang()
        }
        // Noticed, and tried again in vain.
        scene.host.wait_for_log("no broker").await;
        wait_until_unready(&scene.host).await;
        scene.wire.mend();
        scene.host.wait_until_ready().await;
        scene.host.clear_logs();
        for queue in ["work", "events"] {
            wait_for_consumer(&scene.peer, queue).await;
        }
        scene.peer.publish("shared", "", publish("out", "event").to_string().as_bytes(), persistent()).await;
        scene.peer.publish("", "work", publish("out", "work").to_string().as_bytes(), persistent()).await;
        let outputs = scene.peer.drain("out", 2, DEADLINE).await;
        let outputs: BTreeSet<&str> = outputs.iter().map(Message::text).collect();
        assert_eq!(outputs, BTreeSet::from(["event", "work"]), "round {round}");
    }
}

/// <https://github.com/mosquito/aio-pika/issues/334>: when the broker cancelled a consumer, because its queue was
/// deleted, nothing consumed from then on, although queue and connection were there. Here the worker says so, declares
/// its queue with its bindings again and consumes it, and other workers notice nothing.
#[tokio::test(flavor = "multi_thread")]
async fn aio_pika_334_a_cancelled_consumer_is_started_again() {
    let manifest = format!(
        "{}bind = [{{ exchange = \"amq.direct\", routing-key = \"k\" }}]\n",
        WORKER.replace("[[queue]]\nname = \"work\"\n", "") + "[[queue]]\nname = \"work\"\n"
    );
    let vhost = Broker::ours().await.vhost("aio-pika-334").await;
    let other = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"other\"\n[grant]\npublish = [\"/out\"]\n";
    let mut host = Host::ready(probe(&vhost.url, &manifest).manifest("other", other)).await;
    let peer = Peer::connect(&vhost.url).await;
    for round in 0..2 {
        peer.delete_queue("work").await;
        wait_until_unready(&host).await;
        assert_eq!(consumers(&peer, "other").await, Some(1), "the other worker goes on");
        let command = publish("out", format!("other {round}")).to_string();
        peer.publish("", "other", command.as_bytes(), persistent()).await;
        assert_eq!(peer.take("out", DEADLINE).await.text(), format!("other {round}"));
        host.wait_until_ready().await;
        assert_eq!(consumers(&peer, "work").await, Some(1));
        let command = publish("out", round).to_string();
        peer.publish("amq.direct", "k", command.as_bytes(), persistent()).await;
        assert_eq!(peer.take("out", DEADLINE).await.text(), round.to_string());
    }
    assert_eq!(peer.count("work.dead").await, 0);
    let log = host.logs().join("\n");
    assert_eq!(
        log.matches(": connected").count() + log.matches(" connected ").count(),
        1,
        "the connection stays: {log}"
    );
}

/// <https://github.com/celery/celery/issues/3201>: after some losses of the network in a row, the worker hung on a
/// socket that was no more, and had to be restarted by hand. Here losses of every kind, one after another, end with a
/// worker that consumes, and none is missing of what waited meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn celery_3201_losses_in_a_row_do_not_hang_the_worker() {
    let mut scene = scene("celery-3201", IMPATIENT, WORKER).await;
    let mut published = 0;
    for loss in ["cut", "down", "cut", "hang", "hang, then down", "cut"] {
        let bodies = (published..published + 40).map(|n| publish("out", n).to_string());
        scene.peer.publish_all("", "work", bodies, persistent()).await;
        published += 40;
        match loss {
            "cut" => scene.wire.cut(),
            "down" => scene.wire.take_down(),
            _ => scene.wire.hang(),
        }
        scene.host.wait_for_log("no broker").await;
        if loss != "cut" {
            wait_until_unready(&scene.host).await;
        }
        if loss == "hang, then down" {
            scene.wire.take_down();
        }
        scene.wire.mend();
        scene.host.wait_until_ready().await;
        wait_for_consumer(&scene.peer, "work").await;
        scene.host.clear_logs();
    }
    // What was unsettled at a loss may be there twice.
    let mut missing: BTreeSet<u64> = (0..published).collect();
    wait_until(DEADLINE, "an output of every message", async || {
        for message in super::all(&scene.peer, "out").await {
            missing.remove(&message.text().parse().unwrap());
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("{} are missing", missing.len())) }
    })
    .await;
    assert_eq!(scene.host.terminate().await, 0);
    assert_eq!(scene.peer.count("work").await, 0);
    assert_eq!(scene.peer.count("work.dead").await, 0, "no loss is charged to a message");
}

/// <https://github.com/onebeyond/rascal/issues/142>: a broker that was killed while messages were published came back
/// without some of the subscribers. Here each queue of each worker has its consumer again, and every message that was
/// confirmed is handled.
#[tokio::test(flavor = "multi_thread")]
async fn rascal_142_no_subscriber_is_lost_when_the_broker_is_killed() {
    const QUEUES: usize = 12;
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("rascal-142").await;
    let manifest = |worker: usize| {
        let queues: String = (0..4).map(|n| format!("[[queue]]\nname = \"q{}\"\n", worker * 4 + n)).collect();
        format!(
            "plugin = \"probe.wasm\"\n{queues}[[queue]]\nname = \"out\"\nconsume = false\n[grant]\npublish = [\"/out\"]\n"
        )
    };
    let config = probe(&vhost.url, &manifest(0)).manifest("second", &manifest(1)).manifest("third", &manifest(2));
    let mut host = Host::ready(config).await;
    // Queues that were declared a moment ago may be forgotten by a node that is killed, whoever declared them.
    broker.flush().await;
    let mut confirmed = BTreeSet::new();
    let peer = Peer::connect(&vhost.url).await;
    let stream = async {
        for n in 0_usize.. {
            let command = publish("out", n).to_string();
            let queue = format!("q{}", n % QUEUES);
            match peer.try_publish("", &queue, command.as_bytes(), persistent()).await {
                Ok(Published::Routed) => confirmed.insert(n),
                Ok(other) => panic!("{queue}: {other:?}"),
                Err(_) => break,
            };
        }
    };
    let kill = async {
        let watching = Peer::connect(&vhost.url).await;
        wait_until(DEADLINE, "200 outputs", async || match watching.count("out").await {
            200.. => Ok(()),
            count => Err(format!("{count} so far")),
        })
        .await;
        broker.kill();
    };
    tokio::join!(stream, kill);
    broker.start().await;
    host.wait_until_ready().await;
    let peer = Peer::connect_when_up(&vhost.url, DEADLINE).await;
    for n in 0..QUEUES {
        assert_eq!(consumers(&peer, &format!("q{n}")).await, Some(1), "q{n}");
        let command = publish("out", 1_000_000 + n).to_string();
        peer.publish("", &format!("q{n}"), command.as_bytes(), persistent()).await;
        confirmed.insert(1_000_000 + n);
    }
    let mut missing = confirmed;
    wait_until(DEADLINE, "an output of every message that was confirmed", async || {
        for message in super::all(&peer, "out").await {
            missing.remove(&message.text().parse().unwrap());
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("{} are missing", missing.len())) }
    })
    .await;
}

/// <https://github.com/pika/pika/issues/418>: a callback that ran for minutes kept its connection from answering
/// heartbeats, so the broker closed it, and the ack came too late. Here handlers that compute for several times the
/// heartbeat, more of them than there are cores, keep no connection from anything: each delivery is made once.
#[tokio::test(flavor = "multi_thread")]
async fn pika_418_long_computing_keeps_no_heartbeat_back() {
    let manifest = WORKER.replace("[failure]", "[limits]\ntime = \"5m\"\n[failure]");
    let scene = scene("pika-418", "[amqp]\nheartbeat = \"1s\"\n", &manifest).await;
    let begun = Instant::now();
    for _ in 0..4 {
        let command = json!({"do": "spin", "ms": 6000, "then": {"do": "describe", "to": "/out"}}).to_string();
        scene.peer.publish("", "work", command.as_bytes(), persistent()).await;
    }
    let outputs = scene.peer.drain("out", 4, DEADLINE).await;
    assert!(begun.elapsed() >= Duration::from_secs(6), "the handlers computed for longer than the broker waits");
    for message in outputs {
        assert_eq!((&message.json()["attempt"], &message.json()["redelivered"]), (&json!(1), &json!(false)));
    }
    super::wait_for_settled(&scene.host, "acked", 4).await;
    let log = scene.host.logs().join("\n");
    assert_eq!(log.matches("consuming").count(), 1, "one connection was enough: {log}");
    assert_eq!(scene.peer.count("out").await, 0);
}
