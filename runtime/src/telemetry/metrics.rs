//! Counters, for Prometheus and for `/workers`. Names are `wabbit_NOUN_unit`; labels have few values.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{outcome::FailureKind, reload::Event};

/// How a delivery was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// Acked, with its publications confirmed.
    Acked,
    /// Back on its queue at once.
    Requeued,
    /// Back on its queue after a pause, because the handler asked for another try.
    Retried,
    /// Acked, with its copy confirmed in the dead-letter queue.
    DeadLettered,
    /// Back on its queue because of trouble with the broker.
    PutBack,
    /// Acked without its handler, because its message was done before.
    Skipped,
}

impl Settled {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Acked, Self::Requeued, Self::Retried, Self::DeadLettered, Self::PutBack, Self::Skipped];

    /// A word in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Requeued => "requeued",
            Self::Retried => "retried",
            Self::DeadLettered => "dead-lettered",
            Self::PutBack => "put-back",
            Self::Skipped => "skipped",
        }
    }
}

/// All metrics of a host.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    deliveries: Family<OutcomeLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    publications: Family<WorkerLabels, Counter>,
    replies_lost: Family<WorkerLabels, Counter>,
    in_flight: Family<WorkerLabels, Gauge>,
    consuming: Family<WorkerLabels, Gauge>,
    breaker: Family<WorkerLabels, Gauge>,
    breaker_opened: Family<WorkerLabels, Counter>,
    handling: Family<WorkerLabels, Histogram, fn() -> Histogram>,
    reloads: Family<ReloadLabels, Counter>,
    connected: Gauge,
    connections: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    worker: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    worker: String,
    outcome: Settled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    worker: String,
    error_type: FailureKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    worker: String,
    event: Event,
}

impl EncodeLabelValue for Event {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Settled {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for FailureKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// From 10 µs to 40 s in steps of 4.
fn handling_histogram() -> Histogram {
    Histogram::new(std::iter::successors(Some(0.000_01), |bound| Some(bound * 4.0)).take(12))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("wabbit"),
            deliveries: Family::default(),
            failures: Family::default(),
            publications: Family::default(),
            replies_lost: Family::default(),
            in_flight: Family::default(),
            consuming: Family::default(),
            breaker: Family::default(),
            breaker_opened: Family::default(),
            handling: Family::new_with_constructor(handling_histogram),
            reloads: Family::default(),
            connected: Gauge::default(),
            connections: Counter::default(),
        };
        let r = &mut inner.registry;
        r.register("deliveries", "Deliveries settled, by outcome", inner.deliveries.clone());
        r.register("failures", "Failures charged to deliveries, by kind", inner.failures.clone());
        r.register("publications", "Publications sent for handlers", inner.publications.clone());
        r.register("replies_lost", "Replies that no queue took", inner.replies_lost.clone());
        r.register("deliveries_in_flight", "Deliveries received and not settled", inner.in_flight.clone());
        r.register("worker_consuming", "1 while the worker consumes all its queues", inner.consuming.clone());
        r.register("worker_breaker", "0 closed, 1 open, 2 trying one delivery", inner.breaker.clone());
        r.register("worker_breaker_opened", "How often the breaker opened", inner.breaker_opened.clone());
        r.register("handling_seconds", "Time in the sandbox, a delivery", inner.handling.clone());
        r.register("reloads", "What became of a worker's versions", inner.reloads.clone());
        r.register("broker_connected", "1 while connected to the broker", inner.connected.clone());
        r.register("broker_connections", "Connections made to the broker", inner.connections.clone());
        Self(Arc::new(inner))
    }
}

