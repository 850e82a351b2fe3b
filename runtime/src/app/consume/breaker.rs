//! What the breaker says to a run: how failures are charged, and whether deliveries are taken at all.

use std::sync::Arc;

use super::{Key, Run};
use crate::{
    app::worker::{State, Worker},
    clock,
    outcome::FailureKind,
    settle::{Stage, retry::Charge},
};

impl Run {
    /// Takes note of where the breaker stands. True where the run has to end for it: to give back what is not begun, or
    /// to consume as before. Temporary queues would go with their consumers, so there the run goes on and holds what it
    /// has.
    pub(super) fn breaker_moved(&mut self) -> bool {
        let stage = self.worker.stage();
        if stage == self.stage {
            return false;
        }
        let holds = self.queues.iter().any(|queue| queue.declared.temporary);
        // A run that began with a single delivery ends when that is done; one that took all ends when none is taken.
        let ends = !holds && (self.stage == Stage::Trying || matches!(stage, Stage::Open(_)));
        self.stage = stage;
        self.worker.show(stage);
        ends
    }

    /// How the failure of a delivery is charged. A handler that gives up a message for a reason has done its work, and
    /// one that did not run says nothing.
    pub(super) fn charge(&mut self, key: Key, kind: FailureKind) -> Charge {
        let worker = Arc::clone(&self.worker);
        let Some(in_hand) = self.in_hand(key) else { return Charge::Full };
        match kind {
            FailureKind::DeadLettered => worker.came_through(),
            FailureKind::BodyTooLarge | FailureKind::HostCrash => {}
            _ => {
                return worker
                    .with_breaker(|breaker| breaker.failed(in_hand.fingerprint, clock::now()))
                    .unwrap_or(Charge::Full);
            }
        }
        Charge::Full
    }
}

impl Worker {
    /// A delivery was handled, and its publications are confirmed.
    pub(super) fn came_through(&self) {
        self.with_breaker(|breaker| breaker.succeeded(clock::now()));
    }

    /// Tells of where the breaker stands.
    pub(super) fn show(&self, stage: Stage) {
        let number = match stage {
            Stage::Closed => 0,
            Stage::Open(_) => 1,
            Stage::Trying => 2,
        };
        let before = self.metrics.breaker.set(number);
        match stage {
            Stage::Closed => {
                if before != 0 {
                    tracing::info!(worker = %self.name, "the breaker closed: deliveries come through");
                }
                self.set_state(State::Consuming);
            }
            Stage::Open(until) => {
                let pause = humantime::format_duration(until.saturating_duration_since(clock::now())).to_string();
                if before == 0 {
                    self.metrics.breaker_opened.inc();
                    let error = self.metrics.last_error().unwrap_or_default();
                    tracing::warn!(worker = %self.name, "the breaker opened: most deliveries fail; the last one: {error}");
                }
                self.set_state(State::Paused(format!(
                    "most deliveries fail: its breaker is open, next try in {pause}"
                )));
            }
            Stage::Trying => self.set_state(State::Trying),
        }
    }
}
