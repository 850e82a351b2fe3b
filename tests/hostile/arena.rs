//! A host with the whole corpus in its folders, a good worker among it, and a judge.

use std::collections::BTreeMap;
use std::env;
use std::fs;

use fastrand::Rng;
use lapin::types::AMQPValue;
use serde_json::Value;
use tempfile::TempDir;

use super::acts;
use super::corpus::{Attack, Case, Entry, Verdict};
use super::pulse::Pulse;
use crate::harness::amqp::{Message, Peer, persistent, table};
use crate::harness::broker::{Broker, Vhost};
use crate::harness::host::{Host, HostConfig};
use crate::harness::{DEADLINE, places, wait_until};
use crate::outcomes::{guest, metric};

/// The largest message.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// What the host may ever have resident, in KiB: the gibibyte that its pool keeps, the answers in hand, two compilers, and
/// what the program itself takes.
pub const RESIDENT_KIB_MAX: u64 = 1280 << 10;
/// An error in a dead letter.
const ERROR_BYTES_MAX: usize = 1024;
const SETTINGS: &str = "[limits]\nrunning = 64\nmemory = \"32MiB\"\nbody = \"1MiB\"\npublications = 100\noutput = \"4MiB\"\n[compile]\ntime = \"5s\"\n";
/// What the hostile handler is granted: a queue, and one of each of what it may not reach past.
const OUT: &str = "[[queue]]\nname = \"@out\"\nconsume = false\n[grant]\npublish = [\"/@out\"]\n\
                   http = [\"https://granted.invalid\"]\nkeyvalue = { store = \"mine\", memory = true }\n\
                   config = { mine = \"granted\" }\n";
/// Failures that are not tried again.
const FINAL: [&str; 2] = ["dead-lettered", "body-too-large"];

/// A host among enemies.
pub struct Arena {
    pub host: Host,
    pub cases: Vec<Case>,
    pub pulse: Pulse,
    vhost: Vhost,
    peer: Peer,
    pid: u32,
    attempts: i64,
    /// Deliveries that each worker was sent and that were settled so far, and those that are to be acked.
    sent: BTreeMap<String, u64>,
    settled: BTreeMap<String, (u64, u64)>,
    number: u64,
    _folder: TempDir,
}

/// A delivery that is on its way.
struct Sent {
    case: usize,
    worker: String,
    body: Vec<u8>,
}

impl Arena {
    /// Starts the host. Each delivery has so many attempts.
    pub async fn new(cases: Vec<Case>, attempts: i64) -> Self {
        let broker = Broker::ours().await;
        let vhost = broker.vhost("hostile").await;
        let folder = places::folder("arena");
        let settings = folder.path().join("wabbit.toml");
        fs::write(&settings, SETTINGS).unwrap();
        let peer = Peer::connect(&vhost.url).await;
        peer.durable_queue(&vhost.unique("victim")).await;
        let mut config = HostConfig::new(&vhost.url)
            .argument("--config")
            .argument(&settings.display().to_string())
            .manifest("good", &Pulse::manifest().replace('@', &vhost.unique("")));
        for name in ["probe", "hostile", "command"] {
            config = config.plugin(&format!("{name}.wasm"), &guest(name));
        }
        let mut entries = Vec::new();
        let mut named =
            BTreeMap::from([("hostile".to_owned(), "hostile".to_owned()), ("slow".into(), "hostile".into())]);
        for (number, case) in cases.iter().enumerate() {
            match &case.attack {
                Attack::Act(_) => {}
                Attack::Command(_) => _ = named.insert(worker(case, number), "command".into()),
                Attack::Plugin(bytes) => {
                    config = config.plugin_bytes(&format!("case-{number}.wasm"), bytes);
                    named.insert(worker(case, number), format!("case-{number}"));
                }
                Attack::File(entry) => {
                    entries.push((format!("plugins/case-{number}.wasm"), entry.clone()));
                    named.insert(worker(case, number), format!("case-{number}"));
                }
                Attack::Manifest(entry) => entries.push((format!("manifests/case-{number}.toml"), entry.clone())),
            }
        }
        for (name, plugin) in named {
            // Whoever computes for ever is ended soon; the others are not to be ended because somebody else computes.
            let time = if name.ends_with("slow") { "100ms" } else { "20s" };
            let out = if ["hostile", "slow"].contains(&name.as_str()) { OUT } else { "" };
            let text = format!(
                "plugin = \"{plugin}.wasm\"\n[[queue]]\nname = \"@{name}\"\n{out}[limits]\ntime = \"{time}\"\nmemory = \"16MiB\"\n\
                 [failure]\nattempts = {attempts}\nbackoff = {{ first = \"100ms\", factor = 1, max = \"100ms\" }}\n"
            );
            config = config.manifest(&name, &text.replace('@', &vhost.unique("")));
        }
        let put = move |folder: &std::path::Path| {
            entries.iter().for_each(|(path, entry): &(String, Entry)| entry.put(&folder.join(path)));
        };
        let host = Host::ready(config.prepare(put)).await;
        let pulse = Pulse::new(&vhost).await;
        let pid = host.id();
        let (sent, settled) = (BTreeMap::new(), BTreeMap::new());
        Self { host, cases, pulse, vhost, peer, pid, attempts, sent, settled, number: 0, _folder: folder }
    }

