//! What a handler may ask about its call.
//!
//! Outside a host, in a handler's own tests, there is a stand-in: a worker named `test` that always has 5 seconds left.

use std::time::Duration;

#[cfg(target_arch = "wasm32")]
use crate::export::bindings::wabbit::worker::context as host;

/// The worker's name, which is its manifest's without `.toml`.
pub fn worker() -> String {
    host::worker()
}

/// The time until the host ends this call, as the manifest's `limits.time` bounds it.
pub fn remaining() -> Duration {
    Duration::from_millis(host::remaining_ms().into())
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    pub(super) fn worker() -> String {
        "test".into()
    }

    pub(super) fn remaining_ms() -> u32 {
        5000
    }
}
