//! Files that change while the host runs: what is swapped, refused, taken back, and that no message is lost or handled
//! twice meanwhile.
//!
//! `make test` makes some hundred changes under load. `make reloads` runs the campaign.

mod campaign;
mod cases;
mod stamped;
mod watching;

pub(crate) use stamped::wait_for;
