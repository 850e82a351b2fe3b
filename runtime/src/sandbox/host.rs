//! What one call owns: its WASI context, its limits and its log. Made for a delivery, gone with it.

use std::{sync::Arc, time::Instant};

use wasmtime::ResourceLimiter;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use super::log::{GuestLog, LogSink};

/// The state of one store.
pub(super) struct Host {
    /// Made when it is asked for first: most handlers that only compute never do.
    wasi: Option<Box<Wasi>>,
    pub(super) memory: MemoryLimit,
    pub(super) worker: Arc<LogSink>,
    pub(super) deadline: Instant,
}

struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    log: GuestLog,
}

impl Host {
    pub(super) fn new(worker: Arc<LogSink>, memory: usize, deadline: Instant) -> Self {
        Self { wasi: None, memory: MemoryLimit::new(memory), worker, deadline }
    }

    /// Writes out what the guest left of a line, and returns the end of what it wrote.
    pub(super) fn finish_log(&self) -> String {
        self.wasi.as_ref().map(|wasi| wasi.log.finish()).unwrap_or_default()
    }
}

impl Wasi {
    /// An empty WASI: no folders, no sockets, no environment, no arguments; both outputs are the log.
    fn new(worker: &Arc<LogSink>) -> Box<Self> {
        let log = GuestLog::new(Arc::clone(worker));
        let ctx = WasiCtx::builder()
            .stdout(log.stream("stdout"))
            .stderr(log.stream("stderr"))
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Box::new(Self { ctx, table: ResourceTable::new(), log })
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi.get_or_insert_with(|| Wasi::new(&self.worker));
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut wasi.table }
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
