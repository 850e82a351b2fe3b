//! How a version stands: what it has failed of, and whether a new one stays.
//!
//! A message that a new version fails is given to the old one, so that the two are compared on the same messages: what
//! both fail is the message's fault, or the world's.

use std::time::Instant;

use crate::manifest::Reload;

/// So many of the last deliveries say how an old version does.
const REMEMBERED: f64 = 1_000.0;

/// How a version has done so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    seen: f64,
    failed: f64,
    probation: Option<Probation>,
}

#[derive(Debug, Clone, PartialEq)]
struct Probation {
    policy: Reload,
    until: Instant,
    /// What the old version failed of before.
    before: f64,
    came_through: u32,
    /// Failed by this version, and then not by the old one.
    alone: u32,
    /// Failed by both.
    both: u32,
}

/// What becomes of a version on probation.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is not on probation, or it is too early to say.
    Open,
    /// It stays.
    Stays,
    /// It goes, for this reason.
    Goes(String),
}

impl Standing {
    /// Of a version that is to prove itself against one that stands so.
    pub fn on_probation(policy: &Reload, old: &Self, now: Instant) -> Self {
        let probation = Probation {
            policy: policy.clone(),
            until: now + policy.probation_time,
            before: old.share(),
            came_through: 0,
            alone: 0,
            both: 0,
        };
        Self { probation: (policy.probation > 0).then_some(probation), ..Self::default() }
    }

    /// Whether it has still to prove itself.
    pub fn is_on_probation(&self) -> bool {
        self.probation.is_some()
    }

    /// Deliveries that it had of those that it is watched for, and how many it failed; none where it is not watched.
    pub fn progress(&self) -> Option<(u32, u32)> {
        let probation = self.probation.as_ref()?;
        Some((probation.seen(), probation.alone + probation.both))
    }

    /// A delivery came through.
    pub fn came_through(&mut self, now: Instant) -> Verdict {
        self.note(0.0);
        if let Some(probation) = &mut self.probation {
            probation.came_through += 1;
        }
        self.look(now)
    }

    /// A delivery failed that no other version was given.
    pub fn failed(&mut self) {
        self.note(1.0);
    }

    /// A delivery failed, and the old version was given it: whether that one failed, too.
    pub fn failed_on_probation(&mut self, old_failed: bool, now: Instant) -> Verdict {
        self.note(1.0);
        if let Some(probation) = &mut self.probation {
            *(if old_failed { &mut probation.both } else { &mut probation.alone }) += 1;
        }
        self.look(now)
    }

    /// Whether it stays. Once that is said, the probation is over.
    pub fn look(&mut self, now: Instant) -> Verdict {
        let Some(probation) = &self.probation else { return Verdict::Open };
        let verdict = probation.verdict(now);
        if verdict != Verdict::Open {
            self.probation = None;
        }
        verdict
    }

    fn note(&mut self, failed: f64) {
        if self.seen >= REMEMBERED {
            self.seen /= 2.0;
            self.failed /= 2.0;
        }
        self.seen += 1.0;
        self.failed += failed;
    }

    /// From 0 to 1.
    fn share(&self) -> f64 {
        if self.seen > 0.0 { self.failed / self.seen } else { 0.0 }
    }
}

impl Probation {
    fn seen(&self) -> u32 {
        self.came_through.saturating_add(self.alone).saturating_add(self.both)
    }

    fn verdict(&self, now: Instant) -> Verdict {
        let seen = self.seen();
        let over = seen >= self.policy.probation || now >= self.until;
        // Before the end it goes only if it could not stay any more, however well it did from here on.
        let of = f64::from(if over { seen } else { self.policy.probation });
        let (failed, both) = (f64::from(self.alone + self.both), f64::from(self.both));
        let before = (self.before * of).max(both);
        if failed - before > self.policy.margin * of {
            return Verdict::Goes(format!(
                "{} of its first {seen} deliveries failed, {} of which the version before it handled",
                self.alone + self.both,
                self.alone
            ));
        }
        if over { Verdict::Stays } else { Verdict::Open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Reload {
        Reload { probation: 20, margin: 0.2, ..Reload::default() }
    }

    /// `.` comes through, `x` fails where the old one does not, `b` fails in both. The verdict, and when it came.
    #[track_caller]
    fn check(old: &str, deliveries: &str, expected: (&str, usize)) {
        let now = Instant::now();
        let mut before = Standing::default();
        for delivery in old.chars() {
            if delivery == '.' { _ = before.came_through(now) } else { before.failed() }
        }
        let mut standing = Standing::on_probation(&policy(), &before, now);
        let mut found = ("open", deliveries.len());
        for (at, delivery) in deliveries.chars().enumerate() {
            let verdict = match delivery {
                '.' => standing.came_through(now),
                failed => standing.failed_on_probation(failed == 'b', now),
            };
            match verdict {
                Verdict::Open => continue,
                Verdict::Stays => found = ("stays", at + 1),
                Verdict::Goes(_) => found = ("goes", at + 1),
            }
            break;
        }
        assert_eq!(found, expected, "{old} {deliveries}");
        assert_eq!(standing.is_on_probation(), expected.0 == "open");
    }

    #[test]
    fn a_version_stays_or_goes() {
        check("", &".".repeat(19), ("open", 19));
        check("", &".".repeat(20), ("stays", 20));
        // Four of twenty are the margin.
        check("", &format!("xxxx{}", ".".repeat(16)), ("stays", 20));
        // A fifth cannot be made up for.
        check("", "xxxxx", ("goes", 5));
        check("", &format!("{}xxxxx", ".".repeat(15)), ("goes", 20));
        // What both fail is not its fault.
        check("", &"b".repeat(20), ("stays", 20));
        check("", &format!("{}{}", "b".repeat(10), "x".repeat(5)), ("goes", 15));
        // It may fail as much as the old one did.
        check(&"x.".repeat(10), &"x.".repeat(10), ("stays", 20));
        check(&"x.".repeat(10), &"x".repeat(20), ("goes", 15));
    }

    #[test]
    fn time_ends_a_probation() {
        let now = Instant::now();
        let end = now + policy().probation_time;
        let on_probation = || Standing::on_probation(&policy(), &Standing::default(), now);
        assert_eq!(on_probation().look(now), Verdict::Open);
        assert_eq!(on_probation().look(end), Verdict::Stays);
        let mut failed = on_probation();
        assert_eq!(failed.failed_on_probation(false, now), Verdict::Open);
        assert!(matches!(failed.look(end), Verdict::Goes(_)));
        assert_eq!(failed.look(end), Verdict::Open);
        let mut mostly = on_probation();
        assert_eq!(mostly.failed_on_probation(false, now), Verdict::Open);
        for _ in 0..4 {
            assert_eq!(mostly.came_through(now), Verdict::Open);
        }
        assert_eq!(mostly.look(end), Verdict::Stays);
    }

    #[test]
    fn without_probation_there_is_none() {
        let policy = Reload { probation: 0, ..policy() };
        let mut standing = Standing::on_probation(&policy, &Standing::default(), Instant::now());
        assert!(!standing.is_on_probation());
        assert_eq!(standing.failed_on_probation(false, Instant::now()), Verdict::Open);
    }

    #[test]
    fn what_was_long_ago_counts_for_less() {
        let now = Instant::now();
        let mut standing = Standing::default();
        for _ in 0..5_000 {
            standing.failed();
        }
        for _ in 0..5_000 {
            standing.came_through(now);
        }
        assert!(standing.share() < 0.01, "{}", standing.share());
        assert!(standing.seen <= REMEMBERED + 1.0);
    }
}
