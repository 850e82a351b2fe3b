//! Key-value stores: what is written is there, for whom it is meant, and within its bounds.

use std::fs;

use serde_json::{Value, json};

use crate::grants::{invoke, told};
use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, wait_until};
use crate::outcomes::{guest, row, settled};

/// A worker that counts, with a queue of its own name.
fn worker(name: &str, keyvalue: &str) -> String {
    format!(
        "plugin = \"counter.wasm\"\n[[queue]]\nname = \"{name}\"\n[[queue]]\nname = \"told\"\nconsume = false\n\
         [failure]\nattempts = 1\n[limits]\ntime = \"20s\"\n[consume]\nprefetch = 1000\nconcurrency = 64\n\
         [grant]\npublish = [\"/told\"]\nkeyvalue = {keyvalue}\n"
    )
}

fn config(url: &str, workers: &[(&str, &str)]) -> HostConfig {
    let config = HostConfig::new(url).plugin("counter.wasm", &guest("counter"));
    workers.iter().fold(config, |config, (name, keyvalue)| config.manifest(name, &worker(name, keyvalue)))
}

fn calls(calls: Value) -> Vec<u8> {
    json!({"calls": calls, "to": "told"}).to_string().into_bytes()
}

/// What the worker answers to these calls.
async fn ask(peer: &Peer, name: &str, asked: Value) -> Value {
    peer.publish("", name, &calls(asked), persistent()).await;
    peer.take("told", DEADLINE).await.json()
}

#[tokio::test]
async fn each_worker_has_its_own_store_unless_it_is_shared() {
    let vhost = Broker::ours().await.vhost("stores").await;
    let peer = Peer::connect(&vhost.url).await;
    let shared = "{ store = \"all\", shared = true }";
    let in_memory = "{ store = \"all\", shared = true, memory = true }";
    let workers = [("a", "\"all\""), ("b", "\"all\""), ("c", shared), ("d", shared), ("e", in_memory)];
    let mut host = Host::ready(config(&vhost.url, &workers)).await;
    for (name, expected) in [("a", 1), ("b", 1), ("c", 1), ("d", 2), ("e", 1), ("a", 2), ("d", 3)] {
        assert_eq!(ask(&peer, name, json!([{"increment": ["n", 1]}])).await, json!([expected]), "{name}");
    }
    let everything = json!([
        {"set": ["k", "v"]}, {"get": "k"}, {"exists": "k"}, "keys", {"delete": "k"}, {"get": "k"}, {"exists": "k"},
        {"increment": ["k", 7]}, {"get": "k"}, {"set": ["k", "x"]}, {"increment": ["k", 1]},
    ]);
    let answers = json!([
        null, "v", true, ["k", "n"], null, null, false, 7, "7", null,
        {"error": "the value of `k` is not a whole number in decimal digits"},
    ]);
    for name in ["a", "e"] {
        assert_eq!(ask(&peer, name, everything.clone()).await, answers, "{name}");
    }
    let other = json!({"store": "elsewhere", "calls": [], "to": "told"}).to_string();
    peer.publish("", "a", other.as_bytes(), persistent()).await;
    assert_eq!(peer.take("told", DEADLINE).await.json(), json!([{"error": "the manifest grants no such store"}]));

    // On disk it is there again, in memory it is not; in order, nothing has to be read through.
    host.terminate().await;
    host.clear_logs();
    host.start_again();
    host.wait_until_ready().await;
    for (name, expected) in [("a", 3), ("b", 2), ("c", 4), ("e", 1)] {
        assert_eq!(ask(&peer, name, json!([{"increment": ["n", 1]}])).await, json!([expected]), "{name}");
    }
    assert!(host.logs().iter().all(|line| !line.contains("a host died with its key-value store open")));
}

/// What a handler was told is written is there, whenever the host is killed: each delivery counts before it publishes, so
/// that there are never more outputs than counts, and never more counts than handlings that began.
#[tokio::test(flavor = "multi_thread")]
async fn counts_survive_a_killed_host() {
    const COUNT: usize = 600;
    let vhost = Broker::ours().await.vhost("counts").await;
    let peer = Peer::connect(&vhost.url).await;
    let shared = "{ store = \"all\", shared = true }";
    let mut host = Host::ready(config(&vhost.url, &[("a", shared), ("b", shared)])).await;
    let mut kills = 0;
    let mut seen: Vec<u64> = Vec::new();
    let body = calls(json!([{"increment": ["n", 1]}]));
    for name in ["a", "b"] {
        peer.publish_all("", name, (0..COUNT / 2).map(|_| &body), persistent()).await;
    }
    while seen.len() < COUNT {
        seen.push(peer.take("told", DEADLINE).await.json()[0].as_u64().unwrap());
        if seen.len() % 150 == 0 && kills < 3 {
            host.kill();
            host.ended(DEADLINE).await;
            kills += 1;
            host.start_again();
            host.wait_until_ready().await;
        }
    }
    assert_eq!(kills, 3);
    host.wait_for_log("a host died with its key-value store open").await;
    // What was in hand when the host died is handled again, so that there may be more.
    peer.wait_for_count("a", 0, DEADLINE).await;
    peer.wait_for_count("b", 0, DEADLINE).await;
    wait_until(DEADLINE, "both workers to be idle", async || {
        let in_flight = [row(&host, "a").await["in_flight"].as_i64(), row(&host, "b").await["in_flight"].as_i64()];
        if in_flight == [Some(0), Some(0)] { Ok(()) } else { Err(format!("{in_flight:?}")) }
    })
    .await;
    seen.extend(
        peer.drain("told", usize::try_from(peer.count("told").await).unwrap(), DEADLINE)
            .await
            .iter()
            .map(|message| message.json()[0].as_u64().unwrap()),
    );
    let total = ask(&peer, "a", json!([{"get": "n"}])).await[0].as_str().unwrap().parse::<u64>().unwrap();
    let most = *seen.iter().max().unwrap();
    assert!(total >= most, "{most} was answered, {total} is there");
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "a number was given twice");
}

