//! HTTP requests of handlers: where they may go, and how they are sent.
//!
//! An origin must be on the manifest's list, and the addresses behind its name of the public internet or of a network
//! that the list names. Which they are is asked once for each request, and the connection is made to an address that was
//! judged, so that a name which changes its address in between gains nothing. Redirects are the handler's affair.

mod address;
mod body;
mod client;
mod guard;
mod origin;
mod resolve;
mod tls;

pub use address::{Special, plain, special};
pub use body::ResponseBody;
pub use client::{Client, Places, SendError, Timeouts};
pub use guard::{Denied, Prohibited, Target};
pub use origin::{Origin, Scheme};
pub use resolve::LOOKUPS_MAX;
