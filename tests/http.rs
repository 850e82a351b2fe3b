//! HTTP requests of handlers: where they go and where they do not, and that each ends.

use std::fs;

use serde_json::{Value, json};

use crate::harness::amqp::persistent;
use crate::harness::http::Server;
use crate::harness::{DEADLINE, certificates, host, places, wait_until};
use crate::outcomes::{Stage, backstage, curtain, guest};

/// A host with a worker `fetch` that has these grants of HTTP, as TOML, and this in its `[limits]`.
async fn fetching(test: &str, settings: &str, grants: &str, limits: &str) -> Stage {
    let manifest = format!(
        "plugin = \"fetch.wasm\"\n[[queue]]\nname = \"@work\"\n[[queue]]\nname = \"@out\"\nconsume = false\n\
         [failure]\nattempts = 1\n[limits]\n{limits}\n[grant]\npublish = [\"/@out\"]\nhttp = [{grants}]\n"
    );
    let (vhost, folder, config) = backstage(test, settings, &[("fetch", &manifest)]).await;
    curtain(vhost, folder, config.plugin("fetch.wasm", &guest("fetch"))).await
}

/// What came of each of these requests, sent by one delivery.
async fn fetch(stage: &Stage, requests: Value) -> Vec<Value> {
    let command = json!({ "requests": requests, "to": stage.named("@out") }).to_string();
    stage.peer.publish("", &stage.named("@work"), command.as_bytes(), persistent()).await;
    stage.take("out", 1).await.remove(0).json().as_array().unwrap().clone()
}

/// The reason and the text of the dead letter that comes of this command.
async fn failure(stage: &Stage, command: Value) -> (String, String) {
    let mut command = command;
    command["to"] = json!(stage.named("@out"));
    stage.peer.publish("", &stage.named("@work"), command.to_string().as_bytes(), persistent()).await;
    let letter = stage.take("work.dead", 1).await.remove(0);
    (letter.text_header("x-wabbit-reason").unwrap(), letter.text_header("x-wabbit-error").unwrap())
}

#[tokio::test]
async fn requests_go_to_granted_origins_alone() {
    let (granted, other) = (Server::start().await, Server::start().await);
    let stage = fetching("http", "", &format!("\"http://{}\"", granted.address), "requests = 20").await;
    let told = fetch(
        &stage,
        json!([
            { "url": granted.url("/echo"), "method": "POST", "headers": [["x-a", "b"]], "body": "hay" },
            { "url": granted.url("/bytes/100000") },
            { "url": granted.url("/echo"), "method": "PUT", "body-bytes": 3_000_000 },
        ]),
    )
    .await;
    let echo = told[0]["body"].as_str().unwrap();
    assert!(echo.starts_with("POST /echo HTTP/1.1\r\n") && echo.ends_with("\r\n\r\nhay"), "{echo}");
    for line in [&format!("host: {}", granted.address), "x-a: b", "content-length: 3"] {
        assert!(echo.contains(&format!("\r\n{line}\r\n")), "{line}: {echo}");
    }
    assert_eq!((&told[1]["status"], &told[1]["length"]), (&json!(200), &json!(100_000)));
    assert!(told[1]["headers"].as_array().unwrap().contains(&json!(["x-server", "wabbit"])), "{}", told[1]);
    assert!(told[2]["length"].as_u64().unwrap() > 3_000_000, "{}", told[2]);

    // Redirects are told and not followed, and nothing that only looks like the origin is it.
    let asked = granted.heads().len();
    let told = fetch(
        &stage,
        json!([
            { "url": granted.url(&format!("/to?{}", other.url("/echo"))) },
            { "url": other.url("/echo") },
            { "url": format!("http://{}@{}/echo", granted.address, other.address) },
            { "url": format!("http://localhost:{}/echo", granted.address.port()) },
            { "url": format!("https://{}/echo", granted.address) },
            { "url": "http://169.254.169.254/latest/meta-data/" },
            { "url": "http://[::1]/" },
            { "url": granted.url("/echo"), "headers": [["host", "evil.example"]] },
            { "url": granted.url("/echo"), "headers": [["transfer-encoding", "chunked"]] },
            { "url": granted.url("/echo"), "method": "CONNECT" },
            { "url": format!("http://2130706433:{}/echo", granted.address.port()) },
        ]),
    )
    .await;
    assert_eq!(told[0]["status"], 302);
    assert_eq!(told[0]["headers"][0], json!(["location", other.url("/echo")]));
    for refused in &told[1..7] {
        assert_eq!(refused["kind"], "NotGranted", "{refused}");
    }
    for malformed in &told[7..10] {
        assert_eq!(malformed["kind"], "Request", "{malformed}");
    }
    // Another notation of the same address is the same origin, and is asked for by its one name.
    assert!(told[10]["body"].as_str().unwrap().contains(&format!("\r\nhost: {}\r\n", granted.address)), "{}", told[10]);
    assert_eq!((granted.heads().len(), other.heads().len()), (asked + 2, 0));
    // What to add is told once for a delivery.
    let hint = format!("hint: add `\"http://{}\"` to `http` in `[grant]`", other.address);
    stage.host.wait_for_log(&hint).await;
    let lines = stage.host.logs().iter().filter(|line| line.contains("is not granted")).count();
    assert_eq!(lines, 1, "{}", stage.host.logs().join("\n"));
    stage.wait_for_settled("fetch", "acked", 2).await;
}

