//! The ladder on the broker: its wait queues, and the way back from them.
//!
//! A rung is a fanout exchange with one queue, so that the routing key is free to name the queue that the message goes
//! back to. The queue is a quorum queue that dead-letters at least once: it keeps what the next queue has not taken.
//! `wabbit.retry` leads back to the work queues, and what finds no queue there goes to `wabbit.lost`: without that, one
//! message for a queue that is gone would stop its rung for all.

use super::{
    Session,
    error::Trouble,
    topology::{bind, ensure_exchange, ensure_queue, quorum_arguments},
};
use crate::{
    delivery::{Table, Value},
    manifest::{Binding, Exchange, ExchangeKind},
    settle::ladder::{LOST_QUEUE, RETRY_EXCHANGE, Rung},
};

/// Lets a queue's messages come back to it from the ladder.
pub async fn bind_for_retries(session: &Session, queue: &str) -> Result<(), Trouble> {
    ensure_queue(session, LOST_QUEUE, quorum_arguments()).await?;
    ensure_exchange(session, &exchange(LOST_QUEUE, ExchangeKind::Fanout, Table::new())).await?;
    bind(session, LOST_QUEUE, &from(LOST_QUEUE, "")).await?;
    let lost = vec![("alternate-exchange".to_owned(), Value::text(LOST_QUEUE))];
    ensure_exchange(session, &exchange(RETRY_EXCHANGE, ExchangeKind::Direct, lost)).await?;
    bind(session, queue, &from(RETRY_EXCHANGE, queue)).await
}

/// Makes sure of a rung. Says whether it was not there before.
pub async fn declare_rung(session: &Session, rung: Rung) -> Result<bool, Trouble> {
    let name = rung.name();
    let mut arguments = quorum_arguments();
    // Seven days in milliseconds fit an `I`.
    let ttl = i32::try_from(rung.delay().as_millis()).unwrap_or(i32::MAX);
    arguments.extend([
        ("x-message-ttl".to_owned(), Value::I32(ttl)),
        ("x-overflow".to_owned(), Value::text("reject-publish")),
        ("x-dead-letter-strategy".to_owned(), Value::text("at-least-once")),
        ("x-dead-letter-exchange".to_owned(), Value::text(RETRY_EXCHANGE)),
    ]);
    let new = ensure_queue(session, &name, arguments).await?;
    ensure_exchange(session, &exchange(&name, ExchangeKind::Fanout, Table::new())).await?;
    bind(session, &name, &from(&name, "")).await?;
    Ok(new)
}

/// A durable exchange of our own.
fn exchange(name: &str, kind: ExchangeKind, arguments: Table) -> Exchange {
    Exchange { name: name.to_owned(), kind, durable: true, auto_delete: false, internal: false, arguments }
}

fn from(exchange: &str, routing_key: &str) -> Binding {
    Binding { exchange: exchange.to_owned(), routing_key: routing_key.to_owned(), arguments: Table::new() }
}
