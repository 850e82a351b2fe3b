//! The engine: one for the host, with the limits that wasmtime has only per engine.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::sync::Semaphore;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, component::Linker};

use super::{Digest, cache::Cache, config, contract, determined, files, host::Host, http, keyvalue, turns};
use crate::app::settings::{Compile, HostLimits};

/// The stack of a handler, in bytes, and what the host's own calls may use on top of it.
const WASM_STACK_BYTES: usize = 512 * 1024;
const ASYNC_STACK_BYTES: usize = WASM_STACK_BYTES + 512 * 1024;
/// What one component may consist of. Components made by componentize-py have 38 core instances, others 14 at most;
/// the largest tables seen have 7,688 elements, the largest component contexts 399 KB.
const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 16;
const TABLE_ELEMENTS_MAX: usize = 64 * 1024;
const COMPONENT_CONTEXT_BYTES: usize = 2 * 1024 * 1024;
/// How much of a memory stays resident between two uses, at most. With the kernel's page map (Linux 6.7) only the pages
/// that were written are reset, so a large figure costs no time; without it this much would be zeroed each time.
const MEMORY_KEEP_BYTES: usize = 16 * 1024 * 1024;
/// What the memories of all that run at once may keep together: each has its share.
const MEMORY_KEEP_TOTAL_BYTES: usize = 1024 * 1024 * 1024;
/// Instances of a host that wait for their next delivery; no more than may run.
const KEPT_MAX: usize = 1_024;
const TABLE_KEEP_BYTES: usize = 128 * 1024;
const STACK_KEEP_BYTES: usize = 64 * 1024;
const DECOMMIT_BATCH: usize = 32;

/// The engine with what is shared by all plugins: the linker, the cache, the pool.
pub struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Host>,
    /// For commands that are core modules.
    pub(super) core_linker: wasmtime::Linker<Host>,
    pub(super) cache: Option<Cache>,
    pub(super) compile: Compile,
    /// Plugins that do not compile, and why not: they are not compiled again.
    pub(super) hopeless: Mutex<HashMap<Digest, String>>,
    /// Places for instances that are kept between two deliveries.
    pub(super) places: Arc<Semaphore>,
    /// Whether its code does the same on every machine of an architecture.
    pub(super) determined: bool,
    slots: usize,
    ticking: Arc<AtomicBool>,
}

impl Sandbox {
    /// Sets up the engine. `cache` is the folder of compiled plugins; without a usable one, each start compiles.
    ///
    /// Errors: the limits ask for more address space than there is, or the thread of the clock cannot be started.
    pub fn new(limits: &HostLimits, compile: &Compile, cache: Option<&Path>) -> anyhow::Result<Self> {
        Self::with(limits, compile, cache, false)
    }

    /// The same for trying handlers out: floats that are no numbers have one form, and relaxed SIMD does the same
    /// everywhere. What computes with floats takes up to four times as long.
    pub fn determined(limits: &HostLimits, compile: &Compile, cache: Option<&Path>) -> anyhow::Result<Self> {
        Self::with(limits, compile, cache, true)
    }

    fn with(limits: &HostLimits, compile: &Compile, cache: Option<&Path>, determined: bool) -> anyhow::Result<Self> {
        let (engine, linker, core_linker) = engine_and_linkers(&settings(limits, determined)?)
            .map_err(|error| anyhow::anyhow!("cannot set up the sandbox: {error:#}"))?;
        let cache = cache.and_then(|folder| match Cache::open(folder, &engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), "no cache of compiled plugins: {error:#}");
                None
            }
        });
        let ticking = Arc::new(AtomicBool::new(true));
        let clock = (engine.weak(), Arc::clone(&ticking));
        // A thread of its own: the deadline of a handler that keeps every thread of the executor busy must pass, too.
        thread::Builder::new().name("wabbit-epoch".into()).spawn(move || {
            while clock.1.load(Ordering::Relaxed) {
                thread::sleep(turns::until_tick());
                let Some(engine) = clock.0.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        let (compile, hopeless) = (compile.clone(), Mutex::default());
        let (slots, places) = (limits.running, Arc::new(Semaphore::new(places(limits))));
        Ok(Self { engine, linker, core_linker, cache, compile, hopeless, places, determined, slots, ticking })
    }

    /// How many handlers can run at once in this host.
    pub fn slots(&self) -> usize {
        self.slots
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.ticking.store(false, Ordering::Relaxed);
    }
}

fn engine_and_linkers(config: &Config) -> wasmtime::Result<(Engine, Linker<Host>, wasmtime::Linker<Host>)> {
    let engine = Engine::new(config)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    contract::add_to_linker(&mut linker)?;
    http::add_to_linker(&mut linker)?;
    config::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    // In the place of what was linked above.
    linker.allow_shadowing(true);
    files::add_to_linker(&mut linker)?;
    determined::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    let mut core_linker = wasmtime::Linker::new(&engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut core_linker, Host::preview1)?;
    Ok((engine, linker, core_linker))
}

/// How many instances may wait for their next delivery.
fn places(limits: &HostLimits) -> usize {
    limits.running.min(KEPT_MAX)
}

fn settings(limits: &HostLimits, determined: bool) -> anyhow::Result<Config> {
    let slots = u32::try_from(limits.running)?;
    // Deliveries wait for one of `running` permits, so a slot is always free; a few more, since the slot of a call
    // that was cut off is given back a moment after its permit.
    let running = slots.saturating_add(slots / 4 + 4);
    let components = running.saturating_add(u32::try_from(places(limits))?);
    let memories = components.saturating_mul(2);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(components)
        .total_core_instances(components.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(memories)
        .total_tables(components.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(components)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_component_instance_size(COMPONENT_CONTEXT_BYTES)
        .max_core_instance_size(COMPONENT_CONTEXT_BYTES)
        .max_memory_size(limits.max_memory)
        .table_elements(TABLE_ELEMENTS_MAX)
        .decommit_batch_size(DECOMMIT_BATCH)
        .table_keep_resident(TABLE_KEEP_BYTES)
        .async_stack_keep_resident(STACK_KEEP_BYTES)
        .pagemap_scan(Enabled::Auto);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(MEMORY_KEEP_BYTES.min(MEMORY_KEEP_TOTAL_BYTES / (2 * running as usize)));
    }
    let mut config = code_config(determined);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).async_stack_size(ASYNC_STACK_BYTES);
    Ok(config)
}

/// What compiled code depends on: the same where it is compiled and where it runs.
pub(super) fn code_config(determined: bool) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_component_model(true)
        // The bits of a float that is no number are the processor's choice otherwise.
        .cranelift_nan_canonicalization(determined)
        .relaxed_simd_deterministic(determined);
    config
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    #[test]
    fn code_is_compiled_for_the_engine_that_runs_it() {
        let hash = |config: &Config| {
            let mut hasher = DefaultHasher::new();
            Engine::new(config).unwrap().precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        for (running, max_memory) in [(1, 64 << 10), (4, 1 << 20), (8, 4 << 30)] {
            let limits = HostLimits {
                running,
                max_memory,
                max_body: 1,
                max_publications: 1,
                max_headers: 1,
                max_output: 1,
                max_host_calls: 1,
                max_handles: 1,
                max_tables: 1,
                max_random: 1,
                max_log: 1,
            };
            for determined in [false, true] {
                assert_eq!(hash(&settings(&limits, determined).unwrap()), hash(&code_config(determined)));
            }
            assert_ne!(hash(&code_config(false)), hash(&code_config(true)));
        }
    }
}
