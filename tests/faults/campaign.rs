//! Many cases on a few lanes side by side, and what is told of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::case::{Case, Fault};
use super::lane::{Lane, Place, Report, Subject};
use super::violation::Rule;
use crate::harness::broker::Broker;

/// What is run, and how.
#[derive(Debug, Clone, Default)]
pub struct Campaign {
    /// The cases, in their order.
    pub cases: Vec<Case>,
    /// What is tested.
    pub subject: Subject,
    /// Whether the main queue is a quorum queue; both kinds side by side where it is not said.
    pub quorum: Option<bool>,
    /// Whether the first violation ends it.
    pub stop_at_first: bool,
    /// Whether each run is told on stderr.
    pub verbose: bool,
}

/// The cases that have not begun.
struct Waiting {
    shared: VecDeque<Case>,
    private: VecDeque<Case>,
    stopped: bool,
}

impl Campaign {
    /// Runs all cases, on two lanes at the shared broker and one at a broker of its own, and says what became of each.
    pub async fn run(&self) -> Vec<Report> {
        let (private, shared): (VecDeque<_>, VecDeque<_>) = self.cases.iter().cloned().partition(Case::is_private);
        let waiting = Mutex::new(Waiting { shared, private, stopped: false });
        let reports = Mutex::new(Vec::new());
        let (classic, quorum) = (self.lane("a", self.quorum.unwrap_or(false)), self.lane("b", true));
        let alone = async {
            if !waiting.lock().unwrap().private.is_empty() || self.cases.len() > 40 {
                let place = Place::Private(Box::new(Broker::private().await));
                let lane = Lane::new("p", place, &self.subject, self.quorum.unwrap_or(false)).await;
                self.work(lane, &waiting, &reports, true).await;
            }
        };
        let classic = async { self.work(classic.await, &waiting, &reports, false).await };
        let quorum = async {
            if self.cases.len() > 1 && self.quorum.is_none() {
                self.work(quorum.await, &waiting, &reports, false).await;
            }
        };
        tokio::join!(classic, quorum, alone);
        reports.into_inner().unwrap()
    }

    async fn lane(&self, name: &str, quorum: bool) -> Lane {
        Lane::new(name, Place::Shared(Broker::ours().await), &self.subject, quorum).await
    }

    async fn work(&self, mut lane: Lane, waiting: &Mutex<Waiting>, reports: &Mutex<Vec<Report>>, private: bool) {
        loop {
            let case = {
                let mut waiting = waiting.lock().unwrap();
                let mine = if private { waiting.private.pop_front() } else { None };
                match mine.or_else(|| waiting.shared.pop_front()) {
                    Some(case) if !waiting.stopped => case,
                    _ => break,
                }
            };
            let report = lane.run(&case).await;
            if self.verbose {
                eprintln!("{}", line(&report));
            }
            let mut violated = String::new();
            for violation in &report.violations {
                let _ = writeln!(violated, "{violation}");
            }
            if !violated.is_empty() {
                eprintln!("{case}: violated\n{violated}repeat it with: {}", repeat(&report));
                for line in &report.log {
                    eprintln!("  | {line}");
                }
                waiting.lock().unwrap().stopped |= self.stop_at_first;
            }
            reports.lock().unwrap().push(report);
        }
        let _ = lane.stop_host().await;
    }
}

/// The line that repeats a run.
pub fn repeat(report: &Report) -> String {
    let queue = if report.quorum { "quorum" } else { "classic" };
    format!("make faults N=1 QUEUE={queue} CASE='{}'", report.case)
}

fn line(report: &Report) -> String {
    let Report { case, fired, recovery, took, repeated, rss_kib, violations, .. } = report;
    let (took, recovery, mib) = (took.as_millis(), recovery.as_millis(), rss_kib / 1024);
    let fired = if *fired { "" } else { " NOT RUN" };
    let bad = if violations.is_empty() { "" } else { " VIOLATED" };
    format!("{case}: {took} ms, back after {recovery} ms, {repeated} repeated, {mib} MiB{fired}{bad}")
}

/// What is told of one kind of fault.
#[derive(Debug, Default)]
struct Row {
    runs: usize,
    not_run: usize,
    lost: usize,
    duplicated: usize,
    others: usize,
    repeated: usize,
    slowest: Duration,
}

impl Row {
    fn add(&mut self, report: &Report) {
        self.runs += usize::from(report.fired);
        self.not_run += usize::from(!report.fired);
        for violation in &report.violations {
            match violation.rule {
                Rule::Lost => self.lost += 1,
                Rule::Duplicate => self.duplicated += 1,
                _ => self.others += 1,
            }
        }
        self.repeated += report.repeated;
        self.slowest = self.slowest.max(report.recovery);
    }
}

/// A table in markdown: a row for each kind of fault, and one for all.
pub fn markdown(reports: &[Report]) -> String {
    let mut rows: BTreeMap<(bool, String), Row> = BTreeMap::new();
    let mut all = Row::default();
    for report in reports {
        // Those on the wire stand together.
        let wire = matches!(report.case.fault, Fault::Wire { .. });
        rows.entry((!wire, report.case.fault.label())).or_default().add(report);
        all.add(report);
    }
    let mut text = String::from(
        "| fault | runs | lost | duplicated beyond the bound | other violations | repeated as they may be | \
         slowest recovery |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, row) in rows.iter().map(|((_, name), row)| (name.as_str(), row)).chain([("**all**", &all)]) {
        let Row { runs, lost, duplicated, others, repeated, .. } = row;
        let slowest = row.slowest.as_secs_f64();
        let _ = writeln!(text, "| {name} | {runs} | {lost} | {duplicated} | {others} | {repeated} | {slowest:.1} s |");
    }
    let memory = reports.iter().map(|report| report.rss_kib).max().unwrap_or(0) / 1024;
    let _ = writeln!(text, "\n{} faults whose frame did not come are not counted.", all.not_run);
    let _ = writeln!(text, "The host had at most {memory} MiB in memory.");
    text
}

/// How long something took, for people.
pub fn took(since: Instant) -> String {
    format!("{:.0} s", since.elapsed().as_secs_f64())
}
