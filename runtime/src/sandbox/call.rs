//! One delivery through one plugin: a fresh instance, called once, within its limits.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use super::{Plugin, contract, host::Host, log::LogSink};
use crate::{
    delivery::Delivery,
    outcome::{Failure, FailureKind, Outcome},
};

/// What one call may use.
#[derive(Debug, Clone)]
pub struct CallLimits {
    /// Wall-clock time from instantiation to the returned outcome, host calls included.
    pub time: Duration,
    /// Bytes of linear memory, summed over all memories of the instance.
    pub memory: usize,
    /// Bytes of the returned outcome.
    pub output: usize,
    /// Publications in one outcome.
    pub publications: usize,
}

impl Plugin {
    /// Runs the handler on one delivery. What it writes goes to `log`.
    ///
    /// Errors are failures of this delivery alone; nothing of the instance is left when this returns or is dropped.
    pub async fn handle(
        &self,
        delivery: &Delivery,
        limits: &CallLimits,
        log: &Arc<LogSink>,
    ) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + limits.time;
        let mut store = Store::new(self.pre.engine(), Host::new(Arc::clone(log), limits.memory, deadline));
        store.limiter(|host| &mut host.memory);
        store.set_hostcall_fuel(limits.output);
        store.set_epoch_deadline(1);
        // A handler that never leaves wasm is stopped here, at a tick of the epoch; one that waits in a host call is
        // stopped by the time-out below. In between it yields, so that its thread serves others, too.
        store.epoch_deadline_callback(move |_| {
            Ok(if Instant::now() >= deadline { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) })
        });

        let answer = {
            let call = pin!(async {
                let worker = self.pre.instantiate_async(&mut store).await?;
                contract::lower(delivery, async |delivery| {
                    worker.wabbit_worker_handler().call_handle(&mut store, delivery).await
                })
                .await
            });
            tokio::time::timeout_at(deadline.into(), call).await
        };
        let tail = store.data().finish_log();
        match answer {
            Ok(Ok(answer)) => contract::lift(answer, limits.publications),
            Ok(Err(error)) => Err(explain(&error, store.data().memory.exceeded, limits, &tail)),
            Err(_) => Err(too_long(limits, &tail)),
        }
    }
}

/// The failure behind an error of wasmtime.
fn explain(error: &wasmtime::Error, memory_exceeded: bool, limits: &CallLimits, tail: &str) -> Failure {
    let cause = error.root_cause().to_string();
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return failure(FailureKind::Exit, format!("the handler called exit({}) instead of returning", exit.0), tail);
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return too_long(limits, tail);
    }
    if memory_exceeded {
        let limit = bytesize::ByteSize::b(limits.memory as u64);
        return failure(FailureKind::MemoryLimit, format!("more memory than the limit of {limit} ({cause})"), tail);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new(FailureKind::Host, format!("no room for one more instance: {cause}"));
    }
    if cause.contains("hostcall fuel") || cause.contains("fuel allocated for hostcalls") {
        let limit = bytesize::ByteSize::b(limits.output as u64);
        return failure(FailureKind::OutputLimit, format!("the outcome is larger than the limit of {limit}"), tail);
    }
    failure(FailureKind::Trap, cause, tail)
}

fn too_long(limits: &CallLimits, tail: &str) -> Failure {
    let limit = humantime::format_duration(limits.time);
    failure(FailureKind::TimeLimit, format!("the handler took longer than the limit of {limit}"), tail)
}

/// What a handler wrote last often says why it ended; a panic's message, say.
fn failure(kind: FailureKind, error: String, tail: &str) -> Failure {
    let tail = tail.trim_end();
    Failure::new(kind, if tail.is_empty() { error } else { format!("{error}; its last output: {tail}") })
}
