//! The clock that everything goes by which waits or lasts: the executor's, so that whoever stops it stops all of that.

use std::time::{Duration, Instant};

/// Now. Without an executor that stops its clock, the system's.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago that was; nothing where it is yet to come.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}
