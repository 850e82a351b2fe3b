//! Acks, confirms and dead letters that went astray.

use std::collections::{BTreeMap, BTreeSet};

use lapin::types::AMQPValue;
use serde_json::json;

use super::{WORKER, all, expect_no_complaint, probe, publish, scene, wait_for_settled};
use crate::harness::amqp::{Message, Peer, persistent, table};
use crate::harness::broker::Broker;
use crate::harness::host::Host;
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{id, metric, settled};
use crate::retries::rungs;

/// The texts of messages, as numbers.
fn numbers(messages: &[Message]) -> BTreeSet<usize> {
    messages.iter().map(|message| message.text().parse().unwrap()).collect()
}

/// The numbers that messages have as their ids.
fn ids(messages: &[Message]) -> BTreeSet<usize> {
    messages.iter().map(|message| message.properties.message_id().as_ref().unwrap().as_str().parse().unwrap()).collect()
}

/// <https://github.com/celery/celery/issues/4671>: what ran while the broker was restarted could not be acked any more,
/// stayed unacked, and was run again although it had been done. Here what was settled before runs once; what was at
/// work is ended with its connection, before it has published anything, and is done by its second run alone.
#[tokio::test(flavor = "multi_thread")]
async fn celery_4671_what_ran_during_a_restart_is_done_once() {
    let mut broker = Broker::private().await;
    let vhost = broker.vhost("celery-4671").await;
    let mut host = Host::ready(probe(&vhost.url, WORKER)).await;
    let peer = Peer::connect(&vhost.url).await;
    let run = |n: usize, ms: u64| {
        let sleep = json!({"do": "sleep", "ms": ms, "then": publish("out", n)});
        json!({"do": "log", "text": format!("begun-{n}."), "then": sleep}).to_string()
    };
    peer.publish_all("", "work", (0..20).map(|n| run(n, 0)), persistent()).await;
    wait_for_settled(&host, "acked", 20).await;
    peer.wait_for_count("out", 20, DEADLINE).await;
    peer.publish_all("", "work", (20..30).map(|n| run(n, 3_000)), persistent()).await;
    for n in 20..30 {
        host.wait_for_log(&format!("begun-{n}.")).await;
    }
    broker.stop().await;
    broker.start().await;
    host.wait_until_ready().await;
    let peer = Peer::connect_when_up(&vhost.url, DEADLINE).await;
    let outputs = peer.drain("out", 30, DEADLINE).await;
    assert_eq!(numbers(&outputs), (0..30).collect(), "each once");
    wait_for_settled(&host, "acked", 30).await;
    let log = host.logs().join("\n");
    for n in 0..30 {
        let begun = log.matches(&format!("begun-{n}.")).count();
        assert_eq!(begun, if n < 20 { 1 } else { 2 }, "{n}");
    }
    expect_no_complaint(&host);
    assert_eq!(host.terminate().await, 0);
    for queue in ["work", "work.dead", "out"] {
        assert_eq!(peer.count(queue).await, 0, "{queue}");
    }
}

