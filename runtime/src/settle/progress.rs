//! What is next for one delivery: a state machine without any I/O.
//!
//! The rule that everything else serves: [`Action::Ack`] comes only after every publication of the outcome, or the
//! dead letter, has been confirmed and routed. Broker trouble is never charged to a message: it goes back on its queue.

use std::time::Duration;

use super::{Verdict, ladder::DELAY_MAX};
use crate::outcome::{Checked, Failure, FailureKind, Outcome, Rules, Settlement, check};

/// What the host does next for a delivery.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Publish these in this order, and report each verdict with [`Progress::published`].
    Publish(Vec<Checked>),
    /// It failed, and is tried again or dead-lettered, as [`super::retry::next`] says; `after` is the time that the
    /// handler asked for. Publish the copy, and report its verdict with [`Progress::copied`].
    Fail {
        /// Why.
        failure: Failure,
        /// When it is to be tried again.
        after: Option<Duration>,
    },
    /// Settle it with an ack.
    Ack,
    /// Give it back to its queue at once.
    Requeue,
    /// Give it back to its queue after a pause.
    PutBack(PutBack),
    /// Nothing until the next report.
    Wait,
}

/// Why a delivery goes back on its queue only after a pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutBack {
    /// A publication's fate is unknown: its channel went away, or its confirm did not come in time.
    BrokerTrouble,
    /// The copy was not taken: the dead letter, or what was to wait for another try.
    NoCopy(Verdict),
}

/// How far a delivery has come.
#[derive(Debug, Default)]
pub struct Progress(Stage);

#[derive(Debug, Default)]
enum Stage {
    /// With the handler.
    #[default]
    Handling,
    /// Its publications are on their way.
    Publishing { outstanding: usize, trouble: bool, failure: Option<Failure>, then: Settlement },
    /// Its copy is on its way.
    Copying,
    /// Nothing more is decided here.
    Decided,
}

/// What the decisions on a delivery depend on, beside its outcome.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The delivery's `reply-to`.
    pub reply_to: Option<&'a str>,
    /// Whether a requeue is counted and paced as a retry: because the broker has delivered it before, or because the
    /// delivery would lose its place in an order.
    pub requeue_counts: bool,
}

