//! Random cases by the thousand, and what is told of them.

use super::corpus::{Attack, Case, Verdict};

/// The cases that are tried by a delivery.
pub fn deliveries(cases: &[Case]) -> Vec<usize> {
    let tried = |case: &Case| matches!(case.verdict, Verdict::Harmless | Verdict::Fails(..));
    cases.iter().enumerate().filter(|(_, case)| tried(case)).map(|(number, _)| number).collect()
}

/// Whether a case leads to a publication that is granted.
pub fn publishes(case: &Case) -> bool {
    matches!(case.attack, Attack::Act(body) if body.starts_with("publish-forged"))
}
