//! Runs the host on a stopped clock: the whole way from the broker through the sandbox and back, with retries, breaker and
//! reloads, and faults between any two frames. What is chosen is chosen by a seed, so that a failure can be repeated.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails, and says where"
)]

mod scenario;
mod trial;

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;

use scenario::Scenario;
use trial::{Folder, Told};

/// How long one trial may take. It takes some milliseconds.
const TRIAL_MAX: Duration = Duration::from_secs(60);
/// Failures that are told; the others are counted.
const TOLD_MAX: usize = 10;
/// The memory that all trials together may keep, in bytes. They take a third of it.
const RESIDENT_MAX: u64 = 1 << 30;

/// Runs the host by many seeds, and looks whether a message was lost
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many at once [default: as many as there are processors]
    #[arg(long)]
    threads: Option<usize>,
    /// The handler, which does what its delivery says
    #[arg(long, default_value = "target/guests/probe.wasm")]
    guest: PathBuf,
    /// Ends with the first failure
    #[arg(long)]
    first: bool,
    /// Prints what is done, and the host's log
    #[arg(long)]
    verbose: bool,
}

/// What all trials came to.
#[derive(Default)]
struct Sum {
    trials: u64,
    messages: u64,
    repeated: u64,
    cut: u64,
    steps: u64,
    with_faults: u64,
    failed: Vec<(u64, Vec<String>)>,
}

fn main() -> ExitCode {
    // The sandbox has plugins compiled by a child, which is the program that runs.
    if env::args().nth(1).is_some_and(|argument| argument == wabbit::sandbox::compile::COMMAND) {
        return wabbit::cli::main();
    }
    let arguments = Arguments::parse();
    if arguments.verbose {
        wabbit::telemetry::init_logging(wabbit::app::settings::LogFormat::Text).unwrap();
    }
    let folder = Folder::new(&arguments.guest);
    let (next, last) = (AtomicU64::new(arguments.seed), arguments.seed + arguments.seeds);
    let sum = Mutex::new(Sum::default());
    let threads = arguments.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last || arguments.first && !sum.lock().unwrap().failed.is_empty() {
                        return;
                    }
                    let scenario = Scenario::of(seed);
                    if arguments.verbose {
                        eprintln!("{scenario:#?}");
                    }
                    let mut told = watched(seed, || trial::run(&scenario, &folder));
                    let resident = resident();
                    if resident > RESIDENT_MAX {
                        told.violations.push(format!("{resident} bytes are kept in memory, of at most {RESIDENT_MAX}"));
                    }
                    add(&mut sum.lock().unwrap(), &scenario, told);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    println!(
        "{} seeds from {}, {} with faults: {} messages, {} frames, {} connections cut, {} outputs repeated, {} failed; {:.0} s",
        sum.trials,
        arguments.seed,
        sum.with_faults,
        sum.messages,
        sum.steps,
        sum.cut,
        sum.repeated,
        sum.failed.len(),
        began.elapsed().as_secs_f64(),
    );
    if sum.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn add(sum: &mut Sum, scenario: &Scenario, told: Told) {
    sum.trials += 1;
    sum.messages += scenario.inputs.len() as u64;
    sum.repeated += told.repeated;
    sum.cut += told.tally.cut;
    sum.steps += told.tally.steps;
    sum.with_faults += u64::from(!scenario.faults.is_empty());
    if !told.violations.is_empty() {
        if sum.failed.len() < TOLD_MAX {
            eprintln!("seed {}: repeat it with: make simulate N=1 SEED={}", scenario.seed, scenario.seed);
            for violation in &told.violations {
                eprintln!("  {violation}");
            }
        }
        sum.failed.push((scenario.seed, told.violations));
    }
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Ends the program where a trial does not end.
fn watched<R>(seed: u64, trial: impl FnOnce() -> R) -> R {
    let (done, ended) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(TRIAL_MAX) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("seed {seed} does not end; repeat it with: make simulate N=1 SEED={seed}");
                std::process::exit(1);
            }
        });
        let result = trial();
        drop(done);
        result
    })
}
