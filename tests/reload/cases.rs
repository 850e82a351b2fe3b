//! What each change does, one at a time.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::stamped::{WORKER, by, digest, events, history, plugin, put, stage, version, wait_for, wait_for_version};
use crate::harness::{DEADLINE, host, process, wait_until};
use crate::outcomes::{Stage, backstage, curtain, row};
use crate::topology::nameless;

impl Stage {
    fn manifest(&self, worker: &str, text: &str) {
        put(&self.host.manifests().join(format!("{worker}.toml")), self.named(text).as_bytes());
    }

    /// Sends messages, and gives the versions that handled them.
    async fn handled(&self, bodies: &[&str]) -> Vec<usize> {
        for body in bodies {
            self.send(body, body).await;
        }
        let mut found: Vec<_> = self.take("work.out", bodies.len()).await.iter().map(by).collect();
        found.sort_unstable();
        found
    }
}

#[tokio::test]
async fn another_file_is_another_version() {
    let stage = stage("reload-swap", "", WORKER).await;
    assert_eq!(stage.handled(&["a"]).await, [0]);
    let one = version(1, "good");
    put(&plugin(&stage.host), &one);
    let entry = wait_for(&stage.host, "w", "swapped").await;
    assert_eq!(
        (&entry["digest"], &entry["cause"], &entry["reason"]),
        (&json!(digest(&one)), &json!("file"), &json!("plugin"))
    );
    assert_eq!(stage.handled(&["b"]).await, [1]);
    assert_eq!(row(&stage.host, "w").await["digest"], digest(&one));
    // What it published comes before its ack.
    stage.wait_for_settled("w", "acked", 2).await;
    assert_eq!(row(&stage.host, "w").await["probation"], json!({ "handled": 1, "failed": 0 }));
    // After twenty deliveries it has proved itself.
    let more: Vec<_> = (0..19).map(|number| number.to_string()).collect();
    stage.handled(&more.iter().map(String::as_str).collect::<Vec<_>>()).await;
    wait_for(&stage.host, "w", "proved").await;
    assert_eq!(row(&stage.host, "w").await["probation"], Value::Null);
    let metrics = stage.host.metrics().await;
    for event in ["started", "swapped", "proved"] {
        assert!(metrics.contains(&format!("wabbit_reloads_total{{worker=\"w\",event=\"{event}\"}} 1")), "{metrics}");
    }
}