#[tokio::test]
async fn every_request_is_bounded() {
    let server = Server::start().await;
    let settings = "[http]\nbody = \"1MiB\"\nidle-timeout = \"1s\"\n";
    let grants = format!("\"http://{}\"", server.address);
    let stage = fetching("http-bounds", settings, &grants, "time = \"2s\"\nrequests = 5").await;
    let told = fetch(
        &stage,
        json!([
            { "url": server.url("/bytes/1048576") },
            { "url": server.url("/bytes/1048577") },
            { "url": server.url("/chunked/2000000") },
            { "url": server.url("/echo"), "method": "POST", "body-bytes": 1_048_577 },
            { "url": server.url("/chunked/1000000") },
        ]),
    )
    .await;
    assert_eq!((&told[0]["status"], &told[0]["length"]), (&json!(200), &json!(1_048_576)));
    assert_eq!((&told[1]["kind"], &told[3]["kind"]), (&json!("TooLarge"), &json!("TooLarge")), "{told:?}");
    assert!(told[2]["error"].as_str().unwrap().contains("1048576"), "{}", told[2]);
    assert_eq!(told[4]["length"], 1_000_000);

    let too_many = failure(&stage, json!({ "requests": [{ "url": server.url("/echo"), "times": 6 }] })).await;
    assert_eq!(too_many, ("request-limit".into(), "more HTTP requests than the limit of 5".into()));
    // A server that is slow costs the delivery its time and nobody else's, and is not kept waiting after it.
    for path in ["/never", "/slow"] {
        let (reason, error) = failure(&stage, json!({ "requests": [{ "url": server.url(path) }] })).await;
        assert_eq!((reason.as_str(), error.contains("the limit of 2s")), ("time-limit", true), "{path}: {error}");
        wait_until(DEADLINE, "the connection's end", async || match server.now() {
            0 => Ok(()),
            now => Err(format!("{now} are open")),
        })
        .await;
    }
}

#[tokio::test]
async fn a_delivery_has_eight_requests_at_once() {
    let server = Server::start().await;
    let stage = fetching("http-burst", "", &format!("\"http://{}\"", server.address), "").await;
    let command = json!({ "burst": [server.url("/wait/100"), 30], "to": stage.named("@out") }).to_string();
    stage.peer.publish("", &stage.named("@work"), command.as_bytes(), persistent()).await;
    let told = stage.take("out", 1).await.remove(0).json();
    assert_eq!(told[0], json!(vec![200; 30]));
    assert_eq!((server.heads().len(), server.most_at_once()), (30, 8));
}

#[tokio::test]
async fn servers_with_tls_are_trusted_by_name() {
    let folder = places::folder("http-tls");
    let certificates = certificates::create(folder.path());
    let server = Server::start_tls("127.0.0.1", &certificates).await;
    // The certificate has no such name.
    let other = Server::start_tls("127.0.0.2", &certificates).await;
    let (port, other) = (server.address.port(), other.address);
    let grants = format!("\"https://localhost:{port}\", \"https://127.0.0.1:{port}\", \"https://{other}\"");
    let requests = json!([
        { "url": format!("https://localhost:{port}/echo") },
        { "url": format!("https://127.0.0.1:{port}/echo") },
        { "url": format!("https://{other}/echo") },
    ]);

    let settings = format!("[http]\nca = \"{}\"\n", certificates.authority.display());
    let stage = fetching("http-tls", &settings, &grants, "").await;
    let told = fetch(&stage, requests.clone()).await;
    for (answer, host) in told.iter().zip(["localhost", "127.0.0.1"]) {
        let echo = answer["body"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(echo.contains(&format!("\r\nhost: {host}:{port}\r\n")), "{echo}");
    }
    assert!(told[2]["error"].as_str().unwrap().contains("tls certificate error"), "{}", told[2]);

    // Without the setting nobody trusts it, and the log says what to do.
    let stage = fetching("http-no-ca", "", &grants, "").await;
    for answer in fetch(&stage, requests).await {
        assert!(answer["error"].as_str().unwrap().contains("tls certificate error"), "{answer}");
    }
    stage.host.wait_for_log("give the CA that signed the server's certificate as `ca` in `[http]`").await;
}

/// What `wabbit invoke` sends is nothing, unless it is told to.
#[tokio::test]
async fn trying_a_handler_out_sends_nothing() {
    let server = Server::start().await;
    let folder = places::folder("http-invoke");
    let manifest = folder.path().join("fetch.toml");
    let granted = |http: &str| {
        let grant = format!("[grant]\npublish = [\"/out\"]\n{http}");
        fs::write(&manifest, format!("plugin = \"fetch.wasm\"\n[[queue]]\nname = \"q\"\n{grant}")).unwrap();
    };
    let command = json!({ "requests": [{ "url": server.url("/echo") }], "to": "out" }).to_string();
    let (plugin, manifest) = (guest("fetch").display().to_string(), manifest.display().to_string());
    let arguments = ["invoke", &plugin, "--manifest", &manifest, "--json", "--body", &command];

    granted("");
    let output = host::run(folder.path(), &arguments).await;
    assert_eq!(output.code, 1);
    for part in ["imports `wasi:http/", "hint: add `http = [\"https://api.example.com\"]` to `[grant]`"] {
        assert!(output.stderr.contains(part), "{output:?}");
    }

    granted(&format!("http = [\"http://{}\"]\n", server.address));
    let output = host::run(folder.path(), &arguments).await;
    assert!(output.stdout.contains("NotGranted") && output.stderr.contains("hint: add `--effects`"), "{output:?}");
    assert_eq!(server.heads().len(), 0);
    let output = host::run(folder.path(), &[&arguments[..], &["--effects"]].concat()).await;
    assert!(output.stdout.contains("GET /echo"), "{output:?}");
    assert_eq!(server.heads().len(), 1);
}
