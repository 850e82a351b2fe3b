//! Write handlers for wabbit, WebAssembly workers for RabbitMQ.
//!
//! A handler is one function from a [`Delivery`] to an [`Outcome`]:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use wabbit_sdk::{Delivery, Error, Outcome, Publication};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     user_email: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Mail {
//!     to: String,
//!     text: String,
//! }
//!
//! #[wabbit_sdk::handler]
//! fn handle(delivery: Delivery) -> Result<Outcome, Error> {
//!     let order: Order = delivery.json()?;
//!     println!("notifying {}", order.user_email);
//!
//!     let mail = Mail { to: order.user_email, text: "Your order has arrived.".into() };
//!     Ok(Outcome::ack().publish(Publication::new("mail", "order.notify").json(&mail)?.persistent()))
//! }
//! ```
//!
//! Built for `wasm32-wasip2` as a `cdylib`, that is a plugin. The delivery is acked only after the broker has confirmed
//! every publication.
//!
//! **Errors.** An [`Error`] is a failure, and so are a panic and a limit overrun: nothing is published, and the manifest's
//! failure policy decides about retries. A body that cannot be read ([`BodyError`]) is the exception: it will be no
//! better the next time, so that its `?` sends the delivery to the dead-letter queue at once.
//!
//! **Without WASI.** A handler that needs none of what Rust's standard library has of WASI can be built for
//! `wasm32-unknown-unknown`, and takes a third less of the host's time. It cannot print, and a panic of it has no text.
//!
//! **Logging.** `println!` and `eprintln!` write to the host's log, a line each. What `print!` leaves without a newline is
//! lost.
//!
//! **Reaching outside.** [`config`] reads settings and secrets, [`keyvalue`] keeps what outlives a delivery, and `std::fs`
//! reads and writes files: each of them within what the manifest's `[grant]` allows. A handler that does not use one asks
//! for no grant of it.
//!
//! **HTTP.** A manifest with `[grant] http` opens [`http`] to a handler: requests, answered while the handler waits.
//!
//! **Testing.** The function is an ordinary one: call it with [`Delivery::of`] and compare what it returns.

pub mod config;
pub mod context;
mod delivery;
mod error;
mod export;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod heap;
pub mod http;
pub mod keyvalue;
mod outcome;
mod properties;
mod publication;

pub use delivery::Delivery;
pub use error::{BodyError, Error};
pub use outcome::{Outcome, Settlement};
pub use properties::{Field, Properties};
pub use publication::Publication;
pub use wabbit_sdk_macros::handler;

#[doc(hidden)]
pub use export::private;
