//! What the probe can be told to do.

use std::{
    hint::black_box,
    io::{self, Write},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wabbit_sdk::{Delivery, Error, Outcome, context};

use crate::message::{Body, Description, Message, To};

/// One behaviour each. Those that say nothing of a settlement ack.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Action {
    Ack {},
    Requeue {},
    /// By the manifest's backoff without `ms`.
    Retry {
        ms: Option<u64>,
    },
    DeadLetter {
        #[serde(default)]
        reason: String,
    },
    /// Answers with an error.
    Error {
        #[serde(default)]
        text: String,
    },
    /// Traps without a word.
    Trap {},
    /// Traps with that text on stderr.
    Panic {
        #[serde(default)]
        text: String,
    },
    Exit {
        #[serde(default)]
        code: i32,
    },
    /// Never returns.
    Loop {},
    /// Calls itself until the stack is full.
    Recurse {},
    /// Allocates so much memory and writes to all of it.
    Memory {
        mib: u32,
    },
    /// Waits in the host's clock.
    Sleep {
        ms: u64,
    },
    /// Runs for so long without calling the host for anything but the time.
    Spin {
        ms: u64,
    },
    /// Writes a line `count` times, each filled up with `x` to `length` bytes.
    Log {
        #[serde(default)]
        stream: Stream,
        #[serde(default)]
        text: Body,
        #[serde(default = "one")]
        count: u32,
        #[serde(default)]
        length: usize,
        /// Whether the line ends.
        #[serde(default = "yes")]
        newline: bool,
    },
    /// Writes a line to stderr and sleeps 10 ms, that many times.
    StderrSleep {
        times: u32,
    },
    Publish {
        publications: Vec<Message>,
    },
    /// Publishes the body and the properties as they were received.
    Echo {
        to: To,
    },
    /// Publishes all that it was given, as JSON.
    Describe {
        to: To,
    },
    /// Publishes what the host says of the call, and how many calls this instance has had.
    Context {
        to: To,
    },
    /// Publishes a body of that many bytes.
    BigOutput {
        bytes: usize,
        to: To,
    },
    /// Answers to `reply-to`, if there is one.
    Reply {
        #[serde(default)]
        body: Body,
    },
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    Stdout,
    #[default]
    Stderr,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

impl Action {
    pub fn run(self, delivery: &Delivery) -> Result<Outcome, Error> {
        match self {
            Self::Ack {} => {}
            Self::Requeue {} => return Ok(Outcome::requeue()),
            Self::Retry { ms: None } => return Ok(Outcome::retry()),
            Self::Retry { ms: Some(ms) } => return Ok(Outcome::retry_after(Duration::from_millis(ms))),
            Self::DeadLetter { reason } => return Ok(Outcome::dead_letter(reason)),
            Self::Error { text } => return Err(Error::new(text)),
            Self::Trap {} => process::abort(),
            Self::Panic { text } => panic!("{text}"),
            Self::Exit { code } => process::exit(code),
            Self::Loop {} => spin(None),
            Self::Recurse {} => {
                recurse(1);
            }
            Self::Memory { mib } => fill_memory(mib),
            Self::Sleep { ms } => thread::sleep(Duration::from_millis(ms)),
            Self::Spin { ms } => spin(Some(Duration::from_millis(ms))),
            Self::Log { stream, text, count, length, newline } => log(stream, text, count, length, newline)?,
            Self::StderrSleep { times } => {
                for time in 1..=times {
                    eprintln!("line {time}");
                    thread::sleep(Duration::from_millis(10));
                }
            }
            Self::Publish { publications } => {
                return Ok(Outcome::ack().publish_all(publications.into_iter().flat_map(Message::publications)));
            }
            Self::Echo { to } => {
                let echo = to.publication().body(delivery.body.as_slice());
                return Ok(Outcome::ack().publish(echo.properties(delivery.properties.clone())));
            }
            Self::Describe { to } => return publish_json(to, &Description::of(delivery)),
            Self::Context { to } => return publish_json(to, &call()),
            Self::BigOutput { bytes, to } => {
                return Ok(Outcome::ack().publish(to.publication().body(vec![b'x'; bytes])));
            }
            Self::Reply { body } => return Ok(Outcome::ack().publish_all(delivery.reply(body))),
        }
        Ok(Outcome::ack())
    }
}

fn publish_json(to: To, value: &impl Serialize) -> Result<Outcome, Error> {
    Ok(Outcome::ack().publish(to.publication().json(value)?))
}

fn spin(time: Option<Duration>) {
    let start = Instant::now();
    // The clock is a call of the host, of which there is a limit.
    while time.is_none_or(|time| start.elapsed() < time) {
        for turn in 0..10_000 {
            black_box(turn);
        }
    }
}

/// Small frames: the engine's stack is to be full before the guest's own in its memory.
fn recurse(depth: u64) -> u64 {
    if black_box(depth) == 0 { 0 } else { 1 + recurse(depth + 1) }
}

fn fill_memory(mib: u32) {
    let blocks: Vec<_> = (0..mib).map(|_| vec![1_u8; 1 << 20]).collect();
    black_box(blocks);
}

fn log(stream: Stream, text: Body, count: u32, length: usize, newline: bool) -> io::Result<()> {
    let mut line: Vec<u8> = text.into();
    if line.len() < length {
        line.resize(length, b'x');
    }
    if newline {
        line.push(b'\n');
    }
    let mut stream: Box<dyn Write> = match stream {
        Stream::Stdout => Box::new(io::stdout()),
        Stream::Stderr => Box::new(io::stderr()),
    };
    for _ in 0..count {
        stream.write_all(&line)?;
    }
    stream.flush()
}

fn call() -> Value {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    json!({
        "worker": context::worker(),
        "remaining-ms": context::remaining().as_millis() as u64,
        "calls": CALLS.fetch_add(1, Ordering::Relaxed) + 1,
    })
}