/// <https://github.com/jwalton/node-amqp-connection-manager/issues/362>: acks during a reconnection were dropped as if
/// they had been sent, and those after it went to the new channel with tags of the old one. Here connections are cut
/// again and again under a stream of deliveries: each is done, none is acked without its output, and the broker has
/// nothing to say against any tag.
#[tokio::test(flavor = "multi_thread")]
async fn amqp_connection_manager_362_no_ack_crosses_a_reconnection() {
    const COUNT: usize = 2_000;
    let mut scene = scene("acm-362", "", WORKER).await;
    let command = |n: usize| json!({"do": "sleep", "ms": n % 20, "then": publish("out", n)}).to_string();
    let cutting = async {
        let watching = Peer::connect(&scene.vhost.url).await;
        for part in 1..=6_u32 {
            let reached = u32::try_from(COUNT).unwrap() / 8 * part;
            wait_until(DEADLINE, format!("{reached} outputs"), async || match watching.count("out").await {
                count if count >= reached => Ok(()),
                count => Err(format!("{count} so far")),
            })
            .await;
            scene.wire.cut();
        }
    };
    let sending = scene.peer.publish_all("", "work", (0..COUNT).map(command), persistent());
    tokio::join!(sending, cutting);
    let mut missing: BTreeSet<usize> = (0..COUNT).collect();
    let mut outputs = 0;
    wait_until(DEADLINE, "all outputs", async || {
        let came = all(&scene.peer, "out").await;
        outputs += came.len() as u64;
        missing.retain(|n| !numbers(&came).contains(n));
        if missing.is_empty() { Ok(()) } else { Err(format!("{} are missing", missing.len())) }
    })
    .await;
    scene.peer.wait_for_count("work", 0, DEADLINE).await;
    wait_until(DEADLINE, "nothing to be in hand", async || {
        match metric(&scene.host.metrics().await, "wabbit_deliveries_in_flight", "worker=\"probe\"") {
            0 => Ok(()),
            count => Err(format!("{count} are")),
        }
    })
    .await;
    let acked = settled(&scene.host, "probe", "acked").await;
    assert!(acked >= COUNT as u64, "{acked} acked");
    expect_no_complaint(&scene.host);
    assert_eq!(scene.host.terminate().await, 0);
    outputs += u64::from(scene.peer.count("out").await);
    assert!(outputs >= acked, "{acked} were acked, and {outputs} published");
    for queue in ["work", "work.dead"] {
        assert_eq!(scene.peer.count(queue).await, 0, "{queue}");
    }
}

/// <https://github.com/jwalton/node-amqp-connection-manager/issues/142>: a confirm was taken for that of the oldest
/// publication, whichever it was of, so that the wrong one counted as done and after a reconnection the wrong one was
/// sent again. Here publications go to queues that confirm at different times, some are refused and some come back, and
/// the connection is cut in between: whatever was taken is an output, whatever was not is a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn amqp_connection_manager_142_every_confirm_is_of_its_own_publication() {
    const COUNT: usize = 1_000;
    const TO: [&str; 5] = ["quorum", "full", "transient", "nobody", "classic"];
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n\
                    [[queue]]\nname = \"quorum\"\nconsume = false\nquorum = true\n\
                    [[queue]]\nname = \"classic\"\nconsume = false\n\
                    [[queue]]\nname = \"transient\"\nconsume = false\ndurable = false\n\
                    [[queue]]\nname = \"full\"\nconsume = false\narguments = { x-max-length = 1, x-overflow = \"reject-publish\" }\n\
                    [grant]\npublish = [\"/quorum\", \"/classic\", \"/transient\", \"/full\", \"/nobody\"]\n\
                    [failure]\nattempts = 1\n";
    let mut scene = scene("acm-142", "", manifest).await;
    scene.peer.publish("", "full", b"fills it", persistent()).await;
    for n in 0..COUNT {
        let command = publish(TO[n % TO.len()], n).to_string();
        scene.peer.publish("", "work", command.as_bytes(), id(n)).await;
        if n % 250 == 200 {
            scene.wire.cut();
        }
    }
    let mut ended: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
    wait_until(DEADLINE, "every message to end", async || {
        for queue in ["quorum", "classic", "transient"] {
            ended.entry(queue).or_default().extend(numbers(&all(&scene.peer, queue).await));
        }
        let letters = all(&scene.peer, "work.dead").await;
        ended.entry("dead").or_default().extend(ids(&letters));
        reasons.extend(letters.iter().map(|letter| {
            let number = letter.properties.message_id().as_ref().unwrap().as_str().parse().unwrap();
            (number, letter.text_header("x-wabbit-reason").unwrap())
        }));
        match ended.values().map(BTreeSet::len).sum::<usize>() {
            COUNT => Ok(()),
            count => Err(format!("{count} did")),
        }
    })
    .await;
    for (n, to) in (0..COUNT).map(|n| (n, TO[n % TO.len()])) {
        match to {
            "full" => assert_eq!(reasons.get(&n).map(String::as_str), Some("broker-nack"), "{n}"),
            "nobody" => assert_eq!(reasons.get(&n).map(String::as_str), Some("unroutable"), "{n}"),
            queue => assert!(ended[queue].contains(&n) && !ended["dead"].contains(&n), "{n} is no output of {queue}"),
        }
    }
    expect_no_complaint(&scene.host);
    assert_eq!(scene.host.terminate().await, 0);
    assert_eq!(scene.peer.count("work").await, 0);
    assert_eq!(scene.peer.count("full").await, 1);
}

