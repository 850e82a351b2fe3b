//! A delivery from its arrival to its handler's answer.

use std::{future::poll_fn, panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Duration};

use futures_util::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::{Done, InHand, Key, Lane, Run};
use crate::{
    amqp::{Reason, Received, Trouble},
    app::Executors,
    clock,
    delivery::{Delivery, Value},
    manifest::{Ack, Order},
    outcome::{Failure, FailureKind, Outcome},
    route::{Route, route},
    settle::{Facts, Progress, poison::fingerprint},
    telemetry::Settled,
};

/// A handler that usually takes less is run by the consuming task itself.
const QUICK: Duration = Duration::from_micros(50);
/// A handler that usually takes less is brief.
const BRIEF: Duration = Duration::from_millis(1);

impl Run {
    /// What keeps a delivery's place, where the worker keeps an order.
    fn lane(&self, queue: usize, delivery: &Delivery) -> Option<Lane> {
        let what = match &self.worker.manifest.consume.order {
            Order::None => return None,
            Order::Queue => Vec::new(),
            Order::RoutingKey => delivery.routing_key.clone().into_bytes(),
            Order::Header(name) => match delivery.properties.header(name)? {
                Value::Text(text) => text.clone(),
                value => format!("{value:?}").into_bytes(),
            },
        };
        Some(Lane::Order(queue, what))
    }

    pub(super) async fn received(&mut self, queue: usize, received: Received) -> Result<(), Trouble> {
        self.take_version();
        let Received { tag, mut delivery } = received;
        let key = Key { queue, tag };
        let id = self.worker.dedupe.as_ref().and_then(|dedupe| dedupe.id(&delivery));
        let lane = self.lane(queue, &delivery).or_else(|| id.map(Lane::Message));
        let fingerprint = fingerprint(&delivery);
        let suspicion = self.shared.running.suspicion(fingerprint, delivery.redelivered);
        if let Some(crashes @ 1..) = suspicion {
            let delivery = Arc::make_mut(&mut delivery);
            delivery.attempt = delivery.attempt.saturating_add(crashes);
        }
        let in_hand = InHand {
            delivery,
            fingerprint,
            suspicion,
            version: Arc::clone(&self.version),
            failed_by: None,
            progress: Progress::default(),
            publishing: None,
            round: 0,
            id,
            copied: None,
            held_since: None,
            lane: lane.clone(),
        };
        let held = self.queues.get_mut(queue).is_some_and(|queue| queue.unsettled.hold(tag, in_hand));
        if !held {
            return Err(Trouble::new(Reason::Other, format!("the broker sent delivery tag {tag} out of order")));
        }
        self.holds.more();
        if lane.is_some_and(|lane| self.lanes.enter(lane, key).is_none()) {
            return Ok(());
        }
        self.start(key).await
    }

    /// Sends a delivery on its way.
    pub(super) async fn start(&mut self, key: Key) -> Result<(), Trouble> {
        if self.was_done(key) {
            self.skip(key);
            return Ok(());
        }
        let Some(in_hand) = self.in_hand(key) else { return Ok(()) };
        let (max_body, attempts) = (in_hand.version.rules.max_body, in_hand.version.manifest.failure.attempts);
        let slots = match route(&in_hand.delivery, max_body, in_hand.suspicion, attempts) {
            Route::Refused(failure) => return self.handled(key, Err(failure)).await,
            Route::Handler => 1,
            Route::Alone => self.shared.slots_total,
        };
        match Arc::clone(&self.shared.slots).try_acquire_many_owned(slots) {
            Ok(permit) => self.handle(key, permit).await,
            Err(_) => {
                // One place in line for each worker, and the line moves in order: fair, however many deliveries wait
                // behind it.
                self.waiting = Some((key, Box::pin(Arc::clone(&self.shared.slots).acquire_many_owned(slots))));
                Ok(())
            }
        }
    }

    /// Whether another copy of the message was done within the window.
    fn was_done(&mut self, key: Key) -> bool {
        if self.worker.dedupe.is_none() {
            return false;
        }
        let id = self.in_hand(key).and_then(|in_hand| in_hand.id);
        id.zip(self.worker.dedupe.as_ref()).is_some_and(|(id, dedupe)| dedupe.is_done(id))
    }

    /// Runs the handler. One that is quick is run right here, as far as it goes without waiting: handing it to another
    /// thread and back would take longer than it does itself. All others run beside this task.
    pub(super) async fn handle(&mut self, key: Key, permit: OwnedSemaphorePermit) -> Result<(), Trouble> {
        if self.worker.manifest.consume.ack == Ack::None {
            self.ack_first(key);
        }
        let Some(in_hand) = self.in_hand(key) else { return Ok(()) };
        let (delivery, version) = (Arc::clone(&in_hand.delivery), Arc::clone(&in_hand.version));
        let (fingerprint, suspect) = (in_hand.fingerprint, in_hand.suspicion.take().is_some());
        let (worker, shared) = (Arc::clone(&self.worker), Arc::clone(&self.shared));
        let mut call = Box::pin(async move {
            let start = clock::now();
            let entered = shared.running.enter(fingerprint, suspect);
            let handling = version.handle(&delivery);
            // The host's own mistake must cost this delivery only, and must not lose sight of it.
            let result = AssertUnwindSafe(handling)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(Failure::new(FailureKind::Host, "the host panicked while the handler ran")));
            drop(entered);
            if suspect {
                shared.running.cleared(fingerprint);
            }
            drop(permit);
            let took = clock::since(start);
            worker.metrics.handling.observe(took.as_secs_f64());
            Done::Handled(key, took, result)
        });
        self.handling += 1;
        if self.usual_time < QUICK {
            let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx)));
            if let Poll::Ready(done) = first.await {
                return self.done(done).await;
            }
        }
        let Executors { brief, long } = &self.shared.executors;
        self.tasks.spawn_on(call, if self.usual_time < BRIEF { brief } else { long });
        Ok(())
    }

    pub(super) async fn done(&mut self, done: Done) -> Result<(), Trouble> {
        match done {
            Done::Handled(key, took, result) => {
                self.handling -= 1;
                self.usual_time = (self.usual_time * 15 + took) / 16;
                self.handled(key, result).await
            }
            Done::Paused(key) => {
                self.requeue(key);
                Ok(())
            }
            Done::Again(key) => {
                self.ready.push_back(key);
                Ok(())
            }
            Done::Copy(key, round, copy) => {
                if self.in_round(key, round).is_some() {
                    self.send_copy(key, *copy, Settled::Retried);
                }
                Ok(())
            }
        }
    }

    async fn handled(&mut self, key: Key, result: Result<Outcome, Failure>) -> Result<(), Trouble> {
        let ordered = self.worker.manifest.consume.order != Order::None;
        let Some(InHand { progress, delivery, version, .. }) = self.in_hand(key) else { return Ok(()) };
        let facts = Facts {
            reply_to: delivery.properties.reply_to.as_deref(),
            requeue_counts: delivery.redelivered || ordered,
        };
        let action = progress.handled(result, facts, &version.rules);
        self.act(key, action).await
    }
}
