//! The broker: the only room that names lapin.
//!
//! A [`Session`] is two connections under one epoch, made together and given up together: nothing of one epoch is ever
//! used in another, so a delivery tag cannot meet a channel that it is not of.

mod connection;
mod consumer;
mod convert;
mod error;
mod letters;
mod link;
mod publisher;
mod tap;
mod topology;
mod waiting;

pub use connection::Session;
pub use consumer::{Consumer, Received};
/// For the fuzz targets: what goes through the host comes and leaves by these.
#[doc(hidden)]
pub use convert::{properties, to_properties};
pub use error::{Reason, Trouble};
pub use letters::{Letters, count, delete, purge};
pub use link::{Link, maintain};
pub use publisher::{Publisher, Sent};
pub use tap::Tap;
pub use topology::{Declared, declare, declare_dead_letter};
pub use waiting::{bind_for_retries, declare_rung};
