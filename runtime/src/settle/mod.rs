//! What is decided between a handler's answer and the broker's last word: plain functions from values to values.
//!
//! [`Progress`] says what is next for one delivery, [`Window`] which acks may leave and how, [`Returns`] which
//! publications were confirmed. Of what failed, [`retry`] says whether it is tried again, [`ladder`] where it waits,
//! [`copy`] what a retry and a dead letter look like, [`replay()`] what is published when a dead letter goes back;
//! [`Lanes`] keep an order; [`poison`] finds what killed the host, [`seen`] what was done
//! before, and the [`Breaker`] tells a bad time from bad messages. The carrying out is in `app::consume`.

mod breaker;
pub mod copy;
pub mod ladder;
mod lanes;
pub mod poison;
mod progress;
mod replay;
pub mod retry;
mod returns;
pub mod seen;
mod window;

#[cfg(test)]
mod sequences;

pub use breaker::{Breaker, Stage};
pub use lanes::Lanes;
pub use progress::{Action, Facts, Progress, PutBack};
pub use replay::{NotReplayed, replay};
pub use returns::{Confirm, Returns, Verdict};
pub use window::{Acks, Window};
