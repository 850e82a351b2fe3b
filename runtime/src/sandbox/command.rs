//! A WASI command: the delivery as JSON on its standard input, the outcome as JSON on its standard output. Its standard
//! error is the log.
//!
//! A core module is run as it is, not through a component: that takes a third of the time.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use wasmtime::Store;
use wasmtime_wasi::{
    I32Exit, async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult, pipe::MemoryInputPipe},
};

use super::{
    bounds::out_of_memory,
    call::{explain, new_store, overrun, too_large, too_long, within},
    host::Host,
    plugin::CommandEntry,
    scope::Scope,
};
use crate::{
    delivery::{Delivery, json::for_command},
    escape::escape,
    outcome::{Failure, FailureKind, Outcome, json},
};

/// JSON is longer than what it stands for, by base64 or escapes: its limit is this many times the outcome's.
const JSON_FACTOR: usize = 2;
/// How much of an answer that is no outcome is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// What a command reads and writes.
pub(super) struct Stdio {
    pub(super) stdin: MemoryInputPipe,
    pub(super) stdout: Answer,
}

impl CommandEntry {
    /// Runs the command on one delivery.
    pub(super) async fn run(&self, delivery: &Delivery, scope: &Arc<Scope>) -> Result<Outcome, Failure> {
        let limits = &scope.limits;
        let time_ms = u32::try_from(limits.time.as_millis()).unwrap_or(u32::MAX);
        let input = for_command(delivery, scope.log.worker(), time_ms)
            .map_err(|error| Failure::new(FailureKind::Host, format!("the delivery does not become JSON: {error}")))?;
        let answer = Answer::new(limits.output.saturating_mul(JSON_FACTOR));
        let stdio = Stdio { stdin: MemoryInputPipe::new(input), stdout: answer.clone() };
        let mut store = new_store(self.engine(), Host::new(Arc::clone(scope), Some(stdio)));
        let deadline = store.data_mut().start();
        let ended = within(deadline, self.call(&mut store)).await;
        let tail = store.data().finish_log();
        if answer.exceeded() {
            return Err(too_large(limits, &tail));
        }
        let exit = match ended {
            Some(Ok(Ok(()))) => 0,
            Some(Ok(Err(()))) => 1,
            Some(Err(error)) => match error.downcast_ref::<I32Exit>() {
                Some(exit) => exit.0,
                None => return Err(explain(&error, store.data(), &tail)),
            },
            None => return Err(too_long(limits, &tail)),
        };
        match (exit, tail.trim_end()) {
            (0, _) => read(&answer.written(), scope),
            // Memory that was refused is often noticed by the command itself, which then gives up in its own way.
            (_, _) if store.data().bounds.memory.exceeded => {
                Err(overrun(out_of_memory(limits, &format!("exit code {exit}")), &tail))
            }
            (_, "") => Err(Failure::new(FailureKind::HandlerError, format!("exit code {exit}, nothing on stderr"))),
            (_, text) => Err(Failure::new(FailureKind::HandlerError, text)),
        }
    }

    async fn call(&self, store: &mut Store<Host>) -> wasmtime::Result<Result<(), ()>> {
        match self {
            Self::Component(pre) => {
                let command = pre.instantiate_async(&mut *store).await?;
                command.wasi_cli_run().call_run(store).await
            }
            Self::Core(pre) => {
                let instance = pre.instantiate_async(&mut *store).await?;
                let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
                start.call_async(store, ()).await.map(Ok)
            }
        }
    }
}

/// The outcome that came on standard output.
fn read(written: &[u8], scope: &Scope) -> Result<Outcome, Failure> {
    let malformed = |error: String| Failure::new(FailureKind::MalformedOutcome, error);
    if written.trim_ascii().is_empty() {
        return Err(malformed(
            "nothing on stdout; expected an outcome as JSON, such as {\"settlement\": \"ack\"}".into(),
        ));
    }
    let outcome = json::parse(written).map_err(|error| {
        let shown = scope.grants.redactor.bytes(written);
        let (start, more) = match shown.get(..SHOWN_BYTES_MAX) {
            Some(start) => (start, "\u{2026}"),
            None => (&*shown, ""),
        };
        malformed(format!("stdout is not an outcome as JSON: {error}; it is: {}{more}", escape(start.trim_ascii())))
    })?;
    scope.limits.check(&outcome)?;
    Ok(outcome)
}

/// Standard output of a command: kept, up to a limit.
#[derive(Clone)]
pub(super) struct Answer(Arc<Mutex<Written>>);

struct Written {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Answer {
    fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Written { bytes: Vec::new(), limit, exceeded: false })))
    }

    fn written(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes)
    }

    fn exceeded(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).exceeded
    }
}

impl IsTerminal for Answer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Answer {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, and no guest of this contract imports it.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Answer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > written.limit.saturating_sub(written.bytes.len()) {
            written.exceeded = true;
            return Err(StreamError::Trap(wasmtime::format_err!("the outcome is too large")));
        }
        written.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        // As much as is left, and one more byte, by which a command that writes too much is found out.
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(written.limit.saturating_sub(written.bytes.len()).saturating_add(1))
    }
}

#[async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {}
}
