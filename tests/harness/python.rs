//! Scripts in Python: a peer that shares no code with the host.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::places;
use super::process::{self, Output};

/// Runs a script with the packages of `tests/requirements.txt`.
pub async fn run<S: AsRef<OsStr>>(script: &Path, arguments: &[S], deadline: Duration) -> Output {
    let packages = places::root().join("target/python");
    assert!(packages.join(".stamp").exists(), "the Python packages are not installed; run scripts/require-python");
    let mut command = process::bound("python3");
    command
        .arg(script)
        .args(arguments)
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(places::root());
    process::run(&script.display().to_string(), command, deadline).await
}
