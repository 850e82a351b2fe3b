//! What runs in the sandbox harms nobody, and what is compiled once is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, process, wait_until};
use crate::outcomes::{Stage, backstage, curtain, guest, stage};

const COMPILED: &str = " compiled plugin=";
const FROM_CACHE: &str = "loaded from the cache";
const BAD_ENTRY: &str = "a cache entry is bad";

/// A small plugin, since it is compiled several times here; it acks.
fn small(url: &str, cache: &Path, queue: &str) -> HostConfig {
    HostConfig::new(url)
        .plugin("ack.wasm", &guest("bench_ack"))
        .manifest("ack", &format!("plugin = \"ack.wasm\"\n[[queue]]\nname = \"{queue}\"\n"))
        .argument("--cache")
        .argument(&cache.display().to_string())
}

/// The one entry of a cache.
fn entry(cache: &Path) -> PathBuf {
    let entries: Vec<_> = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries[0].clone()
}

/// The test fails unless this line, and not the other, was logged since the log was cleared, and the worker works.
async fn expect_loaded(host: &Host, peer: &Peer, queue: &str, how: &str) {
    host.wait_for_log(how).await;
    let other = if how == COMPILED { FROM_CACHE } else { COMPILED };
    assert!(!host.logs().iter().any(|line| line.contains(other)), "{}", host.logs().join("\n"));
    peer.publish("", queue, b"x", persistent()).await;
    peer.wait_for_count(queue, 0, DEADLINE).await;
}

#[tokio::test]
async fn the_second_start_does_not_compile() {
    let vhost = Broker::shared().await.vhost("cache").await;
    let (peer, queue) = (Peer::connect(&vhost.url).await, vhost.unique("work"));
    let folder = places::folder("cache");
    let cache = folder.path().join("compiled");
    let mut host = Host::ready(small(&vhost.url, &cache, &queue)).await;
    expect_loaded(&host, &peer, &queue, COMPILED).await;
    host.terminate().await;
    host.clear_logs();
    host.start_again();
    host.wait_until_ready().await;
    expect_loaded(&host, &peer, &queue, FROM_CACHE).await;

    // Two workers share a plugin, by whatever name its file goes, and it is loaded once.
    let more = |config: HostConfig, name: &str, file: &str| {
        let manifest = format!("plugin = \"{file}\"\n[[queue]]\nname = \"{queue}-{name}\"\n");
        config.plugin(file, &guest("bench_ack")).manifest(name, &manifest)
    };
    let config = more(more(small(&vhost.url, &cache, &queue), "again", "ack.wasm"), "copy", "copy.wasm");
    drop(host);
    let host = Host::ready(config).await;
    expect_loaded(&host, &peer, &queue, FROM_CACHE).await;
    let digests: BTreeSet<String> =
        host.get("/workers").await.as_array().unwrap().iter().map(|row| row["digest"].to_string()).collect();
    assert_eq!(digests.len(), 1);
    drop(host);

    // Another configuration of the host finds what fits it, or compiles; it works either way.
    let settings = folder.path().join("wabbit.toml");
    fs::write(&settings, "[limits]\nrunning = 3\nmemory = \"1GiB\"\n").unwrap();
    let config = small(&vhost.url, &cache, &queue).argument("--config").argument(&settings.display().to_string());
    let host = Host::ready(config).await;
    peer.publish("", &queue, b"x", persistent()).await;
    peer.wait_for_count(&queue, 0, DEADLINE).await;
    assert!(host.logs().iter().all(|line| !line.contains(BAD_ENTRY)), "{}", host.logs().join("\n"));
}

