//! What one delivery may use: the values that a limit may have, for the host as a whole and for one worker.

use std::{ops::RangeInclusive, time::Duration};

use super::{Limits, read::Section, report::Problem, values::show_size};

const TIME_MIN: Duration = Duration::from_millis(1);
const TIME_MAX: Duration = Duration::from_secs(60 * 60);
const MEMORY_MIN: usize = 64 << 10;
const MEMORY_MAX: usize = 4 << 30;
const REQUESTS_MAX: usize = 10_000;
pub(crate) const PUBLICATIONS: RangeInclusive<usize> = 1..=1_000_000;
pub(crate) const HEADERS: RangeInclusive<usize> = 1..=10_000;
pub(crate) const OUTPUT: RangeInclusive<usize> = 1 << 10..=4 << 30;
pub(crate) const HOST_CALLS: RangeInclusive<usize> = 1..=1_000_000_000;
pub(crate) const HANDLES: RangeInclusive<usize> = 1..=1_000_000;
pub(crate) const TABLES: RangeInclusive<usize> = 1..=1_000_000;
pub(crate) const RANDOM: RangeInclusive<usize> = 0..=1 << 30;
pub(crate) const LOG: RangeInclusive<usize> = 1 << 10..=1 << 30;

/// What the host allows, which no manifest can exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceilings {
    /// Bytes of linear memory of one instance.
    pub memory: usize,
    /// Publications of one outcome.
    pub publications: usize,
    /// Headers of one publication.
    pub headers: usize,
    /// Bytes of one outcome.
    pub output: usize,
    /// Calls of the host during one delivery.
    pub host_calls: usize,
    /// Handles that are open at once.
    pub handles: usize,
    /// Elements of tables.
    pub tables: usize,
    /// Bytes of randomness.
    pub random: usize,
    /// Bytes of log in a second.
    pub log: usize,
}

impl Ceilings {
    /// One for memory alone.
    pub const fn of_memory(memory: usize) -> Self {
        let most = usize::MAX;
        Self {
            memory,
            publications: most,
            headers: most,
            output: most,
            host_calls: most,
            handles: most,
            tables: most,
            random: most,
            log: most,
        }
    }
}

/// Reads `[limits]` of a manifest.
pub(super) fn limits(section: &mut Section<'_>, ceilings: &Ceilings) -> Limits {
    let default = Limits::default();
    let time = section.duration("time", TIME_MIN..=TIME_MAX).unwrap_or(default.time);
    let memory = size(section, "memory", MEMORY_MIN..=MEMORY_MAX, ceilings.memory);
    Limits {
        time,
        memory: memory.unwrap_or(default.memory.min(ceilings.memory)),
        requests: section.integer("requests", 1..=REQUESTS_MAX).unwrap_or(default.requests),
        publications: count(section, "publications", PUBLICATIONS, ceilings.publications),
        headers: count(section, "headers", HEADERS, ceilings.headers),
        output: size(section, "output", OUTPUT, ceilings.output),
        host_calls: count(section, "host-calls", HOST_CALLS, ceilings.host_calls),
        handles: count(section, "handles", HANDLES, ceilings.handles),
        tables: count(section, "tables", TABLES, ceilings.tables),
        random: size(section, "random", RANDOM, ceilings.random),
        log: size(section, "log", LOG, ceilings.log),
    }
}

fn size(section: &mut Section<'_>, key: &'static str, bounds: RangeInclusive<usize>, most: usize) -> Option<usize> {
    let value = section.size(key, bounds);
    below(section, key, value, most, show_size)
}

fn count(section: &mut Section<'_>, key: &'static str, bounds: RangeInclusive<usize>, most: usize) -> Option<usize> {
    let value = section.integer(key, bounds);
    below(section, key, value, most, usize::to_string)
}

fn below(
    section: &Section<'_>,
    key: &str,
    value: Option<usize>,
    most: usize,
    show: impl Fn(&usize) -> String,
) -> Option<usize> {
    if value.is_some_and(|value| value > most) {
        let problem = Problem::new(format!("`{key}` is more than the host allows: `{}`", show(&most)));
        section.report(key, problem.hint(format!("lower it, or raise `{key}` in `[limits]` of `wabbit.toml`")));
    }
    value
}
