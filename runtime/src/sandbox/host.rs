//! What one call owns: its WASI context, its limits and its log. Made for a delivery, gone with it.

use std::{sync::Arc, time::Instant};

use wasmtime::ResourceLimiter;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use super::log::{GuestLog, LogSink};

/// The state of one store.
pub(super) struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(super) memory: MemoryLimit,
    pub(super) worker: Arc<LogSink>,
    pub(super) deadline: Instant,
}

impl Host {
    /// An empty WASI: no folders, no sockets, no environment, no arguments; both outputs are the log.
    pub(super) fn new(worker: Arc<LogSink>, log: &GuestLog, memory: usize, deadline: Instant) -> Self {
        let wasi = WasiCtx::builder()
            .stdout(log.stream("stdout"))
            .stderr(log.stream("stderr"))
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Self { wasi, table: ResourceTable::new(), memory: MemoryLimit::new(memory), worker, deadline }
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Bounds the sum of all linear memories of a store.
pub(super) struct MemoryLimit {
    used: usize,
    limit: usize,
    /// What the last growth added, to be taken back when it fails after all.
    last: usize,
    /// Whether a growth was refused: the trap that follows is then the limit's doing.
    pub(super) exceeded: bool,
}

impl MemoryLimit {
    fn new(limit: usize) -> Self {
        Self { used: 0, limit, last: 0, exceeded: false }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let fits = self.used.saturating_add(more) <= self.limit && maximum.is_none_or(|maximum| desired <= maximum);
        self.last = if fits { more } else { 0 };
        self.used += self.last;
        self.exceeded |= !fits;
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.last);
        Ok(())
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool bounds tables (`TABLE_ELEMENTS_MAX`), whatever the module declares.
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}