impl Progress {
    /// The handler is done, or failed.
    ///
    /// When one publication is refused, none is sent.
    pub fn handled(&mut self, result: Result<Outcome, Failure>, facts: Facts<'_>, rules: &Rules) -> Action {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => return self.fail(failure),
        };
        let Outcome { settlement, publications } = outcome;
        // A requeue of what came back already would turn in circles without any pace.
        let settlement = match settlement {
            Settlement::Requeue if facts.requeue_counts => Settlement::Retry(None),
            settlement => settlement,
        };
        if publications.is_empty() {
            return self.settle(settlement);
        }
        let checked: Result<Vec<_>, _> =
            publications.into_iter().map(|publication| check(publication, facts.reply_to, rules)).collect();
        match checked {
            Err(failure) => self.fail(failure),
            Ok(checked) => {
                self.0 =
                    Stage::Publishing { outstanding: checked.len(), trouble: false, failure: None, then: settlement };
                Action::Publish(checked)
            }
        }
    }

    /// None of the publications can be sent, for a reason that is the handler's own: an exchange is not there.
    pub fn refused(&mut self, failure: Failure) -> Action {
        match self.0 {
            Stage::Publishing { .. } => self.fail(failure),
            _ => Action::Wait,
        }
    }

    /// The verdict on one publication; `charged` says whether a return counts against the delivery, `to` where it was
    /// sent.
    pub fn published(&mut self, verdict: Verdict, charged: bool, to: &str) -> Action {
        let failure = match verdict {
            Verdict::Returned if charged => {
                Some(Failure::new(FailureKind::Unroutable, format!("no queue took the publication to {to}")))
            }
            Verdict::Nacked => {
                Some(Failure::new(FailureKind::BrokerNack, format!("the broker refused the publication to {to}")))
            }
            Verdict::Forbidden => Some(Failure::new(
                FailureKind::PublicationRefused,
                format!("the broker does not let this user publish to {to} (ACCESS_REFUSED)"),
            )),
            Verdict::Confirmed | Verdict::Returned | Verdict::Lost => None,
        };
        self.verdict(verdict == Verdict::Lost, failure)
    }

    /// The verdict on the copy.
    pub fn copied(&mut self, verdict: Verdict) -> Action {
        if !matches!(self.0, Stage::Copying) {
            return Action::Wait;
        }
        self.0 = Stage::Decided;
        match verdict {
            Verdict::Confirmed => Action::Ack,
            verdict => Action::PutBack(PutBack::NoCopy(verdict)),
        }
    }

    /// Confirms did not come in time: the delivery goes back, whatever they say later.
    pub fn overdue(&mut self) -> Action {
        match std::mem::replace(&mut self.0, Stage::Decided) {
            Stage::Publishing { .. } => Action::PutBack(PutBack::BrokerTrouble),
            Stage::Copying => Action::PutBack(PutBack::NoCopy(Verdict::Lost)),
            stage => {
                self.0 = stage;
                Action::Wait
            }
        }
    }

    fn verdict(&mut self, lost: bool, failed: Option<Failure>) -> Action {
        let Stage::Publishing { outstanding, trouble, failure, .. } = &mut self.0 else { return Action::Wait };
        *outstanding = outstanding.saturating_sub(1);
        *trouble |= lost;
        if failure.is_none() {
            *failure = failed;
        }
        if *outstanding > 0 {
            return Action::Wait;
        }
        match std::mem::replace(&mut self.0, Stage::Decided) {
            Stage::Publishing { failure: Some(failure), .. } => self.fail(failure),
            Stage::Publishing { trouble: true, .. } => Action::PutBack(PutBack::BrokerTrouble),
            Stage::Publishing { then, .. } => self.settle(then),
            _ => Action::Wait,
        }
    }

    fn fail(&mut self, failure: Failure) -> Action {
        self.0 = Stage::Copying;
        Action::Fail { failure, after: None }
    }

    fn settle(&mut self, settlement: Settlement) -> Action {
        self.0 = Stage::Decided;
        match settlement {
            Settlement::Ack => Action::Ack,
            Settlement::Requeue => Action::Requeue,
            Settlement::Retry(Some(after)) if after > DELAY_MAX => {
                let (after, most) = (humantime::format_duration(after), humantime::format_duration(DELAY_MAX));
                let error = format!("the handler asked for another try after {after}; {most} is the longest wait");
                self.fail(Failure::new(FailureKind::MalformedOutcome, error))
            }
            Settlement::Retry(after) => {
                self.0 = Stage::Copying;
                let failure = Failure::new(FailureKind::RetryAsked, "the handler asked for another try");
                Action::Fail { failure, after }
            }
            Settlement::DeadLetter(reason) => self.fail(Failure::new(FailureKind::DeadLettered, reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::Properties,
        manifest::{PublishGrant, Unroutable},
        outcome::Publication,
    };

    fn rules() -> Rules {
        Rules {
            grants: vec![PublishGrant::To {
                exchange: "out".into(),
                pattern: crate::manifest::Pattern::parse("#").unwrap(),
                unroutable: None,
            }],
            unroutable: Unroutable::Fail,
            user: "guest".into(),
            max_body: 100,
        }
    }

    fn outcome(settlement: Settlement, exchanges: &[&str]) -> Result<Outcome, Failure> {
        let publications = exchanges
            .iter()
            .map(|exchange| Publication {
                exchange: (*exchange).into(),
                routing_key: "k".into(),
                body: vec![],
                properties: Properties::default(),
            })
            .collect();
        Ok(Outcome { settlement, publications })
    }

    fn handled(progress: &mut Progress, result: Result<Outcome, Failure>, requeue_counts: bool) -> Action {
        progress.handled(result, Facts { reply_to: None, requeue_counts }, &rules())
    }

    #[track_caller]
    fn failed(action: &Action, kind: FailureKind) {
        assert!(matches!(action, Action::Fail { failure, after: None } if failure.kind == kind), "{action:?}");
    }

    #[test]
    fn without_publications_the_settlement_is_next() {
        let next = |settlement, redelivered| handled(&mut Progress::default(), outcome(settlement, &[]), redelivered);
        assert_eq!(next(Settlement::Ack, false), Action::Ack);
        assert_eq!(next(Settlement::Requeue, false), Action::Requeue);
        failed(&next(Settlement::Requeue, true), FailureKind::RetryAsked);
        failed(&next(Settlement::Retry(None), false), FailureKind::RetryAsked);
        let asked = Some(Duration::from_millis(700));
        let action = next(Settlement::Retry(asked), false);
        assert!(matches!(&action, Action::Fail { after, .. } if *after == asked), "{action:?}");
        let eight_days = Some(Duration::from_secs(8 * 24 * 60 * 60));
        failed(&next(Settlement::Retry(eight_days), false), FailureKind::MalformedOutcome);
        failed(&next(Settlement::DeadLetter("no".into()), false), FailureKind::DeadLettered);
    }

    #[test]
    fn the_ack_comes_after_every_confirm() {
        let mut progress = Progress::default();
        let Action::Publish(checked) = handled(&mut progress, outcome(Settlement::Ack, &["out", "out"]), false) else {
            panic!("nothing to publish");
        };
        assert_eq!(checked.len(), 2);
        assert_eq!(progress.published(Verdict::Confirmed, true, "out"), Action::Wait);
        assert_eq!(progress.published(Verdict::Confirmed, true, "out"), Action::Ack);
        // Whatever is reported later changes nothing.
        assert_eq!(progress.published(Verdict::Returned, true, "out"), Action::Wait);
        assert_eq!(progress.copied(Verdict::Confirmed), Action::Wait);
        assert_eq!(progress.overdue(), Action::Wait);
    }

    #[test]
    fn one_refused_publication_stops_all() {
        let mut progress = Progress::default();
        let action = handled(&mut progress, outcome(Settlement::Ack, &["out", "other"]), false);
        failed(&action, FailureKind::PublicationRefused);
        assert_eq!(progress.copied(Verdict::Confirmed), Action::Ack);
    }

    #[test]
    fn verdicts_other_than_confirmed_are_never_acked() {
        #[track_caller]
        fn check(verdicts: [Verdict; 2], charged: bool, expected: impl Fn(&Action) -> bool) {
            let mut progress = Progress::default();
            handled(&mut progress, outcome(Settlement::Ack, &["out", "out"]), false);
            assert_eq!(progress.published(verdicts[0], charged, "out"), Action::Wait);
            let action = progress.published(verdicts[1], charged, "out");
            assert!(expected(&action), "{action:?}");
        }
        let with = |kind| move |action: &Action| matches!(action, Action::Fail { failure, .. } if failure.kind == kind);
        check([Verdict::Returned, Verdict::Confirmed], true, with(FailureKind::Unroutable));
        check([Verdict::Confirmed, Verdict::Nacked], true, with(FailureKind::BrokerNack));
        check([Verdict::Forbidden, Verdict::Lost], false, with(FailureKind::PublicationRefused));
        check([Verdict::Nacked, Verdict::Confirmed], false, with(FailureKind::BrokerNack));
        check([Verdict::Lost, Verdict::Confirmed], true, |a| *a == Action::PutBack(PutBack::BrokerTrouble));
        // A failure that is the message's own is known, whatever happened to the other.
        check([Verdict::Lost, Verdict::Returned], true, with(FailureKind::Unroutable));
        check([Verdict::Returned, Verdict::Confirmed], false, |a| *a == Action::Ack);
    }

    #[test]
    fn a_copy_that_is_not_taken_is_never_acked() {
        for verdict in [Verdict::Returned, Verdict::Nacked, Verdict::Lost] {
            let mut progress = Progress::default();
            failed(&handled(&mut progress, Err(Failure::new(FailureKind::Trap, "x")), false), FailureKind::Trap);
            assert_eq!(progress.copied(verdict), Action::PutBack(PutBack::NoCopy(verdict)));
        }
    }

    #[test]
    fn what_is_overdue_goes_back_and_stays_decided() {
        let mut progress = Progress::default();
        handled(&mut progress, outcome(Settlement::Ack, &["out"]), false);
        assert_eq!(progress.overdue(), Action::PutBack(PutBack::BrokerTrouble));
        assert_eq!(progress.published(Verdict::Confirmed, true, "out"), Action::Wait);
        assert_eq!(Progress::default().overdue(), Action::Wait, "a handler has a limit of its own");
    }
}
