//! What is decided between a handler's answer and the broker's last word: plain functions from values to values.
//!
//! [`Progress`] says what is next for one delivery, [`Window`] which acks may leave and how, [`Returns`] which
//! publications were confirmed, [`copy`] what a dead letter looks like. The carrying out is in `app::consume`.

pub mod copy;
mod progress;
mod returns;
mod window;

pub use progress::{Action, Facts, Progress, PutBack};
pub use returns::{Confirm, Returns, Verdict};
pub use window::{Acks, Window};