#[tokio::test]
async fn a_full_store_names_its_limit() {
    let folder = places::folder("full");
    let settings = folder.path().join("wabbit.toml");
    fs::write(&settings, "[keyvalue]\nvalue = 2000\nstore = 4096\ndisk = 6000\nmemory = 6000\n").unwrap();
    let vhost = Broker::ours().await.vhost("full").await;
    let peer = Peer::connect(&vhost.url).await;
    let workers = [("a", "\"s\""), ("b", "\"s\""), ("m", "{ store = \"s\", memory = true }")];
    let config = config(&vhost.url, &workers).argument("--config").argument(&settings.display().to_string());
    let host = Host::ready(config).await;
    for name in ["a", "m"] {
        let asked = json!([{"fill": ["1", 2001]}, {"fill": ["1", 2000]}, {"fill": ["2", 1900]}, {"fill": ["3", 100]},
                           {"get": "k".repeat(1025)}, {"delete": "2"}, {"fill": ["3", 100]}]);
        let told = ask(&peer, name, asked).await;
        let error = |text: &str| json!({ "error": text });
        let expected = [
            error("the value would have 2001 bytes, the limit is 2000"),
            Value::Null,
            Value::Null,
            error("the store would have 4195 bytes, the limit is 4096"),
            error("the key would have 1025 bytes, the limit is 1024"),
            Value::Null,
            Value::Null,
        ];
        assert_eq!(told, json!(expected), "{name}");
    }
    let told = ask(&peer, "b", json!([{"fill": ["1", 1900]}, {"fill": ["2", 1900]}, {"increment": ["n", 1]}])).await;
    assert_eq!(told[1], json!({"error": "all stores together would have 6160 bytes, the limit is 6000"}));
    assert_eq!((&told[0], &told[2]), (&Value::Null, &json!(1)));
    // It is the handler's to say what a full store means: all of these were acked.
    assert_eq!(settled(&host, "a", "acked").await, 1);
}

/// It takes effect at once, not with the settlement.
#[tokio::test]
async fn what_a_failed_delivery_wrote_stays() {
    let vhost = Broker::ours().await.vhost("failed").await;
    let peer = Peer::connect(&vhost.url).await;
    let _host = Host::ready(config(&vhost.url, &[("a", "\"s\"")])).await;
    let failing = json!({"calls": [{"increment": ["n", 1]}], "fail": true}).to_string();
    peer.publish("", "a", failing.as_bytes(), persistent()).await;
    peer.wait_for_count("a.dead", 1, DEADLINE).await;
    assert_eq!(ask(&peer, "a", json!([{"get": "n"}])).await, json!(["1"]));
}

#[tokio::test]
async fn two_hosts_do_not_share_a_file() {
    let vhost = Broker::ours().await.vhost("two-hosts").await;
    let state = places::folder("state");
    let state = state.path().display().to_string();
    let both = [("a", "\"s\""), ("m", "{ store = \"s\", memory = true }")];
    let first = Host::ready(config(&vhost.url, &both).argument("--state").argument(&state)).await;
    let second = Host::ready(config(&vhost.url, &both).argument("--state").argument(&state)).await;
    assert_eq!(row(&first, "a").await["state"], "consuming");
    let refused = row(&second, "a").await;
    assert_eq!((&refused["state"], &row(&second, "m").await["state"]), (&json!("refused"), &json!("consuming")));
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("keyvalue.redb` is in use by another host; hint: "), "{reason}");
}

#[tokio::test]
async fn invoke_keeps_nothing_unless_it_is_told_to() {
    let folder = places::folder("scratch");
    fs::create_dir(folder.path().join("manifests")).unwrap();
    fs::write(folder.path().join("manifests/w.toml"), worker("w", "\"s\"")).unwrap();
    let count = json!({"calls": [{"increment": ["n", 1]}], "to": "told"});
    for _ in 0..2 {
        assert_eq!(told(folder.path(), "counter", &count, &[]).await, json!([1]));
    }
    assert!(!folder.path().join("state").exists());
    for expected in 1..=2 {
        assert_eq!(told(folder.path(), "counter", &count, &["--effects"]).await, json!([expected]));
    }
    assert!(folder.path().join("state/wabbit/keyvalue.redb").exists());
    let output = invoke(folder.path(), "counter", &count, &["--effects"]).await;
    assert_eq!(output.code, 0, "{output:?}");
}
