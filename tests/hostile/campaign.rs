//! Random cases by the thousand, and what is told of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::arena::{Arena, RESIDENT_KIB_MAX};
use super::corpus::{self, Case};
use super::files;
use super::pulse::percentile;

/// Deliveries between two looks at everything.
const ROUND: usize = 500;
/// One in so many deliveries takes as long as it may.
const SLOW_ONE_IN: usize = 25;
/// A damaged file for so many deliveries.
const DELIVERIES_PER_FILE: usize = 50;
/// How long the good worker is alone before each round.
const QUIET: Duration = Duration::from_secs(1);
/// What hostile neighbours may cost the good worker, in its 99th percentile, beside as many peaceful ones.
const RATIO_MAX: f64 = 1.5;

/// What is run.
pub struct Campaign {
    pub deliveries: usize,
    pub seed: u64,
    /// Deliveries of this row alone.
    pub only: Option<String>,
}

/// What came of it.
pub struct Report {
    pub violations: Vec<String>,
    seed: u64,
    deliveries: usize,
    rows: Vec<Row>,
    damaged: usize,
    took: Duration,
    resident_kib: u64,
    /// The good worker alone, beside peaceful neighbours, and beside hostile ones.
    alone: Vec<Duration>,
    peaceful: Vec<Duration>,
    hostile: Vec<Duration>,
}

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    what: &'static str,
    verdicts: Vec<String>,
    tried: usize,
    wrong: usize,
}

/// The rows of these cases, in their order, none of them tried yet.
pub fn rows(cases: &[Case]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for case in cases {
        let shown = case.verdict.shown();
        match rows.iter_mut().find(|row| row.name == case.name) {
            Some(row) => {
                row.what = if row.what.is_empty() { case.what } else { row.what };
                if !row.verdicts.contains(&shown) {
                    row.verdicts.push(shown);
                }
            }
            None => rows.push(Row { name: case.name, what: case.what, verdicts: vec![shown], tried: 0, wrong: 0 }),
        }
    }
    rows
}

/// The cases that are tried by a delivery.
pub fn deliveries(cases: &[Case]) -> Vec<usize> {
    cases.iter().enumerate().filter(|(_, case)| case.is_delivery()).map(|(number, _)| number).collect()
}

impl Campaign {
    fn chosen(&self, cases: &[Case]) -> Vec<usize> {
        let only = |case: &usize| self.only.as_ref().is_none_or(|name| cases[*case].name == name);
        let chosen: Vec<usize> = deliveries(cases).into_iter().filter(only).collect();
        assert!(!chosen.is_empty(), "no deliveries of `{}`", self.only.as_deref().unwrap_or_default());
        chosen
    }

    /// Runs it, and tells each round on stderr.
    pub async fn run(&self) -> Report {
        let begun = Instant::now();
        let mut rng = Rng::with_seed(self.seed);
        eprintln!("SEED={}", self.seed);
        let cases = corpus::all();
        let mut arena = Arena::new(cases.clone(), 1).await;
        let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
        for case in cases.iter().filter(|case| !case.is_delivery()) {
            *tried.entry(case.name).or_default() += 1;
        }
        let mut violations = arena.judge_files().await;
        let (slow, quick): (Vec<usize>, Vec<usize>) =
            self.chosen(&cases).into_iter().partition(|&case| cases[case].is_slow());
        // What hostile deliveries take of the processor, more or less: 5 ms each.
        let work = cases.iter().position(|case| case.name == "work").unwrap();
        let (mut alone, mut peaceful, mut hostile) = (Vec::new(), Vec::new(), Vec::new());
        let (mut done, mut published) = (0, 0);
        while done < self.deliveries {
            let count = ROUND.min(self.deliveries - done);
            // Each kind is often there, and which ones meet is a matter of luck.
            let chosen: Vec<usize> = (0..count)
                .map(|_| {
                    let slowly = quick.is_empty() || !slow.is_empty() && rng.usize(..SLOW_ONE_IN) == 0;
                    let from = if slowly { &slow } else { &quick };
                    from[rng.usize(..from.len())]
                })
                .collect();
            let pulse = arena.pulse.clone();
            alone.extend(pulse.during(tokio::time::sleep(QUIET)).await.1);
            let (found, took) = pulse.during(arena.drive(&vec![work; count], &mut rng)).await;
            peaceful.extend(took);
            violations.extend(found);
            let (found, took) = pulse.during(arena.drive(&chosen, &mut rng)).await;
            hostile.extend(took);
            found.iter().for_each(|violation| eprintln!("violated: {violation}"));
            violations.extend(found);
            for case in chosen {
                *tried.entry(cases[case].name).or_default() += 1;
                published += usize::from(cases[case].publishes());
            }
            done += count;
            let (p99, mib) = (percentile(&hostile, 99), arena.resident_kib() / 1024);
            eprintln!("{done} deliveries, {} violations, p99 {p99:.1?}, {mib} MiB", violations.len());
        }
        violations.extend(arena.judge_publications(published).await);
        let damaged = (self.deliveries / DELIVERIES_PER_FILE).max(1);
        violations.extend(files::damaged(damaged, &mut rng).await);
        let resident_kib = arena.resident_kib();
        if arena.host.terminate().await != 0 {
            violations.push("host: it did not stop in order".into());
        }
        let mut rows = rows(&cases);
        for row in &mut rows {
            row.tried = tried.get(row.name).copied().unwrap_or(0);
            let mine = format!("{} ", row.name);
            row.wrong = violations.iter().filter(|violation| violation.starts_with(&mine)).count();
        }
        let (seed, deliveries, took) = (self.seed, self.deliveries, begun.elapsed());
        Report { violations, seed, deliveries, rows, damaged, took, resident_kib, alone, peaceful, hostile }
    }
}

impl Report {
    /// All of it, with a table, in markdown.
    pub fn markdown(&self) -> String {
        let Self { violations, seed, deliveries, rows, damaged, took, resident_kib, alone, peaceful, hostile } = self;
        let mut text = format!(
            "{deliveries} hostile deliveries and {damaged} damaged files of seed {seed} in {:.0} s: {} violations.\n\n",
            took.as_secs_f64(),
            violations.len()
        );
        text.push_str("| tried | what it does | verdict | times | otherwise |\n|---|---|---|---|---|\n");
        for Row { name, what, verdicts, tried, wrong } in rows {
            let _ = writeln!(text, "| `{name}` | {what} | {} | {tried} | {wrong} |", verdicts.join(", "));
        }
        let (resident, bound) = (resident_kib / 1024, RESIDENT_KIB_MAX / 1024);
        let _ = writeln!(text, "\nThe host died 0 times, and had at most {resident} MiB in memory, of {bound} MiB.");
        text.push_str("A good worker beside it, from publishing a message to its answer:\n\n");
        text.push_str("| beside | messages | median | 99 of 100 within |\n|---|---|---|---|\n");
        let ms = |took: &[Duration], percent| percentile(took, percent).as_secs_f64() * 1e3;
        for (beside, took) in [("nobody", alone), ("busy peaceful workers", peaceful), ("hostile workers", hostile)] {
            let (count, median, most) = (took.len(), ms(took, 50), ms(took, 99));
            let _ = writeln!(text, "| {beside} | {count} | {median:.1} ms | {most:.1} ms |");
        }
        let ratio = ms(hostile, 99) / ms(peaceful, 99);
        let judged = if ratio <= RATIO_MAX { "within" } else { "NOT within" };
        let _ =
            writeln!(text, "\nHostile workers cost it {ratio:.2} times what peaceful ones cost: {judged} {RATIO_MAX}.");
        text
    }
}
