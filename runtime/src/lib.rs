//! wabbit: WebAssembly workers for RabbitMQ.
//!
//! The way of a delivery is also the order of the rooms: `amqp` receives it as a [`delivery`], [`route`] says where it
//! goes, [`sandbox`] runs the handler, whose [`outcome`] is carried out by [`settle`]'s rules, through `amqp` again.
//! Handlers keep values in [`keyvalue`] and send HTTP requests through [`outbound`]. Around all of it: [`cli`], [`app`]
//! (start and stop), [`manifest`], [`project`] (where handlers are written), [`telemetry`] and [`admin`].

pub mod amqp;
pub mod delivery;
pub mod keyvalue;
pub mod outcome;
pub mod route;
pub mod sandbox;
pub mod settle;

pub mod admin;
pub mod app;
pub mod cli;
mod clock;
pub mod escape;
pub mod folder;
pub mod manifest;
pub mod outbound;
pub mod project;
pub mod reload;
pub mod scenario;
pub mod telemetry;
