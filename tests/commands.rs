//! WASI commands: JSON in, JSON out, whichever form the file has.

use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use crate::conformance::cases::{self, Expect};
use crate::harness::amqp::{Peer, persistent};
use crate::harness::broker::Broker;
use crate::harness::host::{self, Host, HostConfig};
use crate::harness::process::Output;
use crate::harness::{DEADLINE, places};
use crate::outcomes::guest;

/// The same source as a component and as a core module.
const FORMS: [(&str, &str); 2] = [("command", "command"), ("core_command", "core-command")];

/// How long a call may take that ends, and one that does not.
const ENDS: &str = "20s";
const ENDLESS: &str = "2s";

fn manifest(plugin: &str, queue: &str, time: &str) -> String {
    format!(
        "plugin = \"{plugin}.wasm\"\n[[queue]]\nname = \"{queue}\"\n[[queue]]\nname = \"{queue}.told\"\nconsume = false\n\
         [failure]\nattempts = 1\n[limits]\ntime = \"{time}\"\nmemory = \"8MiB\"\n[grant]\npublish = [\"/#\"]\n"
    )
}

/// The schemas of the JSON forms.
struct Forms {
    schemas: Schemas,
    delivery: SchemaIndex,
    outcome: SchemaIndex,
}

impl Forms {
    fn read() -> Forms {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let folder = places::root().join("sdk/wit");
        let mut compile = |name: &str| {
            compiler
                .compile(folder.join(name).to_str().unwrap(), &mut schemas)
                .unwrap_or_else(|error| panic!("{error:#}"))
        };
        let (delivery, outcome) = (compile("delivery.schema.json"), compile("outcome.schema.json"));
        Forms { schemas, delivery, outcome }
    }

    #[track_caller]
    fn check_delivery(&self, json: &Value) {
        self.schemas.validate(json, self.delivery).unwrap_or_else(|error| panic!("{error:#}\n{json}"));
    }

    #[track_caller]
    fn check_outcome(&self, json: &Value) {
        self.schemas.validate(json, self.outcome).unwrap_or_else(|error| panic!("{error:#}\n{json}"));
    }
}