#[tokio::test]
async fn a_bad_cache_entry_is_compiled_again() {
    let vhost = Broker::shared().await.vhost("bad-cache").await;
    let (peer, queue) = (Peer::connect(&vhost.url).await, vhost.unique("work"));
    let folder = places::folder("cache");
    let cache = folder.path().join("compiled");
    let mut host = Host::ready(small(&vhost.url, &cache, &queue)).await;
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 4] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", Vec::clear),
        ("one bit", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }),
        // As if it had been compiled for another machine, and stood under the right name nevertheless.
        ("another machine", |bytes| {
            let triple = b"-unknown-linux-";
            let at = bytes.windows(triple.len()).position(|window| window == triple).expect("the target's name");
            bytes[at + 1] = b'U';
        }),
    ];
    for (name, damage) in damages {
        host.terminate().await;
        host.clear_logs();
        let path = entry(&cache);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        if name == "another machine" {
            let mut sum = process::bound("sha256sum");
            sum.arg(&path);
            let sum = process::run("sha256sum", sum, DEADLINE).await.success();
            let (key, _) = path.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap();
            fs::rename(&path, cache.join(format!("{key}-{}.cwasm", &sum[..64]))).unwrap();
        }
        host.start_again();
        host.wait_until_ready().await;
        host.wait_for_log(BAD_ENTRY).await;
        expect_loaded(&host, &peer, &queue, COMPILED).await;
        // The new entry is sound.
        host.terminate().await;
        host.clear_logs();
        host.start_again();
        host.wait_until_ready().await;
        expect_loaded(&host, &peer, &queue, FROM_CACHE).await;
    }
    // A folder that others may write to is not used at all.
    host.terminate().await;
    host.clear_logs();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777)).unwrap();
    host.start_again();
    host.wait_until_ready().await;
    host.wait_for_log("no cache of compiled plugins").await;
    expect_loaded(&host, &peer, &queue, COMPILED).await;
}

/// A worker of its own queue and limits.
fn worker(queue: &str, more: &str) -> String {
    format!("plugin = \"probe.wasm\"\n[[queue]]\nname = \"@{queue}\"\n{more}")
}

/// Publishes this command so many times to the queue `@NAME`.
async fn send_all(stage: &Stage, queue: &str, command: &Value, count: usize) {
    let (queue, body) = (stage.vhost.unique(queue), stage.named(&command.to_string()));
    stage.peer.publish_all("", &queue, (0..count).map(|_| &body), persistent()).await;
}

/// Sends one delivery after the other through a worker, each within the deadline.
async fn expect_responsive(stage: &Stage, worker: &str) {
    for number in 1..=20 {
        send_all(stage, worker, &json!({"do": "ack"}), 1).await;
        stage.wait_for_settled(worker, "acked", number).await;
    }
}

/// Waits until so many handlers of the worker `held` are running at once, and none of them has ended.
async fn expect_slots(stage: &Stage, slots: usize) {
    let hold = json!({"do": "log", "text": "held", "then": {"do": "sleep", "ms": 600_000}});
    send_all(stage, "held", &hold, slots).await;
    wait_until(DEADLINE, format!("{slots} handlers at once"), async || {
        match stage.host.logs().iter().filter(|line| line.contains(" held worker=held")).count() {
            running if running == slots => Ok(()),
            running => Err(format!("{running} are running")),
        }
    })
    .await;
}

#[tokio::test]
async fn handlers_that_are_cut_off_in_their_sleep_leave_nothing_behind() {
    const SLOTS: usize = 20;
    let manifests = [
        ("sleepy", worker("sleepy", "[consume]\nconcurrency = 200\n[limits]\ntime = \"1s\"\n")),
        ("other", worker("other", "")),
        ("held", worker("held", "[consume]\nconcurrency = 100\n[limits]\ntime = \"20m\"\n")),
    ];
    let manifests: Vec<_> = manifests.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let stage = stage("cut-off", "[limits]\nrunning = 20\n", &manifests).await;
    let bodies =
        (0..1000).map(|n| json!({"do": "stderr-sleep", "times": if n % 20 == 7 { 1000 } else { 1 }}).to_string());
    stage.peer.publish_all("", &stage.named("@sleepy"), bodies, persistent()).await;
    expect_responsive(&stage, "other").await;
    stage.wait_for_settled("sleepy", "dead-lettered", 50).await;
    stage.wait_for_settled("sleepy", "acked", 950).await;
    for letter in stage.take("sleepy.dead", 50).await {
        assert_eq!(letter.text_header("x-wabbit-reason").as_deref(), Some("time-limit"));
    }
    expect_slots(&stage, SLOTS).await;
    let log = stage.host.logs().join("\n");
    assert!(!log.contains("panicked"), "{log}");
}

