//! One delivery through one plugin: a fresh instance, called once, within its limits.

use std::{pin::pin, sync::Arc, time::Instant};

use wasmtime::{CallHook, Engine, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use super::{
    Plugin,
    bounds::{Overrun, out_of_memory},
    contract::{self, Worker, WorkerPre},
    host::Host,
    http::TooManyRequests,
    plugin::Entry,
    scope::{CallLimits, Scope},
};
use crate::{
    clock,
    delivery::Delivery,
    outcome::{Failure, FailureKind, Outcome},
};

/// After so many ticks of the clock a handler is looked at.
const TICKS: u64 = 1;

impl Plugin {
    /// Runs the handler on one delivery.
    ///
    /// Errors are failures of this delivery alone; nothing of the instance is left when this returns or is dropped.
    pub async fn handle(&self, delivery: &Delivery, scope: &Arc<Scope>) -> Result<Outcome, Failure> {
        match &self.entry {
            Entry::Handler(pre) => Instance::new(pre, scope).handle(pre, delivery).await,
            Entry::Command(command) => command.run(delivery, scope).await,
        }
    }

    /// Makes an instance, to see whether that works. A command is made anew for each call, so that there is nothing to see.
    pub async fn instantiate(&self, scope: &Arc<Scope>) -> Result<(), Failure> {
        match &self.entry {
            Entry::Handler(pre) => Instance::new(pre, scope).begin(pre).await,
            Entry::Command(_) => Ok(()),
        }
    }
}

/// A handler with a memory of its own. Whatever it keeps there is seen by the next delivery that it handles.
pub(super) struct Instance {
    store: Store<Host>,
    /// Made by the first call, within its time.
    worker: Option<Worker>,
}

impl Instance {
    pub(super) fn new(pre: &WorkerPre<Host>, scope: &Arc<Scope>) -> Self {
        Self { store: new_store(pre.engine(), Host::new(Arc::clone(scope), None)), worker: None }
    }

    async fn begin(&mut self, pre: &WorkerPre<Host>) -> Result<(), Failure> {
        let Self { store, .. } = self;
        let deadline = store.data_mut().start();
        let made = within(deadline, pre.instantiate_async(&mut *store)).await;
        let host = store.data();
        let tail = host.finish_log();
        match made {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(explain(&error, host, &tail)),
            None => Err(too_long(&host.scope.limits, &tail)),
        }
    }

    /// Runs the handler on one delivery. After a failure the instance is of no more use.
    pub(super) async fn handle(&mut self, pre: &WorkerPre<Host>, delivery: &Delivery) -> Result<Outcome, Failure> {
        let Self { store, worker } = self;
        let deadline = store.data_mut().start();
        if worker.is_some() {
            // The clock went on since the last call.
            store.set_epoch_deadline(TICKS);
        }
        let answer = within(deadline, async {
            let worker = match worker {
                Some(worker) => worker,
                None => worker.insert(pre.instantiate_async(&mut *store).await?),
            };
            contract::lower(delivery, async |delivery| {
                worker.wabbit_worker_handler().call_handle(&mut *store, delivery).await
            })
            .await
        })
        .await;
        let host = store.data_mut();
        host.turn = None;
        let (tail, limits) = (host.finish_log(), &host.scope.limits);
        match answer {
            // Memory that was refused is often noticed by the handler itself, which then gives up in its own way.
            Some(Ok(Err(error))) if host.bounds.memory.exceeded => Err(overrun(out_of_memory(limits, &error), &tail)),
            Some(Ok(answer)) => contract::lift(answer, limits),
            Some(Err(error)) => Err(explain(&error, host, &tail)),
            None => Err(too_long(limits, &tail)),
        }
    }

    /// Whether it may be called again: nothing that it asked for was refused.
    pub(super) fn is_sound(&self) -> bool {
        let bounds = &self.store.data().bounds;
        !bounds.memory.exceeded && !bounds.tables.exceeded
    }
}

impl CallLimits {
    /// What can only be looked at in the outcome itself.
    pub(super) fn check(&self, outcome: &Outcome) -> Result<(), Failure> {
        let too_much = |text: String| Err(Failure::new(FailureKind::OutputLimit, text));
        if outcome.publications.len() > self.publications {
            return too_much(format!(
                "{} publications, the limit is {}",
                outcome.publications.len(),
                self.publications
            ));
        }
        if let Some(headers) = outcome.publications.iter().map(|publication| publication.properties.headers.len()).max()
            && headers > self.headers
        {
            return too_much(format!("a publication with {headers} headers, the limit is {}", self.headers));
        }
        let bytes: usize = outcome.publications.iter().map(|publication| publication.body.len()).sum();
        if bytes > self.output { Err(too_large(self, "")) } else { Ok(()) }
    }
}

/// A store with the limits of the host's scope.
pub(super) fn new_store(engine: &Engine, host: Host) -> Store<Host> {
    let (output, handles) = (host.scope.limits.output, host.scope.limits.handles);
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.bounds);
    store.set_hostcall_fuel(output);
    store.set_max_component_handles(handles);
    store.call_hook(|mut store, hook| {
        let Host { bounds, scope, turn, .. } = store.data_mut();
        if let (Some(turn), CallHook::CallingHost | CallHook::ReturningFromWasm) = (&turn, hook) {
            turn.end();
        }
        Ok(bounds.crossed(hook, &scope.limits)?)
    });
    store.set_epoch_deadline(TICKS);
    // A handler that never leaves wasm is stopped here, at a tick of the epoch; one that waits in a host call is
    // stopped by `within`. In between it yields, so that its thread serves others, too.
    store.epoch_deadline_callback(|mut store| {
        let host = store.data_mut();
        if clock::now() >= host.deadline {
            return Ok(UpdateDeadline::Interrupt);
        }
        Ok(UpdateDeadline::YieldCustom(TICKS, Box::pin(host.turn.get_or_insert_default().next())))
    });
    store
}

