//! The text of a manifest: what it becomes keeps to every bound, and what is wrong with it is told in full and in peace.

use std::ops::Range;
use std::path::Path;

use wabbit::delivery::{Table, Value, table_encoded_len};
use wabbit::manifest::report::{Place, Problem, Style, render, rows};
use wabbit::manifest::{Ceilings, Manifest, parse};
use wabbit::outcome::SHORT_STRING_MAX;
use wabbit::settle::ladder::{DELAY_MAX, DELAY_MIN};

use crate::is_harmless;

/// What the host allows.
const CEILINGS: Ceilings = Ceilings::of_memory(256 << 20);
/// A key that no manifest has.
const UNKNOWN: &str = "colour-of-the-barn";
/// More problems than these are not told.
const PROBLEMS: Range<usize> = 1..102;
/// The longest text of one problem, in bytes: some that a user wrote, with escapes, and ours around it.
const PROBLEM_BYTES_MAX: usize = 4_000;
/// A line that is shown, its marks below it, the message and the hint.
const SHOWN_BYTES_MAX: usize = 4 * PROBLEM_BYTES_MAX;
/// Arguments that fit a frame, in bytes.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

/// Any text as a manifest.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read(text) {
        Ok(manifest) => {
            check(&manifest);
            check_forms(text, &manifest);
        }
        Err(problems) => check_report(text, &problems),
    }
}

fn read(text: &str) -> Result<Manifest, Vec<Problem>> {
    parse(Path::new("manifests/worker.toml"), text, &CEILINGS)
}

/// What everybody relies upon who is handed a manifest.
fn check(manifest: &Manifest) {
    let Manifest { name, plugin, consume, limits, failure, .. } = manifest;
    assert_eq!(name, "worker");
    assert!(plugin.ends_with(".wasm") && !plugin.contains(['/', '\\']), "{plugin}");
    assert!(!manifest.queues.is_empty(), "a worker that consumes nothing");
    assert!(consume.prefetch > 0);
    assert!((1..=10_000).contains(&consume.concurrency), "{}", consume.concurrency);
    assert!(consume.concurrency <= usize::from(consume.prefetch) * manifest.queues.len(), "{consume:?}");

    assert!((1..=3_600_000).contains(&limits.time.as_millis()), "{:?}", limits.time);
    assert!((64 << 10..=CEILINGS.memory).contains(&limits.memory), "{}", limits.memory);
    assert!((1..=1_000).contains(&failure.attempts), "{}", failure.attempts);
    let backoff = &failure.backoff;
    assert!(DELAY_MIN <= backoff.first && backoff.first <= backoff.max && backoff.max <= DELAY_MAX, "{backoff:?}");
    assert!((1.0..=100.0).contains(&backoff.factor), "{backoff:?}");
    if let Some(breaker) = &manifest.breaker {
        assert!((0.0..=0.99).contains(&breaker.share) && (2..=1_000).contains(&breaker.window), "{breaker:?}");
        assert!((100..=3_600_000).contains(&breaker.pause.as_millis()), "{breaker:?}");
    }

    let short = |text: &str| assert!(text.len() <= SHORT_STRING_MAX, "{text} does not fit AMQP");
    for exchange in &manifest.exchanges {
        assert!(!exchange.name.is_empty());
        short(&exchange.name);
        check_arguments(&exchange.arguments);
    }
    for queue in manifest.queues.iter().chain(&manifest.other_queues) {
        short(&queue.name);
        check_arguments(&queue.arguments);
        for binding in &queue.bind {
            assert!(!binding.exchange.is_empty());
            short(&binding.exchange);
            short(&binding.routing_key);
            check_arguments(&binding.arguments);
        }
    }
    for queue in &manifest.queues {
        let letters = manifest.dead_letter(queue);
        short(letters.as_deref().unwrap_or_default());
        assert_ne!(letters, Some(queue.name.clone()), "its own dead letters");
    }
    for files in &manifest.grant.files {
        assert!(files.guest.starts_with('/') && !files.guest.split('/').any(|part| part == ".."), "{files:?}");
    }
}

