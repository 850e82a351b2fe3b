//! Instances that handle more than one delivery, where a manifest asks for that.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Plugin, call::Instance, plugin::Entry, scope::Scope};
use crate::{
    delivery::Delivery,
    outcome::{Failure, Outcome},
};

/// The instances of one version that wait for their next delivery.
///
/// They are no more than have run at once, and all of a host no more than its slots. One that failed, or that was cut off,
/// is not called again.
pub struct Kept {
    deliveries_max: u32,
    idle: Mutex<Vec<Idle>>,
}

/// An instance that waits.
struct Idle {
    instance: Instance,
    /// How many deliveries it has handled.
    handled: u32,
    _place: OwnedSemaphorePermit,
}

impl Kept {
    /// None yet. Each is to handle no more than so many deliveries, at least 1.
    pub fn new(deliveries_max: u32) -> Self {
        Self { deliveries_max, idle: Mutex::default() }
    }

    fn take(&self) -> Option<Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps an instance, where there is a place left for it.
    fn put(&self, instance: Instance, handled: u32, places: &Arc<Semaphore>) {
        if handled < self.deliveries_max
            && instance.is_sound()
            && let Ok(place) = Arc::clone(places).try_acquire_owned()
        {
            let idle = Idle { instance, handled, _place: place };
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
    }
}

impl Plugin {
    /// Runs the handler on one delivery, in an instance that may have handled others before. A command ends with its
    /// answer, so that there is nothing of it to be kept.
    pub async fn handle_again(&self, delivery: &Delivery, scope: &Arc<Scope>, kept: &Kept) -> Result<Outcome, Failure> {
        let Entry::Handler(pre) = &self.entry else { return self.handle(delivery, scope).await };
        let (mut instance, handled) = match kept.take() {
            Some(idle) => (idle.instance, idle.handled),
            None => (Instance::new(pre, scope), 0),
        };
        let outcome = instance.handle(pre, delivery).await?;
        kept.put(instance, handled + 1, &self.places);
        Ok(outcome)
    }
}