#[tokio::test]
async fn what_is_touched_is_not_reloaded() {
    let stage = stage("reload-touch", "", WORKER).await;
    let manifest = stage.host.manifests().join("w.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    put(&plugin(&stage.host), &version(0, "good"));
    fs::write(&manifest, format!("# the same, with a comment\n{text}")).unwrap();
    fs::write(stage.host.plugins().join("other.wasm"), "not named by anyone").unwrap();
    // What follows is done, and so all before it was looked at.
    stage.manifest("x", &WORKER.replace("@work", "@other"));
    wait_for(&stage.host, "x", "started").await;
    assert_eq!(events(&stage.host, "w").await, [("started".to_owned(), "start".to_owned())]);
}

#[tokio::test]
async fn a_version_that_is_no_good_is_refused_and_the_old_one_goes_on() {
    let stage = stage("reload-refused", "", WORKER).await;
    let other = fs::read(crate::outcomes::guest("other_version")).unwrap();
    let wants = fs::read(crate::outcomes::guest("wants_http")).unwrap();
    let half = version(1, "good")[..20_000].to_vec();
    for (bytes, reason) in
        [(b"no wasm at all".to_vec(), "is not wasm"), (half, ""), (other, "wabbit:worker/handler@"), (wants, "http = ")]
    {
        let before = history(&stage.host, "w").await.len();
        put(&plugin(&stage.host), &bytes);
        wait_until(DEADLINE, "another entry", async || match history(&stage.host, "w").await.len() {
            count if count > before => Ok(()),
            count => Err(format!("{count}")),
        })
        .await;
        let entry = wait_for(&stage.host, "w", "refused").await;
        let told = entry["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert_eq!(row(&stage.host, "w").await["refused"], told);
        assert_eq!(row(&stage.host, "w").await["digest"], digest(&version(0, "good")));
        assert_eq!(stage.handled(&["a", "b"]).await, [0, 0]);
    }
    assert_eq!(stage.host.get_status("/readyz").await.0, 200);
    // It is not tried again as it is, and what comes next is.
    let count = history(&stage.host, "w").await.len();
    let two = version(2, "good");
    put(&plugin(&stage.host), &two);
    wait_for_version(&stage.host, "w", &two).await;
    assert_eq!(history(&stage.host, "w").await.len(), count + 1);
    assert_eq!(row(&stage.host, "w").await["refused"], Value::Null);
}

#[tokio::test]
async fn a_version_that_fails_is_taken_back() {
    for how in ["trap", "fail", "refuse"] {
        let stage = stage(&format!("reload-back-{how}"), "", WORKER).await;
        let bad = version(1, how);
        put(&plugin(&stage.host), &bad);
        wait_for(&stage.host, "w", "swapped").await;
        // What it fails is handled by the version before it, and nobody notices.
        let bodies: Vec<_> = (0..30).map(|number| number.to_string()).collect();
        assert_eq!(stage.handled(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await, [0; 30], "{how}");
        let entry = wait_for(&stage.host, "w", "rolled-back").await;
        assert_eq!((&entry["digest"], &entry["cause"]), (&json!(digest(&bad)), &json!("probation")));
        assert!(entry["reason"].as_str().unwrap().contains("deliveries failed"), "{entry}");
        assert_eq!(row(&stage.host, "w").await["digest"], digest(&version(0, "good")));
        stage.expect_empty(&["work", "work.dead"]).await;
        stage.wait_for_settled("w", "acked", 30).await;
        assert_eq!(stage.settled("w", "retried").await, 0);
        // It is not tried again, however it is asked for, until the file is another one.
        let count = history(&stage.host, "w").await.len();
        let asked = host::run(stage.host.folder(), &["reload", "--admin", &stage.host.admin().to_string()]).await;
        assert_eq!((asked.code, asked.stdout.as_str()), (0, "nothing changed\n"), "{}", asked.stderr);
        assert_eq!(history(&stage.host, "w").await.len(), count);
        // The manifest is followed meanwhile, with the version that works.
        stage.manifest("w", &WORKER.replace("attempts = 1", "attempts = 2"));
        assert_eq!(wait_for(&stage.host, "w", "swapped").await["reason"], "failure");
        assert_eq!(stage.handled(&["x"]).await, [0]);
        assert_eq!(row(&stage.host, "w").await["refused"], entry["reason"]);
        stage.manifest("w", &format!("{WORKER}[consume]\nprefetch = 77\n"));
        wait_for(&stage.host, "w", "reconsumed").await;
        stage.host.wait_for_log("consuming").await;
        assert_eq!(stage.handled(&["y", "z"]).await, [0, 0]);
        assert_eq!(row(&stage.host, "w").await["refused"], entry["reason"]);
        let two = version(2, "good");
        put(&plugin(&stage.host), &two);
        wait_for_version(&stage.host, "w", &two).await;
        assert_eq!(row(&stage.host, "w").await["refused"], Value::Null);
    }
}

#[tokio::test]
async fn a_share_that_the_margin_allows_is_no_reason() {
    let manifest = format!("{WORKER}[reload]\nmargin = 0.6\nprobation = 20\n");
    let stage = stage("reload-margin", "", &manifest).await;
    put(&plugin(&stage.host), &version(1, "fail-odd"));
    wait_for(&stage.host, "w", "swapped").await;
    let bodies: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let handled = stage.handled(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // What is odd was handled by the version before.
    assert_eq!(handled.iter().filter(|&&by| by == 0).count(), 10);
    wait_for(&stage.host, "w", "proved").await;
    // From then on it is charged.
    stage.send("x", "1").await;
    stage.take("work.dead", 1).await;
}

#[tokio::test]
async fn its_time_ends_a_probation_without_deliveries() {
    let stage = stage("reload-time", "", &format!("{WORKER}[reload]\nprobation-time = \"1s\"\n")).await;
    put(&plugin(&stage.host), &version(1, "fail"));
    wait_for(&stage.host, "w", "proved").await;
    // What it fails is its own from then on.
    stage.send("x", "1").await;
    stage.take("work.dead", 1).await;
    assert_eq!(row(&stage.host, "w").await["digest"], digest(&version(1, "fail")));
}

#[tokio::test]
async fn without_probation_failures_are_the_messages_own() {
    let manifest = format!("{WORKER}[reload]\nprobation = 0\n");
    let stage = stage("reload-at-once", "", &manifest).await;
    put(&plugin(&stage.host), &version(1, "fail"));
    wait_for(&stage.host, "w", "swapped").await;
    stage.send("x", "1").await;
    stage.take("work.dead", 1).await;
    assert_eq!(events(&stage.host, "w").await.len(), 2);
}

#[tokio::test]
async fn a_smoke_test_is_handled_before_anything_else() {
    let manifest = format!("{WORKER}[reload]\nsmoke = \"samples/smoke.json\"\n");
    let (vhost, folder, config) = backstage("reload-smoke", "", &[("w", &manifest)]).await;
    let config = config.plugin_bytes("stamped.wasm", &version(0, "good")).prepare(|folder| {
        fs::create_dir(folder.join("samples")).unwrap();
        fs::write(folder.join("samples/smoke.json"), r#"{ "text": "smoke" }"#).unwrap();
    });
    let stage = curtain(vhost, folder, config).await;
    for (how, reason) in [
        ("smokeless", "handler-error: no smoking here"),
        ("trap", "trap: "),
        ("refuse", "dead-lettered: as it was told"),
    ] {
        put(&plugin(&stage.host), &version(1, how));
        wait_until(DEADLINE, "it to be refused", async || {
            let entries = history(&stage.host, "w").await;
            let last = entries.last().unwrap();
            let told = last["event"] == "refused" && last["reason"].as_str().unwrap().contains(reason);
            if told { Ok(()) } else { Err(format!("{last}")) }
        })
        .await;
    }
    // It left no trace, and nobody saw it.
    assert_eq!(stage.handled(&["a"]).await, [0]);
    stage.expect_empty(&["work.out"]).await;
    put(&plugin(&stage.host), &version(2, "good"));
    wait_for(&stage.host, "w", "swapped").await;
    stage.expect_empty(&["work.out"]).await;
}

#[tokio::test]
async fn manifests_come_change_and_go() {
    let stage = stage("reload-manifests", "", WORKER).await;
    // In place: the next delivery is handled by it, the consumer is the same.
    stage.manifest("w", &WORKER.replace("attempts = 1", "attempts = 2"));
    let entry = wait_for(&stage.host, "w", "swapped").await;
    assert_eq!(entry["reason"], "failure");
    // Anew: what is in hand is finished first.
    stage.manifest("w", &format!("{WORKER}[consume]\nprefetch = 77\n"));
    let entry = wait_for(&stage.host, "w", "reconsumed").await;
    assert_eq!(entry["reason"], "consume.prefetch, failure");
    stage.host.wait_for_log("consuming").await;
    assert_eq!(stage.handled(&["a", "b"]).await, [0, 0]);
    // Wrong: it goes on as it is, and says so.
    stage.manifest("w", "plugin = 1");
    let entry = wait_for(&stage.host, "w", "refused").await;
    assert!(entry["reason"].as_str().unwrap().contains("`plugin` must be a string"), "{entry}");
    assert_eq!(stage.handled(&["c"]).await, [0]);
    // A second one.
    stage.manifest("x", &WORKER.replace("@work", "@other"));
    wait_for(&stage.host, "x", "started").await;
    // Gone: it ends.
    fs::remove_file(stage.host.manifests().join("x.toml")).unwrap();
    wait_for(&stage.host, "x", "stopped").await;
    wait_until(DEADLINE, "one worker", async || match stage.host.get("/workers").await.as_array().unwrap().len() {
        1 => Ok(()),
        count => Err(format!("{count}")),
    })
    .await;
    assert!(!stage.host.metrics().await.contains("wabbit_deliveries_total{worker=\"x\""));
    // A queue goes from one to the other.
    stage.manifest("y", WORKER);
    fs::remove_file(stage.host.manifests().join("w.toml")).unwrap();
    wait_for(&stage.host, "w", "stopped").await;
    wait_for(&stage.host, "y", "started").await;
    assert_eq!(stage.handled(&["d"]).await, [0]);
}

#[tokio::test]
async fn a_plugin_that_is_deleted_is_kept() {
    let stage = stage("reload-deleted", "", WORKER).await;
    fs::remove_file(plugin(&stage.host)).unwrap();
    let entry = wait_for(&stage.host, "w", "kept").await;
    assert!(entry["reason"].as_str().unwrap().contains("No such file"), "{entry}");
    assert_eq!(stage.handled(&["a"]).await, [0]);
    let one = version(1, "good");
    put(&plugin(&stage.host), &one);
    wait_for_version(&stage.host, "w", &one).await;
    assert_eq!(stage.handled(&["b"]).await, [1]);
}

#[tokio::test]
async fn a_delivery_ends_with_the_version_that_it_began_with() {
    let stage = stage("reload-slow", "", WORKER).await;
    let slow = version(1, "slow");
    put(&plugin(&stage.host), &slow);
    wait_for_version(&stage.host, "w", &slow).await;
    stage.send("a", "a").await;
    wait_until(DEADLINE, "it to be in hand", async || match row(&stage.host, "w").await["in_flight"].as_i64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let two = version(2, "good");
    put(&plugin(&stage.host), &two);
    wait_for_version(&stage.host, "w", &two).await;
    stage.send("b", "b").await;
    let mut handled: Vec<_> = stage.take("work.out", 2).await.iter().map(|m| (m.text().to_owned(), by(m))).collect();
    handled.sort();
    assert_eq!(handled, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}

/// While a worker finishes what it has in hand, the one that takes its place goes on, unless it has to wait for its turn.
#[tokio::test]
async fn what_is_in_hand_keeps_nobody_waiting_but_for_order() {
    let base = "plugin = \"probe.wasm\"\n[[queue]]\nname = \"@work\"\n[[queue]]\nname = \"@out\"\nconsume = false\n\
                [limits]\ntime = \"20s\"\n[grant]\npublish = [\"/@out\"]\n[consume]\n";
    let cases = [
        ("none", "", ["quick", "slow"]),
        ("by-queue", "order = \"queue\"\n", ["slow", "quick"]),
        ("dedupe", "dedupe = { by = \"message-id\" }\n", ["slow", "quick"]),
        ("one", "concurrency = 1\n", ["slow", "quick"]),
    ];
    let cases = cases.map(async |(name, consume, order)| {
        let manifest = |prefetch| format!("{base}{consume}prefetch = {prefetch}\n");
        let stage = crate::outcomes::stage(&format!("reload-in-hand-{name}"), "", &[("w", &manifest(50))]).await;
        let out = stage.named("/@out");
        let publish = |body: &str| json!({"do": "publish", "publications": [{"to": out, "body": body}]});
        let slow = json!({"do": "log", "text": "begun", "then": {"do": "sleep", "ms": 6000, "then": publish("slow")}});
        stage.send("1", &slow.to_string()).await;
        stage.host.wait_for_log("begun").await;
        stage.manifest("w", &manifest(77));
        wait_for(&stage.host, "w", "reconsumed").await;
        stage.send("2", &publish("quick").to_string()).await;
        let came: Vec<_> = stage.take("out", 2).await.iter().map(|message| message.text().to_owned()).collect();
        assert_eq!(came, order, "{name}");
        stage.wait_for_settled("w", "acked", 2).await;
    });
    futures_util::future::join_all(cases).await;
}

#[tokio::test]
async fn queues_of_the_brokers_naming_keep_their_name() {
    let manifest = nameless("stamped") + "[grant]\npublish = [{ to = \"/#\", unroutable = \"drop\" }]\n";
    let stage = stage("reload-server-named", "", &manifest).await;
    stage.peer.publish(&stage.named("@news"), "", b"1", crate::outcomes::id(1)).await;
    stage.wait_for_settled("w", "acked", 1).await;
    stage.host.clear_logs();
    stage.manifest("w", &format!("{manifest}[consume]\nprefetch = 77\n"));
    wait_for(&stage.host, "w", "reconsumed").await;
    // The queue is never without a consumer, so it is never gone, and nothing that comes meanwhile is lost.
    for number in 2..=300 {
        stage.peer.publish(&stage.named("@news"), "", b"1", crate::outcomes::id(number)).await;
    }
    stage.wait_for_settled("w", "acked", 300).await;
}

#[tokio::test]
async fn a_signal_and_a_request_look_at_once() {
    let mut stage = stage("reload-asked", "[reload]\nwatch = \"off\"\n", WORKER).await;
    let admin = stage.host.admin().to_string();
    let folder = stage.host.folder().to_owned();
    let wabbit = async |arguments: &[&str]| {
        let all: Vec<_> = arguments.iter().copied().chain(["--admin", &admin]).collect();
        host::run(&folder, &all).await
    };
    put(&plugin(&stage.host), &version(1, "good"));
    // The plan changes nothing.
    let plan = wabbit(&["check", "--diff"]).await;
    assert_eq!((plan.code, plan.stdout.as_str()), (0, "w: swap: plugin\n"), "{}", plan.stderr);
    let plan = wabbit(&["check", "--diff", "--json"]).await;
    let json: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(json, json!({ "steps": { "w": { "step": "swap", "changes": ["plugin"] } }, "problems": {} }));
    assert_eq!(stage.handled(&["a"]).await, [0]);
    let asked = wabbit(&["reload"]).await;
    assert_eq!((asked.code, asked.stdout.as_str()), (0, "w: swapped: plugin\n"), "{}", asked.stderr);
    assert_eq!(stage.handled(&["b"]).await, [1]);
    assert_eq!(wabbit(&["reload"]).await.stdout, "nothing changed\n");
    put(&plugin(&stage.host), b"no plugin");
    let asked = wabbit(&["reload", "--json"]).await;
    let json: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!((asked.code, &json["workers"]["w"]["event"]), (1, &json!("refused")), "{}", asked.stdout);
    let two = version(2, "good");
    put(&plugin(&stage.host), &two);
    stage.host.signal(Signal::SIGHUP);
    wait_for_version(&stage.host, "w", &two).await;
    let expected = [("started", "start"), ("swapped", "request"), ("refused", "request"), ("swapped", "signal")];
    let found = events(&stage.host, "w").await;
    let found: Vec<_> = found.iter().map(|(event, cause)| (event.as_str(), cause.as_str())).collect();
    // The new one proves itself at some time.
    assert_eq!(found[..expected.len()], expected);
    let told = wabbit(&["history", "w"]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(told.stdout.lines().count(), found.len());
    assert!(told.stdout.lines().nth(1).unwrap().contains(&digest(&version(1, "good"))[7..19]), "{}", told.stdout);
    assert_eq!(wabbit(&["history", "nobody"]).await.code, 1);
}

#[tokio::test]
async fn settings_change_or_wait_for_a_start() {
    let stage = stage("reload-settings", "", WORKER).await;
    let settings = stage.settings();
    put(&settings, b"grace = \"7s\"\n[limits]\npublications = 1\nrunning = 3\n");
    let entry = wait_for(&stage.host, "w", "swapped").await;
    assert_eq!((&entry["cause"], &entry["reason"]), (&json!("file"), &json!("wabbit.toml")));
    stage.host.wait_for_log("grace, limits").await;
    stage.host.wait_for_log("changes of `limits.running` hold when the host is started again").await;
    put(&settings, b"grace = \"7s\"\n[compile]\nfile = \"1KiB\"\n");
    stage.host.wait_for_log("compile.file").await;
    put(&plugin(&stage.host), &version(1, "good"));
    let entry = wait_for(&stage.host, "w", "kept").await;
    assert!(entry["reason"].as_str().unwrap().contains("the limit is 1.0 KiB"), "{entry}");
    put(&settings, b"graze = 1\n");
    stage.host.wait_for_log("the settings stay as they are").await;
    assert_eq!(stage.handled(&["a"]).await, [0]);
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_token() {
    let settings = "admin-token = \"env:RELOAD_TOKEN\"\n";
    let (vhost, folder, config) = backstage("reload-token", settings, &[("w", WORKER)]).await;
    let config = config.plugin_bytes("stamped.wasm", &version(0, "good")).environment("RELOAD_TOKEN", "s3cret-token");
    let stage = curtain(vhost, folder, config).await;
    let file = stage.settings();
    let admin = stage.host.admin().to_string();
    let arguments = ["reload", "--config", file.to_str().unwrap(), "--admin", &admin];
    for (token, status) in [("wrong-token", 1), ("s3cret-token", 0)] {
        let mut command = host::wabbit(stage.host.folder());
        command.args(arguments).env("RELOAD_TOKEN", token);
        let asked = process::run("wabbit", command, DEADLINE).await;
        assert_eq!(asked.code, status, "{}{}", asked.stdout, asked.stderr);
    }
    let without = host::run(stage.host.folder(), &["reload", "--admin", &admin]).await;
    assert_eq!(without.code, 1);
    assert!(without.stderr.contains("changes need the token"), "{}", without.stderr);
}
