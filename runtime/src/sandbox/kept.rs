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
    /// Taken when it is kept first, and its own from then on.
    place: Option<OwnedSemaphorePermit>,
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
    fn put(&self, mut idle: Idle, places: &Arc<Semaphore>) {
        if idle.handled >= self.deliveries_max || !idle.instance.is_sound() {
            return;
        }
        idle.place = idle.place.or_else(|| Arc::clone(places).try_acquire_owned().ok());
        if idle.place.is_some() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
        }
    }
}

impl Plugin {
    /// Runs the handler on one delivery, in an instance that may have handled others before. A command ends with its
    /// answer, so that there is nothing of it to be kept.
    pub async fn handle_again(&self, delivery: &Delivery, scope: &Arc<Scope>, kept: &Kept) -> Result<Outcome, Failure> {
        let Entry::Handler(pre) = &self.entry else { return self.handle(delivery, scope).await };
        let fresh = || Idle { instance: Instance::new(pre, scope), handled: 0, place: None };
        let mut idle = kept.take().unwrap_or_else(fresh);
        let outcome = idle.instance.handle(pre, delivery).await?;
        idle.handled += 1;
        kept.put(idle, &self.places);
        Ok(outcome)
    }
}
