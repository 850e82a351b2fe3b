//! What a handler writes becomes log lines that name the worker: bounded in length and rate, harmless to a terminal.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use super::Redactor;
use crate::{clock, escape::escape};

/// The longest line, in bytes; what is longer is broken.
const LINE_BYTES_MAX: usize = 4 * 1024;
/// How much one delivery may log, in bytes.
const DELIVERY_BYTES_MAX: usize = 64 * 1024;
/// How many lines a worker may log within a second.
const LINES_PER_SECOND_MAX: u32 = 1_000;
/// How much of the end of the log goes into a failure's text, in bytes.
const TAIL_BYTES_MAX: usize = 512;
/// How much a guest may write in one call, in bytes.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// Where the log lines of one worker go.
#[derive(Debug)]
pub struct LogSink {
    worker: Arc<str>,
    bytes_per_second_max: usize,
    rate: Mutex<Rate>,
    /// Where lines are kept instead of logged, for whoever tries a handler out.
    kept: Option<Mutex<Vec<Logged>>>,
}

/// A line that a handler wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// The line, harmless to a terminal.
    pub text: String,
}

#[derive(Debug)]
struct Rate {
    second: Instant,
    lines: u32,
    bytes: usize,
    lines_dropped: u64,
    bytes_dropped: usize,
}

impl Rate {
    fn new() -> Self {
        Self { second: clock::now(), lines: 0, bytes: 0, lines_dropped: 0, bytes_dropped: 0 }
    }
}

impl LogSink {
    /// The log of this worker, which may write so many bytes within a second.
    pub fn new(worker: Arc<str>, bytes_per_second_max: usize) -> Arc<Self> {
        Arc::new(Self { worker, bytes_per_second_max, rate: Mutex::new(Rate::new()), kept: None })
    }

    /// One that keeps all lines until they are taken. A delivery writes no more than its bound.
    pub fn keeping(worker: Arc<str>) -> Arc<Self> {
        let kept = Some(Mutex::default());
        Arc::new(Self { worker, bytes_per_second_max: usize::MAX, rate: Mutex::new(Rate::new()), kept })
    }

    /// The lines that it keeps.
    pub fn take(&self) -> Vec<Logged> {
        self.kept.as_ref().map(|kept| std::mem::take(&mut *lock(kept))).unwrap_or_default()
    }

    /// The worker's name.
    pub fn worker(&self) -> &Arc<str> {
        &self.worker
    }

    fn line(&self, stream: &'static str, line: &[u8]) {
        if let Some(kept) = &self.kept {
            lock(kept).push(Logged { stream, text: escape(line) });
        } else if self.admit(line.len()) {
            tracing::info!(target: "wabbit::handler", worker = %self.worker, stream, "{}", escape(line));
        }
    }

    /// Says how many lines were dropped, once their second is over. To be called now and then, for a handler that fell
    /// silent does not. Waits for nobody: one that is not silent has the count in hand, and says it itself.
    pub fn report_dropped(&self) {
        if let Ok(rate) = self.rate.try_lock() {
            drop(self.current(rate));
        }
    }

    /// The count of this second; that of the last one is reported when it is over.
    fn current<'a>(&self, mut rate: MutexGuard<'a, Rate>) -> MutexGuard<'a, Rate> {
        if clock::since(rate.second) >= Duration::from_secs(1) {
            if rate.lines_dropped > 0 {
                tracing::warn!(
                    worker = %self.worker, lines = rate.lines_dropped, bytes = rate.bytes_dropped,
                    bytes_per_second_max = self.bytes_per_second_max, lines_per_second_max = LINES_PER_SECOND_MAX,
                    "the handler logs too much: lines dropped"
                );
            }
            *rate = Rate::new();
        }
        rate
    }

    /// Whether one more line of so many bytes may be written now.
    pub(super) fn admit(&self, bytes: usize) -> bool {
        let mut rate = self.current(lock(&self.rate));
        let admitted =
            rate.lines < LINES_PER_SECOND_MAX && rate.bytes.saturating_add(bytes) <= self.bytes_per_second_max;
        if admitted {
            rate.lines += 1;
            rate.bytes += bytes;
        } else {
            rate.lines_dropped += 1;
            rate.bytes_dropped = rate.bytes_dropped.saturating_add(bytes);
        }
        admitted
    }
}

/// What one delivery writes. Clones share it: both streams of a guest, and the host, which reads the end of it.
#[derive(Clone)]
pub(super) struct GuestLog(Arc<Inner>);

struct Inner {
    sink: Arc<LogSink>,
    redactor: Arc<Redactor>,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    bytes: usize,
    /// A line that has no end yet, and which stream it is of.
    partial: Vec<u8>,
    stream: &'static str,
    tail: Vec<u8>,
}

impl GuestLog {
    pub(super) fn new(sink: Arc<LogSink>, redactor: Arc<Redactor>) -> Self {
        Self(Arc::new(Inner { sink, redactor, written: Mutex::default() }))
    }

    pub(super) fn stream(&self, name: &'static str) -> GuestStream {
        GuestStream { log: self.clone(), name }
    }

