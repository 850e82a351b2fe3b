//! Instances that are kept: what they remember, and when they are given up.

use serde_json::json;

use crate::harness::amqp::persistent;
use crate::harness::{host, places};
use crate::outcomes::{Stage, guest, stage};

fn manifest(instance: &str) -> String {
    format!(
        "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[[queue]]\nname = \"@out\"\nconsume = false\n\
         [limits]\ntime = \"1s\"\n[failure]\nattempts = 1\n[grant]\npublish = [\"/@out\"]\n[consume]\nconcurrency = 1\n\
         [instance]\n{instance}"
    )
}

/// Which call of its instance each of so many deliveries is.
async fn calls(stage: &Stage, count: usize) -> Vec<u64> {
    let command = stage.named(r#"{"do":"context","to":"/@out"}"#);
    stage.peer.publish_all("", &stage.named("@work"), (0..count).map(|_| &command), persistent()).await;
    let messages = stage.take("out", count).await;
    messages.iter().map(|message| message.json()["calls"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn an_instance_is_kept_for_as_many_deliveries_as_the_manifest_says() {
    let stage = stage("reuse", "", &[("probe", &manifest("reuse = true\nmax-deliveries = 3\n"))]).await;
    assert_eq!(calls(&stage, 8).await, [1, 2, 3, 1, 2, 3, 1, 2]);
}

/// Whatever fails a delivery: it is not called again, and the next one begins from nothing.
#[tokio::test]
async fn an_instance_that_failed_is_given_up() {
    let stage = stage("reuse-failed", "", &[("probe", &manifest("reuse = true\n"))]).await;
    let failures = [
        json!({"do": "error", "text": "no"}),
        json!({"do": "panic"}),
        json!({"do": "loop"}),
        json!({"do": "sleep", "ms": 5000}),
    ];
    for (number, failure) in (1..).zip(failures) {
        assert_eq!(calls(&stage, 3).await, [1, 2, 3], "before {failure}");
        stage.send("1", &failure.to_string()).await;
        stage.wait_for_settled("probe", "dead-lettered", number).await;
    }
    assert_eq!(calls(&stage, 2).await, [1, 2]);
}

/// Limits of time and calls are each delivery's own, though the instance is not.
#[tokio::test]
async fn each_delivery_has_its_own_time() {
    let stage = stage("reuse-time", "", &[("probe", &manifest("reuse = true\n"))]).await;
    let sleep = json!({"do": "sleep", "ms": 400, "then": {"do": "context", "to": stage.named("/@out")}}).to_string();
    stage.peer.publish_all("", &stage.named("@work"), (0..5).map(|_| &sleep), persistent()).await;
    let told: Vec<_> = stage.take("out", 5).await.iter().map(|message| message.json()["calls"].clone()).collect();
    assert_eq!(told, [1, 2, 3, 4, 5]);
    assert_eq!(stage.settled("probe", "dead-lettered").await, 0);
}

/// Instances that wait take no slot of the host's: other workers have all of them.
#[tokio::test]
async fn what_is_kept_takes_no_slot() {
    let kept = manifest("reuse = true\n").replace("concurrency = 1", "concurrency = 16");
    let other = manifest("").replace("@work", "@other").replace("concurrency = 1", "concurrency = 16");
    let stage = stage("reuse-slots", "[limits]\nrunning = 4\n", &[("probe", &kept), ("other", &other)]).await;
    for round in 1..=5 {
        for queue in ["@work", "@other"] {
            let command = json!({"do": "sleep", "ms": 5}).to_string();
            stage.peer.publish_all("", &stage.named(queue), (0..100).map(|_| &command), persistent()).await;
        }
        stage.wait_for_settled("probe", "acked", round * 100).await;
        stage.wait_for_settled("other", "acked", round * 100).await;
    }
    for worker in ["probe", "other"] {
        assert_eq!(stage.settled(worker, "dead-lettered").await, 0);
    }
}

#[tokio::test]
async fn a_command_has_no_instance_to_keep() {
    let folder = places::folder("reuse-command");
    let text = "plugin = \"command.wasm\"\n[[queue]]\nname = \"q\"\n[instance]\nreuse = true\n";
    for name in ["manifests", "plugins"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("manifests/c.toml"), text).unwrap();
    std::fs::copy(guest("command"), folder.path().join("plugins/command.wasm")).unwrap();
    let checked = host::run(folder.path(), &["check"]).await;
    assert_eq!(checked.code, 64, "{checked:?}");
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(said.contains("is a command, which ends with its answer") && said.contains("`reuse`"), "{said}");
}
