//! The host on a stopped clock, with faults between any two frames: by many seeds, and with mistakes planted.

use std::time::Duration;

use crate::harness::process::{self, Output};
use crate::harness::{host, places};
use crate::outcomes::guest;

/// Seeds of every test run; `make simulate N=…` takes more.
const SEEDS: u32 = 2_000;
/// Seeds by which a mistake is to be found.
const SEEDS_FOR_A_MISTAKE: u32 = 3_000;
/// For all of the seeds.
const LONG: Duration = Duration::from_secs(600);

async fn simulate(mistake: &str, seeds: u32, more: &[&str]) -> Output {
    let root = places::root().canonicalize().unwrap();
    let mut command = host::simulation(&root);
    command.args(["--seeds", &seeds.to_string(), "--guest"]).arg(guest("probe")).args(more);
    command.env("WABBIT_PLANTED", mistake);
    process::run("simulate", command, LONG).await
}

#[tokio::test]
async fn many_seeds_lose_nothing() {
    let told = simulate("none", SEEDS, &[]).await;
    assert_eq!(told.code, 0, "{}\n{}", told.stdout, told.stderr);
    assert!(told.stdout.contains(&format!("{SEEDS} seeds from 1, ")) && told.stdout.contains(", 0 failed"), "{told:?}");
}

#[tokio::test]
async fn planted_mistakes_are_found_on_a_stopped_clock() {
    let text = std::fs::read_to_string(places::root().join("tests/faults/mistakes.toml")).unwrap();
    let (_, text) = text.split_once("[[mistake]]").unwrap();
    let built: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(built.len() > 20, "{built:?}");
    let mut missed = Vec::new();
    for mistake in &built {
        let told = simulate(mistake, SEEDS_FOR_A_MISTAKE, &["--first"]).await;
        if told.code != 1 || !told.stderr.contains("repeat it with") {
            missed.push((*mistake, told));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// The simulation is the host's sources with the host's libraries, but for lapin.
#[test]
fn the_simulation_has_the_hosts_dependencies() {
    let dependencies = |file: &str| {
        let text = std::fs::read_to_string(places::root().join(file)).unwrap();
        let (_, text) = text.split_once("\n[dependencies]\n").unwrap();
        let lines = text.split("\n[").next().unwrap().lines();
        let names = lines.filter_map(|line| line.split(['.', ' ']).next()).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let of_host = dependencies("runtime/Cargo.toml");
    assert!(of_host.contains("lapin") && of_host.len() > 30, "{of_host:?}");
    assert_eq!(of_host, dependencies("simulation/Cargo.toml"));
}
