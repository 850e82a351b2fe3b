//! The contract, as the host's bindings of `wabbit:worker@0.1.0`, and the way from the core's words into it and back.
//!
//! A further minor of the contract gets a module of its own beside `v0_1`; the core knows one `Delivery` and one
//! `Outcome` whatever the number of them.

use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};

use super::{host::Host, scope::CallLimits};
use crate::{
    clock,
    delivery::{Delivery, PERSISTENT, Properties, TRANSIENT, Table, Value, json},
    outcome::{Failure, FailureKind, Outcome, Publication, Settlement, is_reserved},
};

/// The bindings of 0.1.
pub(super) mod v0_1 {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "wabbit:worker/worker",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use v0_1::wabbit::worker::types as wire;

pub(super) use v0_1::{Worker, WorkerPre};

/// Links what the contract offers to handlers: `context` and `text`.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    v0_1::Worker::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

impl wire::Host for Host {}

impl v0_1::wabbit::worker::context::Host for Host {
    fn worker(&mut self) -> String {
        self.scope.log.worker().to_string()
    }

    fn remaining_ms(&mut self) -> u32 {
        let left = match self.scope.determined {
            None => self.deadline.saturating_duration_since(clock::now()),
            Some(_) => self.scope.limits.time,
        };
        u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
    }
}

impl v0_1::wabbit::worker::text::Host for Host {
    fn decode(&mut self, bytes: Vec<u8>) -> Option<String> {
        String::from_utf8(bytes).ok()
    }

    fn encode(&mut self, text: String) -> Vec<u8> {
        text.into_bytes()
    }
}

/// Hands `call` the delivery as the contract has it. What can be borrowed is borrowed: the body is copied once, into the
/// guest's memory.
pub(super) async fn lower<R>(delivery: &Delivery, call: impl AsyncFnOnce(wire::Delivery<'_>) -> R) -> R {
    let properties = &delivery.properties;
    let visible = || properties.headers.iter().filter(|(name, _)| !is_reserved(name));
    // Texts that are made here must outlive the fields that borrow them.
    let made: Vec<String> = visible().filter_map(|(_, value)| json::of_compound(value)).collect();
    let mut made = made.iter();
    let headers: Vec<(&str, wire::FieldParam<'_>)> =
        visible().map(|(name, value)| (name.as_str(), field(value, &mut made))).collect();
    call(wire::Delivery {
        body: &delivery.body,
        properties: wire::PropertiesParam {
            content_type: properties.content_type.as_deref(),
            content_encoding: properties.content_encoding.as_deref(),
            headers: &headers,
            persistent: properties.delivery_mode == Some(PERSISTENT),
            priority: properties.priority,
            correlation_id: properties.correlation_id.as_deref(),
            reply_to: properties.reply_to.as_deref(),
            expiration_ms: properties.expiration.as_deref().and_then(|text| text.parse().ok()),
            message_id: properties.message_id.as_deref(),
            timestamp: properties.timestamp,
            kind: properties.kind.as_deref(),
            user_id: properties.user_id.as_deref(),
            app_id: properties.app_id.as_deref(),
        },
        exchange: &delivery.exchange,
        routing_key: &delivery.routing_key,
        queue: &delivery.queue,
        redelivered: delivery.redelivered,
        attempt: delivery.attempt,
    })
    .await
}

fn field<'a>(value: &'a Value, made: &mut impl Iterator<Item = &'a String>) -> wire::FieldParam<'a> {
    use wire::FieldParam as F;
    match value {
        Value::Bool(b) => F::Boolean(*b),
        Value::I8(n) => F::Integer((*n).into()),
        Value::U8(n) => F::Integer((*n).into()),
        Value::I16(n) => F::Integer((*n).into()),
        Value::U16(n) => F::Integer((*n).into()),
        Value::I32(n) => F::Integer((*n).into()),
        Value::U32(n) => F::Integer((*n).into()),
        Value::I64(n) => F::Integer(*n),
        Value::F32(n) => F::Float((*n).into()),
        Value::F64(n) => F::Float(*n),
        Value::Text(bytes) => std::str::from_utf8(bytes).map_or(F::Binary(bytes), F::Text),
        Value::Bytes(bytes) => F::Binary(bytes),
        Value::Timestamp(seconds) => F::Timestamp(*seconds),
        Value::Decimal { .. } | Value::Array(_) | Value::Table(_) => {
            F::Json(made.next().map_or("null", String::as_str))
        }
        Value::Void => F::Void,
    }
}

/// The core's words for what a handler answered.
pub(super) fn lift(answer: Result<wire::Outcome, String>, limits: &CallLimits) -> Result<Outcome, Failure> {
    let outcome = answer.map_err(|error| Failure::new(FailureKind::HandlerError, error))?;
    let settlement = match outcome.settlement {
        wire::Settlement::Ack => Settlement::Ack,
        wire::Settlement::Requeue => Settlement::Requeue,
        wire::Settlement::Retry(ms) => Settlement::Retry(ms.map(|ms| Duration::from_millis(ms.into()))),
        wire::Settlement::DeadLetter(reason) => Settlement::DeadLetter(reason),
    };
    let publications = outcome.publications.into_iter().map(publication).collect::<Result<_, _>>()?;
    let outcome = Outcome { settlement, publications };
    limits.check(&outcome)?;
    Ok(outcome)
}

fn publication(publication: wire::Publication) -> Result<Publication, Failure> {
    let wire::Publication { exchange, routing_key, body, properties: p } = publication;
    let properties = Properties {
        content_type: p.content_type,
        content_encoding: p.content_encoding,
        headers: headers(p.headers)?,
        delivery_mode: Some(if p.persistent { PERSISTENT } else { TRANSIENT }),
        priority: p.priority,
        correlation_id: p.correlation_id,
        reply_to: p.reply_to,
        expiration: p.expiration_ms.map(|ms| ms.to_string()),
        message_id: p.message_id,
        timestamp: p.timestamp,
        kind: p.kind,
        user_id: p.user_id,
        app_id: p.app_id,
    };
    Ok(Publication { exchange, routing_key, body, properties })
}

fn headers(fields: Vec<(String, wire::FieldResult)>) -> Result<Table, Failure> {
    let malformed = |error: String| Failure::new(FailureKind::MalformedOutcome, error);
    if let Some(name) = json::twice(fields.iter().map(|(name, _)| name.as_str())) {
        return Err(malformed(format!("header `{name}` stands twice in a publication")));
    }
    fields
        .into_iter()
        .map(|(name, field)| {
            use wire::FieldResult as F;
            let value = match field {
                F::Boolean(b) => Value::Bool(b),
                F::Integer(n) => json::integer(n),
                F::Float(n) => Value::F64(n),
                F::Text(text) => Value::text(text),
                F::Binary(bytes) => Value::Bytes(bytes),
                F::Timestamp(seconds) => Value::Timestamp(seconds),
                F::Json(text) => {
                    json::parse(&text).map_err(|error| malformed(format!("header `{name}` is not valid: {error}")))?
                }
                F::Void => Value::Void,
            };
            Ok((name, value))
        })
        .collect()
}
