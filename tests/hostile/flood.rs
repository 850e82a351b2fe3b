//! A folder full of hostile files, with a few good ones among them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;

use super::corpus::Entry;
use super::files;
use crate::compiling::padded;
use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, process, wait_until};
use crate::outcomes::guest;

/// How many files of each kind there are: a thousand.
const NOISE: usize = 500;
const TRUNCATED: usize = 200;
const HUGE: usize = 150;
const LARGE: usize = 54;
const REFUSED_BY_THE_COMPILER: usize = 90;
const SLOW: usize = 6;
/// A file that is as large as one may be.
const LARGE_BYTES: u64 = 16 << 20;
/// Compilers at once.
const AT_ONCE: usize = 2;
/// How long each of the slow ones could be compiled, if nobody else waited.
const SETTINGS: &str = "[compile]\nat-once = 2\ntime = \"10m\"\nfile = \"16MiB\"\n";
const GOOD: [&str; 3] = ["probe", "bench_ack", "command"];
/// What the host may have in memory. All files together have more.
const RESIDENT_KIB_MAX: u64 = 384 << 10;

/// The files, by kind.
fn hostile() -> Vec<(&'static str, Entry)> {
    let mut rng = Rng::with_seed(1);
    let probe = fs::read(guest("probe")).unwrap();
    let mut all = Vec::new();
    all.extend((0..NOISE).map(|_| ("noise", Entry::Bytes((0..rng.usize(..4096)).map(|_| rng.u8(..)).collect()))));
    let cuts = (0..TRUNCATED).map(|n| probe[..9 + n * 1000].to_vec());
    all.extend(cuts.map(|bytes| ("truncated", Entry::Bytes(bytes))));
    all.extend((0..HUGE).map(|_| ("huge", Entry::Hole(100 << 30))));
    all.extend((0..LARGE).map(|_| ("large", Entry::Hole(LARGE_BYTES))));
    all.extend((0..REFUSED_BY_THE_COMPILER).map(|n| ("refused", files::unfit(n))));
    let slow = files::slow_to_compile();
    // No two of them are the same file.
    all.extend((0..SLOW).map(|n| ("slow", Entry::Bytes(padded(&slow, n)))));
    assert_eq!(all.len(), 1000);
    all
}

/// Each good one is compiled after the hostile ones, which are smaller, have had no more than their first share each; those
/// are told apart from it and cost it nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hostile_files_keep_no_good_one_waiting() {
    let vhost = Broker::shared().await.vhost("flood").await;
    let (peer, folder) = (Peer::connect(&vhost.url).await, places::folder("flood"));
    let settings = folder.path().join("wabbit.toml");
    fs::write(&settings, SETTINGS).unwrap();
    let mut config = HostConfig::new(&vhost.url)
        .argument("--config")
        .argument(&settings.display().to_string())
        .argument("--cache")
        .argument(&folder.path().join("cache").display().to_string());
    let slow = files::slow_to_compile().len();
    let worker = |plugin: &str, queue: &str| format!("plugin = \"{plugin}.wasm\"\n[[queue]]\nname = \"{queue}\"\n");
    for name in GOOD {
        let bytes = padded(&fs::read(guest(name)).unwrap(), slow + SLOW);
        config = config.plugin_bytes(&format!("{name}.wasm"), &bytes);
        config = config.manifest(name, &worker(name, &vhost.unique(name)));
    }
    let files = hostile();
    let kinds: BTreeMap<String, &str> =
        files.iter().enumerate().map(|(n, (kind, _))| (format!("h{n}"), *kind)).collect();
    let put = move |folder: &Path| {
        for (n, (_, entry)) in files.iter().enumerate() {
            entry.put(&folder.join(format!("plugins/h{n}.wasm")));
            fs::write(folder.join(format!("manifests/h{n}.toml")), worker(&format!("h{n}"), &format!("h{n}"))).unwrap();
        }
    };
    let begun = Instant::now();
    let mut host = Host::start(config.prepare(put));
    let mut most = 0;
    let rows = wait_until(DEADLINE, "the good workers", async || {
        most = most.max(process::compilers(host.id()).len());
        let (status, rows) = host.try_get("/workers").await?;
        assert_eq!(status, 200);
        let rows: Value = serde_json::from_str(&rows).unwrap();
        let state =
            |name: &str| rows.as_array().unwrap().iter().find(|row| row["name"] == name).map(|row| &row["state"]);
        let missing: Vec<_> = GOOD.iter().filter(|name| state(name).is_none_or(|state| state != "consuming")).collect();
        if missing.is_empty() { Ok(rows) } else { Err(format!("{missing:?} of {} are missing", kinds.len())) }
    })
    .await;
    let took = begun.elapsed();
    for name in GOOD {
        let (queue, body) = (vhost.unique(name), if name == "command" { "{}" } else { r#"{"do":"ack"}"# });
        peer.publish("", &queue, body.as_bytes(), persistent()).await;
        peer.wait_for_count(&queue, 0, DEADLINE).await;
    }
    // What the others are is told of each, but of those that are still compiled: they have their turns.
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.as_array().unwrap() {
        let Some(kind) = kinds.get(row["name"].as_str().unwrap()) else { continue };
        assert!(row["state"] == "refused" && !row["reason"].as_str().unwrap().is_empty(), "{kind}: {row}");
        *told.entry(kind).or_default() += 1;
    }
    let expected = [
        ("huge", HUGE),
        ("large", LARGE),
        ("noise", NOISE),
        ("refused", REFUSED_BY_THE_COMPILER),
        ("truncated", TRUNCATED),
    ];
    assert_eq!(told, BTreeMap::from(expected));
    most = most.max(process::compilers(host.id()).len());
    assert!((1..=AT_ONCE).contains(&most), "{most} compilers at once");
    let (peak, seconds) = (host.peak_kib(), took.as_secs_f32());
    println!("{} of 1000 hostile files within {seconds:.1} s, {} MiB", told.values().sum::<usize>(), peak / 1024);
    assert!(peak <= RESIDENT_KIB_MAX, "{peak} KiB were resident, the bound is {RESIDENT_KIB_MAX}");
    assert_eq!((host.status(), host.get_status("/healthz").await.0), (None, 200));
    let ended = Instant::now();
    assert_eq!(host.terminate().await, 0);
    assert!(ended.elapsed() < Duration::from_secs(30), "it stops while others are compiled");
}
