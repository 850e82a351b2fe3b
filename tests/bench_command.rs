//! `wabbit bench`: what it says is so, and nothing is left of it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::broker::{Broker, Vhost};
use crate::harness::process::{Lines, Output, Process};
use crate::harness::{DEADLINE, host, places, wait_until};
use crate::outcomes::guest;

/// The queues that there are.
async fn queues(vhost: &Vhost) -> Vec<String> {
    let told = Broker::ours().await.ctl(&["list_queues", "-p", &vhost.name, "--silent", "name"]).await;
    told.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

async fn bench(url: &str, plugin: &str, more: &[&str]) -> Output {
    let (folder, plugin) = (places::folder("bench"), guest(plugin).display().to_string());
    let arguments = ["bench", &plugin, "--amqp-url", url, "--json"];
    host::run(folder.path(), &[&arguments[..], more].concat()).await
}

#[tokio::test]
async fn a_plugin_is_measured_and_nothing_is_left() {
    let vhost = Broker::ours().await.vhost("bench").await;
    for more in [&["--messages", "4000", "--seconds", "1"][..], &["--messages", "2000", "--seconds", "0", "--quorum"]] {
        let told = bench(&vhost.url, "bench_ack", more).await.success();
        let told: Value = serde_json::from_str(&told).unwrap();
        let timed = told["latency"]["messages_per_second"].as_f64().unwrap_or_default();
        let messages: u64 = more[1].parse().unwrap();
        let settled = told["deliveries"]["acked"].as_u64().unwrap();
        assert_eq!(settled, messages + timed.ceil() as u64, "{told}");
        assert_eq!((&told["messages"], &told["body_bytes"]), (&messages.into(), &100.into()));
        for figure in ["messages_per_second", "cpu_us_per_message", "memory_mib"] {
            assert!(told[figure].as_f64().unwrap() > 0.0, "{figure}: {told}");
        }
        if timed > 0.0 {
            let at = |name: &str| told["latency"][name].as_f64().unwrap();
            assert!(at("p50_ms") <= at("p99_ms") && at("p99_ms") <= at("max_ms"), "{told}");
            let rows = told["latency"]["histogram"].as_array().unwrap().iter();
            assert_eq!(rows.map(|row| row["count"].as_u64().unwrap()).sum::<u64>(), timed.ceil() as u64);
        }
        assert_eq!(queues(&vhost).await, [] as [String; 0]);
    }
}

/// A handler that fails is told, with the kind of its failures, and the exit code says so.
#[tokio::test]
async fn failures_are_told() {
    let vhost = Broker::ours().await.vhost("bench-failures").await;
    let told =
        bench(&vhost.url, "probe", &["--messages", "100", "--seconds", "0", "--body", r#"{"do":"panic"}"#]).await;
    assert_eq!(told.code, 1, "{told:?}");
    let json: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!((&json["deliveries"]["dead-lettered"], &json["failures"]["trap"]), (&100.into(), &100.into()));
    assert_eq!(queues(&vhost).await, [] as [String; 0]);
    // What is no plugin is refused by the host, and its reason is shown.
    let refused = bench(&vhost.url, "no_export", &["--messages", "100"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("without a handler"), "{refused:?}");
    assert_eq!(queues(&vhost).await, [] as [String; 0]);
}

/// Ctrl-C ends it, with all that it had begun.
#[tokio::test]
async fn an_interrupt_leaves_nothing() {
    let vhost = Broker::ours().await.vhost("bench-interrupt").await;
    let folder = places::folder("bench");
    let mut command = host::wabbit(folder.path());
    command.args(["bench", &guest("probe").display().to_string(), "--amqp-url", &vhost.url]);
    command.args(["--messages", "100", "--seconds", "0", "--body", r#"{"do":"sleep","ms":4000}"#]);
    let mut process = Process::start("bench", command, &Lines::default());
    wait_until(DEADLINE, "a queue of its own", async || match queues(&vhost).await.len() {
        1 => Ok(()),
        count => Err(format!("{count}")),
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    process.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(process.ended(DEADLINE).await.code(), Some(1));
    assert_eq!(queues(&vhost).await, [] as [String; 0]);
}
