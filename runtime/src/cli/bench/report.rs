//! What was measured, for people and for programs.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Value as Json, json};

use super::host::Measured;

/// The widest bar of the histogram, in characters.
const BAR: usize = 40;
/// How much longer the times of each row of the histogram are than those of the one before.
const STEP: f64 = 2.0;

pub(super) struct Report {
    pub(super) plugin: String,
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// Nothing where there were too few messages to tell.
    pub(super) saturated: Option<Saturated>,
    pub(super) memory_mib: f64,
    /// At how many messages a second, and how long each took.
    pub(super) times: Option<(f64, Vec<Duration>)>,
    pub(super) by_outcome: BTreeMap<String, u64>,
    pub(super) failures: BTreeMap<String, u64>,
}

/// What the host does where there is always a message.
pub(super) struct Saturated {
    /// Messages a second.
    pub(super) rate: f64,
    /// The host's CPU, in µs a message.
    pub(super) cpu_us: f64,
}

impl Saturated {
    /// Nothing where all came between two looks.
    pub(super) fn between(first: &Measured, last: &Measured) -> Option<Self> {
        let count = last.done.saturating_sub(first.done) as f64;
        let time = last.at.duration_since(first.at).as_secs_f64();
        let cpu_us = last.cpu.saturating_sub(first.cpu).as_secs_f64() * 1e6 / count;
        (count > 0.0 && time > 0.0).then(|| Self { rate: count / time, cpu_us })
    }
}

impl Report {
    /// Deliveries that failed.
    pub(super) fn failed(&self) -> u64 {
        self.by_outcome.get("dead-lettered").copied().unwrap_or_default()
    }

    pub(super) fn json(&self) -> Json {
        let mut json = json!({
            "plugin": self.plugin,
            "messages": self.messages,
            "body_bytes": self.bytes,
            "messages_per_second": self.saturated.as_ref().map(|saturated| saturated.rate),
            "cpu_us_per_message": self.saturated.as_ref().map(|saturated| saturated.cpu_us),
            "memory_mib": self.memory_mib,
            "deliveries": self.by_outcome,
            "failures": self.failures,
        });
        if let (Some((rate, times)), Some(fields)) = (&self.times, json.as_object_mut()) {
            let times = Times::of(times.clone());
            let millis = |share: f64| times.at(share).as_secs_f64() * 1e3;
            let histogram: Vec<Json> = times
                .histogram()
                .iter()
                .map(|(to, count)| json!({ "ms": to.as_secs_f64() * 1e3, "count": count }))
                .collect();
            fields.insert(
                "latency".into(),
                json!({
                    "messages_per_second": rate, "p50_ms": millis(0.5), "p90_ms": millis(0.9), "p99_ms": millis(0.99),
                    "p999_ms": millis(0.999), "max_ms": millis(1.0), "histogram": histogram,
                }),
            );
        }
        json
    }
}

/// Sorted.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, share: f64) -> Duration {
        let at = (self.0.len() as f64 * share) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// How many took no longer than so long, and longer than the row before says. From 1 ms on.
    fn histogram(&self) -> Vec<(Duration, usize)> {
        let (mut rows, mut from, mut to) = (Vec::new(), 0, Duration::from_millis(1));
        while from < self.0.len() {
            let until = self.0.partition_point(|time| *time <= to);
            rows.push((to, until - from));
            (from, to) = (until, to.mul_f64(STEP));
        }
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} messages of {} bytes", self.plugin, self.messages, self.bytes)?;
        match &self.saturated {
            Some(Saturated { rate, cpu_us }) => {
                writeln!(f, "rate     {rate:.0} messages/s")?;
                writeln!(f, "CPU      {cpu_us:.1} µs a message")?;
            }
            None => writeln!(f, "rate     too few messages to tell; hint: --messages takes a number")?,
        }
        writeln!(f, "memory   {:.0} MiB at most", self.memory_mib)?;
        let counts = |counts: &BTreeMap<String, u64>| {
            let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            counts.join(", ")
        };
        writeln!(f, "settled  {}", counts(&self.by_outcome))?;
        if !self.failures.is_empty() {
            writeln!(f, "failed   {}", counts(&self.failures))?;
        }
        let Some((rate, times)) = &self.times else { return Ok(()) };
        let times = Times::of(times.clone());
        writeln!(f, "\nfrom publishing to settlement, at {rate:.0} messages/s:")?;
        for (name, share) in [("median", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("99.9 %", 0.999), ("longest", 1.0)] {
            writeln!(f, "{name:8} {:.1} ms", times.at(share).as_secs_f64() * 1e3)?;
        }
        writeln!(f)?;
        let rows = times.histogram();
        let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
        for (to, count) in rows {
            let bar = "#".repeat((count * BAR).div_ceil(most));
            writeln!(f, "{:>6} ms {bar:BAR$} {count}", to.as_millis())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(millis: &[u64]) -> Report {
        Report {
            plugin: "a.wasm".into(),
            messages: 100,
            bytes: 7,
            saturated: Some(Saturated { rate: 12_345.6, cpu_us: 16.94 }),
            memory_mib: 61.2,
            times: Some((5_000.0, millis.iter().copied().map(Duration::from_millis).collect())),
            by_outcome: BTreeMap::from([("acked".into(), 90), ("dead-lettered".into(), 10)]),
            failures: BTreeMap::from([("trap".into(), 10)]),
        }
    }

    #[test]
    fn each_time_is_in_one_row() {
        let times = Times::of([9, 1, 1, 0, 2, 3, 4].map(Duration::from_millis).to_vec());
        let rows: Vec<_> = times.histogram().into_iter().map(|(to, count)| (to.as_millis(), count)).collect();
        assert_eq!(rows, [(1, 3), (2, 1), (4, 2), (8, 0), (16, 1)]);
        assert_eq!(Times::of(Vec::new()).histogram(), []);
    }

    #[test]
    fn it_says_what_was_measured() {
        let report = report(&[1, 1, 1, 5]);
        let text = report.to_string();
        for line in [
            "rate     12346 messages/s",
            "CPU      16.9 µs a message",
            "settled  90 acked, 10 dead-lettered",
            "failed   10 trap",
            "longest  5.0 ms",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains(&format!("     1 ms {} 3", "#".repeat(BAR))), "{text}");
        let json = report.json();
        assert_eq!((&json["latency"]["p50_ms"], &json["deliveries"]["acked"]), (&json!(1.0), &json!(90)));
        assert_eq!(json["latency"]["histogram"][3], json!({ "ms": 8.0, "count": 1 }));
        assert_eq!(report.failed(), 10);
    }
}
