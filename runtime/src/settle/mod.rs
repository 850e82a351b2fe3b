//! What is decided between a handler's answer and the broker's last word: plain functions from values to values.
//!
//! [`Progress`] says what is next for one delivery, [`Window`] which acks may leave and how, [`Returns`] which
//! publications were confirmed. Of what failed, [`retry`] says whether it is tried again, [`ladder`] where it waits,
//! [`copy`] what a retry and a dead letter look like, [`replay()`] what is published when a dead letter goes back;
//! [`Lanes`] keep an order. The carrying out is in `app::consume`.

pub mod copy;
pub mod ladder;
mod lanes;
mod progress;
mod replay;
pub mod retry;
mod returns;
mod window;

#[cfg(test)]
mod sequences;

pub use lanes::Lanes;
pub use progress::{Action, Facts, Progress, PutBack};
pub use replay::{NotReplayed, replay};
pub use returns::{Confirm, Returns, Verdict};
pub use window::{Acks, Window};
