//! Exchanges, queues and bindings: declared, or only looked for.
//!
//! The broker closes a channel on every refusal, so each step that may be refused has one of its own.

use std::{collections::HashMap, sync::Arc};

use lapin::{
    Channel, ExchangeKind as Kind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use super::{
    Session,
    connection::CALL_TIMEOUT,
    convert::to_table,
    error::{Reason, Trouble, within},
};
use crate::{
    delivery::{Table, Value},
    manifest::{Binding, Declare, Exchange, ExchangeKind, Manifest, Queue},
};

/// How often a message of a quorum queue of ours may be delivered: as good as without end.
const DELIVERY_LIMIT: i32 = 1_000_000;

/// A queue that is there.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its name, which the broker gave where the manifest has none.
    pub name: Arc<str>,
    /// Where its dead letters go; nothing where the broker does it.
    pub dead_letter: Option<Arc<str>>,
    /// Whether it is a quorum queue.
    pub quorum: bool,
    /// Whether it may be gone while a message waits elsewhere: exclusive, auto-delete or named by the broker.
    pub temporary: bool,
}

/// Takes care of a worker's topology, as its manifest says, and gives its queues in the manifest's order. Of those that the
/// broker gives a name to, these are there already, by their places.
pub async fn declare(
    session: &Session,
    manifest: &Manifest,
    known: &HashMap<usize, Arc<str>>,
) -> Result<Vec<Declared>, Trouble> {
    let create = match manifest.declare {
        Declare::Create => true,
        Declare::Verify => false,
        Declare::Nothing => {
            return Ok(manifest.queues.iter().map(|queue| declared(manifest, queue, &queue.name)).collect());
        }
    };
    for exchange in &manifest.exchanges {
        declare_exchange(session, exchange, !create).await?;
    }
    for queue in &manifest.other_queues {
        declare_bound_queue(session, queue, create, None).await?;
    }
    let mut queues = Vec::new();
    for (at, queue) in manifest.queues.iter().enumerate() {
        let name = declare_bound_queue(session, queue, create, known.get(&at)).await?;
        let queue = declared(manifest, queue, &name);
        if create {
            declare_dead_letter(session, &queue).await?;
        } else if let Some(dead_letter) = &queue.dead_letter {
            verify_queue(session, dead_letter).await?;
        }
        queues.push(queue);
    }
    Ok(queues)
}

fn declared(manifest: &Manifest, queue: &Queue, name: &str) -> Declared {
    Declared {
        name: name.into(),
        dead_letter: manifest.dead_letter(queue).map(Arc::from),
        quorum: queue.quorum,
        temporary: queue.exclusive || queue.auto_delete || queue.name.is_empty(),
    }
}

/// Makes sure of a dead-letter queue: durable, unbounded, a quorum queue where its source is one. One that exists is
/// taken as it is.
pub async fn declare_dead_letter(session: &Session, queue: &Declared) -> Result<(), Trouble> {
    let Some(name) = &queue.dead_letter else { return Ok(()) };
    let arguments = if queue.quorum { quorum_arguments() } else { Table::new() };
    ensure_queue(session, name, arguments).await?;
    Ok(())
}

/// Makes sure of a durable queue of our own. One that exists is taken as it is; says whether it was not there before.
pub(super) async fn ensure_queue(session: &Session, name: &str, arguments: Table) -> Result<bool, Trouble> {
    match verify_queue(session, name).await {
        Err(trouble) if trouble.reason == Reason::NotFound => {}
        settled => return settled.map(|()| false),
    }
    let channel = session.consume_channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    within(CALL_TIMEOUT, channel.queue_declare(name.into(), options, to_table(arguments)))
        .await
        .map_err(|trouble| trouble.while_doing(format_args!("cannot declare queue `{name}`")))?;
    close(channel).await?;
    Ok(true)
}

/// Makes sure of an exchange of our own. One that exists is taken as it is.
pub(super) async fn ensure_exchange(session: &Session, exchange: &Exchange) -> Result<(), Trouble> {
    match verify_exchange(session, &exchange.name).await {
        Err(trouble) if trouble.reason == Reason::NotFound => declare_exchange(session, exchange, false).await,
        settled => settled,
    }
}

/// Of a quorum queue of our own.
pub(super) fn quorum_arguments() -> Table {
    // Without a limit, brokers from 4.0 on drop a message after 20 deliveries.
    vec![("x-queue-type".into(), Value::text("quorum")), ("x-delivery-limit".into(), Value::I32(DELIVERY_LIMIT))]
}

