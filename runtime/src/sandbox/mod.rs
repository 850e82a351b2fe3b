//! Where handlers run: the only room that names wasmtime.
//!
//! One engine for the host; a plugin is compiled once and instantiated afresh for every delivery, within a time and a
//! memory of its own. What a guest may call is fixed here, when the plugin is loaded.

mod adapt;
mod bounds;
mod cache;
mod call;
mod command;
pub mod compile;
mod compiled;
mod config;
mod contract;
mod determined;
mod digest;
mod engine;
mod files;
mod host;
mod http;
pub mod inspect;
mod kept;
mod keyvalue;
mod log;
mod plugin;
mod scope;
mod secret;
mod turns;

/// For the fuzz targets: in the host, only the child that compiles calls these.
#[doc(hidden)]
pub use adapt::{adapt, adapt_command};
pub use config::Config;
pub use determined::{Answer, AnswerError, Answered, Asked, Determined, Traces};
pub use digest::Digest;
pub use engine::Sandbox;
pub use files::{Folder, Usage};
pub use http::{Effects, HttpGrants};
pub use kept::Kept;
pub use keyvalue::KeyValue;
pub use log::{LogSink, Logged};
pub use plugin::{LoadError, Plugin, Source};
pub use scope::{CallLimits, Grants, Scope};
pub use secret::{Redactor, SECRET_BYTES_MAX, Secret};