/// Handlers that compute without end share their threads, and are ended, without anybody else waiting for them.
#[tokio::test]
async fn busy_handlers_do_not_stop_the_others() {
    let manifests = [
        ("busy", worker("busy", "[consume]\nconcurrency = 8\n[limits]\ntime = \"20m\"\n")),
        ("ended", worker("ended", "[consume]\nconcurrency = 8\n[limits]\ntime = \"1s\"\n[failure]\nattempts = 1\n")),
        ("other", worker("other", "")),
    ];
    let manifests: Vec<_> = manifests.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let stage = stage("busy", "", &manifests).await;
    send_all(&stage, "busy", &json!({"do": "loop"}), 8).await;
    send_all(&stage, "ended", &json!({"do": "loop"}), 8).await;
    expect_responsive(&stage, "other").await;
    stage.wait_for_settled("ended", "dead-lettered", 8).await;
    // More than once: whoever waits in the wrong line may have had luck.
    for round in 2..=5 {
        send_all(&stage, "ended", &json!({"do": "loop"}), 8).await;
        stage.wait_for_settled("ended", "dead-lettered", round * 8).await;
    }
    assert_eq!(stage.host.get_status("/healthz").await.0, 200);
}

/// More may run by the manifests than by the host: deliveries wait, none fails, and each worker has its turn.
#[tokio::test]
async fn workers_share_the_slots_of_the_host() {
    const EACH: usize = 200;
    let names = ["one", "two", "three"];
    let text = |name: &str| {
        let out = "[[queue]]\nname = \"@out\"\nconsume = false\n";
        worker(
            name,
            &format!("{out}[consume]\nconcurrency = 16\n[limits]\ntime = \"1s\"\n[grant]\npublish = [\"/@out\"]\n"),
        )
    };
    let manifests: Vec<_> = names.iter().map(|name| (*name, text(name))).collect();
    let manifests: Vec<_> = manifests.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let (vhost, folder, config) = backstage("share", "[limits]\nrunning = 4\n", &manifests).await;
    // All of it is there before the host is: nobody has a start.
    let peer = Peer::connect(&vhost.url).await;
    for name in names {
        let publish =
            json!({"do": "publish", "publications": [{"to": format!("/{}", vhost.unique("out")), "body": name}]});
        let command = json!({"do": "sleep", "ms": 10, "then": publish}).to_string();
        peer.durable_queue(&vhost.unique(name)).await;
        peer.publish_all("", &vhost.unique(name), (0..EACH).map(|_| &command), persistent()).await;
    }
    let stage = curtain(vhost, folder, config).await;
    let outputs = stage.take("out", names.len() * EACH).await;
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    for message in &outputs[..outputs.len() / 2] {
        *turns.entry(message.text()).or_default() += 1;
    }
    assert!(names.iter().all(|name| turns.get(name).is_some_and(|&turns| turns >= EACH / 4)), "{turns:?}");
    for name in names {
        stage.wait_for_settled(name, "acked", EACH as u64).await;
        assert_eq!(stage.settled(name, "dead-lettered").await, 0);
    }
}

