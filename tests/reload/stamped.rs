//! Versions of a plugin that say who they are.

use std::fs;
use std::path::{Path, PathBuf};

use lapin::types::AMQPValue;
use serde_json::Value;

use crate::harness::amqp::Message;
use crate::harness::host::Host;
use crate::harness::{DEADLINE, wait_until};
use crate::outcomes::{Stage, backstage, curtain, guest, row};

/// What precedes number and way in the file.
const MARK: &[u8] = b"@stamp@";
/// The length of all of it.
const LENGTH: usize = 32;

/// The version with this number, which behaves in this way.
pub fn version(number: usize, how: &str) -> Vec<u8> {
    let path = guest("stamped");
    let mut bytes =
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make guests` builds it", path.display()));
    let at = bytes.windows(MARK.len()).position(|part| part == MARK).expect("a stamp");
    let stamp = format!("@stamp@{number:08}@{how:<16}");
    assert_eq!(stamp.len(), LENGTH);
    bytes[at..at + LENGTH].copy_from_slice(stamp.as_bytes());
    bytes
}

/// `sha256:…`, as the host shows it.
pub fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A worker of the version that is there.
pub const WORKER: &str = r#"
plugin = "stamped.wasm"
[[queue]]
name = "@work"
[[queue]]
name = "@work.out"
consume = false
[failure]
attempts = 1
[grant]
publish = ["/@work.out"]
"#;

/// A stage with a worker `w` of version 0, and more where it is named.
pub async fn stage(test: &str, settings: &str, manifest: &str) -> Stage {
    let (vhost, folder, config) = backstage(test, settings, &[("w", manifest)]).await;
    curtain(vhost, folder, config.plugin_bytes("stamped.wasm", &version(0, "good"))).await
}

/// Puts a file in its place at once: written aside and renamed.
pub fn put(path: &Path, bytes: &[u8]) {
    let aside = path.with_file_name(format!(".{}.new", path.file_name().unwrap().display()));
    fs::write(&aside, bytes).unwrap();
    fs::rename(&aside, path).unwrap();
}

/// The plugin's file.
pub fn plugin(host: &Host) -> PathBuf {
    host.plugins().join("stamped.wasm")
}

/// The number of the version that published a message.
pub fn by(message: &Message) -> usize {
    match message.header("by") {
        Some(AMQPValue::LongString(text)) => text.to_string().parse().unwrap(),
        other => panic!("`by` is {other:?}"),
    }
}

/// What happened to a worker, as `(event, cause)`, the oldest first.
pub async fn events(host: &Host, worker: &str) -> Vec<(String, String)> {
    let entries = history(host, worker).await;
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(entry, "event"), text(entry, "cause"))).collect()
}

/// The history of a worker; empty where there is none.
pub async fn history(host: &Host, worker: &str) -> Vec<Value> {
    let (status, body) = host.get_status(&format!("/workers/{worker}/history")).await;
    if status == 404 { Vec::new() } else { serde_json::from_str(&body).unwrap() }
}

/// Waits until the last thing that happened to a worker is this.
pub async fn wait_for(host: &Host, worker: &str, event: &str) -> Value {
    wait_until(DEADLINE, format!("`{worker}` to be {event}"), async || {
        let entries = history(host, worker).await;
        let last = entries.last().filter(|entry| entry["event"] == event);
        last.cloned().ok_or_else(|| format!("{entries:#?}"))
    })
    .await
}

/// Waits until a worker has this version.
pub async fn wait_for_version(host: &Host, worker: &str, bytes: &[u8]) {
    let digest = digest(bytes);
    wait_until(DEADLINE, format!("`{worker}` to be of {digest}"), async || {
        let found = row(host, worker).await;
        if found["digest"] == digest.as_str() { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}
