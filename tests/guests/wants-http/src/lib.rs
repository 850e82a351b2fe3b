//! A handler that sends an HTTP request, which its manifest has to grant.

use wabbit_sdk::{Delivery, Error, Outcome};
use wasip2::http::{
    outgoing_handler,
    types::{Fields, OutgoingRequest},
};

#[wabbit_sdk::handler]
fn handle(_delivery: Delivery) -> Result<Outcome, Error> {
    let request = OutgoingRequest::new(Fields::new());
    outgoing_handler::handle(request, None)?;
    Ok(Outcome::ack())
}