    /// What was loaded and what was left out, against the verdicts: violations.
    pub async fn judge_files(&self) -> Vec<String> {
        let rows = self.host.get("/workers").await;
        let rows: BTreeMap<&str, &Value> =
            rows.as_array().unwrap().iter().map(|row| (row["name"].as_str().unwrap(), row)).collect();
        let mut violations = Vec::new();
        for (number, case) in self.cases.iter().enumerate() {
            let name = worker(case, number);
            let row = rows.get(name.as_str());
            let (state, reason) = row.map_or(("", ""), |row| {
                (row["state"].as_str().unwrap_or_default(), row["reason"].as_str().unwrap_or_default())
            });
            let right = match case.verdict {
                Verdict::Refused(says) => {
                    state == "refused" && !reason.is_empty() && reason.contains(says) && reason.len() < 10_000
                }
                Verdict::PassedOver => row.is_none(),
                Verdict::Harmless | Verdict::Fails(..) => state == "consuming",
            };
            if env::var("VERBOSE").is_ok() && !reason.is_empty() {
                eprintln!("{} ({name}): {}", case.name, reason.chars().take(200).collect::<String>());
            }
            if !right {
                let shown: String = reason.chars().take(300).collect();
                violations.push(format!("{} ({name}): {:?}, but it is `{state}`: {shown}", case.name, case.verdict));
            }
        }
        violations
    }

    /// Sends a delivery for each of these cases, waits until all are settled, and judges each: violations, each of them
    /// beginning with the name of its case or with `host`.
    pub async fn drive(&mut self, cases: &[usize], rng: &mut Rng) -> Vec<String> {
        let mut sent = BTreeMap::new();
        for &case in cases {
            let (id, delivery) = self.send(case, rng).await;
            sent.insert(id, delivery);
        }
        let letters = self.settled().await;
        let mut violations = self.judge_host().await;
        let mut letters: BTreeMap<String, Message> = letters
            .into_iter()
            .map(|letter| (letter.properties.message_id().as_ref().unwrap().to_string(), letter))
            .collect();
        for (id, Sent { case, worker, body }) in sent {
            let case = &self.cases[case];
            let wrong = match (letters.remove(&id), case.verdict) {
                (None, Verdict::Harmless) => None,
                (Some(letter), Verdict::Fails(kind, says)) => self.judge_letter(&letter, kind, says, &body),
                (None, _) => Some("it was acked".into()),
                (Some(letter), _) => Some(format!("{:?}", letter.text_header("x-wabbit-error"))),
            };
            if let Some(wrong) = wrong {
                let body: String = String::from_utf8_lossy(&body).chars().take(80).collect();
                violations.push(format!("{} ({worker}, {body:?}): {:?}, but {wrong}", case.name, case.verdict));
            }
        }
        violations.extend(letters.keys().map(|id| format!("host: a letter of nobody: {id}")));
        violations
    }

    async fn send(&mut self, number: usize, rng: &mut Rng) -> (String, Sent) {
        let case = &self.cases[number];
        let body = match case.attack {
            Attack::Act(body) => {
                let broker = self.vhost.url.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
                acts::body(&body.replace("{broker}", &broker).replace('@', &self.vhost.unique("")), rng)
            }
            Attack::Command(body) => body.into(),
            _ => acts::body("{noise}", rng),
        };
        let worker = worker(case, number);
        self.number += 1;
        let id = self.number.to_string();
        // Everybody forges what the host itself writes, and asks for an answer to somebody else's queue.
        let forged = |text: &str| AMQPValue::LongString(text.into());
        let headers = table(&[
            ("x-wabbit-attempts", AMQPValue::LongLongInt(7)),
            ("x-wabbit-queue", forged("elsewhere")),
            ("x-wabbit-reason", forged("forged")),
            ("x-wabbit-error", forged("forged")),
            ("x-wabbit-id", forged("forged")),
            ("x-wabbit-publication", forged("1")),
            ("x-wabbit-worker", forged("good")),
            ("X-Wabbit-Attempts", AMQPValue::LongLongInt(7)),
        ]);
        let properties = persistent()
            .with_message_id(id.as_str().into())
            .with_headers(headers)
            .with_reply_to(self.vhost.unique("victim").into());
        self.peer.publish("", &self.vhost.unique(&worker), &body, properties).await;
        *self.sent.entry(worker.clone()).or_default() += 1;
        (id, Sent { case: number, worker, body })
    }