impl Metrics {
    /// The metrics of one worker, looked up once: counting takes no lock.
    pub fn worker(&self, worker: &str) -> WorkerMetrics {
        let inner = &self.0;
        let labels = WorkerLabels { worker: worker.to_owned() };
        let outcome =
            |outcome| inner.deliveries.get_or_create_owned(&OutcomeLabels { worker: worker.to_owned(), outcome });
        let failure =
            |error_type| inner.failures.get_or_create_owned(&FailureLabels { worker: worker.to_owned(), error_type });
        WorkerMetrics {
            settled: Settled::ALL.map(outcome),
            failures: FailureKind::ALL.map(failure),
            publications: inner.publications.get_or_create_owned(&labels),
            replies_lost: inner.replies_lost.get_or_create_owned(&labels),
            in_flight: inner.in_flight.get_or_create_owned(&labels),
            consuming: inner.consuming.get_or_create_owned(&labels),
            breaker: inner.breaker.get_or_create_owned(&labels),
            breaker_opened: inner.breaker_opened.get_or_create_owned(&labels),
            handling: inner.handling.get_or_create_owned(&labels),
            last_error: Mutex::default(),
        }
    }

    /// Counts what became of a version of a worker.
    pub fn reloaded(&self, worker: &str, event: Event) {
        self.0.reloads.get_or_create_owned(&ReloadLabels { worker: worker.to_owned(), event }).inc();
    }

    /// Shows nothing more of a worker that is gone, but that it went.
    pub fn forget(&self, worker: &str) {
        let inner = &self.0;
        let labels = WorkerLabels { worker: worker.to_owned() };
        for outcome in Settled::ALL {
            inner.deliveries.remove(&OutcomeLabels { worker: worker.to_owned(), outcome });
        }
        for error_type in FailureKind::ALL {
            inner.failures.remove(&FailureLabels { worker: worker.to_owned(), error_type });
        }
        for counters in [&inner.publications, &inner.replies_lost, &inner.breaker_opened] {
            counters.remove(&labels);
        }
        for gauges in [&inner.in_flight, &inner.consuming, &inner.breaker] {
            gauges.remove(&labels);
        }
        inner.handling.remove(&labels);
    }

    /// Notes that the broker is there, or is not.
    pub fn broker(&self, connected: bool) {
        self.0.connected.set(connected.into());
        if connected {
            self.0.connections.inc();
        }
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

/// The metrics of one worker.
pub struct WorkerMetrics {
    settled: [Counter<u64, AtomicU64>; Settled::ALL.len()],
    failures: [Counter<u64, AtomicU64>; FailureKind::ALL.len()],
    /// Publications sent for the handler.
    pub publications: Counter<u64, AtomicU64>,
    /// Replies that no queue took.
    pub replies_lost: Counter<u64, AtomicU64>,
    /// Deliveries received and not settled.
    pub in_flight: Gauge<i64, AtomicI64>,
    /// 1 while the worker consumes.
    pub consuming: Gauge<i64, AtomicI64>,
    /// 0 while the breaker is closed, 1 while it is open, 2 while one delivery is tried.
    pub breaker: Gauge<i64, AtomicI64>,
    /// How often the breaker opened.
    pub breaker_opened: Counter<u64, AtomicU64>,
    /// Seconds in the sandbox.
    pub handling: Histogram,
    last_error: Mutex<Option<String>>,
}

impl WorkerMetrics {
    /// Counts a settled delivery.
    pub fn settle(&self, settled: Settled) {
        if let Some((_, counter)) = Settled::ALL.iter().zip(&self.settled).find(|(known, _)| **known == settled) {
            counter.inc();
        }
    }

    /// Counts a failure, and keeps its text as the last one.
    pub fn fail(&self, kind: FailureKind, error: &str) {
        if let Some((_, counter)) = FailureKind::ALL.iter().zip(&self.failures).find(|(known, _)| **known == kind) {
            counter.inc();
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{kind}: {error}"));
    }

    /// How many were settled, by outcome.
    pub fn settled(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Settled::ALL.iter().zip(&self.settled).map(|(settled, counter)| (settled.as_str(), counter.get()))
    }

    /// The text of the last failure.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