/// What the call came to; nothing where its time was over first.
pub(super) async fn within<R>(deadline: Instant, call: impl Future<Output = R>) -> Option<R> {
    tokio::time::timeout_at(deadline.into(), pin!(call)).await.ok()
}

/// The failure behind an error of wasmtime.
pub(super) fn explain(error: &wasmtime::Error, host: &Host, tail: &str) -> Failure {
    let limits = &host.scope.limits;
    let cause = error.root_cause().to_string();
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return failure(FailureKind::Exit, format!("the handler called exit({}) instead of returning", exit.0), tail);
    }
    if let Some(too_many) = error.downcast_ref::<TooManyRequests>() {
        return failure(FailureKind::RequestLimit, too_many.to_string(), tail);
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return too_long(limits, tail);
    }
    if let Some(limit) = host.bounds.overrun(error, limits) {
        return overrun(limit, tail);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new(FailureKind::Host, format!("no room for one more instance: {cause}"));
    }
    if cause.contains("hostcall fuel") || cause.contains("fuel allocated for hostcalls") {
        return too_large(limits, tail);
    }
    failure(FailureKind::Trap, cause, tail)
}

pub(super) fn overrun(overrun: Overrun, tail: &str) -> Failure {
    failure(overrun.kind, overrun.to_string(), tail)
}

pub(super) fn too_large(limits: &CallLimits, tail: &str) -> Failure {
    let limit = bytesize::ByteSize::b(limits.output as u64);
    failure(FailureKind::OutputLimit, format!("the outcome is larger than the limit of {limit}"), tail)
}

pub(super) fn too_long(limits: &CallLimits, tail: &str) -> Failure {
    let limit = humantime::format_duration(limits.time);
    failure(FailureKind::TimeLimit, format!("the handler took longer than the limit of {limit}"), tail)
}

/// What a handler wrote last often says why it ended; a panic's message, say.
fn failure(kind: FailureKind, error: String, tail: &str) -> Failure {
    let tail = tail.trim_end();
    Failure::new(kind, if tail.is_empty() { error } else { format!("{error}; its last output: {tail}") })
}