    /// Writes out a last line without an end, and returns the end of all that was written. What follows is the next
    /// delivery's.
    pub(super) fn finish(&self) -> String {
        let mut written = lock(&self.0.written);
        self.end_line(&mut written);
        let Written { tail, .. } = std::mem::take(&mut *written);
        let lines = tail.split(|&byte| byte == b'\n').map(escape).filter(|line| !line.trim().is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn write(&self, stream: &'static str, bytes: &[u8]) {
        let mut written = lock(&self.0.written);
        if written.stream != stream {
            self.end_line(&mut written);
            written.stream = stream;
        }
        let left = DELIVERY_BYTES_MAX.saturating_sub(written.bytes);
        let taken = bytes.get(..left.min(bytes.len())).unwrap_or(bytes);
        for part in taken.split_inclusive(|&byte| byte == b'\n') {
            for piece in part.chunks(LINE_BYTES_MAX) {
                if written.partial.len() + piece.len() > LINE_BYTES_MAX {
                    self.break_line(&mut written);
                }
                written.partial.extend_from_slice(piece);
            }
            if part.ends_with(b"\n") {
                written.partial.pop();
                self.end_line(&mut written);
            }
        }
        if left > 0 && bytes.len() >= left {
            self.break_line(&mut written);
            // What may be half a secret is not shown.
            written.partial.clear();
            tracing::warn!(worker = %self.0.sink.worker, limit = DELIVERY_BYTES_MAX, "a delivery's log is cut off");
        }
        written.bytes = written.bytes.saturating_add(bytes.len());
    }

    /// Writes out a line that is too long, but for an end which may be half a secret.
    fn break_line(&self, written: &mut Written) {
        let open = self.0.redactor.open_end(&written.partial);
        let rest = written.partial.split_off(written.partial.len() - open);
        self.end_line(written);
        written.partial = rest;
    }

    fn end_line(&self, written: &mut Written) {
        if !written.partial.is_empty() {
            let line = self.0.redactor.bytes(&written.partial);
            self.0.sink.line(written.stream, &line);
            // Only what may be shown is kept, for a secret that is cut in two would not be found any more.
            written.tail.extend_from_slice(&line);
            written.tail.push(b'\n');
            let excess = written.tail.len().saturating_sub(TAIL_BYTES_MAX);
            written.tail.drain(..excess);
            written.partial.clear();
        }
    }
}

/// One of a guest's two output streams.
#[derive(Clone)]
pub(super) struct GuestStream {
    log: GuestLog,
    name: &'static str,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, and no guest of this contract imports it.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.write(self.name, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Secret;

    #[test]
    fn a_delivery_keeps_no_more_than_the_end() {
        let log = GuestLog::new(LogSink::new("w".into(), 1 << 20), Arc::default());
        for n in 0..100_000 {
            log.write("stderr", format!("line {n}\n").as_bytes());
        }
        let written = lock(&log.0.written);
        assert!(written.partial.is_empty());
        assert_eq!(written.tail.len(), TAIL_BYTES_MAX);
    }

    #[test]
    fn a_line_without_an_end_is_broken() {
        let log = GuestLog::new(LogSink::new("w".into(), 1 << 20), Arc::default());
        log.write("stdout", &[b'x'; 3 * LINE_BYTES_MAX + 10]);
        assert_eq!(lock(&log.0.written).partial.len(), 10);
    }

    #[test]
    fn a_secret_leaves_no_trace() {
        let key = "k".repeat(100);
        let secrets = [Secret::new("hunter2").unwrap(), Secret::new(&key).unwrap()];
        let log = GuestLog::new(LogSink::new("w".into(), 1 << 20), Arc::new(Redactor::new(&secrets).unwrap()));
        let tail = |writes: &[&[u8]]| {
            writes.iter().for_each(|write| log.write("stderr", write));
            log.finish()
        };
        assert_eq!(tail(&[b"a hun", b"ter2 b\n"]), "a *** b");
        // Where the tail is cut, where a line is broken, and where the last one has no end.
        assert_eq!(tail(&[key.as_bytes(), b"\n", &[b'x'; TAIL_BYTES_MAX - 40], b"\n"]).matches('k').count(), 0);
        for before in LINE_BYTES_MAX - 105..=LINE_BYTES_MAX {
            let told = tail(&[&vec![b'x'; before], key.as_bytes(), b"y"]);
            assert!(told.ends_with("***y") || told.ends_with("***\ny"), "{told}");
        }
        // Where a delivery's log is cut off.
        for before in DELIVERY_BYTES_MAX - 100..=DELIVERY_BYTES_MAX {
            let told = tail(&[&vec![b'x'; before - 1], b"\n", key.as_bytes()]);
            assert_eq!(told.matches('k').count(), 0, "{before}");
        }
    }

    #[test]
    fn a_worker_logs_no_more_than_its_rate() {
        let sink = LogSink::new("w".into(), 1 << 20);
        let admitted = (0..5 * LINES_PER_SECOND_MAX).filter(|_| sink.admit(100)).count();
        // A second may turn while this runs.
        assert!((LINES_PER_SECOND_MAX as usize..=2 * LINES_PER_SECOND_MAX as usize).contains(&admitted));
        let sink = LogSink::new("w".into(), 10_000);
        let admitted = (0..500).filter(|_| sink.admit(100)).count();
        assert!((100..=200).contains(&admitted), "{admitted}");
    }
}
