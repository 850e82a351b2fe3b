//! What takes more than its share: time, memory, stack, calls of the host, the log.

use std::{
    hint::black_box,
    io::{self, Write},
    process, thread,
    time::{Duration, Instant},
};

use wasip2::{
    clocks::{monotonic_clock, wall_clock},
    io::poll,
    random::{insecure, random},
};

/// Longer than any handler may take, in nanoseconds.
const FOR_EVER: u64 = 3_600_000_000_000;

pub fn act(name: &str, argument: &str) {
    let number: usize = argument.parse().unwrap_or(0);
    match name {
        "loop" => loop {
            black_box(());
        },
        "spin" => {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(number as u64) {
                black_box(());
            }
        }
        "recurse" => {
            recurse(1);
        }
        "trap" => process::abort(),
        "panic" => panic!("{}", terminal(number)),
        "exit" => process::exit(i32::try_from(number).unwrap_or(1)),
        "memory" => fill(number),
        "memory-by-bits" => fill_by_bits(),
        "memory-at-once" => {
            black_box(vec![1_u8; number << 20]);
        }
        "sleep" => thread::sleep(Duration::from_nanos(FOR_EVER)),
        "poll-many" => {
            let waits: Vec<_> = (0..number.max(1)).map(|_| monotonic_clock::subscribe_duration(FOR_EVER)).collect();
            poll::poll(&waits.iter().collect::<Vec<_>>());
        }
        "poll-storm" => loop {
            let ready = monotonic_clock::subscribe_duration(0);
            black_box(poll::poll(&[&ready]));
        },
        "call-storm" => loop {
            black_box((wall_clock::now(), monotonic_clock::now(), insecure::get_insecure_random_u64()));
        },
        "handles" => {
            let mut kept = Vec::new();
            loop {
                kept.push(monotonic_clock::subscribe_duration(FOR_EVER));
            }
        }
        "random-storm" => loop {
            black_box(random::get_random_bytes(1 << 20));
        },
        "random-at-once" => {
            black_box(random::get_random_bytes(u64::MAX));
        }
        "log-flood" => {
            let line = terminal(number.min(1 << 16));
            for _ in 0..20_000 {
                let _ = io::stderr().write_all(line.as_bytes());
            }
        }
        "log-storm" => loop {
            let _ = io::stdout().write_all(b"flood\n");
        },
        "log-line" => {
            let _ = io::stderr().write_all(&vec![b'x'; number << 20]);
        }
        "log-terminal" => {
            let _ = io::stdout().write_all(terminal(64).as_bytes());
            let _ = io::stderr().write_all(b"\xff\xfe\r\x1b]0;title\x07\x1bc\x9b2J\n");
        }
        // Noise.
        _ => {}
    }
}

/// What would clear a screen, ring a bell, turn the direction of writing, and pass for a line of the host's own.
fn terminal(length: usize) -> String {
    let forged =
        "\u{1b}[2J\u{1b}[31m\u{7}\u{8}\r\u{202e}\n2026-01-01T00:00:00.000000Z ERROR wabbit: forged worker=good\n";
    forged.repeat(1 + length / forged.len())
}

/// Small frames: the engine's stack is to be full before the guest's own in its memory.
fn recurse(depth: u64) -> u64 {
    if black_box(depth) == 0 { 0 } else { 1 + recurse(depth + 1) }
}

fn fill(mib: usize) {
    black_box((0..mib).map(|_| vec![1_u8; 1 << 20]).collect::<Vec<_>>());
}

fn fill_by_bits() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(vec![1; 64 << 10]);
    }
}
