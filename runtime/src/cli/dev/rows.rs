//! The workers as the host tells of them, and what changed since the last time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Deserialize;

/// A rate is taken over this long.
const RATE_OVER: Duration = Duration::from_secs(3);

/// A row of the host's `/workers`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) reason: Option<String>,
    pub(super) plugin: Option<String>,
    pub(super) queues: Vec<String>,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) in_flight: i64,
    pub(super) last_error: Option<String>,
    pub(super) refused: Option<String>,
}

impl Row {
    /// Deliveries that are settled.
    pub(super) fn settled(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// A worker, as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) row: Row,
    /// Settled deliveries a second.
    pub(super) rate: f64,
    /// What became of the last ones.
    pub(super) last: Option<String>,
}

/// All workers, by name.
#[derive(Default)]
pub(super) struct Rows {
    workers: Vec<Row>,
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    /// When, and how many were settled then.
    looks: Vec<(Instant, u64)>,
    counts: BTreeMap<String, u64>,
    last: Option<String>,
}

impl Rows {
    /// Takes what the host says now.
    pub(super) fn look(&mut self, mut workers: Vec<Row>) -> Vec<Shown> {
        self.look_at(Instant::now(), &mut workers)
    }

    fn look_at(&mut self, now: Instant, workers: &mut Vec<Row>) -> Vec<Shown> {
        workers.sort_by(|a, b| a.name.cmp(&b.name));
        self.seen.retain(|name, _| workers.iter().any(|row| row.name == *name));
        let shown = workers.iter().map(|row| {
            let fresh = || Seen { looks: Vec::new(), counts: BTreeMap::new(), last: None };
            let seen = self.seen.entry(row.name.clone()).or_insert_with(fresh);
            let more = row.counts.iter().filter(|(outcome, count)| seen.counts.get(*outcome).unwrap_or(&0) < count);
            if let Some((outcome, _)) = more.max_by_key(|(outcome, _)| outcome.as_str() != "acked") {
                seen.last = Some(outcome.clone());
            }
            seen.counts.clone_from(&row.counts);
            seen.looks.push((now, row.settled()));
            // The last one from before is where the time begins.
            let old = seen.looks.iter().filter(|(at, _)| now.duration_since(*at) > RATE_OVER).count();
            seen.looks.drain(..old.saturating_sub(1));
            let rate = match seen.looks.first() {
                Some((at, settled)) if *at < now => {
                    row.settled().saturating_sub(*settled) as f64 / now.duration_since(*at).as_secs_f64()
                }
                _ => 0.0,
            };
            Shown { row: row.clone(), rate, last: seen.last.clone() }
        });
        let shown = shown.collect();
        self.workers = std::mem::take(workers);
        shown
    }

    /// The worker at this place, counted from 0.
    pub(super) fn at(&self, place: usize) -> Option<&Row> {
        self.workers.get(place)
    }

    /// The worker of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Row> {
        self.workers.iter().find(|row| row.name == name)
    }

    pub(super) fn all(&self) -> &[Row] {
        &self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(acked: u64, dead: u64) -> Vec<Row> {
        let counts = BTreeMap::from([("acked".to_owned(), acked), ("dead-lettered".to_owned(), dead)]);
        vec![Row { name: "w".into(), state: "consuming".into(), counts, ..Row::default() }]
    }

    #[test]
    fn a_rate_is_of_the_last_seconds() {
        let (mut rows, start) = (Rows::default(), Instant::now());
        let mut look = |seconds: u64, acked| rows.look_at(start + Duration::from_secs(seconds), &mut row(acked, 0));
        assert_eq!(look(0, 100).remove(0).rate, 0.0);
        assert_eq!(look(1, 110).remove(0).rate, 10.0);
        assert_eq!(look(3, 130).remove(0).rate, 10.0);
        for second in 4..20 {
            look(second, 130);
        }
        assert_eq!(look(20, 130).remove(0).rate, 0.0);
    }

    #[test]
    fn the_last_outcome_is_the_one_that_there_is_one_more_of() {
        let mut rows = Rows::default();
        let mut last = |acked, dead| rows.look(row(acked, dead)).remove(0).last;
        assert_eq!(last(0, 0), None);
        assert_eq!(last(2, 0).as_deref(), Some("acked"));
        assert_eq!(last(2, 1).as_deref(), Some("dead-lettered"));
        assert_eq!(last(2, 1).as_deref(), Some("dead-lettered"));
        assert_eq!(last(3, 1).as_deref(), Some("acked"));
        // Of several at once, the one that a person wants to know of.
        assert_eq!(last(4, 2).as_deref(), Some("dead-lettered"));
    }
}
