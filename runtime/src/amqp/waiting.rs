//! The ladder on the broker: its wait queues, and the way back from them.
//!
//! A rung is a fanout exchange with one queue, so that the routing key is free to name the queue that the message goes
//! back to. The queue is a quorum queue that dead-letters at least once: it keeps what the next queue has not taken.
//! `wabbit.retry` leads back to the work queues, and what finds no queue there goes to `wabbit.lost`: without that, one
//! message for a queue that is gone would stop its rung for all.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use super::{
    Session,
    connection::CALL_TIMEOUT,
    convert::to_table,
    error::{Reason, Trouble, within},
    topology::{close, quorum_arguments, verify_exchange, verify_queue},
};
use crate::{
    delivery::{Table, Value},
    settle::ladder::{LOST_QUEUE, RETRY_EXCHANGE, Rung},
};

/// Lets a queue's messages come back to it from the ladder.
pub async fn bind_for_retries(session: &Session, queue: &str) -> Result<(), Trouble> {
    declare_queue(session, LOST_QUEUE, quorum_arguments()).await?;
    declare_exchange(session, LOST_QUEUE, ExchangeKind::Fanout, Table::new()).await?;
    bind(session, LOST_QUEUE, LOST_QUEUE, "").await?;
    let lost = vec![("alternate-exchange".to_owned(), Value::text(LOST_QUEUE))];
    declare_exchange(session, RETRY_EXCHANGE, ExchangeKind::Direct, lost).await?;
    bind(session, queue, RETRY_EXCHANGE, queue).await
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
    let new = declare_queue(session, &name, arguments).await?;
    declare_exchange(session, &name, ExchangeKind::Fanout, Table::new()).await?;
    bind(session, &name, &name, "").await?;
    Ok(new)
}

async fn declare_queue(session: &Session, name: &str, arguments: Table) -> Result<bool, Trouble> {
    match verify_queue(session, name).await {
        Err(trouble) if trouble.reason == Reason::NotFound => {}
        settled => return settled.map(|()| false),
    }
    let doing = |trouble: Trouble| trouble.while_doing(format_args!("cannot declare queue `{name}`"));
    let channel = session.consume_channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    within(CALL_TIMEOUT, channel.queue_declare(name.into(), options, to_table(arguments))).await.map_err(doing)?;
    close(channel).await?;
    Ok(true)
}

async fn declare_exchange(session: &Session, name: &str, kind: ExchangeKind, arguments: Table) -> Result<(), Trouble> {
    match verify_exchange(session, name).await {
        Err(trouble) if trouble.reason == Reason::NotFound => {}
        settled => return settled,
    }
    let doing = |trouble: Trouble| trouble.while_doing(format_args!("cannot declare exchange `{name}`"));
    let channel = session.consume_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let asked = channel.exchange_declare(name.into(), kind, options, to_table(arguments));
    within(CALL_TIMEOUT, asked).await.map_err(doing)?;
    close(channel).await
}

async fn bind(session: &Session, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Trouble> {
    let channel: Channel = session.consume_channel().await?;
    let options = QueueBindOptions::default();
    let asked = channel.queue_bind(queue.into(), exchange.into(), routing_key.into(), options, FieldTable::default());
    within(CALL_TIMEOUT, asked)
        .await
        .map_err(|trouble| trouble.while_doing(format_args!("cannot bind queue `{queue}` to exchange `{exchange}`")))?;
    close(channel).await
}
