//! `ack = "none"`: acked before the handler begins.

use std::time::Duration;

use serde_json::json;

use crate::harness::DEADLINE;
use crate::harness::wait_until;
use crate::outcomes::{WORKER, stage};

fn manifest() -> String {
    WORKER.replace("[failure]\nattempts = 1\n", "[consume]\nack = \"none\"\nprefetch = 10\nconcurrency = 2\n")
}

/// The broker has forgotten the delivery while its handler still runs; what it publishes is published.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_acked_before_its_handler_begins() {
    let mut stage = stage("ack-none", "", &[("probe", &manifest())]).await;
    let slow = json!({"do": "sleep", "ms": 3000, "then": {"do": "echo", "to": stage.named("/@out")}});
    stage.send("slow", &slow.to_string()).await;
    stage.wait_for_settled("probe", "acked", 1).await;
    stage.expect_empty(&["out"]).await;
    assert_eq!(stage.take("out", 1).await.len(), 1);

    // So it is lost with the host.
    stage.send("lost", &slow.to_string()).await;
    stage.wait_for_settled("probe", "acked", 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.host.kill();
    stage.host.ended(DEADLINE).await;
    stage.expect_empty(&["work", "out"]).await;
}

/// Whatever fails is counted and told, and nothing comes back or is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_lost_and_told() {
    let stage = stage("ack-none-fails", "[limits]\nbody = \"2KiB\"\n", &[("probe", &manifest())]).await;
    let unroutable = json!({"do": "publish", "publications": [{"to": stage.named("/@out")}, {"to": "/nowhere"}]});
    let commands = [
        r#"{"do":"error","text":"boom"}"#.to_owned(),
        r#"{"do":"requeue"}"#.to_owned(),
        r#"{"do":"retry","ms":100}"#.to_owned(),
        r#"{"do":"dead-letter","reason":"no"}"#.to_owned(),
        r#"{"do":"trap"}"#.to_owned(),
        unroutable.to_string(),
        "x".repeat(3000),
        r#"{"do":"ack"}"#.to_owned(),
    ];
    for (n, command) in commands.iter().enumerate() {
        stage.send(&n.to_string(), command).await;
    }
    stage.wait_for_settled("probe", "acked", 8).await;
    for (kind, count) in [
        ("handler-error", 1),
        ("malformed-outcome", 2),
        ("dead-lettered", 1),
        ("trap", 1),
        ("publication-refused", 1),
        ("body-too-large", 1),
    ] {
        wait_until(DEADLINE, format!("{count} times {kind}"), async || {
            let labels = format!("worker=\"probe\",error_type=\"{kind}\"");
            match stage.metric("wabbit_failures_total", &labels).await {
                now if now == count => Ok(()),
                now => Err(format!("{now} times")),
            }
        })
        .await;
    }
    stage.host.wait_for_log("with `ack = \"none\"` a delivery cannot be requeued").await;
    stage.host.wait_for_log("with `ack = \"none\"` a delivery cannot be retried").await;
    stage.expect_empty(&["work", "out"]).await;
    assert_eq!(stage.peer.try_count(&stage.named("@work.dead")).await, None, "a dead-letter queue was declared");
}

/// What is acked first counts against no prefetch of the broker's; the host holds no more than that all the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_prefetch_still_bounds_what_is_in_hand() {
    let stage = stage("ack-none-bound", "", &[("probe", &manifest())]).await;
    let sleep = r#"{"do":"sleep","ms":400}"#;
    for n in 0..40 {
        stage.send(&n.to_string(), sleep).await;
    }
    // Two with handlers, ten that the broker may send ahead: the others are still at the broker.
    wait_until(DEADLINE, "handlers to begin", async || match stage.settled("probe", "acked").await {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    })
    .await;
    let acked = stage.settled("probe", "acked").await;
    let ready = u64::from(stage.peer.count(&stage.named("@work")).await);
    assert!(ready + acked + 10 + 4 >= 40, "{ready} at the broker after {acked} were acked");
    stage.wait_for_settled("probe", "acked", 40).await;
}