fn check_arguments(arguments: &Table) {
    fn names(value: &Value) {
        match value {
            Value::Table(table) => check_arguments(table),
            Value::Array(values) => values.iter().for_each(names),
            _ => {}
        }
    }
    assert!(table_encoded_len(arguments) <= ARGUMENTS_BYTES_MAX);
    for (name, value) in arguments {
        assert!(name.len() <= SHORT_STRING_MAX, "{name} does not fit AMQP");
        names(value);
    }
}

/// The same manifest, written in another way, and with one more key.
fn check_forms(text: &str, manifest: &Manifest) {
    assert_eq!(read(&format!("{text}\n# The end.\n")).as_ref(), Ok(manifest), "with a comment");
    if !text.contains(['\r', '\u{feff}']) && !text.contains("\"\"\"") && !text.contains("'''") {
        assert_eq!(read(&text.replace('\n', "\r\n")).as_ref(), Ok(manifest), "with Windows' line ends");
    }
    if !text.starts_with('\u{feff}') {
        let problems = read(&format!("{UNKNOWN} = 1\n{text}")).expect_err("an unknown key was not noticed");
        let [problem] = &*problems else { panic!("one key more: {problems:?}") };
        assert_eq!(problem.message, format!("unknown key `{UNKNOWN}`"));
        assert_eq!(problem.place.as_ref().map(|place| (place.line, place.column)), Some((1, 1)));
    }
}

/// What is wrong is told: with its place, in bounds, and so that no terminal acts upon it.
fn check_report(text: &str, problems: &[Problem]) {
    let path = Path::new("manifests/worker.toml");
    assert!(PROBLEMS.contains(&problems.len()), "{} problems", problems.len());
    for problem in problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
        assert!(problem.message.len() <= PROBLEM_BYTES_MAX, "{problem:?}");
        assert!(problem.hint.as_ref().is_none_or(|hint| hint.len() <= PROBLEM_BYTES_MAX), "{problem:?}");
        if let Some(place) = &problem.place {
            check_place(text, place);
        }
    }

    let plain = render(path, problems, Style::Plain);
    assert!(is_harmless(&plain), "{plain:?}");
    assert!(plain.len() <= problems.len() * SHOWN_BYTES_MAX, "{} bytes", plain.len());
    // What colours the other one is a few sequences of ours, `ESC [ … m`.
    let coloured = render(path, problems, Style::Coloured);
    let mut bare = String::new();
    for (index, part) in coloured.split('\u{1b}').enumerate() {
        let sequence = part.strip_prefix('[').and_then(|part| part.split_once('m'));
        match sequence.filter(|(codes, _)| codes.bytes().all(|byte| byte.is_ascii_digit() || byte == b';')) {
            _ if index == 0 => bare.push_str(part),
            Some((_, rest)) => bare.push_str(rest),
            None => panic!("not a colour: {part:?}"),
        }
    }
    assert!(is_harmless(&bare), "{bare:?}");

    let rows = rows(path, problems);
    assert_eq!(rows.len(), problems.len());
    serde_json::to_string(&rows).unwrap();
}

fn check_place(text: &str, place: &Place) {
    let line = text.split('\n').nth(place.line.checked_sub(1).expect("lines count from 1"));
    let line = line.unwrap_or_else(|| panic!("no line {}", place.line)).trim_end_matches('\r');
    assert!(place.text.as_ref().is_none_or(|shown| shown == line), "{place:?} of {line:?}");
    assert!(place.marked.start <= place.marked.end, "{place:?}");
    assert!(line.get(place.marked.clone()).is_some(), "{place:?} of {line:?}");
    assert_eq!(place.column, 1 + line[..place.marked.start].chars().count(), "{place:?} of {line:?}");
}