    /// Waits until every delivery is settled, and takes the new dead letters.
    async fn settled(&mut self) -> Vec<Message> {
        let counts = wait_until(DEADLINE * 3, "every delivery to be settled", async || {
            let rows = self.host.get("/workers").await;
            let count = |row: &Value, outcome: &str| row["counts"][outcome].as_u64().unwrap_or(0);
            let mut counts = BTreeMap::new();
            for row in rows.as_array().unwrap() {
                let name = row["name"].as_str().unwrap().to_owned();
                counts.insert(name, (count(row, "acked"), count(row, "dead-lettered")));
            }
            let missing = self.sent.iter().find(|(name, sent)| counts[*name].0 + counts[*name].1 != **sent);
            match missing {
                None => Ok(counts),
                Some((name, sent)) => Err(format!("`{name}` was sent {sent}: {:?}", counts[name])),
            }
        })
        .await;
        let mut letters = Vec::new();
        for name in self.sent.keys() {
            let before = self.settled.get(name).map_or(0, |(_, dead)| *dead);
            let queue = self.vhost.unique(&format!("{name}.dead"));
            let count = usize::try_from(counts[name].1 - before).unwrap();
            letters.extend(self.peer.drain(&queue, count, DEADLINE).await);
        }
        self.settled = counts;
        letters
    }

    fn judge_letter(&self, letter: &Message, kind: &str, says: &str, body: &[u8]) -> Option<String> {
        let text = |name: &str| letter.text_header(name).unwrap_or_default();
        let (reason, error) = (text("x-wabbit-reason"), text("x-wabbit-error"));
        if reason != kind || !error.contains(says) {
            return Some(format!("it failed as {reason}: {error}"));
        }
        if error.chars().any(char::is_control) {
            return Some(format!("its error acts upon a terminal: {error:?}"));
        }
        if error.len() > ERROR_BYTES_MAX {
            return Some(format!("its error has {} bytes", error.len()));
        }
        let attempts = if FINAL.contains(&kind) { 1 } else { self.attempts };
        match letter.header("x-wabbit-attempts") {
            Some(AMQPValue::LongLongInt(told)) if *told == attempts => {}
            other => return Some(format!("{attempts} attempts are told as {other:?}")),
        }
        (letter.body != body).then(|| "its body is another one".into())
    }

    /// What must hold of the host at any time: violations.
    pub async fn judge_host(&mut self) -> Vec<String> {
        let mut violations = Vec::new();
        let mut check = |holds: bool, what: String| {
            if !holds {
                violations.push(format!("host: {what}"));
            }
        };
        let ended = self.host.status();
        check(ended.is_none() && self.host.id() == self.pid, format!("the host ended: {ended:?}"));
        check(self.host.get_status("/healthz").await.0 == 200, "the host is not healthy".into());
        let resident = self.resident_kib();
        check(resident <= RESIDENT_KIB_MAX, format!("{resident} KiB were resident, the bound is {RESIDENT_KIB_MAX}"));
        let stolen = self.peer.count(&self.vhost.unique("victim")).await;
        check(stolen == 0, format!("{stolen} messages came where they may not"));
        let lines = self.host.logs();
        let acting =
            lines.iter().find(|line| line.chars().any(char::is_control) || line.starts_with("2026-01-01T00:00:00"));
        check(acting.is_none(), format!("the log has a line that acts: {acting:?}"));
        let metrics = self.host.metrics().await;
        for name in self.sent.keys() {
            let labels = format!("worker=\"{name}\",error_type=\"host\"");
            let faults = metric(&metrics, "wabbit_failures_total", &labels);
            check(faults == 0, format!("{faults} failures of `{name}` are the host's own"));
        }
        violations
    }

    /// The publications that were granted, of which none says what only the host may: violations.
    pub async fn judge_publications(&self, count: usize) -> Vec<String> {
        let wrong = |message: &Message| {
            let mine = message.text_header("mine").as_deref() == Some("kept");
            let headers = message.properties.headers().as_ref().unwrap().inner();
            let forged = headers.iter().find(|(name, value)| {
                let reserved = name.as_str().to_ascii_lowercase().starts_with("x-wabbit-");
                let own = name.as_str() == "x-wabbit-publication" && format!("{value:?}").contains(char::is_numeric);
                reserved && (!own || format!("{value:?}").contains("-1"))
            });
            match forged {
                None if mine && message.body == b"forged" => None,
                other => Some(format!("forged-headers: a publication with {other:?}, and {} B", message.body.len())),
            }
        };
        let messages = self.peer.drain(&self.vhost.unique("out"), count, DEADLINE).await;
        let mut violations: Vec<String> = messages.iter().filter_map(wrong).collect();
        let more = self.peer.count(&self.vhost.unique("out")).await;
        if more > 0 {
            violations.push(format!("forged-headers: {more} publications too many"));
        }
        violations
    }

    /// What the host ever had resident, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.host.peak_kib()
    }
}

/// The worker that a case is tried at.
fn worker(case: &Case, number: usize) -> String {
    let slow = case.is_slow();
    match &case.attack {
        Attack::Act(_) if slow => "slow".into(),
        Attack::Act(_) => "hostile".into(),
        Attack::Command(_) if slow => "command-slow".into(),
        Attack::Command(_) => "command".into(),
        _ if slow => format!("case-{number}-slow"),
        _ => format!("case-{number}"),
    }
}
