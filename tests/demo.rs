//! `make demo`, where there is neither RabbitMQ nor Python.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::harness::{host, places, process};

/// All is built before, but for a shop of a hundred lines.
const LONG: Duration = Duration::from_secs(300);

/// What a machine with nothing but Rust lacks.
const LACKING: [&str; 10] = ["beam", "epmd", "erl", "node", "npm", "npx", "pip", "pypy", "python", "rabbitmq"];

/// Links to all commands but these.
fn commands_without(lacking: &[&str], folder: &Path) {
    for path in env::split_paths(&env::var_os("PATH").unwrap()) {
        // Not every folder that is named there exists.
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let (name, link) = (entry.file_name(), folder.join(entry.file_name()));
            let is_lacking = name.to_str().is_none_or(|name| lacking.iter().any(|start| name.starts_with(start)));
            if !is_lacking && link.symlink_metadata().is_err() {
                symlink(entry.path(), link).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_demo_needs_nothing_but_rust() {
    let (root, folder) = (places::root().canonicalize().unwrap(), places::folder("commands"));
    // Says so where the host is older than its sources.
    host::run(folder.path(), &["--version"]).await.success();
    let commands = folder.path().join("bin");
    fs::create_dir(&commands).unwrap();
    commands_without(&LACKING, &commands);
    assert!(!commands.join("python3").exists() && !commands.join("rabbitmq-server").exists());

    let mut command = process::bound(root.join("scripts/demo"));
    command.arg("100").current_dir(&root).env("PATH", &commands);
    command.env("CARGO_TARGET_DIR", places::build().parent().unwrap()).env("CARGO_NET_OFFLINE", "true");
    // What cargo says to tests would have it build things anew.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(&*name);
        }
    }
    let said = process::run("the demo", command, LONG).await.success();
    for part in [
        "every one of the 100 orders was notified and reported",
        "reason       dead-lettered",
        r#"wabbit_deliveries_total{worker="order-notify",outcome="acked"} 100"#,
        r#"wabbit_deliveries_total{worker="order-report",outcome="acked"} 100"#,
        r#"wabbit_deliveries_total{worker="order-report",outcome="dead-lettered"} 1"#,
        "ended in order",
    ] {
        assert!(said.contains(part), "no `{part}`:\n{said}");
    }
    let left: Vec<_> =
        fs::read_dir(root.join("target/tmp")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("demo-")), "{left:?}");
}
