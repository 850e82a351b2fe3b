//! What the tests speak in: a broker, a host, a peer that publishes and drains, Python scripts. Nothing here sleeps
//! and hopes: every wait has a deadline, and fails with what was still missing.
#![allow(dead_code, reason = "the harness is a vocabulary; whoever speaks it need not use every word")]

pub mod amqp;
pub mod broker;
pub mod certificates;
pub mod cluster;
pub mod forwarder;
pub mod host;
pub mod http;
pub mod places;
pub mod process;
pub mod python;
pub mod wire;

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a test waits for something that is going to happen. Generous, since only a failing test ever waits it out.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `probe` answers `Ok`, and returns what it answered. An `Err` says what is still missing; when the
/// deadline has passed the test fails with the last one, at the caller's line.
#[track_caller]
pub fn wait_until<T, Probe>(deadline: Duration, what: impl Display, mut probe: Probe) -> impl Future<Output = T>
where
    Probe: AsyncFnMut() -> Result<T, String>,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut missing = "nothing was seen yet".to_owned();
        let mut pause = Duration::from_millis(10);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, probe()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(reason)) => missing = reason,
                Err(_) => {}
            }
            if Instant::now() + pause > end {
                panic!("{caller}: waited {deadline:?} for {what}: {missing}");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}
