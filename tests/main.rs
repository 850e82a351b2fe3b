//! Everything that is tested from the outside: the built host against a real broker, and the rules that the source
//! text itself has to keep to. One test binary; its parts are modules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails, and says where"
)]

mod harness;

mod ack_none;
mod admin;
mod bad_input;
mod bench_command;
mod breaker;
mod broker_fixture;
mod commands;
mod compiling;
mod conformance;
mod dead;
mod dedupe;
mod demo;
mod dev;
mod docs;
mod embedded_broker;
mod faults;
mod files;
mod gallery;
mod grants;
mod headers;
mod hostile;
mod http;
mod invariants;
mod keyvalue;
mod languages;
mod limits;
mod mail_and_files;
mod memory;
mod orders;
mod outcomes;
mod poison;
mod project;
mod publications;
mod readme;
mod recording;
mod recovery;
mod regressions;
mod reload;
mod retries;
mod reuse;
mod sandbox;
mod scenarios;
mod simulate;
mod tolerance;
mod topology;