/// <https://github.com/Bogdanp/dramatiq/issues/148>: acks were handed to the background and lost when the worker shut
/// down, so that a message whose retry had been published was on its queue as well. Here a host is stopped in the
/// middle: every message is in one place alone, on its queue, on the ladder or done.
#[tokio::test(flavor = "multi_thread")]
async fn dramatiq_148_every_ack_leaves_before_the_host_does() {
    const COUNT: usize = 3_000;
    let manifest = WORKER.replace("attempts = 1", "attempts = 3");
    let mut scene = scene("dramatiq-148", "", &manifest).await;
    let again = json!([{"do": "retry", "ms": 600_000}]).to_string();
    // The first one makes the rung, which rests for a second.
    scene.peer.publish("", "work", again.as_bytes(), id(COUNT)).await;
    wait_for_settled(&scene.host, "retried", 1).await;
    for n in 0..COUNT {
        let command = if n % 2 == 0 { again.clone() } else { publish("out", n).to_string() };
        let command = format!(r#"[{{"do":"sleep","ms":3,"then":{}}}]"#, command.trim_matches(['[', ']']));
        scene.peer.publish("", "work", command.as_bytes(), id(n)).await;
        if n == COUNT / 2 {
            scene.host.signal(nix::sys::signal::Signal::SIGTERM);
        }
    }
    assert_eq!(scene.host.ended(DEADLINE).await, 0);
    let mut places: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for message in all(&scene.peer, "out").await {
        places.entry(message.text().parse().unwrap()).or_default().push("out".into());
    }
    let mut queues = rungs();
    queues.extend(["work", "work.dead"].map(String::from));
    for queue in queues {
        if scene.peer.try_count(&queue).await.is_some() {
            for message in all(&scene.peer, &queue).await {
                let number = ids(&[message]).pop_first().unwrap();
                places.entry(number).or_default().push(queue.clone());
            }
        }
    }
    for n in 0..=COUNT {
        assert_eq!(places.get(&n).map_or(0, Vec::len), 1, "{n} is in {:?}", places.get(&n));
    }
    let waiting = places.values().flatten().filter(|place| place.starts_with("wabbit.wait.")).count();
    let left = places.values().flatten().filter(|place| *place == "work").count();
    assert!(waiting > 1 && left > 1, "it was stopped in the middle: {waiting} wait, {left} are left");
}

/// <https://github.com/spring-attic/spring-cloud-stream-binder-rabbit/issues/313>: messages that failed were acked
/// although their copies could not be published to the dead-letter queue, for want of a permission, and so were gone.
/// Here a message whose dead letter is refused stays on its queue and is tried again, until its copy is taken.
#[tokio::test(flavor = "multi_thread")]
async fn spring_cloud_stream_binder_rabbit_313_a_refused_dead_letter_loses_nothing() {
    const COUNT: usize = 5;
    let broker = Broker::ours().await;
    let vhost = broker.vhost("spring-313").await;
    let user = format!("auditor-{}", vhost.name);
    broker.ctl(&["add_user", &user, "auditor"]).await;
    // Everything but publishing by the default exchange, which leads to the dead-letter queue.
    let rights = ["set_permissions", "-p", &vhost.name, &user, ".*", "^(work|wabbit\\..*)$", ".*"];
    broker.ctl(&rights).await;
    let url = vhost.url.replace("guest:guest", &format!("{user}:auditor"));
    let manifest = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"work\"\n[failure]\nattempts = 1\n";
    let mut host = Host::ready(probe(&url, manifest)).await;
    let peer = Peer::connect(&vhost.url).await;
    for n in 0..COUNT {
        peer.publish("", "work", br#"{"do":"error","text":"no"}"#, id(n)).await;
    }
    host.wait_for_log("a copy was not taken").await;
    wait_until(DEADLINE, "each to be put back twice", async || match settled(&host, "probe", "put-back").await {
        10.. => Ok(()),
        count => Err(format!("{count} were")),
    })
    .await;
    for outcome in ["acked", "dead-lettered"] {
        assert_eq!(settled(&host, "probe", outcome).await, 0, "{outcome}");
    }
    assert_eq!(peer.count("work.dead").await, 0);
    broker.ctl(&["set_permissions", "-p", &vhost.name, &user, ".*", ".*", ".*"]).await;
    let letters = peer.drain("work.dead", COUNT, DEADLINE).await;
    assert_eq!(ids(&letters), (0..COUNT).collect());
    assert!(letters.iter().all(|letter| letter.header("x-wabbit-attempts") == Some(&AMQPValue::LongLongInt(1))));
    wait_for_settled(&host, "dead-lettered", COUNT as u64).await;
    assert_eq!(host.terminate().await, 0);
    assert_eq!(peer.count("work").await, 0);
    assert_eq!(peer.count("work.dead").await, 0);
    broker.ctl(&["delete_user", &user]).await;
}

/// <https://github.com/rabbitmq/amqp091-go/issues/10>: a client that published while confirms came in stood still for
/// ever, each waiting for the other. Here nothing that the broker says arrives while thousands of publications leave,
/// and then all of it at once: nothing is acked before, and everything is acked once after.
#[tokio::test(flavor = "multi_thread")]
async fn amqp091_go_10_publishing_never_waits_for_confirms() {
    const DELIVERIES: usize = 200;
    const EACH: usize = 50;
    let manifest = WORKER.replace("[failure]", "[consume]\nconcurrency = 50\n[failure]");
    let mut scene = scene("amqp091-go-10", "", &manifest).await;
    let publications: Vec<_> =
        (0..EACH).map(|n| json!({"to": "/out", "body": n.to_string(), "body-len": 2_000})).collect();
    let command =
        json!({"do": "sleep", "ms": 1_000, "then": {"do": "publish", "publications": publications}}).to_string();
    let headers = table(&[("n", AMQPValue::LongInt(1))]);
    let properties = persistent().with_headers(headers);
    scene.peer.publish_all("", "work", (0..DELIVERIES).map(|_| &command), properties).await;
    // All are with the host, and none is published yet.
    scene.peer.wait_for_count("work", 0, DEADLINE).await;
    scene.wire.hold_answers();
    let held = u32::try_from(DELIVERIES * EACH).unwrap() / 2;
    wait_until(DEADLINE, format!("{held} outputs"), async || match scene.peer.count("out").await {
        count if count >= held => Ok(()),
        count => Err(format!("{count} so far")),
    })
    .await;
    assert!(settled(&scene.host, "probe", "acked").await < DELIVERIES as u64 / 2, "what is not confirmed is not acked");
    scene.wire.mend();
    wait_for_settled(&scene.host, "acked", DELIVERIES as u64).await;
    assert_eq!(scene.peer.drain("out", DELIVERIES * EACH, DEADLINE).await.len(), DELIVERIES * EACH);
    expect_no_complaint(&scene.host);
    assert_eq!(scene.host.terminate().await, 0);
    for queue in ["work", "work.dead", "out"] {
        assert_eq!(scene.peer.count(queue).await, 0, "{queue}");
    }
}
