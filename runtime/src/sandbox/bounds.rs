//! What a call has used of its limits, counted where it is used.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytesize::ByteSize;
use rand_core::{Rng, TryRng};
use wasmtime::{CallHook, ResourceLimiter, component::ResourceTableError};

use super::scope::CallLimits;
use crate::outcome::FailureKind;

/// A limit that was overrun: the reason for a call to end.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Overrun {
    pub(super) kind: FailureKind,
    text: String,
}

/// What one call has used.
pub(super) struct Bounds {
    pub(super) memory: Sum,
    pub(super) tables: Sum,
    host_calls_left: usize,
    random: Arc<Random>,
}

/// Counts bytes of randomness. Shared with the generators, which have no other way to tell.
struct Random {
    taken: AtomicUsize,
}

impl Bounds {
    pub(super) fn new(limits: &CallLimits) -> Self {
        Self {
            memory: Sum::new(limits.memory),
            tables: Sum::new(limits.tables),
            host_calls_left: limits.host_calls,
            random: Arc::new(Random { taken: AtomicUsize::new(0) }),
        }
    }

    /// Another call of the same instance begins: what it keeps counts on, what it does counts anew.
    pub(super) fn start(&mut self, limits: &CallLimits) {
        self.host_calls_left = limits.host_calls;
        self.random.taken.store(0, Ordering::Relaxed);
    }

    /// The guest calls the host, or the host returns to it.
    pub(super) fn crossed(&mut self, hook: CallHook, limits: &CallLimits) -> Result<(), Overrun> {
        match hook {
            CallHook::CallingHost => match self.host_calls_left.checked_sub(1) {
                Some(left) => {
                    self.host_calls_left = left;
                    Ok(())
                }
                None => Err(Overrun {
                    kind: FailureKind::HostCallLimit,
                    text: format!("more calls of the host than the limit of {}", limits.host_calls),
                }),
            },
            CallHook::ReturningFromHost if self.random.taken.load(Ordering::Relaxed) > limits.random => {
                Err(too_random(limits))
            }
            _ => Ok(()),
        }
    }

    /// A generator that is charged to this call.
    pub(super) fn counted(&self, inner: impl Rng + Send + 'static) -> impl Rng + Send + 'static {
        Counted { inner, random: Arc::clone(&self.random) }
    }

    /// The limit behind an error of wasmtime, or of its WASI.
    pub(super) fn overrun(&self, error: &wasmtime::Error, limits: &CallLimits) -> Option<Overrun> {
        let cause = error.root_cause().to_string();
        if let Some(overrun) = error.downcast_ref::<Overrun>() {
            return Some(Overrun { kind: overrun.kind, text: overrun.text.clone() });
        }
        if self.memory.exceeded {
            return Some(out_of_memory(limits, &cause));
        }
        if self.tables.exceeded {
            let text = format!("more elements of tables than the limit of {} ({cause})", limits.tables);
            return Some(Overrun { kind: FailureKind::TableLimit, text });
        }
        let full = matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full));
        if full || cause.contains("handle limit exceeded") {
            let text = format!("more open handles than the limit of {}", limits.handles);
            return Some(Overrun { kind: FailureKind::HandleLimit, text });
        }
        // A single request that is larger than all that is allowed is not carried out at all.
        if cause.starts_with("requested len ") {
            return Some(too_random(limits));
        }
        None
    }
}

pub(super) fn out_of_memory(limits: &CallLimits, cause: &str) -> Overrun {
    let limit = ByteSize::b(limits.memory as u64);
    Overrun { kind: FailureKind::MemoryLimit, text: format!("more memory than the limit of {limit} ({cause})") }
}

fn too_random(limits: &CallLimits) -> Overrun {
    let limit = ByteSize::b(limits.random as u64);
    Overrun { kind: FailureKind::RandomLimit, text: format!("more random bytes than the limit of {limit}") }
}

/// A sum over all memories, or all tables, of a store.
pub(super) struct Sum {
    used: usize,
    limit: usize,
    /// What the last growth added, to be taken back when it fails after all.
    last: usize,
    /// Whether a growth was refused: the trap that follows is then the limit's doing.
    pub(super) exceeded: bool,
}

impl Sum {
    fn new(limit: usize) -> Self {
        Self { used: 0, limit, last: 0, exceeded: false }
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let more = desired.saturating_sub(current);
        let fits = self.used.saturating_add(more) <= self.limit && maximum.is_none_or(|maximum| desired <= maximum);
        self.last = if fits { more } else { 0 };
        self.used += self.last;
        self.exceeded |= !fits;
        fits
    }

    fn failed(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.memory.grow(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.failed();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.tables.grow(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.failed();
        Ok(())
    }
}

struct Counted<R> {
    inner: R,
    random: Arc<Random>,
}

impl<R> Counted<R> {
    fn count(&self, bytes: usize) {
        self.random.taken.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl<R: Rng> TryRng for Counted<R> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.count(4);
        Ok(self.inner.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.count(8);
        Ok(self.inner.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.count(bytes.len());
        self.inner.fill_bytes(bytes);
        Ok(())
    }
}
