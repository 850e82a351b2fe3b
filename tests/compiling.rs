//! The compiler is a child of the host: it does not outlive it, and it is the program that runs, whatever has its name.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, process, wait_until};
use crate::hostile::files::slow_to_compile;
use crate::outcomes::guest;

/// A host with a plugin that takes the compiler longer than the test takes, and nothing that was compiled before.
fn slow(url: &str, folder: &Path, settings: &str) -> HostConfig {
    let path = folder.join("wabbit.toml");
    fs::write(&path, settings).unwrap();
    HostConfig::new(url)
        .plugin_bytes("slow.wasm", &slow_to_compile())
        .manifest("slow", "plugin = \"slow.wasm\"\n[[queue]]\nname = \"slow\"\n")
        .argument("--config")
        .argument(&path.display().to_string())
        .argument("--cache")
        .argument(&folder.join("cache").display().to_string())
}

/// Waits for the compiler of a host, and returns its process id.
async fn compiler(host: &Host) -> u32 {
    wait_until(DEADLINE, "a compiler", async || match process::compilers(host.id()).as_slice() {
        [child] => Ok(*child),
        children => Err(format!("{children:?} are there")),
    })
    .await
}

#[tokio::test]
async fn the_compiler_dies_with_its_host() {
    let vhost = Broker::shared().await.vhost("orphan").await;
    let folder = places::folder("orphan");
    let mut host = Host::start(slow(&vhost.url, folder.path(), "[compile]\ntime = \"10m\"\n"));
    let child = compiler(&host).await;
    // One that has only just begun finds out by itself.
    wait_until(DEADLINE, "the compiler to be at work", async || match process::computed(child) {
        computed if computed > Duration::from_secs(1) => Ok(()),
        computed => Err(format!("it has computed for {computed:?}")),
    })
    .await;
    host.kill();
    wait_until(Duration::from_secs(5), "the compiler to end", async || match process::is_running(child) {
        true => Err(format!("{child} still runs")),
        false => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn a_host_whose_file_was_replaced_compiles_with_what_it_is() {
    type Replace = fn(&Path);
    let replacements: [(&str, Replace); 2] = [
        ("another", |binary| {
            let aside = binary.with_extension("new");
            fs::copy("/bin/false", &aside).unwrap();
            fs::rename(&aside, binary).unwrap();
        }),
        ("gone", |binary| fs::remove_file(binary).unwrap()),
    ];
    for (name, replace) in replacements {
        let vhost = Broker::shared().await.vhost("replaced").await;
        let (peer, queue) = (Peer::connect(&vhost.url).await, vhost.unique("work"));
        let folder = places::folder("replaced");
        let binary = folder.path().join("wabbit");
        fs::hard_link(places::build().join("wabbit"), &binary).unwrap();
        // One at a time, and the smaller file first: while that one is compiled the host's file is replaced.
        let good = padded(&fs::read(guest("bench_ack")).unwrap(), slow_to_compile().len());
        let config = slow(&vhost.url, folder.path(), "[compile]\nat-once = 1\n")
            .binary(&binary.display().to_string())
            .plugin_bytes("good.wasm", &good)
            .manifest("good", &format!("plugin = \"good.wasm\"\n[[queue]]\nname = \"{queue}\"\n"));
        let host = Host::start(config);
        compiler(&host).await;
        replace(&binary);
        assert!(!host.logs().iter().any(|line| line.contains(" compiled plugin=")), "{name}: it was compiled before");
        host.wait_for_log(" compiled plugin=").await;
        peer.durable_queue(&queue).await;
        peer.publish("", &queue, b"x", persistent()).await;
        peer.wait_for_count(&queue, 0, DEADLINE).await;
    }
}

/// A plugin that is what it was, and longer by so many bytes that mean nothing.
pub fn padded(plugin: &[u8], bytes: usize) -> Vec<u8> {
    // A custom section: its number, its length, its name and what stands in it.
    let mut content = b"\x03pad".to_vec();
    content.resize(content.len() + bytes, 0);
    let (mut section, mut length) = (vec![0], content.len());
    while length >= 0x80 {
        section.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    section.push(u8::try_from(length).unwrap());
    [plugin, &section, &content].concat()
}