/// The message of each log line that a handler wrote. The test fails where a line does not name its worker and stream.
fn handler_lines(host: &Host) -> Vec<String> {
    let lines = host.logs();
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
    let handler = lines.filter(|line| line["target"] == "wabbit::handler");
    handler
        .map(|line| {
            assert!(
                line["worker"] == "probe" && ["stdout", "stderr"].contains(&line["stream"].as_str().unwrap()),
                "{line}"
            );
            line["message"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[tokio::test]
async fn what_handlers_write_is_bounded_and_harmless() {
    let (vhost, folder, config) = backstage("logs", "log-format = \"json\"\n", &[("probe", &worker("work", ""))]).await;
    let stage = curtain(vhost, folder, config).await;
    let settled = async |count| stage.wait_for_settled("probe", "acked", count).await;

    stage
        .send(
            "1",
            r#"{"do":"log","stream":"stdout","text":"plain","then":{"do":"log","text":"no end","newline":false}}"#,
        )
        .await;
    settled(1).await;
    assert_eq!(handler_lines(&stage.host), ["plain", "no end"]);

    stage.host.clear_logs();
    stage.send("2", &json!({"do": "log", "text": "\u{1b}[2Jclear \u{7}\r\u{202e}back gr\u{fc}n"}).to_string()).await;
    stage.send("3", &json!({"do": "log", "text": [255, 254, 65]}).to_string()).await;
    settled(3).await;
    let mut lines = handler_lines(&stage.host);
    lines.sort();
    assert_eq!(lines, [r"\u{1b}[2Jclear \u{7}\r\u{202e}back grün", "\u{fffd}\u{fffd}A"]);

    // A line without an end comes in pieces; one delivery writes no more than so much.
    stage.host.clear_logs();
    stage.send("4", &json!({"do": "log", "length": 20_000}).to_string()).await;
    settled(4).await;
    let pieces: Vec<usize> = handler_lines(&stage.host).iter().map(String::len).collect();
    assert!(pieces.iter().all(|&bytes| bytes <= 4096) && pieces.iter().sum::<usize>() == 20_000, "{pieces:?}");
    stage.host.clear_logs();
    stage.send("5", &json!({"do": "log", "length": 1000, "count": 10_000}).to_string()).await;
    settled(5).await;
    let bytes: usize = handler_lines(&stage.host).iter().map(String::len).sum();
    assert!((60 << 10..=64 << 10).contains(&bytes), "{bytes} bytes of ten million");
    stage.host.wait_for_log("a delivery's log is cut off").await;

    // A worker writes no more than so many lines within a second, and what was left out is told.
    stage.host.clear_logs();
    let start = std::time::Instant::now();
    send_all(&stage, "work", &json!({"do": "log", "text": "flood", "count": 1000}), 50).await;
    settled(55).await;
    let most = 1000 * (usize::try_from(start.elapsed().as_secs()).unwrap() + 2);
    let lines = handler_lines(&stage.host).len();
    assert!((500..=most).contains(&lines), "{lines} lines of 50,000, and {most} are allowed");
    stage.host.wait_for_log("lines dropped").await;
}

/// What is allowed of memory can be used, by many at once, and what they used is given back.
#[tokio::test]
async fn memory_within_the_limit_is_there_each_time() {
    let more = "[consume]\nconcurrency = 8\n[limits]\nmemory = \"32MiB\"\n";
    let stage = stage("memory", "[limits]\nrunning = 8\n", &[("probe", &worker("work", more))]).await;
    send_all(&stage, "work", &json!({"do": "memory", "mib": 24}), 100).await;
    send_all(&stage, "work", &json!({"do": "memory", "mib": 40}), 20).await;
    stage.wait_for_settled("probe", "acked", 100).await;
    stage.wait_for_settled("probe", "dead-lettered", 20).await;
    let status = fs::read_to_string(format!("/proc/{}/status", stage.host.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
    // The pool keeps some of each slot and gives the rest back in batches; all that was used is three times as much.
    assert!(resident < 1 << 20, "{resident} KiB are resident");
}