/// Runs a form of the command on a delivery.
async fn invoke(folder: &Path, form: &str, delivery: &Value, time: &str) -> (Value, Output) {
    let (manifest, plugin) = (folder.join("m.toml"), guest(form));
    fs::write(&manifest, self::manifest(form, "q", time)).unwrap();
    fs::write(folder.join("delivery.json"), delivery.to_string()).unwrap();
    let (manifest, plugin) = (manifest.display().to_string(), plugin.display().to_string());
    let arguments = ["invoke", &plugin, "--manifest", &manifest, "--delivery", "delivery.json", "--json"];
    let output = host::run(folder, &arguments).await;
    (serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")), output)
}

#[tokio::test]
async fn a_command_reads_the_delivery_and_writes_the_outcome() {
    let (folder, forms) = (places::folder("command"), Forms::read());
    for (form, _) in FORMS {
        // Every field and every property of the table of languages comes in as it was given, and fits the schema.
        for case in cases::all() {
            let Expect::Outcome(_) = case.expect else { continue };
            if case.name == "16 MB" {
                continue;
            }
            let mut delivery = case.delivery;
            forms.check_delivery(&delivery);
            delivery.as_object_mut().unwrap().remove("base64");
            delivery["text"] = json!(json!({ "tell": true }).to_string());
            let (mut outcome, _) = invoke(folder.path(), form, &delivery, ENDS).await;
            outcome.as_object_mut().unwrap().remove("took_us");
            forms.check_outcome(&outcome);
            let told = outcome["publications"][0]["text"].as_str().unwrap_or_else(|| panic!("{outcome}"));
            let told: Value = serde_json::from_str(told).unwrap();
            forms.check_delivery(&told);
            let mut expected = delivery;
            expected["contract"] = json!("0.1.0");
            expected["worker"] = json!("m");
            expected["time_ms"] = json!(20000);
            assert_eq!(told, expected, "{form}, {}", case.name);
        }
    }
}

#[tokio::test]
async fn every_outcome_of_a_command() {
    let (folder, forms) = (places::folder("command"), Forms::read());
    let long = "x".repeat(1000);
    let outcomes = [
        json!({ "settlement": "ack" }),
        json!({ "settlement": "requeue", "publications": [] }),
        json!({ "settlement": "retry" }),
        json!({ "settlement": { "retry": 500 } }),
        json!({ "settlement": { "dead-letter": "no hay" } }),
        json!({ "settlement": "ack", "publications": [{ "exchange": "", "routing_key": "a", "base64": "/w==" }] }),
    ];
    let fails: [(Value, &str, &[&str]); 13] = [
        (json!({}), "malformed-outcome", &["nothing on stdout", "expected an outcome as JSON"]),
        (json!({ "stdout": " \n" }), "malformed-outcome", &["nothing on stdout"]),
        (
            json!({ "stdout": "hello\u{1b}[31m" }),
            "malformed-outcome",
            &["is not an outcome as JSON", "hello\\u{1b}[31m"],
        ),
        (json!({ "stdout": long }), "malformed-outcome", &["xxx\u{2026}"]),
        (json!({ "stdout": "{\"settlement\": \"nack\"}" }), "malformed-outcome", &["\"ack\", \"requeue\", \"retry\""]),
        (
            json!({ "stdout": "{\"settlement\": \"ack\", \"publications\": [{\"properties\": {\"headers\": {\"a\": 1, \"a\": 2}}}]}" }),
            "malformed-outcome",
            &["publication 0: header `a` stands there twice"],
        ),
        (
            json!({ "stdout": "{\"settlement\": \"ack\"}", "stderr": "no hay\n", "exit": 3 }),
            "handler-error",
            &["no hay"],
        ),
        (json!({ "exit": 7 }), "handler-error", &["exit code ", "nothing on stderr"]),
        (json!({ "abort": true, "stderr": "going down" }), "trap", &["going down"]),
        (json!({ "endless": true }), "time-limit", &["limit of 2s"]),
        (json!({ "memory": 64, "exit": 0 }), "memory-limit", &["8.0 MiB"]),
        (json!({ "flood": 200_000_000 }), "output-limit", &["larger than the limit of 64.0 MiB"]),
        (
            json!({ "stdout": "{\"settlement\": \"ack\", \"publications\": [{\"exchange\": \"elsewhere\"}]}" }),
            "publication-refused",
            &["is not granted"],
        ),
    ];
    let delivery = |action: &Value| json!({ "text": action.to_string() });
    for (form, _) in FORMS {
        for outcome in &outcomes {
            forms.check_outcome(outcome);
            let delivery = delivery(&json!({ "stdout": outcome.to_string() }));
            let (told, _) = invoke(folder.path(), form, &delivery, ENDS).await;
            assert_eq!(told["settlement"], outcome["settlement"], "{form}: {told}");
            let count = |json: &Value| json["publications"].as_array().map_or(0, Vec::len);
            assert_eq!(count(&told), count(outcome), "{form}: {told}");
        }
        for (action, kind, expected) in &fails {
            let time = if *kind == "time-limit" { ENDLESS } else { ENDS };
            let (told, output) = invoke(folder.path(), form, &delivery(action), time).await;
            assert_eq!((told["failure"].as_str(), output.code), (Some(*kind), 1), "{form}, {action}: {told}");
            for part in *expected {
                assert!(told["error"].as_str().unwrap().contains(part), "{form}, {action}: {told}");
            }
        }
        let (_, output) = invoke(
            folder.path(),
            form,
            &delivery(&json!({ "stderr": "a line", "stdout": "{\"settlement\":\"ack\"}" })),
            ENDS,
        )
        .await;
        assert!(output.stderr.contains("INFO a line worker="), "{output:?}");
        let output = host::run(folder.path(), &["invoke", &guest(form).display().to_string(), "--reuse"]).await;
        assert_eq!(output.code, 2);
        assert!(output.stderr.contains("is a command, which ends with its answer"), "{output:?}");
    }
}

#[tokio::test]
async fn commands_serve_queues() {
    let vhost = Broker::shared().await.vhost("commands").await;
    let peer = Peer::connect(&vhost.url).await;
    let mut config = HostConfig::new(&vhost.url);
    for (form, _) in FORMS {
        config = config.plugin(&format!("{form}.wasm"), &guest(form)).manifest(form, &manifest(form, form, ENDS));
    }
    let host = Host::ready(config).await;
    for (form, kind) in FORMS {
        let publication =
            json!({ "routing_key": format!("{form}.told"), "text": "done", "properties": { "persistent": true } });
        let good = json!({ "stdout": json!({ "settlement": "ack", "publications": [publication] }).to_string() });
        let bad = json!({ "stderr": "no hay", "exit": 1 });
        for action in [&good, &bad, &good] {
            peer.publish("", form, action.to_string().as_bytes(), persistent()).await;
        }
        let done = peer.drain(&format!("{form}.told"), 2, DEADLINE).await;
        assert!(done.iter().all(|message| message.text() == "done" && message.properties.delivery_mode() == &Some(2)));
        let dead = peer.take(&format!("{form}.dead"), DEADLINE).await;
        let said = ["x-wabbit-reason", "x-wabbit-error"].map(|name| dead.text_header(name).unwrap());
        assert_eq!(said, ["handler-error", "no hay"]);
        peer.wait_for_count(form, 0, DEADLINE).await;
        let inspected = host::run(host.folder(), &["inspect", "--json", &guest(form).display().to_string()]).await;
        let inspected: Value = serde_json::from_str(&inspected.success()).unwrap();
        assert_eq!(inspected["kind"], kind);
    }
}

#[test]
fn the_schemas_refuse_what_the_host_refuses() {
    let forms = Forms::read();
    for json in [
        json!({ "text": "a", "base64": "YQ==" }),
        json!({ "body": "a" }),
        json!({ "properties": { "priority": 256 } }),
        json!({ "properties": { "headers": { "a": { "$binary": 1 } } } }),
        json!({ "properties": { "headers": [] } }),
    ] {
        assert!(forms.schemas.validate(&json, forms.delivery).is_err(), "{json}");
    }
    for json in [
        json!({}),
        json!({ "settlement": "nack" }),
        json!({ "settlement": { "retry": -1 } }),
        json!({ "settlement": "ack", "publish": [] }),
        json!({ "settlement": "ack", "publications": [{ "text": "a", "base64": "YQ==" }] }),
    ] {
        assert!(forms.schemas.validate(&json, forms.outcome).is_err(), "{json}");
    }
}
