//! Every target with its corpus, and with mutations of it by a fixed seed: what `make fuzz` does for minutes and by
//! coverage, in seconds and always the same.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use wabbit_fuzz::{TARGETS, Target, assembled};

/// Mutations of a whole corpus.
const MUTATIONS: u64 = 20_000;
/// They end sooner where the machine is slow.
const TIME: Duration = Duration::from_secs(5);
/// The stack, in bytes. A header can be nested as deep as a frame has room for; the host's threads have such stacks, too.
const STACK_BYTES: usize = 256 << 20;
/// What a broker sends in one frame, in bytes, but for a rest.
const FRAME_BYTES: usize = 120 << 10;
/// The longest mutation, in bytes.
const BYTES_MAX: usize = 64 << 10;
/// Bytes that stand for something in one of the formats.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\"'[]{}=.,:#\\AFSVx0-";

#[test]
fn any_headers_keep_their_types() {
    on_a_deep_stack(|| check("headers"));
}

#[test]
fn any_manifest_is_in_bounds_or_told_to_be_wrong() {
    on_a_deep_stack(|| check("manifest"));
}

#[test]
fn any_outcome_means_one_thing() {
    on_a_deep_stack(|| check("outcome"));
}

#[test]
fn any_plugin_is_known_for_what_it_is() {
    on_a_deep_stack(|| check("plugin"));
}

#[test]
fn every_target_has_a_corpus_and_a_binary() {
    let names = |folder: &str| {
        let entries = fs::read_dir(here().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!((names("corpus"), names("fuzz_targets")), (targets.clone(), targets));
}

/// A header that fills a frame with lists, or with tables, in each other.
#[test]
fn headers_as_deep_as_a_frame() {
    for (kind, name) in [(b'A', &b""[..]), (b'F', b"\0")] {
        let mut value = vec![b'V'];
        while value.len() < FRAME_BYTES {
            let inner = [name, &value].concat();
            value = [&[kind][..], &u32::try_from(inner.len()).unwrap().to_be_bytes(), &inner].concat();
        }
        let table = [b"\x01h", &*value].concat();
        let data = [&b"\x20\0"[..], &u32::try_from(table.len()).unwrap().to_be_bytes(), &table].concat();
        on_a_deep_stack(move || wabbit_fuzz::headers(&data));
    }
}

fn on_a_deep_stack(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap();
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

fn check(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let mut seeds = Vec::new();
    for path in corpus(name) {
        let data = fs::read(&path).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| target(&data))).is_ok(), "found by {}", path.display());
        seeds.push(assembled(&data));
    }
    assert!(seeds.len() >= 10, "{} seeds", seeds.len());
    mutate(name, *target, &seeds);
}

/// The corpus of a target, and for manifests those that are there anyway.
fn corpus(name: &str) -> Vec<PathBuf> {
    let own = format!("corpus/{name}");
    let more: &[&str] = if name == "manifest" { &["../manifests", "../runtime/tests/manifests"] } else { &[] };
    let folders = more.iter().copied().chain([&*own]);
    let entries = folders.flat_map(|folder| fs::read_dir(here().join(folder)).unwrap());
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

fn mutate(name: &str, target: Target, seeds: &[Vec<u8>]) {
    let end = Instant::now() + TIME;
    for seed in 0..MUTATIONS {
        let mut rng = Rng::with_seed(seed);
        let mut data = seeds[rng.usize(..seeds.len())].clone();
        for _ in 0..rng.usize(1..=4) {
            change(&mut data, &mut rng, seeds);
        }
        data.truncate(BYTES_MAX);
        if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
            let file = keep(name, seed, &data);
            panic!("found by {}; hint: make fuzz CASE={}", file.display(), file.display());
        }
        if Instant::now() > end {
            return;
        }
    }
}

/// One small mistake, or a piece of something else.
fn change(data: &mut Vec<u8>, rng: &mut Rng, seeds: &[Vec<u8>]) {
    let at = rng.usize(..=data.len());
    let to = (at + rng.usize(..=32)).min(data.len());
    match rng.u8(..8) {
        0 if at < data.len() => data[at] ^= 1 << rng.u8(..8),
        1 if at < data.len() => data[at] = TELLING[rng.usize(..TELLING.len())],
        2 if at < data.len() => data[at] = rng.u8(..),
        3 => data.insert(at, TELLING[rng.usize(..TELLING.len())]),
        4 => drop(data.drain(at..to)),
        5 => {
            let piece = data[at..to].to_vec();
            data.splice(at..at, piece);
        }
        6 => {
            let other = &seeds[rng.usize(..seeds.len())];
            let from = rng.usize(..=other.len());
            let piece = other[from..(from + rng.usize(..=64)).min(other.len())].to_vec();
            data.splice(at..at, piece);
        }
        _ => data.truncate(at),
    }
}

/// Keeps what was found where `make fuzz` keeps it.
fn keep(name: &str, seed: u64, data: &[u8]) -> PathBuf {
    let folder = here().join("../target/fuzz/findings").join(name);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.canonicalize().unwrap().join(format!("mutation-{seed}"));
    fs::write(&path, data).unwrap();
    path
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