async fn declare_exchange(session: &Session, exchange: &Exchange, passive: bool) -> Result<(), Trouble> {
    if passive {
        return verify_exchange(session, &exchange.name).await;
    }
    let channel = session.consume_channel().await?;
    let options = ExchangeDeclareOptions {
        passive: false,
        durable: exchange.durable,
        auto_delete: exchange.auto_delete,
        internal: exchange.internal,
        nowait: false,
    };
    let kind = match exchange.kind {
        ExchangeKind::Direct => Kind::Direct,
        ExchangeKind::Fanout => Kind::Fanout,
        ExchangeKind::Topic => Kind::Topic,
        ExchangeKind::Headers => Kind::Headers,
    };
    let name = &exchange.name;
    let asked = channel.exchange_declare(name.as_str().into(), kind, options, to_table(exchange.arguments.clone()));
    within(CALL_TIMEOUT, asked)
        .await
        .map_err(|trouble| differs(trouble.while_doing(format_args!("cannot declare exchange `{name}`"))))?;
    close(channel).await
}

async fn verify_exchange(session: &Session, name: &str) -> Result<(), Trouble> {
    let channel = session.consume_channel().await?;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let asked = channel.exchange_declare(name.into(), Kind::Direct, options, FieldTable::default());
    within(CALL_TIMEOUT, asked)
        .await
        .map_err(|trouble| missing(trouble.while_doing(format_args!("exchange `{name}`"))))?;
    close(channel).await
}

async fn declare_bound_queue(
    session: &Session,
    queue: &Queue,
    create: bool,
    known: Option<&Arc<str>>,
) -> Result<String, Trouble> {
    let name = match known {
        Some(name) => verify_queue(session, name).await.map(|()| name.to_string())?,
        None => declare_queue(session, queue, !create).await?,
    };
    for binding in &queue.bind {
        if create {
            bind(session, &name, binding).await?;
        } else {
            verify_exchange(session, &binding.exchange).await?;
        }
    }
    Ok(name)
}

async fn declare_queue(session: &Session, queue: &Queue, passive: bool) -> Result<String, Trouble> {
    if passive {
        verify_queue(session, &queue.name).await?;
        return Ok(queue.name.clone());
    }
    let channel = session.consume_channel().await?;
    let options = QueueDeclareOptions {
        passive: false,
        durable: queue.durable,
        exclusive: queue.exclusive,
        auto_delete: queue.auto_delete,
        nowait: false,
    };
    let name = &queue.name;
    let asked = channel.queue_declare(name.as_str().into(), options, to_table(queue.arguments.clone()));
    let answer = within(CALL_TIMEOUT, asked)
        .await
        .map_err(|trouble| differs(trouble.while_doing(format_args!("cannot declare queue `{name}`"))))?;
    close(channel).await?;
    Ok(answer.name().as_str().to_owned())
}

async fn verify_queue(session: &Session, name: &str) -> Result<(), Trouble> {
    let channel = session.consume_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(name.into(), options, FieldTable::default());
    within(CALL_TIMEOUT, asked)
        .await
        .map_err(|trouble| missing(trouble.while_doing(format_args!("queue `{name}`"))))?;
    close(channel).await
}

pub(super) async fn bind(session: &Session, queue: &str, binding: &Binding) -> Result<(), Trouble> {
    let channel = session.consume_channel().await?;
    let asked = channel.queue_bind(
        queue.into(),
        binding.exchange.as_str().into(),
        binding.routing_key.as_str().into(),
        QueueBindOptions::default(),
        to_table(binding.arguments.clone()),
    );
    within(CALL_TIMEOUT, asked).await.map_err(|trouble| {
        missing(trouble.while_doing(format_args!("cannot bind queue `{queue}` to exchange `{}`", binding.exchange)))
    })?;
    close(channel).await
}

async fn close(channel: Channel) -> Result<(), Trouble> {
    within(CALL_TIMEOUT, channel.close(200, "done".into())).await
}

/// The broker's text names the property that differs; what to do about it is ours to say.
fn differs(mut trouble: Trouble) -> Trouble {
    if trouble.reason == Reason::PreconditionFailed {
        trouble.message.push_str("; hint: change the manifest to what is there, or delete what is there");
    }
    trouble
}

fn missing(mut trouble: Trouble) -> Trouble {
    if trouble.reason == Reason::NotFound {
        trouble.message.push_str("; hint: declare it, or name it in the manifest with `declare = \"create\"`");
    }
    trouble
}
